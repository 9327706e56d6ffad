"""Tables of labelled requests: files with a request in each line."""

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
    """Where it is from."""
    label: int
    """0 normal, 1 attack, 2 odd but harmless."""
    type: str
    method: str
    path: str
    """Percent-encoded."""
    arguments: str
    """Percent-encoded: the query of a GET, the form of others."""

    def parts(self) -> tuple[str, str, str]:
        """Return path, query and body."""
        if self.method == "GET":
            return self.path, self.arguments, ""
        return self.path, "", self.arguments


def read(path: Path) -> Iterator[Request]:
    """Read a table, with tabs between the fields of `Request`; `.gz` is compressed.

    Raises:
        OSError: if it cannot be read.
        ValueError: if a line has not six fields, or its label is none.

    """
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for number, line in enumerate(file, 1):
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 6 or fields[1] not in ("0", "1", "2"):
                raise ValueError(f"{path}, line {number}: not a labelled request")
            yield Request(fields[0], int(fields[1]), *fields[2:])


def tensors(requests: list[Request]) -> tuple[Payloads, Tensor]:
    """Return requests and their labels, float32 of shape `[n]`."""
    labels = torch.tensor([float(each.label == 1) for each in requests])
    return Payloads.of([each.parts() for each in requests]), labels
