"""Requests as rows of bytes, as nginx shows them to a model as the feature `bytes`."""

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import numpy as np
import torch
from torch import Tensor

WIDTH = 1024
"""Bytes of a row, unless one is told otherwise; what is beyond is cut off."""


def text(path: str, query: str = "", body: str = "") -> bytes:
    """Return the text of a request: path, query and body, decoded twice and in lower case.

    In query and body `+` is a space. The bytes 0x1D and 0x1E are between the parts.
    """
    parts = path, query.replace("+", " "), body.replace("+", " ")
    decoded = [unquote_to_bytes(unquote_to_bytes(part)).lower() for part in parts]
    return decoded[0] + b"\x1d" + decoded[1] + b"\x1e" + decoded[2]


def rows(texts: Iterable[bytes], width: int = WIDTH) -> Tensor:
    """Return texts as rows: uint8 of shape `(batch, width)`, with zeros after the text."""
    cut = [each[:width] for each in texts]
    array = np.zeros((len(cut), width), np.uint8)
    for row, each in zip(array, cut, strict=True):
        row[: len(each)] = np.frombuffer(each, np.uint8)
    return torch.from_numpy(array)
