"""Learns handwritten digits from requests while it reads others: nginx-conf/digits.conf.

watch.py sends the digits of scikit-learn and draws the accuracy.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy

import webtorch

torch.manual_seed(0)
digits = webtorch.Model(
    "digits",
    nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    ),
    optimizer=lambda parameters: optim.Adam(parameters, lr=0.002),
)


class Digit(NamedTuple):
    """The most probable digit of each image, and its probability."""

    label: Int64[Tensor, "batch"]
    probability: Float32[Tensor, "batch"]


@webtorch.infer
def read(image: Float32[Tensor, "batch 8 8"]) -> Digit:
    """Read images, whose pixels are from 0 (paper) to 16 (ink)."""
    probability, label = digits(image / 16).softmax(dim=1).max(dim=1)
    return Digit(label, probability)


@webtorch.train
def learn(
    image: Float32[Tensor, "batch 8 8"], label: Int64[Tensor, "batch"]
) -> Float32[Tensor, "batch"]:
    """Make a step with all images that are there; return the loss of each before it."""
    if ((label < 0) | (label > 9)).any():
        raise webtorch.HTTPError(400, "a label is from 0 to 9")
    losses = cross_entropy(digits(image / 16), label, reduction="none")
    digits.step(losses.mean())
    return losses.detach()
