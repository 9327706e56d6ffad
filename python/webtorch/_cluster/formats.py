"""Formats of differences on the wire, and the parts in which they are sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from webtorch._cluster.interfaces import Compression

BLOCK: Final = 4096
"""Values that have a scale of their own in `int8`. All parts but the last end at such a block."""

MAX_PART: Final = 16 * BLOCK

_BF16: Final = float(torch.finfo(torch.bfloat16).max)
_INT8: Final = 3.4e38
"""Of a block whose largest number is larger, the scale times 127 would be infinite."""

_IN_FLIGHT = 8 * MAX_PART


def part_size(hosts: int) -> int:
    """Return the values of a part: less with many hosts, as parts of all travel at once.

    The timeout is from one part to the next one, so what is on its way must be small for the
    slowest link: about 2 MB.
    """
    part = min(MAX_PART, _IN_FLIGHT // (2 * max(1, hosts - 1)))
    return max(BLOCK, part // BLOCK * BLOCK)


@dataclass(frozen=True)
class Piece:
    """Some values of a vector, with one part for each host, of which some may be empty.

    Attributes:
        bounds: Begins of the parts, then the end of the last one.

    """

    bounds: tuple[int, ...]

    def part(self, rank: int) -> slice:
        """Return the part that a host sums up."""
        return slice(self.bounds[rank], self.bounds[rank + 1])

    def size(self, rank: int) -> int:
        """Return how many values that part has."""
        return self.bounds[rank + 1] - self.bounds[rank]


def pieces(count: int, hosts: int) -> Iterator[Piece]:
    """Divide a vector: the same at all hosts."""
    most = part_size(hosts) * hosts
    for start in range(0, count, most):
        end = min(count, start + most)
        blocks = -(-(end - start) // BLOCK)
        # whole blocks, as evenly as they go
        bounds = [min(end, start + blocks * rank // hosts * BLOCK) for rank in range(hosts + 1)]
        yield Piece(tuple(bounds))


def size(count: int, compress: Compression) -> int:
    """Return the bytes of `count` values on the wire."""
    if compress == "none":
        return 4 * count
    if compress == "bf16":
        return 2 * count
    return count + 4 * -(-count // BLOCK)


def encode(values: Tensor, compress: Compression) -> Tensor:
    """Return float32 values as uint8 `[size]`; for `none` the same memory."""
    if compress == "none":
        return values.view(torch.uint8)
    if compress == "bf16":
        # the largest numbers would be rounded to infinity
        return values.clamp(-_BF16, _BF16).to(torch.bfloat16).view(torch.uint8)
    count = len(values)
    blocks = _blocks(values)
    scales = blocks.abs().amax(1).clamp(max=_INT8) / 127
    # a block of zeros, or of numbers that have no inverse, is sent as zeros
    inverse = torch.where(scales > 1e-37, 1 / scales, 0.0)
    numbers = (blocks * inverse[:, None]).round_().clamp_(-127, 127).to(torch.int8)
    return torch.cat([scales.view(torch.uint8), numbers.view(-1)[:count].view(torch.uint8)])


def decode(data: Tensor, count: int, compress: Compression) -> Tensor:
    """Return the float32 values `[count]` of `encode`; for `none` the same memory."""
    if compress == "none":
        return data.view(torch.float32)
    if compress == "bf16":
        return data.view(torch.bfloat16).float()
    head = 4 * -(-count // BLOCK)
    scales = data[:head].view(torch.float32)
    values = data[head:].view(torch.int8).float()
    blocks = _blocks(values)
    return (blocks * scales[:, None]).view(-1)[:count]


def _blocks(values: Tensor) -> Tensor:
    """Return values as `[blocks, BLOCK]`, filled up with zeros."""
    missing = -len(values) % BLOCK
    if missing:
        values = torch.cat([values, values.new_zeros(missing)])
    return values.view(-1, BLOCK)
