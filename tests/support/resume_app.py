"""The application that tests of streams with `resume=` serve."""

APP = """
import logging, os, threading
from typing import NamedTuple

import torch, webtorch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from webtorch import State, Strings

@webtorch.stream
def digest(
    x: Int64[Tensor, "batch"], s: State[Int64[Tensor, "batch"]], n: State[Int64[Tensor, "batch 3"]]
) -> tuple[Int64[Tensor, "batch"], State[Int64[Tensor, "batch"]], State[Int64[Tensor, "batch 3"]]]:
    if (x == 666).any():
        raise ValueError("a bad chunk")
    if (x == 667).any():
        os.kill(os.getpid(), 9)
    s *= 31
    s += x + n.sum(1)
    s %= 1000003
    n += 1
    return s, s, n

@digest.open
def begin(request: webtorch.Request) -> tuple[Int64[Tensor, ""], Int64[Tensor, "3"]]:
    if "refuse" in request.query():
        raise webtorch.HTTPError(403, "not you")
    return torch.tensor(7), torch.tensor([0, 1, 2])

@digest.close
def end(s: Int64[Tensor, ""], n: Int64[Tensor, "3"]) -> None:
    logging.warning("ended with %d", s)

class Step(NamedTuple):
    y: Float32[Tensor, "batch"]
    s: State[Float32[Tensor, "batch"]]
    done: Bool[Tensor, "batch"]

@webtorch.stream
def until(x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch"]]) -> Step:
    return Step(s + x, s + x, x < 0)

@webtorch.stream
def large(
    x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch 500000"]]
) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch 500000"]]]:
    s = s + x[:, None]
    return s[:, -1], s

@webtorch.stream
def echo(x: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    return x

door = threading.Event()

@webtorch.stream
def waiting(
    x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch"]]
) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch"]]]:
    return s + x, s + x

@waiting.open
def wait(request: webtorch.Request) -> Float32[Tensor, ""]:
    door.wait(60)
    return torch.tensor(-7.0)

@waiting.close
def leave(s: Float32[Tensor, ""]) -> None:
    logging.warning("waited, and left with %d", s)

@webtorch.handler
def open_door(request):
    door.set()
    return ""

exit_door = threading.Event()

@webtorch.stream
def lingering(
    x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch"]]
) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch"]]]:
    if (x == 666).any():
        raise ValueError("a bad chunk")
    return s + x, s + x

@lingering.close
def linger(s: Float32[Tensor, ""]) -> None:
    logging.warning("lingers with %d", s)
    exit_door.wait(60)
    logging.warning("lingered with %d", s)

@webtorch.handler
def open_exit(request):
    exit_door.set()
    return ""

@webtorch.handler
def pid(request):
    return os.getpid()
"""


def digests(rows: list[int], s: int = 7) -> list[int]:
    """Return the answers of `digest`."""
    found = []
    for n, x in enumerate(rows):
        s = (s * 31 + x + 3 + 3 * n) % 1000003
        found.append(s)
    return found
