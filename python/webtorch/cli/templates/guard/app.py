"""Denies attacks by all fields of a request, before the site sees them."""

from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor

import webtorch
from webtorch.detect import FieldClassifier

guard = webtorch.Model("guard", FieldClassifier.pretrained())


@webtorch.infer
def score(
    numbers: Int32[Tensor, "batch n"], windows: Int64[Tensor, "batch n"]
) -> tuple[Float32[Tensor, "batch 1"], Int64[Tensor, "batch 1"], UInt8[Tensor, "batch 8"]]:
    """Score each request by the probability of an attack, and return its field and kind."""
    return guard(numbers, windows)
