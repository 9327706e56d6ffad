"""Tokens of paths and parameters, equal to those of ngx_webtorch_tokens.c; see docs/features.md."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SEGMENTS = 64
"""Segments of a request: its path, at most 62 parameters, and one for the end of a row."""

NGRAMS = 5
"""n-grams that end with a token."""

SIZES = (128, 512, 2048, 8192, 16384)
"""Sizes of rows, in tokens, from which one is chosen by default."""

MAX_MARKS = 256
"""Most places at which a text is cut into parameters, names and values."""

_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_MIX = 2654435769

_LETTERS, _DIGITS, _END = 0x100, 0x101, 0x102
_REPEATED, _MAX_REPEATED = 0x200, 3
_BLANK, _CONTROL = 0x20, 0x1F

_TOKEN = re.compile(
    rb"(?P<letters>[a-z_\x80-\xff]+)|(?P<digits>[0-9]+)|(?P<blanks>[\t ]+)"
    rb"|(?P<controls>[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]+)|(?P<sign>.)(?P=sign)*",
    re.DOTALL,
)
_PLAIN = re.compile(rb"[a-z_\x80-\xff0-9.\[\]-]*")


class Tokens(NamedTuple):
    """Tokens of requests."""

    tokens: NDArray[np.int32]
    """Numbers of n-grams `[requests, 5, size]`; 0 where a request has no more tokens."""
    segments: NDArray[np.int64]
    """The segment of each token, 0 to 63, `[requests, size]`."""
    parameters: NDArray[np.int32]
    """Name, shape of the value and its length in bytes of each segment, `[requests, 3, 64]`."""


class Parameter(NamedTuple):
    """A decoded name and value."""

    name: bytes
    value: bytes

    @classmethod
    def cut(cls, text: bytes, equals: int) -> "Parameter":
        """Cut a text at the position of its equals sign, `len(text)` if it has none."""
        if equals == len(text):
            return cls(b"", text)
        name = text[:equals]
        return cls(name, text[equals + 1 :] if _PLAIN.fullmatch(name) else text)


def cut(requests: Sequence[Sequence[Parameter]], size: int | None) -> Tokens:
    """Return the tokens of requests.

    Args:
        requests: The path and the parameters of each request.
        size: Tokens in a row; None: the least of SIZES that the longest request fits in.

    """
    count = len(requests)
    parameters = np.zeros((count, 3, SEGMENTS), np.int32)
    symbols: list[list[tuple[int, ...]]] = [[] for _ in requests]
    for row, request in enumerate(requests):
        for number, (name, value) in enumerate(request):
            segment = min(number, SEGMENTS - 2)
            own = list(_symbols(value))
            parameters[row, :, segment] = (
                _hash(name) & _POSITIVE,
                _mixed(0, *(shape for _, shape in own)) & _POSITIVE,
                len(value),
            )
            before = 3 * [(0, 0)]
            for word, shape in own:
                (_, first), (_, second), (last, third) = before
                symbols[row].append((segment, word, shape, last, third, second, first))
                before = [*before[1:], (word, shape)]

    if size is None:
        longest = max(map(len, symbols), default=0)
        size = next((size for size in SIZES if size >= longest), SIZES[-1])
    result = Tokens(
        np.zeros((count, NGRAMS, size), np.int32),
        np.full((count, size), SEGMENTS - 1, np.int64),
        parameters,
    )
    for row, of_row in enumerate(symbols):
        table = np.array(of_row[:size], np.uint32)
        result.tokens[row, :, : len(table)] = _ngrams(*table.T[1:])
        result.segments[row, : len(table)] = table[:, 0]
    return result


def _symbols(value: bytes) -> Iterator[tuple[int, int]]:
    """Return the word and the shape of each token of a segment, and of its end."""
    for match in _TOKEN.finditer(value):
        token = match[0]
        if match["letters"]:
            yield _hash(token), _LETTERS
            continue
        shape = _DIGITS
        if not match["digits"]:
            byte = _BLANK if match["blanks"] else _CONTROL if match["controls"] else token[0]
            shape = byte + _REPEATED * min(len(token), _MAX_REPEATED)
        yield shape, shape
    yield _END, _END


def _ngrams(
    word: NDArray[np.uint32],
    shape: NDArray[np.uint32],
    last_word: NDArray[np.uint32],
    *before: NDArray[np.uint32],
) -> NDArray[np.int32]:
    """Return numbers of the n-grams that end with tokens.

    Args:
        word: Words of the tokens.
        shape: Shapes of the tokens.
        last_word: Words of the tokens before them.
        before: Shapes of the three tokens before them, the nearest first.

    """
    first, second, third = before
    hashes = np.stack(
        [
            _mixed(np.full_like(word, kind), *symbols)
            for kind, *symbols in (
                (1, word),
                (2, last_word, word),
                (3, first, word),
                (4, second, first, shape),
                (5, third, second, first, shape),
            )
        ]
    )
    numbers = (hashes ^ hashes >> 16) & 0xFFFF
    return np.where(numbers == 0, 1, numbers).astype(np.int32)


def _mixed(seed: Any, *symbols: Any) -> Any:
    """Return the hash of a sequence of symbols: integers, or arrays of uint32."""
    mixed = seed
    for symbol in symbols:
        mixed = ((mixed ^ symbol) * _MIX) & _MASK
        mixed = mixed ^ mixed >> 15
    return mixed


@lru_cache(maxsize=1 << 16)
def _hash(string: bytes) -> int:
    """Return the 32-bit FNV-1a hash."""
    hashed = 2166136261
    for byte in string:
        hashed = ((hashed ^ byte) * 16777619) & _MASK
    return hashed
