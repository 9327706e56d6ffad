"""What bench/versions.py serves: a network, one that may be broken, and a shadow."""

import torch
from jaxtyping import Float32
from torch import Tensor, nn

import webtorch


def network() -> nn.Module:
    """Return the network of the README, with the same weights in all processes."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1))


xor = webtorch.Model("xor", network())
newer = webtorch.Model("newer", network())


@webtorch.infer
def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return xor(x)


@webtorch.infer
def better(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return newer(x)


@webtorch.infer
def checked(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    found = xor(x)
    if (found > 1e6).any():
        raise ValueError("the weights are broken")
    return found
