"""Nets over the windows of a request's fields, as C evaluates them itself."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class FieldTables:
    """What the fields of a site hold; tensors on the CPU, which others may write meanwhile."""

    fields: Tensor
    """Keys of fields, int64 `[n]`; `n` is a power of two, as below."""
    counts: Tensor
    """What each holds, float32 `[n, 66]`."""
    locations: Tensor
    """Keys of locations, int64 `[n]`."""
    scores: Tensor
    """How many requests each had, and bins of their logits, float32 `[n, 129]`."""
    marks: Tensor
    """Hashes of windows that an operator has marked, int64 `[n]`."""
    verdicts: Tensor
    """-1: normal, 1: attack; int8 `[n]`."""
    holders: Tensor
    """Keys of fields that may hold what scores as high as the window, int64 `[n]`."""
    levels: Tensor
    """Logits of the windows, float32 `[n]`."""


@dataclass(frozen=True)
class FieldNet:
    """A net over windows: sums of the rows of numbers, a hidden layer of ReLU, and outputs."""

    known: Tensor
    """Numbers that have rows, int32 `[n]`, increasing."""
    table: Tensor
    """Rows, float32 `[1 + n, 1 + hidden]`; the first one is of no number."""
    bias: Tensor
    """Float32 `[hidden]`."""
    weight: Tensor
    """Float32 `[1 + kinds, hidden]`; the first row, and the first column of rows, give a logit."""
    out_bias: Tensor
    """Float32 `[1 + kinds]`."""
    shift: Tensor
    """What is taken from the logits of requests, float32 `[]`."""
    kinds: tuple[str, ...]
    """Names of kinds of attacks, of at most 8 letters."""
    tables: FieldTables | None = None

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The tensors that C copies."""
        return self.known, self.table, self.bias, self.weight, self.out_bias, self.shift


@runtime_checkable
class HasNet(Protocol):
    """A module that C can evaluate itself."""

    def net(self) -> FieldNet:
        """Return its tensors."""
