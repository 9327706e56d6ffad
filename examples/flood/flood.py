"""Denies requests of a flood: `webtorch_access flood:score`, see nginx-conf/flood.conf."""

from jaxtyping import Float32, Int64
from torch import Tensor

import webtorch
from webtorch.detect import FloodDetector

detector = FloodDetector()


@webtorch.infer
def score(
    client: Float32[Tensor, "batch 31"],
    key: Int64[Tensor, "batch 1"],
    site: Float32[Tensor, "batch 8"],
) -> Float32[Tensor, "batch 1"]:
    """Score each request; requests of a flood score 0.5 and more."""
    return detector(client, key, site)
