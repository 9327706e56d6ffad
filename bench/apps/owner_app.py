"""What bench/owner.py serves: the XOR network, and a model as large as the environment says."""

import os
import time
from pathlib import Path

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn, optim

import webtorch

xor = webtorch.Model(
    "xor",
    nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1)),
    optimizer=lambda params: optim.SGD(params, lr=0.01),
)


class Large(nn.Module):
    """A network whose weights have so many megabytes, of which a call uses a row."""

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(megabytes, 256 * 1024))

    def forward(self, x: Tensor) -> Tensor:
        """Add the first weight to each row."""
        return x + self.weights[0, 0]


large = webtorch.Model("large", Large(int(os.environ["BENCH_MEGABYTES"])))


@webtorch.infer
def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return xor(x)


@webtorch.infer
def where(x: Float32[Tensor, "batch 2"]) -> Int64[Tensor, "batch 1"]:
    large(x)
    return torch.full((len(x), 1), os.getpid())


if not webtorch.is_check() and webtorch.is_owner():
    Path(os.environ["BENCH_STARTS"], str(os.getpid())).write_text(str(time.monotonic()))
