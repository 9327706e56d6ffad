"""The memory of a model that has left the zone."""

from types import SimpleNamespace
from typing import Any

from webtorch._zone.interfaces import Block, Counters


class PrivateBlock:
    """A copy of a block in this process; see `webtorch._zone.interfaces.Block`.

    Args:
        block: The block, which may be used for another model afterwards.

    """

    fresh = False
    previous = None

    def __init__(self, block: Block) -> None:
        self.memory = block.memory.clone()
        counters = block.counters
        self.counters: Counters = SimpleNamespace(
            steps=counters.steps,
            saved=counters.saved,
            seen=counters.seen,
            others=counters.others,
            applied=counters.applied,
            replaced=counters.replaced,
            weights=counters.weights,
            frozen=counters.frozen,
        )

    def is_same(self, other: Any) -> bool:
        """Compare it with a block that this process uses."""
        return self is other

    def count_step(self) -> None:
        """Count an optimizer step."""
        self.counters.steps += 1

    def ready(self) -> None:
        """Do nothing: no other worker sees it."""

    def discard(self) -> None:
        """Do nothing: it is freed with its last tensor."""

    def detach(self) -> None:
        """Do nothing: it is freed with its last tensor."""

    def retire(self) -> None:
        """Do nothing: no other worker sees it."""

    def supersede(self, optimizer: Any) -> None:
        """Do nothing: it replaces no block."""

    def is_strict(self) -> bool:
        """Return False: no other worker uses it."""
        return False

    def snapshot(self, optimizer: Any) -> None:
        """Do nothing: it does not outlive this process."""

    def commit(self) -> None:
        """Do nothing: there is no copy."""

    def restore(self) -> None:
        """Do nothing: there is no copy."""
