"""What rounds with other hosts need of a model, in the zone.

Each change is one that may be done again, or the write of one number, after which the rest is
valid. So the worker that does rounds may be killed at any time: the next one continues.
"""

import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from webtorch._cluster import flat
from webtorch._cluster.digests import digest
from webtorch._cluster.lineage import first
from webtorch._cluster.rollout import Order
from webtorch._cluster.rollout_judge import Figures
from webtorch._cluster.store import SNAPSHOT, State
from webtorch._zone.blocks import Blocks
from webtorch._zone.interfaces import Counters, all_steps
from webtorch._zone.layout import Entry, Layout
from webtorch._zone.orders import DamagedOrdersError

log = logging.getLogger("webtorch")

MASK = (1 << 64) - 1

_HEAD = 64
_ROOM = 64 << 10
"""Bytes of a state as JSON, with its length."""

_PIECE = 16 << 10
"""Elements that are changed at a time: those that may be changed in part if a worker is killed."""

_SEQUENCE, _CHANGE, _STAGE, _MADE_OF, _MADE, _ORDER = range(6)
"""Numbers in the head: of the state; of the change of the weights, and how far it is; of a change
that is complete, and `made` as of then; of an order in `_ORDERS`."""

_ORDERS: tuple[Order, ...] = get_args(Order)

_REGIONS = ("anchor0", "anchor1", "snapshot")


@dataclass(frozen=True)
class RoundsKind:
    """How models take part in rounds with other hosts."""

    momentum: bool
    """Whether the outer optimizer has a momentum."""


class Locks(Protocol):
    """What is known of a model's training."""

    name: str

    def locked(self, blocks: Blocks) -> Any:
        """Lock out training in strict order, if workers that use the blocks train so."""

    def is_strict(self, blocks: Blocks) -> bool:
        """Return whether workers that use the blocks train in strict order."""

    def views(self, blocks: Blocks) -> Mapping[str, Tensor]:
        """Return the tensors of the model and its optimizer by name."""


def layout_of(own: Layout, momentum: bool) -> Layout:
    """Return the layout of the block for a model.

    Args:
        own: Layout of the model's tensors.
        momentum: Whether the outer optimizer has a momentum.

    """
    anchor = _aligned(own.size) + (4 * _floats(own) if momentum else 0)
    sizes = {
        "head": _HEAD,
        "state0": _ROOM,
        "state1": _ROOM,
        "anchor0": anchor,
        "anchor1": anchor,
        "snapshot": own.size,
        "piece": min(8 * _PIECE, own.size),
    }
    entries = {}
    end = 0
    for name, size in sizes.items():
        begin = _aligned(end)
        end = begin + size
        entries[name] = Entry(torch.uint8, (size,), begin, end)
    return Layout(entries, own)


