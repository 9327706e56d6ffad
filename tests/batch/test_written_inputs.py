"""Functions that write to their inputs, in batches of which a request fails."""

from types import SimpleNamespace

import pytest
import torch

from webtorch._isolation import Span, isolate

FLOAT = SimpleNamespace(dtype=torch.float32)


def rows_of_one(values: list[float]) -> list[Span]:
    return [Span(index, 1) for index in range(len(values))]


def check(inputs, rows):
    (x,) = inputs
    if bool((x < 0).any()):
        raise ValueError("negative")
    return x


def widen(inputs, rows):
    """Double the input in place; the output has as many columns as its largest value."""
    x = check(inputs, rows).mul_(2)
    output = torch.zeros(rows, int(x.max()))
    output[:, 0] = x[:, 0]
    return [output]


def fail_late(inputs, rows):
    """Double the input in place, and then fail."""
    x = inputs[0]
    is_bad = bool((x < 0).any())
    x.mul_(2)
    if is_bad:
        raise ValueError("negative")
    return [x.clone()]


@pytest.mark.parametrize("function", [widen, fail_late])
def test_rows_that_run_again_are_as_they_were(function):
    values = [1.0, 1.0, 5.0, -1.0]
    inputs = [torch.tensor(values).unsqueeze(1)]
    (output,), failures = isolate(
        function, [FLOAT], inputs, rows_of_one(values), ValueError("negative")
    )
    assert output[:3, 0].tolist() == [2.0, 2.0, 10.0]
    assert [*failures] == [3]
    assert inputs[0][:, 0].tolist() == values
