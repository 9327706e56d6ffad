"""The place of a model's tensors: this process, or the zone that all workers share."""

import logging
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from webtorch._core.optimizer_step import Step
from webtorch._models.model_versions import VersionError
from webtorch._zone.interfaces import Contents, Loaded, Source, Zone
from webtorch._zone.rounds_store import RoundsKind
from webtorch._zone.shared_state import SharedState, is_sharable

log = logging.getLogger("webtorch")


class ModelState(Protocol):
    """Holds the tensors of a model, makes its optimizer steps and counts them."""

    @property
    def steps(self) -> int:
        """The number of optimizer steps made."""

    @property
    def frozen(self) -> bool:
        """Whether training makes no steps."""

    def step(self, loss: Tensor) -> None:
        """Make a step along the gradient of a scalar loss; the model has an optimizer."""

    def count_step(self) -> None:
        """Count a step that was made without the optimizer."""

    def shares(self, tensor: Tensor | None) -> bool:
        """Return whether workers share a tensor of the module; None: one that is not there yet."""

    def gather(self) -> None:
        """Move tensors back that a call has moved to other memory (`parameter.data = ...`)."""


class LocalState:
    """The state of a model in the memory of this process: each worker has its own.

    Args:
        optimizer: The optimizer of the model; None if the model is not trained.

    """

    def __init__(self, optimizer: Optimizer | None) -> None:
        self._step = Step(optimizer) if optimizer else None
        self.steps = 0
        self.frozen = False

    def step(self, loss: Tensor) -> None:
        """Make a step along the gradient of a scalar loss; the model has an optimizer."""
        assert self._step is not None
        self._step(loss)
        self.count_step()

    def count_step(self) -> None:
        """Count a step that was made without the optimizer."""
        self.steps += 1

    def shares(self, tensor: Tensor | None) -> bool:
        """Return False: each worker has its own."""
        return False

    def gather(self) -> None:
        """Do nothing: the memory of a tensor is that of this process in any case."""


class OnlyFiles:
    """The files of a version that has no other weights; see `webtorch._zone.interfaces.Source`.

    Args:
        source: The checkpoints; None if there are none.

    """

    def __init__(self, source: Source | None) -> None:
        self._source = source

    def load(self, model: Contents) -> Loaded:
        """Read the youngest file that is whole and fits.

        Raises:
            VersionError: There is none.

        """
        loaded = self._source.load(model) if self._source else None
        if loaded is None:
            reason = self.describe_missing(model.name)
            raise VersionError(f'model "{model.name}" is not made by the code, and {reason}')
        return loaded

    def describe_missing(self, name: str) -> str:
        """Say why `load` has found none."""
        if self._source is None:
            return "there is no webtorch_checkpoint with its files"
        return self._source.describe_missing(name)


zone: Zone | None = None
"""The zone of this worker; None if the configuration has none."""

source: Source | None = None
"""The checkpoints; None if the configuration has none."""

start: Source | None = None
"""What models that no worker has in memory begin with, if that is more than `source`."""

rounds: RoundsKind | None = None
"""How models take part in rounds with other hosts; None if the configuration has no cluster."""

rounds_problem = ""
"""Why rounds cannot be done, if a package is missing."""

storage_problem = ""
"""Why checkpoints cannot be in object storage, if a package is missing."""

checks = False
"""Whether this process checks handlers: no other one has its models."""


announces = False
"""Whether this process logs what is the same in all workers."""


def create_state(
    name: str,
    module: nn.Module,
    optimizer: Optimizer | None,
    strict: bool,
    code: Path,
    weights: int = 0,
    has_files: bool = False,
    cluster: bool = False,
) -> ModelState:
    """Place a model's tensors where the configuration says, and return their state.

    Args:
        name: Name of the model, unique in the process.
        module: Its parameters and persistent buffers are placed.
        optimizer: Its state is placed with the parameters; None if the model is not trained.
        strict: Whether all workers together make one step at a time.
        code: The file that makes the model; checkpoints name its version.
        weights: Identifies the file that the module's weights are of; 0 if they are of none.
        has_files: Whether it is a version whose weights are in its files, not in the module.
        cluster: Whether other hosts train it, too, if the configuration has a cluster.

    Raises:
        MemoryError: The zone has no room for them.
        VersionError: A version has no file that fits.
        ValueError: The module or the optimizer cannot be shared, the name is too long for the
            zone, or a package is missing that the configuration needs.

    """
    if zone is None or not is_sharable(name, module, optimizer is not None):
        if has_files:
            raise VersionError(
                f'model "{name}" is not made by the code: its files are for models that workers '
                "share, with webtorch_zone and webtorch_checkpoint"
            )
        return LocalState(optimizer)
    if storage_problem:
        raise ValueError(storage_problem)
    files = OnlyFiles(source) if has_files else start or source
    kind = rounds if cluster and optimizer else None
    if kind and rounds_problem:
        raise ValueError(rounds_problem)
    state = SharedState(zone, name, module, optimizer, strict, code, files, weights, kind)
    if state.is_of_other_weights and announces:
        log.warning(
            'model "%s" keeps what it has learned in the zone, %d steps, although the file that '
            "weights= names is another one than when it began: %s",
            name,
            state.steps,
            "put the file into the model's directory of webtorch_checkpoint to take it"
            if source
            else "restart nginx to take it",
        )
    return state
