"""Learns a line from the points of requests, and serves what it has learned meanwhile."""

import torch
from jaxtyping import Float32
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

import webtorch

torch.manual_seed(0)
line = webtorch.Model("line", nn.Linear(1, 1), optimizer=lambda p: optim.SGD(p, lr=0.1))


@webtorch.infer
def predict(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    """Return the values of the line."""
    return line(x)


@webtorch.train
def learn(
    x: Float32[Tensor, "batch 1"], y: Float32[Tensor, "batch 1"]
) -> Float32[Tensor, "batch 1"]:
    """Make a step towards points, those of all requests of the call; return the old values."""
    found = line(x)
    line.step(mse_loss(found, y))
    return found
