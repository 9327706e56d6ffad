"""Nested lists of strings, in place of tensors of strings, which PyTorch does not have."""

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
    """Return strings in row-major order as nested lists; no size but the first may be 0."""
    for size in reversed(sizes[1:]):
        flat = [flat[first : first + size] for first in range(0, len(flat), size)]
    return flat if sizes else flat[0]


def full(kind: Any, sizes: Sequence[int]) -> Any:
    """Return empty strings of a type in nested lists of a shape."""
    return [full(kind, sizes[1:]) for _ in range(sizes[0])] if sizes else kind()


def flatten(value: Any, depth: int) -> list[Any]:
    """Return the strings of nested lists of a depth in row-major order."""
    if depth == 0:
        return [value]
    for _ in range(depth - 1):
        value = list(chain.from_iterable(value))
    return list(value)


def matches(value: Any, kind: type, sizes: Sequence[int]) -> bool:
    """Return whether a value is strings of a type in nested lists of a shape."""
    level = [value]
    for size in sizes:
        if not all(isinstance(part, list) and len(part) == size for part in level):
            return False
        level = list(chain.from_iterable(level))
    return all(isinstance(part, kind) for part in level)


def describe(value: list[Any], kind: Any) -> str:
    """Return what is in nested lists that should have strings of a type, and their shape."""
    sizes = shape(value)
    if not matches(value, object, sizes):
        return "lists of several lengths"
    leaves = flatten(value, len(sizes))
    other = next((leaf for leaf in leaves if not isinstance(leaf, kind)), kind())
    return f"lists of {type(other).__name__}, {list(sizes)}"


def decode(entries: Tensor, text: bytes, kind: type) -> Any:
    """Cut strings out of the text of a batch.

    Args:
        entries: Offset and length of each string in bytes, int64 `[*shape, 2]`.
        text: The text of the batch; UTF-8 where `kind` is `str`.
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
    """Return the entries and the text of strings, the arguments of decode().

    Lone surrogates of a `str`, which UTF-8 does not have, become question marks.

    Args:
        value: Nested lists of `str` or `bytes`.
        sizes: Shape of the lists.

    """
    flat = [
        string.encode(errors="replace") if isinstance(string, str) else string
        for string in flatten(value, len(sizes))
    ]
    lengths = torch.tensor([len(string) for string in flat], dtype=torch.int64)
    entries = torch.stack([lengths.cumsum(0) - lengths, lengths], dim=1)
    return entries.view(*sizes, 2), b"".join(flat)
