"""What bench/streams.py serves beside examples/vad/vad.py."""

import threading
from collections import Counter
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int16, Int64
from torch import Tensor
from xor_app import xor

import webtorch
from webtorch import State

Sums = tuple[Int64[Tensor, "batch 2"], State[Int64[Tensor, "batch 2"]]]


class Step(NamedTuple):
    """The network's output, and a mean of it over time."""

    y: Float32[Tensor, "batch 1"]
    mean: State[Float32[Tensor, "batch 1"]]


@webtorch.stream
def xor_stream(x: Float32[Tensor, "batch 2"], mean: State[Float32[Tensor, "batch 1"]]) -> Step:
    """Answer as `output` of xor_app.py does, with a state."""
    y = xor(x)
    return Step(y, torch.lerp(mean, y, 0.1))


@webtorch.stream
def xor_stateless(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Answer as `output` of xor_app.py does."""
    return xor(x)


@webtorch.stream
def audio_sums(x: Int16[Tensor, "batch 512"], sums: State[Int64[Tensor, "batch 2"]]) -> Sums:
    """Count chunks of audio, and add up their samples."""
    sums[:, 0] += 1
    sums[:, 1] += x.sum(1)
    return sums, sums


@webtorch.stream
def small_sums(x: Int16[Tensor, "batch 4"], sums: State[Int64[Tensor, "batch 2"]]) -> Sums:
    """Count small chunks, and add up their numbers."""
    sums[:, 0] += 1
    sums[:, 1] += x.sum(1)
    return sums, sums


@webtorch.stream
def wide(x: Float32[Tensor, "batch 1024"]) -> Float32[Tensor, "batch 1024"]:
    """Answer with a row that fills the buffers of a client soon."""
    return 2 * x


lock = threading.Lock()
opened = 0
closed = Counter[int]()


@webtorch.stream
def counted(
    x: Int16[Tensor, "batch 4"], state: State[Int64[Tensor, "batch 3"]]
) -> tuple[Int64[Tensor, "batch 2"], State[Int64[Tensor, "batch 3"]]]:
    """Do what `small_sums` does; a stream has a number, to count how often it is closed."""
    state[:, 1] += 1
    state[:, 2] += x.sum(1)
    return state[:, 1:], state


@counted.open
def begin(request: webtorch.Request) -> Int64[Tensor, "3"]:
    """Give a stream its number."""
    global opened
    with lock:
        opened += 1
        return torch.tensor([opened, 0, 0])


@counted.close
def end(state: Int64[Tensor, "3"]) -> None:
    """Count that a stream was closed."""
    with lock:
        closed[int(state[0])] += 1


@webtorch.handler
def facts() -> dict[str, int]:
    """Return how many streams were opened and closed, and the most often that one was closed."""
    return {
        "opened": opened,
        "closed": sum(closed.values()),
        "most": max(closed.values(), default=0),
    }
