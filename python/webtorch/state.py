"""Where a model's tensors live."""

from typing import Protocol

from torch import Tensor


class State(Protocol):
    """Keeps the tensors of a model and counts its steps."""

    steps: int

    def place(self, key: str, tensor: Tensor) -> Tensor:
        """Return the tensor to use in a tensor's place, of the same dtype, shape and values."""


class LocalState:
    """In the memory of this process: each worker has a model of its own."""

    def __init__(self) -> None:
        self.steps = 0

    def place(self, key: str, tensor: Tensor) -> Tensor:
        """Return the tensor itself."""
        return tensor
