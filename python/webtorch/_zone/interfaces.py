"""The interfaces of a zone, its blocks and a source of tensors.

Models know these, so that they work without nginx: `zone` has the zone of nginx's workers, and
tests have zones of their own.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
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

    others: int
    """Steps of the weights beside `steps`, which were made at other hosts; modulo 2**64."""

    applied: int
    """Number of the last change by a round of hosts."""

    replaced: int
    """How often the weights were replaced by others."""

    weights: int
    """Identifies the file of `Model(..., weights=)` when the model began; 0 if there was none."""

    frozen: int
    """1 if training makes no steps."""


def all_steps(counters: Counters) -> int:
    """Return the steps that the weights have had, at all hosts."""
    return (counters.steps + counters.others) % (1 << 64)


class BlockKind(enum.IntEnum):
    """What a block has, as C numbers it."""

    TENSORS = 0
    OPTIMIZER = 1
    ROUNDS = 4


@dataclass(frozen=True)
class Wanted:
    """A block that is looked for."""

    name: str
    """Name of the model."""
    kind: BlockKind
    layout: Layout
    undo: bool
    """Whether it has room for the copy of `Block.snapshot`."""


class Block(Protocol):
    """The memory of a model in the zone, or of the state of an optimizer of it.

    Workers with different optimizers have the same block of a model. Only that has counters, and
    stands for both in `snapshot` and the like.
    """

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
        """The youngest block of the same name and kind; of a fresh block only."""

    def ready(self) -> None:
        """Make a fresh block visible to other workers."""

    def discard(self) -> None:
        """Free a block that is fresh, or that no other process uses."""

    def detach(self) -> None:
        """Release this process's use of the block."""

    def retire(self) -> None:
        """Hide the block, and have all workers refresh."""

    def is_same(self, other: Any) -> bool:
        """Compare it with a block that this process uses."""

    def supersede(self, optimizer: Any) -> None:
        """Hide earlier blocks of a model and its optimizer, and have all workers refresh."""

    def count_step(self) -> None:
        """Count an optimizer step."""

    def is_strict(self) -> bool:
        """Return whether workers use it that train in strict order: steps take `Zone.lock`."""

    def snapshot(self, optimizer: Any) -> None:
        """Take copies of both, restored if this process crashes; within `Zone.lock`."""

    def commit(self) -> None:
        """Drop the copies."""

    def restore(self) -> None:
        """Restore the copies."""


class Zone(Protocol):
    """The memory that all workers share."""

    SAME_STEPS: int
    """Value of `Counters.steps` in a replacing block: the steps of the replaced one are kept."""

    def find(self, wanted: Wanted) -> Block | None:
        """Return the youngest block that fits.

        Raises:
            BusyError: Another worker fills a block.

        """

    def attach(self, wanted: Wanted) -> Block:
        """Return the youngest block that fits, or a fresh one.

        Raises:
            MemoryError: The zone has no room for it.
            ValueError: The name is too long.

        """

    def replace(self, wanted: Wanted) -> Block:
        """Return a fresh block, which replaces others that fit when it is ready.

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

    def describe_missing(self, name: str) -> str:
        """Say why `load` has found none."""
