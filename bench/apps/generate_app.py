"""A character model that is not trained: a GRU of 512 units and 128 symbols."""

from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

import webtorch
from webtorch import State

SYMBOLS = 128
UNITS = 512

torch.manual_seed(1)
embedding = nn.Embedding(SYMBOLS, SYMBOLS)
cell = nn.GRUCell(SYMBOLS, UNITS)
output = nn.Linear(UNITS, SYMBOLS)


class Step(NamedTuple):
    """A symbol of each generation, and its states."""

    token: Int64[Tensor, "batch"]
    h: State[Float32[Tensor, "batch 512"]]
    last: State[Int64[Tensor, "batch"]]


@webtorch.generate
def write(h: State[Float32[Tensor, "batch 512"]], last: State[Int64[Tensor, "batch"]]) -> Step:
    """Sample the next symbol."""
    h = cell(embedding(last), h)
    token = torch.multinomial(output(h).softmax(1), 1).squeeze(1)
    return Step(token, h, token)


@write.open
def begin(prompt: Int64[Tensor, "length"]) -> tuple[Tensor, Tensor]:
    """Begin with the last symbol of a prompt."""
    return torch.zeros(UNITS), prompt[-1]
