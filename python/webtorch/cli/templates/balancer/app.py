"""A server behind the balancer: it answers with the work that a request asks for."""

import torch
from jaxtyping import Float32
from torch import Tensor

import webtorch


@webtorch.infer
def work(x: Float32[Tensor, "batch 8"]) -> Float32[Tensor, "batch 8"]:
    """Return the softmax of each row."""
    return torch.softmax(x, 1)
