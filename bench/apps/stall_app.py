"""What bench/stall.py serves: functions that take and return much, and are fast themselves."""

import struct
import zlib

import torch
from jaxtyping import Float32
from torch import Tensor

import webtorch

WIDTH = 1024
ROWS_OUT = 1600
"""Rows of an answer: about 16 MB of JSON."""

numbers = torch.rand(1, ROWS_OUT * WIDTH, generator=torch.Generator().manual_seed(0))


@webtorch.infer
def total(x: Float32[Tensor, "batch 1024"]) -> Float32[Tensor, "batch"]:
    return x[:, 0]


@webtorch.infer
def much(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1638400"]:
    return numbers.expand(len(x), -1).contiguous() + x[:, :1]


@webtorch.infer
def kept(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1638400"]:
    return numbers.expand(len(x), -1)


@webtorch.stream
def stream(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1638400"]:
    return numbers.expand(len(x), -1).contiguous() + x[:, :1]


@webtorch.handler
def tensor(request: webtorch.Request) -> Tensor:
    return numbers


@webtorch.handler
def picture(request: webtorch.Request) -> bytes | dict[str, int]:
    """Unpack a PNG's pixels, which is fast if there is none."""
    body = request.body
    if not body:
        return {"bytes": 0}
    at, pixels = 8, b""
    while at < len(body):
        (length,) = struct.unpack_from(">I", body, at)
        if bytes(body[at + 4 : at + 8]) == b"IDAT":
            pixels = zlib.decompress(body[at + 8 : at + 8 + length])
        at += 12 + length
    return bytes(body) if pixels else {"bytes": 0}
