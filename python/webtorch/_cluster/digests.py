"""Digests of anchors, which are the same at all hosts."""

import hashlib
from typing import Any

from torch import Tensor

from webtorch._cluster.store import Store

PIECE = 1 << 20
"""Bytes that are summed up at a time, so that other threads get the GIL."""


def digest(store: Store, slot: int) -> str:
    """Return the SHA-256 of an anchor's memory."""
    memory = view_of(store.contents(slot))
    found = hashlib.sha256()
    for begin in range(0, len(memory), PIECE):
        found.update(memory[begin : begin + PIECE])
    return found.hexdigest()


def view_of(memory: Tensor) -> memoryview:
    """Return the bytes of memory, uint8 `[bytes]`, without a copy."""
    array: Any = memory.numpy()
    return memoryview(array)
