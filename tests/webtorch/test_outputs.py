"""Values that do not match the annotations of a function of tensors."""

from typing import NamedTuple

import pytest
import torch
from jaxtyping import Float32
from torch import Tensor

from webtorch import Strings, infer

X = Float32[Tensor, "batch 2"]
Texts = Strings[list[str], "batch"]


class Pair(NamedTuple):
    a: X
    b: X


def result_of(annotation, value):
    def f(x: X) -> annotation:
        return value

    x = torch.ones(2, 2)
    return infer(f).run([x], len(x))


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (tuple[X, X], torch.ones(2, 2), "2 outputs .* returned one Tensor: return a tuple of 2"),
        (tuple[X, X], [torch.ones(2, 2)], "2 outputs .* a list of 1: return a tuple of 2"),
        (Pair, {"a": 1}, r"2 outputs .* one dict: return Pair\(\.\.\.\)"),
        (Pair, None, r"2 outputs .* returned None: return Pair\(\.\.\.\)"),
        (X, (torch.ones(2, 2),) * 2, "1 output .* a tuple of 2: return the output itself"),
        (Texts, ["a"], r"str \[batch\], it returned lists of str, \[1\] for 2 rows"),
        (Texts, [1, 1], r"str \[batch\], it returned lists of int, \[2\] for 2 rows"),
        (Strings[list[list[str]], "batch 2"], [["a", "b"], ["c"]], "lists of several lengths"),
    ],
)
def test_value_that_does_not_match(annotation, value, text):
    with pytest.raises(TypeError, match=text):
        result_of(annotation, value)
