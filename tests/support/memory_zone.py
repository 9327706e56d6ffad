"""A zone in the memory of one process, for several models that stand for several workers."""

from types import SimpleNamespace
from typing import Any

import torch

from webtorch._zone.interfaces import Wanted


class Block:
    """Memory as the zone has it."""

    def __init__(self, size: int) -> None:
        self.fresh = True
        self.memory = torch.zeros(size, dtype=torch.uint8)
        self.counters = SimpleNamespace(
            steps=0, saved=0, seen=0, weights=0, frozen=0, others=0, applied=0, replaced=0
        )
        self.previous = None
        self.detached = 0
        self.hidden = False
        self._copy: Any = None

    def ready(self) -> None:
        """Make it visible."""
        self.fresh = False

    def detach(self) -> None:
        """Count that the process releases it."""
        self.detached += 1

    def retire(self) -> None:
        """Hide it."""
        self.hidden = True

    def is_same(self, other: Any) -> bool:
        """Compare two blocks."""
        return self is other

    def count_step(self) -> None:
        """Count a step."""
        self.counters.steps += 1

    def is_strict(self) -> bool:
        """Return False: the order is not of interest here."""
        return False

    def snapshot(self, optimizer: "Block | None") -> None:
        """Take copies."""
        blocks = [self, optimizer] if optimizer else [self]
        copies = [(block.memory, block.memory.clone()) for block in blocks]
        self._copy = copies, self.counters.steps, self.counters.applied

    def commit(self) -> None:
        """Drop the copies."""

    def restore(self) -> None:
        """Restore the copies."""
        copies, self.counters.steps, self.counters.applied = self._copy
        for memory, copy in copies:
            memory.copy_(copy)


class Zone:
    """A zone for workers that are in one process."""

    def __init__(self) -> None:
        self.blocks: dict[tuple[str, bytes], Block] = {}
        self.locks = 0

    def attach(self, wanted: Wanted) -> Block:
        """Return the block that fits."""
        key = wanted.name, wanted.layout.key
        if key not in self.blocks:
            self.blocks[key] = Block(wanted.layout.size)
        return self.blocks[key]

    def find(self, wanted: Wanted) -> Block | None:
        """Return the block that fits."""
        block = self.blocks.get((wanted.name, wanted.layout.key))
        return None if block is None or block.hidden else block

    def replace(self, wanted: Wanted) -> Block:
        """Return a fresh block."""
        self.blocks.pop((wanted.name, wanted.layout.key), None)
        return self.attach(wanted)

    def lock(self) -> None:
        """Count the locks."""
        self.locks += 1

    def unlock(self) -> None:
        """Do nothing."""
