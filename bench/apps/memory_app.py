"""What bench/memory.py serves: functions of large bodies with small and with large answers."""

import torch
from jaxtyping import Float64
from torch import Tensor

import webtorch


@webtorch.handler
def size(request: webtorch.Request) -> str:
    return str(len(request.body))


@webtorch.infer
def total(x: Float64[Tensor, "batch n"]) -> Float64[Tensor, "batch"]:
    return x.sum(1)


@webtorch.infer
def root(x: Float64[Tensor, "batch n"]) -> Float64[Tensor, "batch n"]:
    return torch.sqrt(x)


@webtorch.infer
def pair(x: Float64[Tensor, "batch 2"]) -> Float64[Tensor, "batch 1"]:
    return x.sum(1, keepdim=True)
