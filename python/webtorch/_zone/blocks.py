"""The memory of a model in the zone: its tensors, and the state of its optimizer beside them."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from webtorch._zone.interfaces import Block, BlockKind, Counters, Wanted, Zone
from webtorch._zone.layout import Layout
from webtorch._zone.private_block import PrivateBlock


@dataclass(frozen=True)
class Blocks:
    """The blocks of a model: workers with another optimizer have only that of the tensors, too."""

    tensors: Block
    optimizer: Block | None
    """None if the optimizer keeps no state."""
    rounds: Block | None = None
    """What rounds with other hosts need; None if there are none."""

    def __iter__(self) -> Iterator[Block]:
        yield self.tensors
        if self.optimizer is not None:
            yield self.optimizer
        if self.rounds is not None:
            yield self.rounds

    @property
    def counters(self) -> Counters:
        """The counts of the model."""
        return self.tensors.counters

    def has(self, block: Block) -> bool:
        """Return whether a block is one of these."""
        return any(own.is_same(block) for own in self)

    def is_same(self, other: "Blocks") -> bool:
        """Return whether both are the same."""
        return all(self.has(block) for block in other)

    def snapshot(self) -> None:
        """Take a copy, which is restored if this process crashes; within `Zone.lock`."""
        self.tensors.snapshot(self.optimizer)

    def commit(self) -> None:
        """Drop the copy."""
        self.tensors.commit()

    def restore(self) -> None:
        """Restore the copy."""
        self.tensors.restore()

    def private(self) -> "Blocks":
        """Return copies in the memory of this process."""
        optimizer = self.optimizer
        return Blocks(PrivateBlock(self.tensors), PrivateBlock(optimizer) if optimizer else None)


class Memory:
    """Finds the blocks of a model in the zone.

    Args:
        zone: The shared memory.
        name: Name of the model.
        tensors: Its tensors by name.
        states: The tensors of the optimizer's state by name; none if it keeps none.
        strict: Whether the model is trained in strict order.
        rounds: Returns the layout of what rounds with other hosts need, from that of the tensors;
            None if there are none.

    Raises:
        ValueError: A tensor is of a dtype that cannot be shared.

    """

    def __init__(
        self,
        zone: Zone,
        name: str,
        tensors: Mapping[str, Tensor],
        states: Mapping[str, Tensor],
        strict: bool,
        rounds: Callable[[Layout], Layout] | None = None,
    ) -> None:
        self._zone = zone
        self.own = own = Layout.of(tensors)
        self._rounds = Wanted(name, BlockKind.ROUNDS, rounds(own), False) if rounds else None
        self._tensors = Wanted(name, BlockKind.TENSORS, own, strict)
        self._optimizer = (
            Wanted(name, BlockKind.OPTIMIZER, Layout.of(states, own), strict) if states else None
        )

    @functools.cached_property
    def optimizer_key(self) -> str:
        """Identifies the layout of the optimizer's state; empty if it keeps none."""
        layout = self._optimizer.layout.key if self._optimizer else b""
        return hashlib.sha256(layout).hexdigest()[:32] if layout else ""

    def views(self, blocks: Blocks) -> dict[str, Tensor]:
        """Return the tensors of a model and of its optimizer by name."""
        views = self._tensors.layout.views(blocks.tensors.memory)
        if self._optimizer and blocks.optimizer is not None:
            views |= self._optimizer.layout.views(blocks.optimizer.memory)
        return views

    def attach(self, attached: list[Block]) -> Blocks:
        """Return the latest blocks, or fresh ones; they are appended to a list.

        Raises:
            MemoryError: The zone has no room for one of them.
            ValueError: The name is too long.

        """
        tensors = self._zone.attach(self._tensors)
        attached.append(tensors)
        # what there is may be of other tensors
        get = self._zone.replace if tensors.fresh else self._zone.attach
        found: list[Block | None] = []
        for wanted in (self._optimizer, self._rounds):
            block = get(wanted) if wanted else None
            if block is not None:
                attached.append(block)
            found.append(block)
        return Blocks(tensors, *found)

    def replace(self, made: list[Block], with_optimizer: bool) -> Blocks:
        """Return fresh blocks, which replace others when they are ready; see `attach`."""
        tensors = self._zone.replace(self._tensors)
        made.append(tensors)
        if not self._optimizer or not with_optimizer:
            return Blocks(tensors, None)
        optimizer = self._zone.replace(self._optimizer)
        made.append(optimizer)
        return Blocks(tensors, optimizer)

    def find(self, current: Blocks, release: Callable[[Block], None]) -> Blocks:
        """Return the latest blocks.

        Args:
            current: The blocks until now, which no lookup may find any more.
            release: Called with blocks that were found and replaced meanwhile.

        Raises:
            BusyError: Another worker fills a block.

        """
        tensors = self._zone.find(self._tensors) or current.tensors
        while True:
            optimizer = current.optimizer
            if self._optimizer:
                optimizer = self._zone.find(self._optimizer) or optimizer
            # both are replaced at once: the state is that of these tensors if they still are there
            again = self._zone.find(self._tensors) or current.tensors
            rounds = current.rounds
            if self._rounds:
                rounds = self._zone.find(self._rounds) or rounds
            found = Blocks(again, optimizer, rounds)
            if again.is_same(tensors):
                return found
            release(tensors)
            tensors = again
