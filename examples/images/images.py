"""Reads handwritten digits in JPEG and PNG files; pictures of all clients are one batch.

Run it with `./build.sh run nginx-conf/images.conf`. Pillow decodes the files. train.py has made the
weights and a picture, watch.py sends pictures.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from reader import decode, network
from torch import Tensor

import webtorch
from webtorch import Strings

classifier = webtorch.Model("images", network(), weights="digits.safetensors")


class Digits(NamedTuple):
    """The most probable digit of each picture, and the probabilities of all ten."""

    label: Int64[Tensor, "batch"]
    probabilities: Float32[Tensor, "batch 10"]


@webtorch.infer
def classify(files: Strings[list[bytes], "batch"]) -> Digits:
    """Read the body, or each file of a form."""
    ink = torch.stack([decode(file) for file in files])
    probabilities = classifier(ink).softmax(dim=1)
    return Digits(probabilities.argmax(dim=1), probabilities)
