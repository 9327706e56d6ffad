"""The interfaces of a zone, its blocks and a source of tensors.

Models know these, so that they work without nginx: `zone` has the zone of nginx's workers, and
tests have zones of their own.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from webtorch._zone.layout import Layout


class BusyError(Exception):
    """Another worker fills a block, which may take a while."""


class Counters(Protocol):
    """Counts of a model that all workers share."""

    steps: int
    """Optimizer steps that were made."""

    saved: int
    """Optimizer steps that the last checkpoint has."""

    seen: int
    """Files whose inode changed until then are known; nanoseconds since 1970."""


class Block(Protocol):
    """The memory of a model in the zone."""

    @property
    def fresh(self) -> bool:
        """Whether it is to be filled: the zone is locked until `ready` or `discard`."""

    @property
    def memory(self) -> Tensor:
        """The tensors, uint8 `[bytes]`."""

    @property
    def counters(self) -> Counters:
        """The counts of the model, shared by all workers."""

    @property
    def previous(self) -> tuple[Layout, Tensor, Counters] | None:
        """The youngest block of the same name with another layout; of a fresh block only."""

    def ready(self) -> None:
        """Make a fresh block visible to other workers."""

    def discard(self) -> None:
        """Free a block that is fresh, or that no other process uses."""

    def detach(self) -> None:
        """Release this process's use of the block."""

    def is_same(self, other: Any) -> bool:
        """Compare it with a block that this process uses."""

    def supersede(self) -> None:
        """Hide blocks of this name with another layout, and have all workers refresh."""

    def count_step(self) -> None:
        """Count an optimizer step."""

    def snapshot(self) -> None:
        """Take a copy, which is restored if this process crashes; within `Zone.lock`."""

    def commit(self) -> None:
        """Drop the copy."""

    def restore(self) -> None:
        """Restore the copy."""


class Zone(Protocol):
    """The memory that all workers share.

    Blocks with `undo` have room for the copy of `Block.snapshot`.
    """

    SAME_STEPS: int
    """Value of `Counters.steps` in a replacing block: the steps of the replaced one are kept."""

    def find(self, name: str, layout: Layout, undo: bool) -> Block | None:
        """Return the youngest block of a name and layout.

        Raises:
            BusyError: Another worker fills a block.

        """

    def attach(self, name: str, layout: Layout, undo: bool) -> Block:
        """Return the youngest block of a name and layout, or a fresh one.

        Raises:
            MemoryError: The zone has no room for it.
            ValueError: The name is too long.

        """

    def replace(self, name: str, layout: Layout, undo: bool) -> Block:
        """Return a fresh block, which replaces others of its name when it is ready.

        Raises:
            MemoryError: The zone has no room for it.
            ValueError: The name is too long.

        """

    def lock(self) -> None:
        """Wait until no other worker trains in strict order, and keep others from it."""

    def unlock(self) -> None:
        """Release the lock."""


class Loaded(Protocol):
    """Tensors from a file."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors of the file by name."""

    @property
    def steps(self) -> int | None:
        """Optimizer steps that they have had; None if the file does not say."""

    @property
    def seen(self) -> int:
        """The value of `Counters.seen` after it was read."""


class Contents(Protocol):
    """The names and the layout of a model's tensors: a file of the model must fit them."""

    name: str
    """Name of the model."""

    layout: Layout
    """Layout of all tensors, those of the optimizer among them."""

    keys: frozenset[str]
    """Names of the model's own tensors."""

    parameters: frozenset[str]
    """Names of the model's parameters."""


class Source(Protocol):
    """The checkpoints of models that no worker has in memory."""

    def load(self, model: Contents) -> Loaded | None:
        """Read the youngest file that is whole and fits; None if there is none."""
