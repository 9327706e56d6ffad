"""Classifies points by a small network: put your own model in its place."""

from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

import webtorch

torch.manual_seed(0)
model = webtorch.Model("classifier", nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)))


class Classes(NamedTuple):
    """The best class of each point, and the probabilities of all."""

    best: Int64[Tensor, "batch"]
    probabilities: Float32[Tensor, "batch 3"]


@webtorch.infer
def classify(x: Float32[Tensor, "batch 4"]) -> Classes:
    """Classify points; one call has the points of many requests."""
    probabilities = model(x).softmax(1)
    return Classes(probabilities.argmax(1), probabilities)
