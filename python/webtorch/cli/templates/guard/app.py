"""Denies attacks by the payload of requests, before the site sees them."""

from jaxtyping import Float32, Int32, Int64
from torch import Tensor

import webtorch
from webtorch.detect import PayloadClassifier

guard = webtorch.Model("guard", PayloadClassifier.pretrained())


@webtorch.infer
def score(
    tokens: Int32[Tensor, "batch 5 tokens"], segments: Int64[Tensor, "batch tokens"]
) -> Float32[Tensor, "batch 1"]:
    """Score each request by the probability of an attack."""
    return guard(tokens, segments)
