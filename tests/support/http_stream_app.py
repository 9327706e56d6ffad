"""The application that tests of streams serve."""

APP = """
import collections, threading
from typing import NamedTuple

import torch, webtorch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from webtorch import Missing, State, Strings

calls = []
ended = []

@webtorch.stream
def total(
    x: Float32[Tensor, "batch 2"], s: State[Float32[Tensor, "batch 2"]]
) -> tuple[Float32[Tensor, "batch 2"], State[Float32[Tensor, "batch 2"]]]:
    calls.append(len(x))
    if (x == 666).any():
        raise ValueError("a bad chunk")
    if (x == 422).any():
        raise webtorch.HTTPError(422, "a chunk of 422")
    if (x == 429).any():
        raise webtorch.HTTPError(429, {"left": [0]}, code="no_chunks_left")
    s += x
    return s, s

again = total

@webtorch.stream
def counted(
    x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch"]]
) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch"]]]:
    if (x == 666).any():
        raise ValueError("a bad chunk")
    return s + x, s + x

@counted.open
def begin(request: webtorch.Request) -> Float32[Tensor, ""]:
    if "refuse" in request.query():
        raise webtorch.HTTPError(403, "not you")
    return torch.tensor(float(request.query()["from"]))

@counted.close
def end(s: Float32[Tensor, ""]) -> None:
    ended.append(s.item())

class Step(NamedTuple):
    done: Bool[Tensor, "batch"]
    y: Float32[Tensor, "batch"]
    seen: State[list[list[float]]]
    n: Int64[Tensor, "batch"]

@webtorch.stream
def several(
    x: Float32[Tensor, "batch"], k: Int64[Tensor, "batch"], seen: State[list[list[float]]]
) -> Step:
    seen = [(each or []) + [value] for each, value in zip(seen, x.tolist())]
    y = torch.tensor([sum(each) for each in seen])
    return Step(k < 0, y, seen, torch.tensor([len(each) for each in seen]))

@webtorch.stream
def echo(x: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    return x

@webtorch.stream
def echo_bytes(x: Strings[list[bytes], "batch"]) -> Strings[list[bytes], "batch"]:
    return x

@webtorch.stream
def flip(x: Strings[list[bytes], "batch"]) -> Strings[list[bytes], "batch"]:
    return [bytes(255 - c for c in each) for each in x]

@webtorch.stream
def encode(x: Strings[list[str], "batch"]) -> Strings[list[bytes], "batch"]:
    return [each.encode("utf-16-le") for each in x]

@webtorch.stream
def variable(
    x: Int64[Tensor, "batch n"], s: State[Int64[Tensor, "batch"]]
) -> tuple[Int64[Tensor, "batch"], State[Int64[Tensor, "batch"]]]:
    return s + x.sum(1), s + x.sum(1)

@webtorch.stream
def gaps(
    x: Float32[Tensor, "batch"],
    k: Missing[Int64[Tensor, "batch"]],
    s: State[Float32[Tensor, "batch"]],
    gain: Float32[Tensor, "batch"] = 2.0,
    bias: Float32[Tensor, "batch"] | None = None,
) -> tuple[Float32[Tensor, "batch"], Int64[Tensor, "batch"], State[Float32[Tensor, "batch"]]]:
    s = s + x * gain
    return s if bias is None else s + bias, torch.where(k.mask, -1, k.values), s

@webtorch.stream
def known(k: Missing[Int64[Tensor, "batch"]]) -> Bool[Tensor, "batch"]:
    return ~k.mask

@webtorch.stream
def room(
    x: Strings[list[str], "batch"], name: State[list[str]]
) -> tuple[Strings[list[str], "batch"], State[list[str]]]:
    return [f"{a}: {b}" for a, b in zip(name, x)], name

@room.open
def enter(request: webtorch.Request) -> str:
    return request.path_params["room"]

meeting = threading.Barrier(2)

@webtorch.stream
def met(
    x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch"]]
) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch"]]]:
    return s + x, s + x

@met.open
def meet(request: webtorch.Request) -> Float32[Tensor, ""]:
    return torch.tensor(float(meeting.wait(60)))

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
    ended.append(s.item())

@webtorch.handler
def open_door(request):
    door.set()
    return ""

gate = threading.Event()

@webtorch.stream
def slow(x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
    if (x > 0).any():
        gate.wait(60)
    return x

@webtorch.handler
def release(request):
    gate.set()
    return ""

@webtorch.infer
def allowed(client: Float32[Tensor, "batch 31"]) -> Float32[Tensor, "batch"]:
    return torch.zeros(len(client))

@webtorch.handler
def facts(request):
    return {"calls": calls, "ended": ended}
"""
