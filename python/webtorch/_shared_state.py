"""The state of a model that all workers share."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from webtorch._layout import Layout
from webtorch._optimizer_state import OptimizerState
from webtorch._step import Step
from webtorch.state import Block, Source, Zone

log = logging.getLogger("webtorch")


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

        names = {id(tensor): key for key, tensor in self._tensors.items()}
        self._optimizer = OptimizerState(optimizer, names, strict) if optimizer else None
        made = self._optimizer.prototypes if self._optimizer else {}
        self.layout = Layout.of({**self._tensors, **made})

        self.block = zone.attach(name, self.layout, strict)
        if self.block.fresh:
            try:
                self._fill(source)
            except BaseException:
                self.block.abandon()
                raise
            self.block.ready()
        self._bind()

    @property
    def steps(self) -> int:
        """How many optimizer steps all workers have made."""
        return self.block.counters.steps

    def step(self, loss: Tensor) -> None:
        """Make a step along the gradient of a scalar loss."""
        assert self._step is not None and self._optimizer is not None
        if self._optimizer.is_bound:
            self._optimizer.set_count(self.block.counters.steps)
            self._step(loss)
        else:
            self._first_step(self._step, self._optimizer, loss)
        self.block.count_step()

    def _first_step(self, step: Step, optimizer: OptimizerState, loss: Tensor) -> None:
        """Let the optimizer make its state, unless another worker's has done so meanwhile."""
        self.zone.lock()
        try:
            if self.block.counters.trained:
                optimizer.bind()
                optimizer.set_count(self.block.counters.steps)
                step(loss)
            else:
                step(loss)
                optimizer.publish()
                self.block.counters.trained = 1
        finally:
            self.zone.unlock()

    def refresh(self) -> None:
        """Use the block that has taken the place of this one; no call runs in this process."""
        block = self.zone.find(self.name, self.layout, self.strict)
        if block is not None:
            self.block.detach()
            self.block = block
            self._bind()

    def replace(self, tensors: Mapping[str, Tensor], steps: int | None) -> None:
        """Give all workers other weights, which each takes between two of its batches.

        Args:
            tensors: those of the model, and of the optimizer; without these its state is kept.
            steps: that they have had; None: as many as now.

        Raises:
            MemoryError: if the zone has no room for both.

        """
        latest = self.latest()
        before = latest.counters
        block = self.zone.replace(self.name, self.layout, self.strict)
        try:
            old = self.layout.views(latest.memory)
            for key, view in self.layout.views(block.memory).items():
                view.copy_(tensors.get(key, old[key]))
            block.counters.steps = before.steps if steps is None else steps
            block.counters.trained = int(before.trained or tensors.keys() > self.keys)
        except BaseException:
            block.abandon()
            raise
        block.ready()

    def latest(self) -> Block:
        """Return the block in force, which this worker may not have taken yet."""
        return self.zone.find(self.name, self.layout, self.strict) or self.block

    # --- a fresh block ---

    def _fill(self, source: Source | None) -> None:
        """Fill it with what is in memory, else with a checkpoint, else as the module is."""
        views = self.layout.views(self.block.memory)
        for key, tensor in self._tensors.items():
            views[key].copy_(tensor)

        if self._fill_from_memory(views):
            return
        loaded = source.load(self.name, self.layout, self.keys) if source else None
        if loaded is not None:
            self._copy(views, loaded.tensors)
            self.block.counters.steps = self.block.counters.saved = loaded.steps or 0
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
        self._copy(views, tensors if counters.trained else _only(tensors, self.keys))
        self.block.counters.steps = counters.steps
        self.block.counters.saved = counters.saved
        return True

    def _copy(self, views: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        """Copy the model's tensors, and the optimizer's if all of them fit."""
        made = self.layout.entries.keys() - self.keys
        complete = not self.layout.mismatch(made, tensors)
        for key in self.layout.entries if complete else self.keys:
            views[key].copy_(tensors[key])
        self.block.counters.trained = int(complete)
        if made and not complete and any(key.startswith("optimizer.") for key in tensors):
            log.error('model "%s" goes on with another optimizer, whose state is new', self.name)

    def _bind(self) -> None:
        """Let the module's tensors, and the optimizer's, lie in the block."""
        views = self.layout.views(self.block.memory)
        for key, tensor in self._tensors.items():
            tensor.data = views[key]
        if self._optimizer:
            self._optimizer.views = views
            if self.block.counters.trained:
                self._optimizer.bind()


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


def _only(tensors: Mapping[str, Tensor], keys: frozenset[str]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key in keys}
