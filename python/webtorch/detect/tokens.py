"""Rows of bytes cut into tokens: words, numbers and signs, and the parameters they are in."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

_LETTER, _DIGIT, _CONTROL, _SPACE = 0x61, 0x30, 0x02, 0x20  # what stands for each class
_LENGTHS = 24  # longer runs are alike
_PATH = 0x5A5A5A5B  # the name of paths


def _random(*shape: int) -> Tensor:
    """Return odd int32 numbers, the same in every process: models depend on them."""
    numbers = torch.randint(-(2**30), 2**30, shape, generator=_generator, dtype=torch.int32)
    return numbers * 2 + 1


def _classes() -> Tensor:
    """Return the class of each byte: letters, digits, and each other byte by itself."""
    table = torch.arange(256, dtype=torch.int32)
    table[ord("a") : ord("z") + 1] = _LETTER
    table[ord("_")] = _LETTER
    table[0x80:] = _LETTER  # other alphabets, in any encoding
    table[ord("0") : ord("9") + 1] = _DIGIT
    table[[*range(1, 0x09), *range(0x0A, 0x1D), 0x1F, 0x7F]] = _CONTROL
    table[0x09] = _SPACE
    return table


def _shapes() -> Tensor:
    """Return numbers for classes and lengths of runs, `[256 * _LENGTHS]`.

    Letters have one, and so have digits. Signs have one each for once, twice and more often.
    """
    table = _random(256, _LENGTHS)
    table[:, 3:] = table[:, 2:3]
    table[_LETTER] = _random(1)
    table[_DIGIT] = _random(1)
    return table.flatten()


_generator = torch.Generator().manual_seed(2010)
_CLASSES = _classes()
_SHAPES = _shapes()
_BYTES = _random(256)
_FIRST = int(_random(1))
_SPLITS = torch.zeros(256, dtype=torch.bool)
_SPLITS[[0x00, 0x1D, 0x1E, ord("&")]] = True


@dataclass
class Tokens:
    """Runs of letters, of digits and of one sign, of all rows, one after the other.

    They are in segments: the path of a row, and its parameters with names and values. Tensors of
    tokens and segments are int32, of one axis, if nothing else is said.
    """

    rows: int
    """Of the batch."""
    kind: Tensor
    """The class of the bytes."""
    length: Tensor
    """How many bytes."""
    word: Tensor
    """A hash: of the letters of a word, of the shape of others."""
    shape: Tensor
    """A hash: one of all words, one of all numbers."""
    segment: Tensor
    """int64: its segment."""
    place: Tensor
    """Which token of its segment it is."""
    value: Tensor
    """bool: in the value of a parameter, or in the path."""
    row: Tensor
    """int64, of segments: the row."""
    name: Tensor
    """Of segments: a hash of the name."""
    is_path: Tensor
    """bool, of segments."""


def cut(rows: Tensor) -> Tokens:
    """Cut rows into tokens.

    Args:
        rows: uint8 of shape `(batch, width)`, with zeros after the text.

    """
    used = rows.amax(0).nonzero()
    width = int(used[-1]) + 2 if used.shape[0] else 1  # each row ends with a zero
    if width > rows.shape[1]:
        rows = pad(rows, (0, 1))
    flat = rows[:, :width].int().flatten()

    kinds = _CLASSES.index_select(0, flat)
    begins = torch.empty(flat.shape[0], dtype=torch.bool)
    torch.ne(kinds[1:], kinds[:-1], out=begins[1:])
    begins.view(-1, width)[:, 0] = True
    at = begins.nonzero().flatten()
    after = torch.cat([at[1:], at.new_full((1,), flat.shape[0])])

    kind = kinds.index_select(0, at)
    length = (after - at).int()
    shape = _SHAPES.index_select(0, kind * _LENGTHS + length.clamp(max=_LENGTHS) - 1)
    word = torch.where(kind == _LETTER, _hashes(flat, at, after), shape)

    split = _SPLITS.index_select(0, kind)
    is_path = at % width == 0
    opens = is_path.clone()
    opens[1:] |= split[:-1]
    first = opens.nonzero().flatten()
    segment = opens.cumsum(0) - 1
    row = torch.div(at.index_select(0, first), width, rounding_mode="floor")
    is_path = is_path.index_select(0, first)
    place = (torch.arange(at.shape[0]) - first.index_select(0, segment)).int()

    equals = (kind == ord("=")).int()
    seen = equals.cumsum(0, dtype=torch.int32)
    before = (seen - equals).index_select(0, first)
    total = torch.cat([before[1:], seen[-1:]]) - before
    named = (total > 0) & ~is_path
    in_name = named.index_select(0, segment) & (seen == before.index_select(0, segment))
    hashed = (word ^ (place * 0x3C6EF35F)) * in_name
    name = torch.zeros(first.shape[0], dtype=torch.int32).index_add_(0, segment, hashed)
    name.masked_fill_(is_path, _PATH)
    return Tokens(
        rows=rows.shape[0],
        kind=kind,
        length=length,
        word=word,
        shape=shape,
        segment=segment,
        place=place,
        value=~(in_name | split),
        row=row,
        name=name,
        is_path=is_path,
    )


def _hashes(flat: Tensor, at: Tensor, after: Tensor) -> Tensor:
    """Return a hash of the bytes of each token: of its first byte and of its pairs of bytes."""
    codes = _BYTES.index_select(0, flat)
    pairs = torch.empty_like(codes)
    torch.mul(codes[1:], codes[:-1], out=pairs[1:])
    pairs.index_copy_(0, at, codes.index_select(0, at) * _FIRST)
    sums = pairs.cumsum(0, dtype=torch.int32).index_select(0, after - 1)
    hashes = sums.clone()
    hashes[1:] -= sums[:-1]
    return hashes


def mix(seed: int, *parts: Tensor) -> Tensor:
    """Return hashes of the elements of int32 tensors of one shape, in order."""
    mixed = parts[0] ^ (seed * 40503 + 1)
    for part in parts[1:]:
        mixed = (mixed * -1640531535) ^ part
    mixed = mixed * -1640531535
    return mixed ^ ((mixed >> 15) & 0x1FFFF)
