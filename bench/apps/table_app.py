"""Functions of a table of ten columns, and of one tensor with as many numbers in a row."""

from jaxtyping import Float32
from torch import Tensor

import webtorch

Column = Float32[Tensor, "batch"]


@webtorch.infer
def columns(
    c0: Column,
    c1: Column,
    c2: Column,
    c3: Column,
    c4: Column,
    c5: Column,
    c6: Column,
    c7: Column,
    c8: Column,
    c9: Column,
) -> Column:
    return c0 + c9


@webtorch.infer
def rows(x: Float32[Tensor, "batch 10"]) -> Column:
    return x[:, 0] + x[:, 9]
