"""Outputs of what is recorded as a graph."""

from typing import Any

from torch import Tensor


def outputs_of(result: Any) -> tuple[list[Tensor], bool]:
    """Return what a network returned as a list, and whether it is a single tensor.

    Raises:
        TypeError: It returned something else than tensors.

    """
    if isinstance(result, Tensor):
        return [result], True
    if type(result) not in (tuple, list) or not all(isinstance(each, Tensor) for each in result):
        raise TypeError(f"it returns {type(result).__name__}, not a tensor or a tuple of tensors")
    return [*result], False
