"""Tables of labelled requests: text files with a request per line."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from webtorch.detect._payloads import Payloads


@dataclass(frozen=True)
class Request:
    """A line of a table."""

    source: str
    """Origin of the request, by which tables are filtered."""
    label: int
    """0 normal, 1 attack, 2 unusual but harmless."""
    type: str
    """Kind of the request, as its origin names it; may be empty."""
    method: str
    """Method of HTTP."""
    path: str
    """Percent-encoded path."""
    arguments: str
    """Percent-encoded query of a GET, or form of other methods."""

    def parts(self) -> tuple[str, str, str]:
        """Return path, query and body, as `webtorch.features.text` takes them."""
        if self.method == "GET":
            return self.path, self.arguments, ""
        return self.path, "", self.arguments


def read(path: Path) -> Iterator[Request]:
    """Read a table: the fields of `Request` with tabs between them.

    Args:
        path: The file; `.gz` is decompressed.

    Raises:
        OSError: It cannot be read.
        ValueError: A line does not have six fields, or its label is not 0, 1 or 2.

    """
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 6 or fields[1] not in ("0", "1", "2"):
                raise ValueError(f"{path}, line {number}: not a labelled request")
            yield Request(fields[0], int(fields[1]), *fields[2:])


def tensors(requests: list[Request]) -> tuple[Payloads, Tensor]:
    """Return the payloads of requests, and their labels: float32 `[requests]`, 1 for attacks."""
    labels = torch.tensor([float(each.label == 1) for each in requests])
    return Payloads.of([each.parts() for each in requests]), labels
