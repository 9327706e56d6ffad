"""The state of a model that all workers share."""

import contextlib
import hashlib
import logging
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from webtorch._state import Block, BusyError, Source, Zone
from webtorch._step import Step
from webtorch._zone.layout import Layout
from webtorch._zone.optimizer_state import Lock, OptimizerState

log = logging.getLogger("webtorch")

live: "weakref.WeakSet[SharedState]" = weakref.WeakSet()
"""All that there are, those of models that are made anew meanwhile, too."""


class SharedState:
    """In the zone: all workers train and serve the same model.

    Any of them may write while others read or write ("Hogwild!", Niu et al. 2011). With `strict`
    only the one that has the zone's lock does, and what it has half written when it dies is undone.
    Elements are aligned words, which processors read and write as a whole: what is read meanwhile
    is a mix of weights from before and after, each of them whole.

    Args:
        zone: the memory.
        name: of the model.
        module: its parameters and persistent buffers are moved into the zone.
        optimizer: its state is, too.
        strict: one step at a time over all workers.
        code: the file that makes the model.
        source: where tensors come from that no worker has.

    Raises:
        MemoryError: if the zone has no room.
        ValueError: if a tensor is of a dtype or on a device that cannot be shared.

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
    ) -> None:
        self.name = name
        self.strict = strict
        self.code = _digest(code)
        self.zone = zone
        self._step = Step(optimizer) if optimizer else None
        self._tensors = _tensors(module)
        self.keys = frozenset(self._tensors)
        self.parameters = frozenset(
            key for key, tensor in self._tensors.items() if isinstance(tensor, nn.Parameter)
        )
        self._pinned: Block | None = None

        names = {id(tensor): key for key, tensor in self._tensors.items()}
        self._optimizer = OptimizerState(optimizer, names, strict) if optimizer else None
        made = self._optimizer.prototypes if self._optimizer else {}
        self.layout = Layout.of({**self._tensors, **made})

        self.block = zone.attach(name, self.layout, strict)
        if self.block.fresh:
            try:
                self._fill(source)
            except BaseException:
                self.block.discard()
                raise
            self.block.ready()
        self._bind()
        live.add(self)

    @property
    def steps(self) -> int:
        """How many optimizer steps all workers have made."""
        return self.block.counters.steps

    def step(self, loss: Tensor) -> None:
        """Make a step along the gradient of a scalar loss."""
        assert self._step is not None and self._optimizer is not None
        step = self._step
        if self._optimizer.needs_nothing:
            step(loss)
        else:
            self._optimizer.step(lambda: step(loss), self.block.counters.steps, self._lock)
        self.block.count_step()

    def _lock(self) -> Lock:
        return Lock(self.zone.lock, self.zone.unlock)

    def refresh(self) -> bool:
        """Use the block that has taken the place of this one; no call runs in this process.

        Returns:
            Whether that is done: not while another worker fills a block.

        """
        try:
            block = self.zone.find(self.name, self.layout, self.strict)
        except BusyError:
            return False
        if block is not None and not block.is_same(self.block):
            before, self.block = self.block, block
            self._bind()
            if not _is_used(before):
                before.detach()
        return True

    @contextlib.contextmanager
    def pinned(self) -> Iterator[Block]:
        """Return the block in force, which this worker may not have taken yet, and keep it."""
        while True:
            with contextlib.suppress(BusyError):
                found = self.zone.find(self.name, self.layout, self.strict)
                break
            time.sleep(0.01)
        block = self._pinned = found or self.block
        try:
            yield block
        finally:
            self._pinned = None
            if not _is_used(block):
                block.detach()

    def replace(self, tensors: Mapping[str, Tensor], steps: int | None, seen: int) -> None:
        """Give all workers other weights, which each takes between two of its batches.

        Args:
            tensors: those of the model, and of the optimizer; without these its state is kept.
            steps: that they have had; None: as many as now.
            seen: when the file that they are of was changed, in nanoseconds.

        Raises:
            MemoryError: if the zone has no room for both.

        """
        with self.pinned() as latest, self._lock() if self.strict else contextlib.nullcontext():
            block = self.zone.replace(self.name, self.layout, self.strict)
            try:
                block.memory.copy_(latest.memory)
                self._copy(self.layout.views(block.memory), tensors)
                block.counters.steps = self.zone.SAME_STEPS if steps is None else steps
                block.counters.seen = seen
            except BaseException:
                block.discard()
                raise
            block.ready()

    def supersede(self) -> None:
        """Let nobody find the model as it was in configurations before."""
        self.block.supersede()

    def discard(self) -> None:
        """Give the block up, which is free then unless somebody else uses it."""
        live.discard(self)
        if not _is_used(self.block):
            self.block.discard()

    # --- a fresh block ---

    def _fill(self, source: Source | None) -> None:
        """Fill it with what is in memory, else with a checkpoint, else as the module is."""
        views = self.layout.views(self.block.memory)
        for key, tensor in self._tensors.items():
            views[key].copy_(tensor)

        counters = self.block.counters
        if self._fill_from_memory(views):
            return
        loaded = source.load(self) if source else None
        if loaded is not None:
            self._take_over(views, loaded.tensors)
            counters.steps = counters.saved = loaded.steps or 0
            counters.seen = loaded.seen
        elif self.block.before:
            log.error('model "%s" starts afresh', self.name)

    def _fill_from_memory(self, views: Mapping[str, Tensor]) -> bool:
        if self.block.before is None:
            return False
        layout, memory, counters = self.block.before
        tensors = layout.views(memory)
        reason = self.layout.mismatch(self.keys, tensors)
        if reason:
            log.error(
                'model "%s" does not fit what is in memory, of a configuration before: %s',
                self.name,
                reason,
            )
            return False
        self._take_over(views, tensors)
        self.block.counters.steps = counters.steps
        self.block.counters.saved = counters.saved
        self.block.counters.seen = counters.seen
        return True

    def _take_over(self, views: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        """Copy what there is of the model, and tell if its optimizer was another one."""
        complete = self._copy(views, tensors)
        if not complete and any(key.startswith("optimizer.") for key in tensors):
            log.error('model "%s" goes on with another optimizer, whose state is new', self.name)

    def _copy(self, views: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> bool:
        """Copy the model's tensors, and the optimizer's if all of them fit, which is returned."""
        made = self.layout.entries.keys() - self.keys
        complete = not self.layout.mismatch(made, tensors)
        for key in self.layout.entries if complete else self.keys:
            views[key].copy_(tensors[key])
        return complete

    def _bind(self) -> None:
        """Let the module's tensors, and the optimizer's, lie in the block."""
        views = self.layout.views(self.block.memory)
        for key, tensor in self._tensors.items():
            tensor.data = views[key]
        if self._optimizer:
            self._optimizer.lie_in(views)


def _is_used(block: Block) -> bool:
    """Tell whether a state in this process uses a block: all of them are one user."""
    return any(
        used is not None and used.is_same(block)
        for shared in [*live]
        for used in (shared.block, shared._pinned)
    )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers, those that are tied once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for key, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and tensor.numel():
            if tensor.device != torch.device("cpu"):
                raise ValueError(f'tensor "{key}" on {tensor.device} cannot be shared by workers')
            found.setdefault(id(tensor), (key, tensor))
    return dict(found.values())


def _digest(path: Path) -> str:
    """Tell one version of a file from others; empty if it is none, as in an interpreter."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""
