"""The rows of the table: loads, memory and start."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import wrk
from nets import BEGINNING, IMAGE, Nets
from servers import Peer, Request


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name: What it says.
        kind: The request; empty if nothing is sent.
        unit: Of the values.
        more_is_better: Whether the largest one is the best.
        connections: Of the client, each with one request at a time.

    """

    name: str
    kind: str
    unit: str = "requests/s"
    more_is_better: bool = True
    connections: int = 64


ROWS = {
    "xor": Row("XOR, JSON", "xor"),
    "mlp-json": Row("MLP, JSON of 784 numbers", "mlp"),
    "mlp-binary": Row("MLP, float32 of 784 numbers", "mlp_binary"),
    "train": Row("training steps, JSON", "train"),
    "body": Row("602 KB of float32", "beginning", connections=16),
    "one": Row("XOR, one connection", "xor", connections=1),
    "many": Row("XOR, 1000 connections", "xor", connections=1000),
    "memory": Row("memory after the load", "", "MB", more_is_better=False),
    "start": Row("start to the first answer", "", "s", more_is_better=False),
}


@dataclass
class Cell:
    """What was measured of a server in a row; without a value there is a reason."""

    value: float | None = None
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def inputs(kind: str) -> np.ndarray:
    """Return the rows of a request."""
    if kind in ("xor", "train"):
        return np.array([[0.25, 0.75]], np.float32)
    shape = (1, *IMAGE) if kind == "beginning" else (1, 784)
    return np.random.default_rng(0).random(shape, dtype=np.float32).round(3)


def expected(kind: str) -> np.ndarray:
    """Return the numbers that each server must answer."""
    x = torch.from_numpy(inputs(kind))
    if kind == "beginning":
        return x.flatten().numpy()[:BEGINNING]
    function = getattr(Nets(), kind.removesuffix("_binary"))
    found: np.ndarray = function(x).numpy().ravel()
    return found


@contextmanager
def script(request: Request) -> Iterator[str]:
    """Write the body to a file; yield a script for wrk."""
    with tempfile.NamedTemporaryFile(prefix="webtorch-serving-") as file:
        Path(file.name).write_bytes(request.body)
        lines = [f'wrk.headers["{key}"] = "{value}"' for key, value in request.headers.items()]
        lines += ['wrk.method = "POST"', f'wrk.body = io.open("{file.name}", "rb"):read("*a")']
        yield "\n".join(lines) + "\n"


def load(peer: Peer, row: Row, seconds: float, repeat: int) -> Cell:
    """Check an answer, then measure the requests that succeed."""
    request = peer.request(row.kind, inputs(row.kind))
    answer = peer.numbers(row.kind, peer.post(request))
    if not np.allclose(answer, expected(row.kind), atol=1e-4):
        return Cell(reason="wrong numbers", details={"answer": answer[:10].tolist()})
    threads = min(2, row.connections)
    with script(request) as text:

        def run(seconds: float) -> wrk.Result:
            return wrk.run(
                peer.url(request.path),
                seconds,
                script=text,
                threads=threads,
                connections=row.connections,
            )

        run(1)
        results = [run(seconds) for _ in range(repeat)]
    # answers that are no success and requests without one are no requests
    rates = [(each.requests - each.status) / each.microseconds * 1e6 for each in results]
    failures = sum(each.errors + each.timeout for each in results)
    reason = f"{failures} failures" if failures else ""
    return Cell(median(rates), reason, {"runs": [asdict(each) for each in results]})


def measure(peer: Peer, rows: list[str], seconds: float, repeat: int) -> dict[str, Cell]:
    """Measure a server that has been started, in all rows but its start."""
    found = {}
    for key in rows:
        row = ROWS[key]
        if key in peer.lacks:
            found[key] = Cell(reason=peer.lacks[key])
        elif row.kind:
            try:
                found[key] = load(peer, row, seconds, repeat)
            except OSError as error:
                found[key] = Cell(reason=str(error))
    if "memory" in rows:
        found["memory"] = Cell(peer.megabytes(), details={"processes": len(peer.processes())})
    return found
