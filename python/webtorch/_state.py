"""Where a model's tensors live: in this process, or in the zone, which all workers share."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from webtorch._step import Step
from webtorch._zone.layout import Layout

if TYPE_CHECKING:
    from webtorch._zone.shared_state import SharedState


class State(Protocol):
    """Keeps the tensors of a model, lets it step and counts that."""

    @property
    def steps(self) -> int:
        """How many optimizer steps were made."""

    def step(self, loss: Tensor) -> None:
        """Make a step along the gradient of a scalar loss; the model has an optimizer."""


class LocalState:
    """In the memory of this process: each worker has a model of its own."""

    def __init__(self, optimizer: Optimizer | None) -> None:
        self._step = Step(optimizer) if optimizer else None
        self.steps = 0

    def step(self, loss: Tensor) -> None:
        """Make a step."""
        assert self._step is not None
        self._step(loss)
        self.steps += 1


class Counters(Protocol):
    """What all workers count together of a model."""

    steps: int
    """Optimizer steps that were made."""

    saved: int
    """Those that the last checkpoint has."""

    seen: int
    """Files that were put into place until then, by their time of change, are known; in ns."""


class Block(Protocol):
    """The memory of a model in the zone."""

    @property
    def fresh(self) -> bool:
        """Whether it is to be filled: the zone is locked until `ready` or `discard`."""

    @property
    def memory(self) -> Tensor:
        """The tensors, as uint8."""

    @property
    def counters(self) -> Counters:
        """What is counted."""

    @property
    def before(self) -> tuple[Layout, Tensor, Counters] | None:
        """Of a fresh block: the youngest of its name, which has another layout."""

    def ready(self) -> None:
        """Show a fresh block to others."""

    def discard(self) -> None:
        """Give up a block that is fresh, or that nobody else uses."""

    def detach(self) -> None:
        """Tell that this process does not use it any more."""

    def is_same(self, other: Any) -> bool:
        """Tell whether both are one, which this process uses."""

    def supersede(self) -> None:
        """Let nobody find blocks of this name with another layout."""

    def count_step(self) -> None:
        """Count a step."""

    def keep(self) -> None:
        """Keep a copy, which is put back if this process dies; within `Zone.lock`."""

    def commit(self) -> None:
        """Let the copy go."""

    def restore(self) -> None:
        """Put the copy back."""


class Zone(Protocol):
    """The memory that all workers share.

    Blocks with `undo` have room for the copy that `keep` makes.
    """

    SAME_STEPS: int
    """As `Counters.steps` of a block that replaces one: go on with that one's."""

    def find(self, name: str, layout: Layout, undo: bool) -> Block | None:
        """Return the youngest block of a name and layout.

        Raises:
            BusyError: if another worker fills a block.

        """

    def attach(self, name: str, layout: Layout, undo: bool) -> Block:
        """Return the youngest block of a name and layout, or a fresh one.

        Raises:
            MemoryError: if the zone has no room for it.

        """

    def replace(self, name: str, layout: Layout, undo: bool) -> Block:
        """Return a fresh block, which takes the place of others of its name when it is ready.

        Raises:
            MemoryError: if the zone has no room for it.

        """

    def lock(self) -> None:
        """Wait until no other worker trains in strict order, and let none begin."""

    def unlock(self) -> None:
        """Let others train."""


class BusyError(Exception):
    """Another worker fills a block, which may take a while."""


class Loaded(Protocol):
    """Tensors from a file."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """All that the file has."""

    @property
    def steps(self) -> int | None:
        """Optimizer steps that they have had; None if the file does not tell."""

    @property
    def seen(self) -> int:
        """See `Counters.seen`."""


class Source(Protocol):
    """Where the tensors of a model come from that no worker has: its checkpoints."""

    def load(self, shared: "SharedState") -> Loaded | None:
        """Read the youngest file that is whole and fits."""


zone: Zone | None = None
"""The zone of this worker; None if the configuration has none."""

source: Source | None = None
"""The checkpoints; None if the configuration has none."""


def place(
    name: str, module: nn.Module, optimizer: Optimizer | None, strict: bool, code: Path
) -> State:
    """Let a model's tensors live where the configuration says.

    Args:
        name: of the model.
        module: whose parameters and buffers are placed.
        optimizer: whose state is, too.
        strict: one step at a time over all workers.
        code: the file that makes the model; its checkpoints tell its version.

    Raises:
        MemoryError: if the zone has no room for them.
        ValueError: if they cannot be shared.

    """
    if zone is None:
        return LocalState(optimizer)

    from webtorch._zone.shared_state import SharedState

    return SharedState(zone, name, module, optimizer, strict, code, source)
