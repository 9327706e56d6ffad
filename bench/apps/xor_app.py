"""What bench/xor.py serves: the example of the README, and a model of about 5 ms."""

import time

import torch
from jaxtyping import Float32
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

import webtorch

xor = webtorch.Model(
    "xor",
    nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1)),
    optimizer=lambda params: optim.SGD(params, lr=0.01),
)


@webtorch.infer
def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return xor(x)


@webtorch.train
def train(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    label = torch.where(x.prod(dim=1, keepdim=True) > 0, -1.0, 1.0)
    xor.step(mse_loss(xor(x), label))
    return label


def _layers_of(milliseconds: float) -> int:
    """Count the matrix products that take as long on this machine, at its best."""
    best = float("inf")
    for _ in range(20):
        begin = time.perf_counter()
        _weights @ _weights
        best = min(best, time.perf_counter() - begin)
    return max(1, round(milliseconds / 1000 / best))


torch.set_num_threads(1)
_weights = torch.randn(256, 256) / 16
_layers = _layers_of(5.0)


@webtorch.infer
def slow(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    product = _weights
    for _ in range(_layers):
        product = product @ _weights
    return x + 0 * product[0, 0]
