"""A zone in the memory of one process, for several models that stand for several workers."""

from types import SimpleNamespace
from typing import Any

import torch

from webtorch._zone.layout import Layout


class Block:
    """Memory as the zone has it."""

    def __init__(self, size: int) -> None:
        self.fresh = True
        self.memory = torch.zeros(size, dtype=torch.uint8)
        self.counters = SimpleNamespace(steps=0, saved=0, seen=0)
        self.previous = None
        self._copy: Any = None

    def ready(self) -> None:
        """Make it visible."""
        self.fresh = False

    def is_same(self, other: Any) -> bool:
        """Compare two blocks."""
        return self is other

    def count_step(self) -> None:
        """Count a step."""
        self.counters.steps += 1

    def snapshot(self) -> None:
        """Take a copy."""
        self._copy = self.memory.clone(), self.counters.steps

    def commit(self) -> None:
        """Drop the copy."""

    def restore(self) -> None:
        """Restore the copy."""
        memory, self.counters.steps = self._copy
        self.memory.copy_(memory)


class Zone:
    """A zone for workers that are in one process."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[str, bytes], Block] = {}
        self.locks = 0

    def attach(self, name: str, layout: Layout, undo: bool) -> Block:
        """Return the block of a name and layout."""
        key = name, layout.key
        if key not in self.blocks:
            self.blocks[key] = Block(layout.size)
        return self.blocks[key]

    def lock(self) -> None:
        """Count the locks."""
        self.locks += 1

    def unlock(self) -> None:
        """Do nothing."""