class RoundsStore:
    """The memory of a model; see `webtorch._cluster.store.Store`.

    Args:
        shared: The state of the model.
        own: Layout of its tensors.
        momentum: Whether the outer optimizer has a momentum.
        blocks: Its blocks, which are pinned for as long as this is used.
        optimizer_key: Identifies the layout of the optimizer's state.

    """

    order: Callable[[str, bool], None] | None = None
    """Writes an order that freezes the model of a name, or not, for the workers of this host."""

    count: Callable[[str], Figures] | None = None
    """Returns what was counted at this host, of the model of a name."""

    rest: Tensor | None = None
    """What rounding has left, in memory of this process: another worker begins without."""

    def __init__(
        self, shared: Locks, own: Layout, momentum: bool, blocks: Blocks, optimizer_key: str = ""
    ) -> None:
        assert blocks.rounds is not None
        self._optimizer_key = optimizer_key
        self.name = shared.name
        self.layout = own.key
        self._shared = shared
        self._blocks = blocks
        self._weights = own.views(blocks.tensors.memory)
        views = layout_of(own, momentum).views(blocks.rounds.memory)
        self._views = views
        self._anchors = [views["anchor0"], views["anchor1"]]
        self._tensors = [own.views(views[region]) for region in _REGIONS]
        self.floats = _floats(own)
        self._momentum = 4 * self.floats if momentum else 0
        head: Any = views["head"].view(torch.int64).numpy()
        self._head = head
        self._state: tuple[int, State] | None = None

    def begin(self) -> None:
        """Let the weights as they are be the anchor, in a block that no other process sees."""
        counters = self._blocks.counters
        for key, tensor in self._tensors[0].items():
            tensor.copy_(self._weights[key])
        anchor = first(digest(self, 0), all_steps(counters))
        memory = secrets.token_hex(8)
        self.write(
            State(
                memory,
                anchor,
                mark=counters.steps,
                changes=counters.applied,
                replaced=counters.replaced,
            )
        )

    @property
    def state(self) -> State:
        """What was written last."""
        sequence = int(self._head[_SEQUENCE])
        if self._state is None or self._state[0] != sequence:
            self._state = self._read()
        return self._state[1]

    def _read(self) -> tuple[int, State]:
        """Read the state, which another process may change meanwhile."""
        while True:
            sequence = int(self._head[_SEQUENCE])
            room = self._room(sequence)
            size = int.from_bytes(room[:8], "little")
            text = bytes(room[8 : 8 + size])
            # of the next one but one, the text is in the same place
            if int(self._head[_SEQUENCE]) == sequence:
                return sequence, State.read(json.loads(text))

    def write(self, state: State) -> None:
        """Change the state, as a whole.

        Raises:
            ValueError: It is too long.

        """
        text = json.dumps(state.write(), separators=(",", ":")).encode()
        sequence = int(self._head[_SEQUENCE]) + 1
        room = self._room(sequence)
        if 8 + len(text) > len(room):
            raise ValueError(f"{len(text)} bytes of a state of rounds")
        room[:8] = len(text).to_bytes(8, "little")
        room[8 : 8 + len(text)] = text
        self._head[_SEQUENCE] = sequence
        self._state = sequence, state

    def _room(self, sequence: int) -> memoryview:
        array: Any = self._views[f"state{sequence % 2}"].numpy()
        return memoryview(array)

    def tensors(self, region: int) -> Mapping[str, Tensor]:
        """Return the tensors of a region by name."""
        return self._tensors[region]

    def contents(self, slot: int) -> Tensor:
        """Return all of an anchor's memory, uint8."""
        return self._anchors[slot]

    def momentum(self, slot: int) -> Tensor | None:
        """Return the outer optimizer's momentum; None if it has none."""
        if not self._momentum:
            return None
        return self._anchors[slot][-self._momentum :].view(torch.float32)

    @property
    def counters(self) -> Counters:
        """The counts of the model."""
        return self._blocks.counters

    @property
    def optimizer_key(self) -> str:
        """What the optimizer's states of two hosts must have in common; empty: it has none."""
        return self._optimizer_key if self._blocks.optimizer is not None else ""

    def optimizer_state(self) -> Tensor:
        """Return the memory of the optimizer's state, uint8."""
        assert self._blocks.optimizer is not None
        return self._blocks.optimizer.memory

    def copy_optimizer_state(self) -> Tensor:
        """Return a copy of it, in strict order as of between two steps."""
        with self._shared.locked(self._blocks):
            return self.optimizer_state().clone()

    def take_optimizer_state(self, data: Tensor) -> None:
        """Replace the optimizer's state, in strict order as a whole."""
        with self._shared.locked(self._blocks):
            if not self._shared.is_strict(self._blocks):
                self.optimizer_state().copy_(data)
                return
            self._blocks.snapshot()
            try:
                self.optimizer_state().copy_(data)
            except BaseException:
                self._blocks.restore()
                raise
            self._blocks.commit()

    def repair_optimizer(self) -> None:
        """Set what is not finite in the optimizer's state to 0."""
        with self._shared.locked(self._blocks):
            for key, tensor in self._shared.views(self._blocks).items():
                if key not in self._weights and tensor.is_floating_point():
                    tensor.nan_to_num_(0.0, 0.0, 0.0)

    def made(self) -> int:
        """Return the number of steps that were made at this host."""
        return self.counters.steps

    def others_made(self) -> int:
        """Return the steps of the weights beside these."""
        others = self.counters.others
        return others if others < 1 << 63 else others - (1 << 64)

    @property
    def frozen(self) -> bool:
        """Whether training makes no steps at this host."""
        return bool(self.counters.frozen)

    def set_frozen(self, frozen: bool) -> None:
        """Let training make no steps at this host, or make them again."""
        if self.order:
            try:
                self.order(self.name, frozen)
            except (OSError, DamagedOrdersError) as error:
                # the order is followed, and the host goes on with the rounds
                log.error(
                    'model "%s": the order of another host is in force, but a restart will not '
                    "know it: %s",
                    self.name,
                    error,
                )
        self.counters.frozen = int(frozen)

    def order_rollout(self, order: Order) -> None:
        """Leave an order for the worker that does rounds."""
        self._head[_ORDER] = _ORDERS.index(order)

    def take_order(self) -> Order:
        """Return what an operator has ordered for what is rolled out, once."""
        order = _ORDERS[int(self._head[_ORDER])]
        if order:
            self._head[_ORDER] = 0
        return order

    def figures(self) -> Figures:
        """Return what was counted at this host."""
        return self.count(self.name) if self.count else Figures()

    def replaced(self) -> int:
        """Return how often the weights were replaced."""
        return self.counters.replaced

    def take_snapshot(self) -> int:
        """Write the difference of the weights to the anchor; return `made` as of then."""
        with self._shared.locked(self._blocks):
            made = self.made()
            anchor = self._tensors[self.state.slot]
            flat.subtract(self._tensors[SNAPSHOT], self._weights, anchor)
        return made

    def take_weights(self, slot: int) -> int:
        """Copy the weights to the region of an anchor; return `made` as of then."""
        with self._shared.locked(self._blocks):
            made = self.made()
            for key, tensor in self._tensors[slot].items():
                tensor.copy_(self._weights[key])
        return made

    def apply(self) -> int:
        """Let the weights follow the anchor, exactly once.

        In strict order all of them change under the lock, which undoes the change if the worker is
        killed meanwhile, and `Counters.applied` with it. Without an order other workers write at
        any time, and a worker that is killed leaves at most a piece of which it is not known how
        much was changed: each element of it is compared.
        """
        counters = self.counters
        state = self.state
        assert state.applying is not None
        sequence = state.applying.number
        if counters.replaced != state.replaced:
            return self.made()
        if counters.applied == sequence:
            return self._made_by(sequence)
        with self._shared.locked(self._blocks):
            if not self._shared.is_strict(self._blocks):
                self._change(state, sequence)
                if int(self._head[_MADE_OF]) != sequence:
                    self._note_made(sequence)
                counters.applied = sequence
                return self._made_by(sequence)
            self._blocks.snapshot()
            try:
                self._change_all(state)
                # again, if the change of a worker that was killed has been undone
                self._note_made(sequence)
                counters.applied = sequence
            except BaseException:
                self._blocks.restore()
                raise
            self._blocks.commit()
            return self._made_by(sequence)

    def _note_made(self, sequence: int) -> None:
        """Note `made` of a change: a worker that completes it later would count later steps."""
        self._head[_MADE] = self.made()
        self._head[_MADE_OF] = sequence

    def _made_by(self, sequence: int) -> int:
        noted = int(self._head[_MADE_OF]) == sequence
        return int(self._head[_MADE]) if noted else self.made()

    def _sources(self, state: State) -> list[Mapping[str, Tensor]]:
        """Return the anchor and, as far as weights follow it, the one before and the change."""
        assert state.applying is not None
        found: list[Mapping[str, Tensor]] = [self._tensors[state.slot]]
        if state.applying.reference != "none":
            found.append(self._tensors[1 - state.slot])
        if state.applying.reference == "snapshot":
            found.append(self._tensors[SNAPSHOT])
        return found

    def _change_all(self, state: State) -> None:
        sources = self._sources(state)
        for _, (weights, *followed) in flat.pieces(self._weights, *sources, keys=self._weights):
            _follow(weights, followed)

    def _change(self, state: State, sequence: int) -> None:
        """Change the weights piece by piece, and note before and after each where it is."""
        sources = self._sources(state)
        head = self._head
        if head[_CHANGE] != sequence:
            head[_STAGE] = 0
            head[_CHANGE] = sequence
        begun, is_cut = divmod(int(head[_STAGE]), 2)
        kept = self._views["piece"]
        number = 0
        for key, whole in self._weights.items():
            parts = [each[key].view(-1) for each in sources]
            for begin in range(0, whole.numel(), _PIECE):
                place = slice(begin, begin + _PIECE)
                weights, followed = whole.view(-1)[place], [each[place] for each in parts]
                before = kept[: weights.nbytes].view(weights.dtype)
                if number == begun and is_cut and len(followed) > 1:
                    _repair(weights, followed, before)
                elif number >= begun:
                    before.copy_(weights)
                    head[_STAGE] = 2 * number + 1
                    _follow(weights, followed)
                head[_STAGE] = max(2 * number + 2, int(head[_STAGE]))
                number += 1

    def publish(self) -> None:
        """Let the steps of other hosts be seen."""
        state = self.state
        self.counters.others = (state.anchor.steps - state.mark) & MASK


def _follow(weights: Tensor, sources: Sequence[Tensor]) -> None:
    if len(sources) == 1:
        weights.copy_(sources[0])
    else:
        flat.follow(weights, *sources)


def _repair(weights: Tensor, sources: Sequence[Tensor], before: Tensor) -> None:
    """Change those elements that are not changed yet, nearer to what they were than to the rest.

    Args:
        weights: The piece, of which some elements were changed.
        sources: What they follow, as in `flat.follow`.
        before: The weights as they were, to which training has added meanwhile.

    """
    after = before.clone()
    flat.follow(after, *sources)
    if weights.dtype is torch.bool:
        weights.copy_(after)
        return
    now, old, new = (flat.signed(each).double() for each in (weights, before, after))
    is_old = (now - old).abs() < (now - new).abs()
    changed = weights.clone()
    flat.follow(changed, *sources)
    flat.signed(weights).copy_(torch.where(is_old, flat.signed(changed), flat.signed(weights)))


def _floats(own: Layout) -> int:
    """Return the number of elements that are averaged."""
    return sum(
        (entry.end - entry.begin) // entry.dtype.itemsize
        for entry in own.entries.values()
        if entry.dtype.is_floating_point
    )


def _aligned(size: int) -> int:
    return size + -size % 64
