"""What bench/metrics.py serves: fifty functions."""

from jaxtyping import Float32
from torch import Tensor

import webtorch


def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x


for number in range(50):
    globals()[f"output{number}"] = webtorch.infer(output)
