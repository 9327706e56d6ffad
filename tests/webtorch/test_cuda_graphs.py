"""Graphs of CUDA that cannot be recorded, with PyTorch's functions replaced: no GPU is needed."""

import types

import pytest
import torch

from webtorch._device import cuda


class Refused:
    """What `torch.cuda.graph` does with an operation that cannot be recorded."""

    def __init__(self, calls, ends):
        self._calls = calls
        self._ends = ends

    def __call__(self, graph, pool, stream, capture_error_mode):
        assert (pool, capture_error_mode) == ((0, 7), "thread_local")
        self._calls.append(stream)
        return self

    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        if not self._ends:
            raise RuntimeError("CUDA error: capture was invalidated")


@pytest.fixture
def calls(monkeypatch):
    found: list[object] = []
    graph = types.SimpleNamespace(reset=lambda: found.append("reset"))
    monkeypatch.setattr(cuda, "_failed", [])
    monkeypatch.setattr(
        cuda,
        "_cuda",
        types.SimpleNamespace(
            current_stream=lambda device: "before",
            graph_pool_handle=lambda: (0, 7),
            set_stream=found.append,
            CUDAGraph=lambda: graph,
        ),
    )
    return found


def allocator(calls, in_use):
    def end(index, pool):
        calls.append(("end", index, pool))
        if not in_use:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    return types.SimpleNamespace(
        _cuda_endAllocateToPool=end,
        _cuda_releasePool=lambda index, pool: calls.append(("release", index, pool)),
    )


def fail(example):
    raise ValueError("no")


@pytest.mark.parametrize("ends", [False, True])
def test_graph_that_cannot_be_recorded_leaves_the_allocator_as_it_was(monkeypatch, calls, ends):
    monkeypatch.setattr(cuda._cuda, "graph", Refused(calls, ends), raising=False)
    monkeypatch.setattr(cuda, "_c", allocator(calls, in_use=not ends))
    example = types.SimpleNamespace(device=torch.device("cuda", 1))
    with pytest.raises(ValueError if ends else RuntimeError):
        cuda._capture(fail, example, "beside")
    expected = ["beside", "before", "reset", ("end", 1, (0, 7))]
    assert calls == (expected if ends else [*expected, ("release", 1, (0, 7))])
    assert len(cuda._failed) == (not ends)
