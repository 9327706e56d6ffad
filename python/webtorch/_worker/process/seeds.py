"""Seeds of random numbers, which workers must not share.

Workers are forked from one process and import the same modules, so that their generators are in the
same state.
"""

import hashlib
import random
import sys
from typing import Any

import torch


def mix(*parts: int) -> None:
    """Seed the generators of `random`, NumPy and PyTorch again.

    The new seeds depend on the old state and on the parts, so a seed that a module has set still
    makes a worker's numbers repeatable.

    Args:
        parts: Numbers that no other worker has.

    """
    random.seed(_hash(random.getrandbits(64), *parts))
    torch.manual_seed(_hash(torch.initial_seed(), *parts))
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        seed = _hash(int(numpy.random.randint(2**63, dtype="int64")), *parts)
        numpy.random.seed([seed >> 32, seed & 0xFFFFFFFF])


def _hash(*parts: int) -> int:
    """Return a number of 63 bits, as all generators take it."""
    text = " ".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
