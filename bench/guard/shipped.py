"""What the shipped FieldClassifier denies and detects, on recorded requests and on tables."""

import tempfile
from pathlib import Path

import numpy as np
import torch
import traffic
from numpy.typing import NDArray
from rates import show, thresholds_of
from reading import Reader, Request
from traffic import Row

from webtorch.detect import FieldClassifier, table

OTHERS = ("crs-negative", "gotestwaf-falsepos", "paste", "search", "ua", "upload", "tensor")


class Scorer:
    """Scores requests as nginx would, by the same C."""

    def __init__(self) -> None:
        self.classifier = FieldClassifier.pretrained()
        with tempfile.TemporaryDirectory() as directory:
            self.reader = Reader(Path(directory))

    @torch.no_grad()
    def logits(self, requests: list[Request]) -> NDArray[np.float32]:
        """Return the logits of requests, of which those above 0 are denied by default."""
        found = []
        for each in requests:
            read = self.reader.read(each)
            rows = torch.from_numpy(read.numbers)[None], torch.from_numpy(read.windows)[None]
            found.append(float(self.classifier.logits(rows[0], rows[1].long())))
        return np.array(found, np.float32)


def request_of(row: table.Request) -> Request:
    """Return a request of a table."""
    path, arguments = row.path.encode(), row.arguments.encode()
    if row.method == "GET":
        return Request("GET", path, arguments)
    kind = [(b"Content-Type", b"application/x-www-form-urlencoded")]
    return Request(row.method, path, headers=kind, body=arguments)


def recorded(scorer: Scorer, path: Path) -> None:
    """Print what is denied by default, and at thresholds of the file's own normal requests."""
    rows = traffic.read(path)
    scores = scorer.logits([each.request for each in rows])

    def of(**wanted: object) -> NDArray[np.float32]:
        return np.array(
            [
                score
                for row, score in zip(rows, scores, strict=True)
                if all(getattr(row, name) == value for name, value in wanted.items())
            ],
            np.float32,
        )

    def kinds(label: int) -> list[str]:
        return sorted({each.kind for each in rows if each.label == label})

    usual = [each for each in kinds(0) if each not in OTHERS]
    normal = np.concatenate([of(label=0, kind=each) for each in usual])
    thresholds = [0.0, *thresholds_of(normal)]
    print(
        f"\n| {path.name}, % | n | by default | at 0.1 % | 0.5 % | 1 % |\n|---|---|---|---|---|---|"
    )
    show("normal", normal, thresholds)
    for kind in usual:
        show(f"normal, {kind}", of(label=0, kind=kind), thresholds)
    for kind in kinds(0):
        if kind in OTHERS:
            show(f"label 0, {kind}", of(label=0, kind=kind), thresholds)
    for kind in kinds(1):
        show(f"**{kind}**", of(label=1, kind=kind), thresholds)
        if not kind.startswith("crs"):
            for place in places(rows, kind):
                show(f"{kind}, {place}", of(label=1, kind=kind, place=place), thresholds)


def places(rows: list[Row], kind: str) -> list[str]:
    return sorted({each.place for each in rows if each.kind == kind})


def tables(scorer: Scorer, tests: dict[str, list[table.Request]]) -> None:
    """Print what is detected of each source, at thresholds of its own normal requests."""
    print("\n| tables, % | n | by default | at 0.1 % | 0.5 % | 1 % |\n|---|---|---|---|---|---|")
    for source, rows in tests.items():
        scores = scorer.logits([request_of(each) for each in rows])
        labels = np.array([each.label for each in rows])
        thresholds = [0.0, *thresholds_of(scores[labels == 0])]
        show(f"{source}, normal", scores[labels == 0], thresholds)
        show(f"**{source}**", scores[labels == 1], thresholds)
