"""Large binary answers are sent from PyTorch's memory: it must stay as it is, and be given back."""

import io
import socket
import zipfile

import numpy as np
import pytest

from nginx import wait_for
from wire import connections, request, settle

APP = """
import gc, types, torch, webtorch
from jaxtyping import Float32
from pathlib import Path
from torch import Tensor
from webtorch import Strings

state = torch.zeros(4_000_000)
pair = (torch.zeros(4, 2048), torch.zeros(4, 2048))

@webtorch.infer
def weights(x: Float32[Tensor, "1"]) -> Float32[Tensor, "4000000"]:
    return state

@webtorch.infer
def add(x: Float32[Tensor, "1"]) -> Float32[Tensor, "1"]:
    state.add_(1)
    return x

@webtorch.infer
def big(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 2000000"]:
    return x.expand(len(x), 2000000).contiguous()

@webtorch.handler
def memory(request):
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("RssAnon"))

X = Float32[Tensor, "batch 2048"]

@webtorch.infer
def fresh(x: X) -> X: return x + 1
@webtorch.infer
def fresh_pair(x: X) -> tuple[X, X]: return x + 1, x + 2
@webtorch.infer
def transposed(x: X) -> X: return (x + 1).T.contiguous().T
@webtorch.infer
def small(x: X) -> Float32[Tensor, "batch"]: return pair[0][:, 0]
@webtorch.infer
def the_input(x: X) -> X: return x
@webtorch.infer
def a_global(x: X) -> X: return pair[0]
@webtorch.infer
def a_view(x: X) -> X: return pair[0][:]
@webtorch.infer
def half_of_it(x: X) -> tuple[X, X]: return x + 1, pair[1]
@webtorch.infer
def cached(x: X) -> tuple[X, X]: return pair

@webtorch.infer
def two_small(x: X) -> tuple[Float32[Tensor, "batch 150"], Float32[Tensor, "batch 150"]]:
    return pair[0][:, :150].contiguous(), halves

@webtorch.infer
def with_text(x: X) -> tuple[Strings[list[str], "batch"], Float32[Tensor, "batch 2"]]:
    return ["a"] * len(x), twos

halves = torch.zeros(4, 150)
twos = torch.zeros(4, 2)
FUNCTIONS = (
    two_small, with_text, fresh, fresh_pair, transposed, small, the_input, a_global, a_view,
    half_of_it, cached
)

@webtorch.handler
def shared(request):
    from webtorch._worker.runners import slots, tensor_runner
    found = {}
    for function in FUNCTIONS:
        runner = tensor_runner.TensorRunner(function.__name__, function)
        batch = types.SimpleNamespace(shared=0, retained=0)
        for _ in range(3):
            runner._slots[0] = slots.Slot(1, True, [torch.zeros(4, 2048)], [0, 0])
            runner.run(0, 1, 4, batch)
        found[function.__name__] = bool(batch.shared)
    return found

@webtorch.infer
def tenth(x: X) -> Float32[Tensor, "batch 200"]: return x[:, :200]

@webtorch.infer
def all_of_it(x: X) -> X: return x

@webtorch.handler
def retained(request):
    from webtorch._worker.runners import slots, tensor_runner
    found = {}
    for function in (tenth, all_of_it):
        runner = tensor_runner.TensorRunner(function.__name__, function)
        batch = types.SimpleNamespace(shared=0, retained=0)
        slot = runner._slots[0] = slots.Slot(1, True, [torch.ones(1, 2048)], [0])
        runner.run(0, 1, 1, batch)
        is_view = slot.outputs[0] == slot._bases[0].data_ptr()
        found[function.__name__] = bool(batch.retained), is_view
    return found

@webtorch.handler
def dropped(request):
    from webtorch._worker.runners import tensor_runner
    runner = tensor_runner.TensorRunner("fresh_pair", fresh_pair)
    found = []
    for addresses in ([0, 1], [0, 0]):
        runner._outputs[1], runner._dropped[1] = (), addresses
        runner._drop_answered(0)
        found.append(1 in runner._outputs)
    return found
"""
NAMES = ("weights", "add", "big", "memory", "shared", "retained", "dropped")
SERVER = "".join(
    f"location = /{name} {{ webtorch_handler app:{name} mode=inline; }}\n" for name in NAMES
)

ONE = np.zeros(1, np.float32).tobytes()
RAW = "application/octet-stream"


def test_kept_outputs_are_detected(server):
    found = server.get("/shared").json()
    assert {name for name, shared in found.items() if shared} == {
        "the_input", "a_global", "a_view", "half_of_it", "cached", "two_small", "with_text",
    }  # fmt: skip
    assert len(found) == 11


def test_small_views_of_inputs_are_copied(server):
    """The next batch has the same buffers then."""
    assert server.get("/retained").json() == {"tenth": [False, False], "all_of_it": [True, True]}


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_outputs_sent_as_they_were_returned(server, form):
    with connections(server, 1) as (wire,):
        wire._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        wire.send(request("/weights", ONE, f"Accept: application/x-{form}", content_type=RAW))
        settle(server)
        assert server.post("/add", data=ONE, headers={"Content-Type": RAW}).ok
        body = wire.answer().body
    if form == "npz":
        assert zipfile.ZipFile(io.BytesIO(body)).testzip() is None
    else:
        assert len(np.unique(np.load(io.BytesIO(body)))) == 1


def test_dropped_outputs_are_kept_until_all_are_cleared(server):
    """A tensor without elements has no address, which is no sign that others are not read."""
    assert server.get("/dropped").json() == [True, False]


def test_memory_is_released(server):
    def megabytes() -> int:
        return int(server.get("/memory").text.split()[1]) // 1024

    def post() -> None:
        answer = server.post("/big", data=ONE, headers={"Content-Type": RAW})
        assert len(answer.content) == 8_000_000

    post()
    before = megabytes()
    with connections(server, 40) as wires:
        for wire in wires:
            wire._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(request("/big", ONE, content_type=RAW))
            settle(server)
        for wire in wires:
            wire.reset()
    settle(server)
    for _ in range(3):
        post()
    wait_for(lambda: megabytes() < before + 40, lambda: f"{megabytes()} to be about {before} MB")
