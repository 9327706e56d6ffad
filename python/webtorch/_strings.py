"""Strings in lists: what stands for tensors of them, which PyTorch has not."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor


def shape(value: Any) -> tuple[int, ...]:
    """Return the shape of a tensor, or of nested lists along their first elements."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    sizes = []
    while isinstance(value, list):
        sizes.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(sizes)


def nest(flat: list[Any], sizes: Sequence[int]) -> Any:
    """Put strings in row-major order into nested lists, none of which is empty."""
    for size in reversed(sizes[1:]):
        flat = [flat[first : first + size] for first in range(0, len(flat), size)]
    return flat if sizes else flat[0]


def full(kind: Any, sizes: Sequence[int]) -> Any:
    """Make empty strings of a type in lists of a shape."""
    return [full(kind, sizes[1:]) for _ in range(sizes[0])] if sizes else kind()


def flatten(value: Any, depth: int) -> list[Any]:
    """Return the strings in lists of a depth in row-major order."""
    if depth == 0:
        return [value]
    for _ in range(depth - 1):
        value = list(chain.from_iterable(value))
    return list(value)


def are(value: Any, kind: type, sizes: Sequence[int]) -> bool:
    """Tell whether these are strings of a type in lists of a shape."""
    level = [value]
    for size in sizes:
        if not all(isinstance(part, list) and len(part) == size for part in level):
            return False
        level = list(chain.from_iterable(level))
    return all(isinstance(part, kind) for part in level)


def decode(entries: Tensor, text: bytes, kind: type) -> Any:
    """Cut strings out of the text of a batch.

    Args:
        entries: where they are: int64 of the strings' shape and 2, offset and length.
        text: of the batch; where kind is `str`, what is cut is UTF-8.
        kind: `str` or `bytes`.

    """
    pairs = entries.reshape(-1, 2).tolist()
    flat: list[str] | list[bytes]
    if kind is str:
        flat = [text[at : at + size].decode() for at, size in pairs]
    else:
        flat = [text[at : at + size] for at, size in pairs]
    return nest(flat, entries.shape[:-1])


def encode(value: Any, sizes: Sequence[int]) -> tuple[Tensor, bytes]:
    """Write strings into one text, and where they are in it, as decode() reads that.

    What UTF-8 cannot hold of a `str`, lone surrogates, becomes question marks.
    """
    flat = [
        string.encode(errors="replace") if isinstance(string, str) else string
        for string in flatten(value, len(sizes))
    ]
    lengths = torch.tensor([len(string) for string in flat], dtype=torch.int64)
    entries = torch.stack([lengths.cumsum(0) - lengths, lengths], dim=1)
    return entries.view(*sizes, 2), b"".join(flat)
