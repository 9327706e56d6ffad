"""The state of a model that all workers share."""

import contextlib
import hashlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from webtorch._core.optimizer_step import Step
from webtorch._zone.blocks import Blocks, Memory
from webtorch._zone.interfaces import Block, BusyError, Source, Zone, all_steps
from webtorch._zone.layout import Layout
from webtorch._zone.optimizer_state import OptimizerState
from webtorch._zone.rounds_store import RoundsKind, RoundsStore, layout_of

log = logging.getLogger("webtorch")

instances: "weakref.WeakSet[SharedState]" = weakref.WeakSet()
"""All shared states of this process, those of models that are being rebuilt among them."""

_lock = threading.RLock()
"""Guards `instances`, `_blocks` and which blocks are pinned.

A process is one user of a block, so what is found must be pinned before another thread can detach
it. Detaching may wait for a worker that fills a block: the event loop does not wait for the lock.
"""

_blocks: list[Block] = []
"""Blocks that the states of this process have used, until they are detached."""


class SharedState:
    """The state of a model in the zone: all workers train and serve the same model.

    Any worker may write while others read or write ("Hogwild!", Niu et al. 2011). With `strict`
    only the worker that holds the zone's lock writes, and a step that it has half written when it
    crashes is undone. Elements are aligned words, which processors read and write as a whole: a
    concurrent read returns a mix of weights from before and after a step, each of them whole.

    Args:
        zone: The shared memory.
        name: Name of the model, unique in the process.
        module: Its parameters and persistent buffers are moved into the zone.
        optimizer: Its state is placed with the parameters; None if the model is not trained.
        strict: Whether all workers together make one step at a time.
        code: The file that makes the model; checkpoints name its version.
        source: The checkpoints, used if no worker has the model in memory; None if there are none.
        weights: Identifies the file that the module's weights are of; 0 if they are of none.
        rounds: How it takes part in rounds with other hosts; None if it does not.

    Raises:
        MemoryError: The zone has no room.
        ValueError: A tensor is of a dtype or on a device that cannot be shared.

    """

    def __init__(
        self,
        zone: Zone,
        name: str,
        module: nn.Module,
        optimizer: Optimizer | None,
        strict: bool,
        code: Path,
        source: Source | None,
        weights: int = 0,
        rounds: RoundsKind | None = None,
    ) -> None:
        self.name = name
        self._rounds = rounds
        self.strict = strict
        self.code = _digest(code)
        self.zone = zone
        self._step = Step(optimizer) if optimizer else None
        self._tensors = _tensors(module)
        self._empty = {
            key: tensor
            for key, tensor in module.state_dict(keep_vars=True).items()
            if isinstance(tensor, Tensor) and not tensor.numel()
        }
        self._shared = {id(tensor) for tensor in self._tensors.values()}
        self._refuse_common_tensors()
        self.keys = frozenset(self._tensors)
        self.parameters = frozenset(
            key for key, tensor in self._tensors.items() if isinstance(tensor, nn.Parameter)
        )
        self._pinned: list[Blocks] = []

        names = {id(tensor): key for key, tensor in self._tensors.items()}
        self._optimizer = OptimizerState(optimizer, names, strict) if optimizer else None
        prototypes = self._optimizer.prototypes if self._optimizer else {}
        self._states = frozenset(prototypes)
        self._counts = frozenset(self._optimizer.counters if self._optimizer else ())
        self.layout = Layout.of({**self._tensors, **prototypes})
        """Layout of a checkpoint: of the tensors of both blocks."""

        self._memory = Memory(
            zone,
            name,
            self._tensors,
            prototypes,
            strict,
            (lambda own: layout_of(own, rounds.momentum)) if rounds else None,
        )
        self._weights = weights
        self.blocks = self._attach(source)
        self.is_of_other_weights = bool(weights) and self.blocks.counters.weights != weights
        """Whether the zone has kept the model although its file of weights has changed."""
        self._pointers: list[int] = []
        self._bind()
        self.retired = False
        """Whether it is of code that has been replaced, and keeps no block in use."""
        with _lock:
            instances.add(self)
            _record(self.blocks)

    def _refuse_common_tensors(self) -> None:
        for other in _all():
            if other.name != self.name and other._shared & self._shared:
                raise ValueError(
                    f'models "{other.name}" and "{self.name}" have a tensor in common, which can '
                    "be in the memory of one of them only"
                )

    @property
    def steps(self) -> int:
        """The number of optimizer steps that all workers have made, of all hosts."""
        return all_steps(self.blocks.counters)

    @property
    def revision(self) -> tuple[int, int, object]:
        """What differs if another process has changed the tensors."""
        counters = self.blocks.counters
        return all_steps(counters), counters.applied, self.blocks

    @property
    def frozen(self) -> bool:
        """Whether training makes no steps, in all workers."""
        return bool(self.blocks.counters.frozen)

    def set_frozen(self, frozen: bool) -> None:
        """Let training make no steps, or make them again."""
        with self.pinned() as blocks:
            blocks.counters.frozen = int(frozen)
        self.blocks.counters.frozen = int(frozen)

    def copy(self) -> tuple[Mapping[str, Tensor], int]:
        """Return copies of the tensors, in strict order between two steps, and the steps."""
        with self.pinned() as blocks, self.locked(blocks):
            private = blocks.private()
        return self.views(private), all_steps(private.counters)

    @property
    def takes_part(self) -> bool:
        """Whether other hosts train the model, too."""
        return self._rounds is not None

    def rounds_store(self, blocks: Blocks) -> RoundsStore | None:
        """Return what rounds need of blocks that are pinned; None if it takes part in none."""
        if self._rounds is None or blocks.rounds is None:
            return None
        memory = self._memory
        return RoundsStore(self, memory.own, self._rounds.momentum, blocks, memory.optimizer_key)

    def is_strict(self, blocks: Blocks) -> bool:
        """Return whether workers that use the blocks train in strict order."""
        return self.strict or blocks.tensors.is_strict()

    def retire(self) -> None:
        """Hide the blocks, and leave them when no call runs: the version is unloaded."""
        # this worker may not use the latest ones yet, which a later load would find
        with self.pinned() as latest, _lock:
            self.retired = True
            for block in (*latest, *self.blocks):
                block.retire()

    def step(self, loss: Tensor) -> None:
        """Make a step along the gradient of a scalar loss."""
        if not self.strict and self.blocks.tensors.is_strict():
            # in a reload that changes it: what others undo must not be this step
            with self._locked(True):
                self._make_step(loss)
        else:
            self._make_step(loss)

    def count_step(self) -> None:
        """Count a step that was made without the optimizer."""
        self.blocks.tensors.count_step()

    def _make_step(self, loss: Tensor) -> None:
        assert self._step is not None and self._optimizer is not None
        step = self._step
        if self._optimizer.needs_nothing:
            step(loss)
        else:
            self._optimizer.step(lambda: step(loss), self.steps)
        self.blocks.tensors.count_step()

    def shares(self, tensor: Tensor | None) -> bool:
        """Return whether a parameter or persistent buffer is one of all workers, from now on."""
        # one that is empty or missing cannot become another one
        return tensor is None or not tensor.numel() or id(tensor) in self._shared

    def gather(self) -> None:
        """Copy what has been moved to other memory (`parameter.data = ...`) into the block.

        Raises:
            ValueError: Its dtype or shape has changed.

        """
        for key, tensor in self._empty.items():
            if tensor.numel():
                raise ValueError(
                    f'"{key}" was empty when the model was made, and workers cannot share what '
                    "it is now: call the module before Model()"
                )
        if [*map(Tensor.data_ptr, self._tensors.values())] != self._pointers:
            views = self.views(self.blocks)
            reason = self.layout.mismatch(self.keys, self._tensors)
            if not reason:
                for key, tensor in self._tensors.items():
                    views[key].copy_(tensor.detach())
            self._bind_tensors(views)
            if reason:
                raise ValueError(
                    f"workers share the model's tensors, which keep dtype, shape: {reason}"
                )

    def put_back(self) -> None:
        """Bind the tensors to the block again, whose values they have then."""
        self._bind_tensors(self.views(self.blocks))

    def views(self, blocks: Blocks) -> dict[str, Tensor]:
        """Return the tensors of the model and its optimizer by name, in the memory of blocks."""
        return self._memory.views(blocks)

    @contextlib.contextmanager
    def locked(self, blocks: Blocks) -> Iterator[None]:
        """Lock out training in strict order, if workers that use the blocks train so."""
        with self._locked(self.is_strict(blocks)):
            yield

    @contextlib.contextmanager
    def _locked(self, needed: bool) -> Iterator[None]:
        if not needed:
            yield
            return
        self.zone.lock()
        try:
            yield
        finally:
            self.zone.unlock()

    def refresh(self) -> bool:
        """Switch to the block that has replaced this one; no call runs in this process.

        Returns:
            False if another worker fills a block: call it again later.

        """
        try:
            blocks = self._memory.find(self.blocks, _release)
        except BusyError:
            return False
        if not blocks.is_same(self.blocks):
            self.blocks = blocks
            self._bind()
            _record(blocks)
        return True

    def uses(self, block: Block) -> bool:
        """Return whether the state is bound to a block or has pinned it."""
        return self.blocks.has(block) or self._has_pinned(block)

    def keeps(self, block: Block) -> bool:
        """Return whether a block must stay: a retired state can leave it."""
        return self._has_pinned(block) if self.retired else self.uses(block)

    def _has_pinned(self, block: Block) -> bool:
        return any(pinned.has(block) for pinned in self._pinned)

    def leave(self) -> None:
        """Continue in memory of this process: a thread of replaced code may run for ever."""
        with _lock:
            instances.discard(self)
        self.blocks = self.blocks.private()
        self._bind()

    @contextlib.contextmanager
    def pinned(self) -> Iterator[Blocks]:
        """Return the latest blocks, attached even if this worker does not use them yet."""
        while True:
            with contextlib.suppress(BusyError), _lock:
                blocks = self._memory.find(self.blocks, _release)
                self._pinned.append(blocks)
                break
            time.sleep(0.01)
        try:
            yield blocks
        finally:
            with _lock:
                self._pinned = [each for each in self._pinned if each is not blocks]
                for block in blocks:
                    if not _is_used(block):
                        _forget(block)
                        block.detach()

    def replace(self, tensors: Mapping[str, Tensor], steps: int | None, seen: int | None) -> None:
        """Replace the weights in all workers; each switches to them between two of its batches.

        Args:
            tensors: Tensors of the model and of its optimizer by name. If those of the optimizer
                are missing, its current state is kept.
            steps: Optimizer steps that the tensors have had; None keeps the current number.
            seen: The new value of `Counters.seen`, nanoseconds since 1970; None keeps it.

        Raises:
            MemoryError: The zone has no room for the old and the new weights.

        """
        made: list[Block] = []
        with self.pinned() as latest, self.locked(latest):
            try:
                blocks = self._memory.replace(made, self._has_state(tensors))
                views = self.views(blocks)
                self._copy_tensors(views, tensors)
                if blocks.optimizer:
                    self._copy_state(views, tensors, steps or 0)
                blocks.counters.steps = self.zone.SAME_STEPS if steps is None else steps
                blocks.counters.others = latest.counters.others if steps is None else 0
                blocks.counters.applied = latest.counters.applied
                blocks.counters.replaced = latest.counters.replaced + 1
                blocks.counters.seen = latest.counters.seen if seen is None else seen
                blocks.counters.weights = latest.counters.weights
                blocks.counters.frozen = latest.counters.frozen
            except BaseException:
                for block in reversed(made):
                    block.discard()
                raise
            for block in reversed(made):
                block.ready()

    def supersede(self) -> None:
        """Hide the blocks that the model had in earlier configurations."""
        self.blocks.tensors.supersede(self.blocks.optimizer)

    def discard(self) -> None:
        """Release the blocks, which are freed unless another state or process uses them."""
        with _lock:
            instances.discard(self)
            for block in self.blocks:
                if not _is_used(block):
                    _forget(block)
                    block.discard()

    # --- fresh blocks ---

    def _attach(self, source: Source | None) -> Blocks:
        attached: list[Block] = []
        try:
            blocks = self._memory.attach(attached)
            self._fill(blocks, source)
        except BaseException:
            for block in reversed(attached):
                if block.fresh:
                    block.discard()
                else:
                    _release(block)
            raise
        for block in reversed(attached):
            if block.fresh:
                block.ready()
        return blocks

    def _fill(self, blocks: Blocks, source: Source | None) -> None:
        """Fill fresh ones from earlier blocks, else from a checkpoint, else from the module."""
        self._fill_tensors(blocks, source)
        store = self.rounds_store(blocks)
        if store and blocks.rounds and blocks.rounds.fresh:
            store.begin()

    def _fill_tensors(self, blocks: Blocks, source: Source | None) -> None:
        views = self.views(blocks)
        if not blocks.tensors.fresh:
            if blocks.optimizer and blocks.optimizer.fresh:
                self._continue_from(views, _views(blocks.optimizer), blocks.counters.steps)
            return

        for key, tensor in self._tensors.items():
            views[key].copy_(tensor)
        if self._fill_from_memory(blocks, views):
            return
        counters = blocks.counters
        counters.weights = self._weights
        loaded = source.load(self) if source else None
        if loaded is not None:
            self._copy_tensors(views, loaded.tensors)
            counters.steps = counters.saved = loaded.steps or 0
            counters.seen = loaded.seen
            self._continue_from(views, loaded.tensors, counters.steps)
        elif blocks.tensors.previous:
            log.error('model "%s" starts from scratch', self.name)

    def _fill_from_memory(self, blocks: Blocks, views: Mapping[str, Tensor]) -> bool:
        if blocks.tensors.previous is None:
            return False
        tensors = _views(blocks.tensors)
        reason = self.layout.mismatch(self.keys, tensors)
        if reason:
            log.error(
                'model "%s" does not fit its state from an earlier configuration: %s',
                self.name,
                reason,
            )
            return False
        self._copy_tensors(views, tensors)
        _, _, counters = blocks.tensors.previous
        blocks.counters.steps = all_steps(counters)
        blocks.counters.saved = counters.saved
        blocks.counters.seen = counters.seen
        blocks.counters.weights = counters.weights
        blocks.counters.frozen = counters.frozen
        if blocks.optimizer:
            self._continue_from(views, _views(blocks.optimizer), all_steps(counters))
        return True

    def _continue_from(
        self, views: Mapping[str, Tensor], tensors: Mapping[str, Tensor], steps: int
    ) -> None:
        """Copy the state of the optimizer; log it if there is only that of another one."""
        if self._has_state(tensors):
            self._copy_state(views, tensors, steps)
        elif any(key.startswith("optimizer.") for key in tensors):
            log.error('model "%s" continues with another optimizer, whose state is new', self.name)

    def _copy_tensors(self, views: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        for key in self.keys:
            views[key].copy_(tensors[key])

    def _has_state(self, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether tensors have the state of the optimizer, but for counts of steps."""
        return not self.layout.mismatch(self._states - self._counts, tensors)

    def _copy_state(
        self, views: Mapping[str, Tensor], tensors: Mapping[str, Tensor], steps: int
    ) -> None:
        """Copy the state of the optimizer; without strict order it has no counts of steps."""
        for key in self._states:
            if key in self._counts and self.layout.mismatch([key], tensors):
                views[key].fill_(steps)
            else:
                views[key].copy_(tensors[key])

    def _bind(self) -> None:
        """Bind the tensors of the module and of the optimizer to the block."""
        views = self.views(self.blocks)
        self._bind_tensors(views)
        if self._optimizer:
            self._optimizer.bind(views)

    def _bind_tensors(self, views: Mapping[str, Tensor]) -> None:
        for key, tensor in self._tensors.items():
            tensor.data = views[key]
        self._pointers = [*map(Tensor.data_ptr, self._tensors.values())]


def refresh_all(moved: Callable[[], None] = lambda: None) -> bool:
    """Switch to blocks that have replaced others, and detach from those that no state keeps.

    No call runs in this process.

    Args:
        moved: Called when states may have left blocks, each time before these can be freed.

    Returns:
        False if another worker fills a block, or another thread attaches or detaches one: call it
        again later.

    """
    if not _lock.acquire(blocking=False):
        return False
    try:
        done = all([shared.refresh() for shared in [*instances]])
        moved()
        for block in [*_blocks]:
            states = [shared for shared in [*instances] if shared.uses(block)]
            if not any(shared.keeps(block) for shared in states):
                for shared in states:
                    shared.leave()
                if states:
                    moved()
                _forget(block)
                block.detach()
        return done
    finally:
        _lock.release()


def retire_all_but(current: Iterable[SharedState]) -> None:
    """Let states of replaced code leave their blocks when `refresh_all` is called."""
    kept = set(current)
    for shared in _all():
        shared.retired = shared not in kept


def is_sharable(name: str, module: nn.Module, trained: bool) -> bool:
    """Return whether a module has state that workers can share.

    The weights of quantised modules are not tensors, and frozen TorchScript has constants.

    Args:
        name: Name of the model, for messages.
        module: The module.
        trained: Whether it has an optimizer.

    Raises:
        ValueError: A module that is trained has state other than parameters and buffers.

    """
    members = {id(each) for each in (*module.parameters(), *module.buffers())}
    state = module.state_dict(keep_vars=True)
    for key, value in state.items():
        if id(value) not in members:
            if trained:
                raise ValueError(
                    f'"{key}" in the state of the module is not a parameter or buffer: '
                    "workers cannot share and train it"
                )
            log.info(
                'model "%s" is not shared, each worker has its own: "%s" in its state is not '
                "a parameter or buffer",
                name,
                key,
            )
            return False
    return bool(state)


def _all() -> "list[SharedState]":
    with _lock:
        return [*instances]


def _is_used(block: Block) -> bool:
    """Return whether a state in this process uses a block: all of them are one user."""
    return any(shared.uses(block) for shared in _all())


def _release(block: Block) -> None:
    """Detach from a block that was found and is not used."""
    with _lock:
        if not _is_used(block):
            block.detach()


def _views(block: Block) -> dict[str, Tensor]:
    """Return the tensors of the block that a fresh one follows."""
    if block.previous is None:
        return {}
    layout, memory, _ = block.previous
    return layout.views(memory)


def _record(blocks: Blocks) -> None:
    for block in blocks:
        if not any(known.is_same(block) for known in _blocks):
            _blocks.append(block)


def _forget(block: Block) -> None:
    _blocks[:] = [known for known in _blocks if not known.is_same(block)]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers by name; tied ones have one name."""
    found: dict[int, tuple[str, Tensor]] = {}
    for key, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and tensor.numel():
            if tensor.device != torch.device("cpu"):
                raise ValueError(f'tensor "{key}" on {tensor.device} cannot be shared by workers')
            found.setdefault(id(tensor), (key, tensor))
    return dict(found.values())


def _digest(path: Path) -> str:
    """Return a digest of a file; empty if it cannot be read, as in an interactive interpreter."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""
