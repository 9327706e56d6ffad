"""Smooths the values of sensors: each stream has a state, all streams share a call."""

import torch
from jaxtyping import Float32
from torch import Tensor

import webtorch

SHARE = 0.25
"""Share of a new value in the mean."""


@webtorch.stream
def smooth(
    x: Float32[Tensor, "batch 1"], mean: webtorch.State[Float32[Tensor, "batch 1"]]
) -> tuple[Float32[Tensor, "batch 1"], webtorch.State[Float32[Tensor, "batch 1"]]]:
    """Return the moving mean of each stream; that of a new stream is 0."""
    mean = torch.lerp(mean, x, SHARE)
    return mean, mean
