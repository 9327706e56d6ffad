"""Handlers of bench/cluster_serving.py: a model of 1.1 M parameters that hosts share."""

import torch
from jaxtyping import Float32
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

import webtorch

WIDTH = 1048

torch.manual_seed(0)

model = webtorch.Model(
    "shared",
    nn.Sequential(
        *(nn.Linear(2, WIDTH), nn.Tanh()),
        *(nn.Linear(WIDTH, WIDTH), nn.Tanh()),
        nn.Linear(WIDTH, 1),
    ),
    lambda p: optim.SGD(p, lr=1e-4),
)


@webtorch.infer
def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Return the network's output."""
    return model(x)


@webtorch.train
def train(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Make a step."""
    y = model(x)
    model.step(mse_loss(y, x.prod(dim=1, keepdim=True)))
    return y
