"""Functions and models on a GPU, where there is one: the same as on the simulated device."""

import concurrent.futures
import functools

import pytest
import torch

from nginx import wait_for

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU"),
]

APP = """
import os
import torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss
from webtorch import Strings

weight = torch.full((2,), 2.0).to("cuda")

@webtorch.infer(device="cuda")
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    assert x.is_cuda
    return x * weight

total = torch.zeros(2, device="cuda")

@webtorch.infer(device="cuda")
def add(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    total.add_(x.sum(0))
    return total.expand(len(x), 2)

@webtorch.infer(device="auto")
def words(
    text: Strings[list[list[str]], "batch n"], x: Float32[Tensor, "batch n"]
) -> tuple[Strings[list[list[str]], "batch n"], Int64[Tensor, "batch n"]]:
    assert x.is_cuda
    return [[word.upper() for word in row] for row in text], x.long()

@webtorch.infer(device="cuda")
def narrow(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    if len(x) > 2:
        torch.empty(1 << 45, dtype=torch.uint8, device=x.device)
    return -x

@webtorch.infer(device="cuda")
def pick(index: Int64[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
    return weight[index]

def make(name, **options):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    return webtorch.Model(name, module, lambda p: optim.Adam(p, lr=0.01), **options)

here, there = make("here", device="cpu"), make("there", device="cuda", graphs=[1, 8])

@webtorch.train
def learn_here(
    x: Float32[Tensor, "batch 2"], y: Float32[Tensor, "batch 1"]
) -> Float32[Tensor, "batch 1"]:
    found = here(x)
    here.step(mse_loss(found, y))
    return found.detach()

@webtorch.train(device="cuda")
def learn_there(
    x: Float32[Tensor, "batch 2"], y: Float32[Tensor, "batch 1"]
) -> Float32[Tensor, "batch 1"]:
    found = there(x)
    there.step(mse_loss(found, y))
    return found.detach()

@webtorch.infer
def output_here(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return here(x)

@webtorch.infer(device="cuda")
def output_there(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return there(x)

@webtorch.handler
async def posted(request: webtorch.Request):
    return (await double.batched(torch.ones(1, 2))).tolist()

@webtorch.handler
def pid(request: webtorch.Request):
    return str(os.getpid())
"""

HTTP = "webtorch_zone gpu:16m;"

SERVER = """
client_max_body_size 8m;
location = /double { webtorch_handler app:double; }
location = /single { webtorch_handler app:double max_batch=1; }
location = /add { webtorch_handler app:add; }
location = /words { webtorch_handler app:words; }
location = /narrow { webtorch_handler app:narrow max_delay=300ms; }
location = /pick { webtorch_handler app:pick; }
location = /learn_here { webtorch_handler app:learn_here; }
location = /learn_there { webtorch_handler app:learn_there; }
location = /output_here { webtorch_handler app:output_here; }
location = /output_there { webtorch_handler app:output_there; }
location = /posted { webtorch_handler app:posted; }
location = /pid { webtorch_handler app:pid; }
"""


PLACES = "here", "there"


def post(server, path, body):
    answer = server.post(path, body)
    assert answer.ok, server.log()[-4000:]
    found = answer.json()
    return torch.tensor(next(iter(found.values())) if isinstance(found, dict) else found)


def test_gpu_answers_many_requests(server):
    bodies = [[[n, -n]] * (1 + n % 7) for n in range(300)]
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        for path in ("/double", "/single"):
            answers = [*clients.map(functools.partial(server.post, path), bodies)]
            expected = [[[2 * a, 2 * b] for a, b in body] for body in bodies]
            assert [answer.json() for answer in answers] == expected
    rows = [[n, 0] for n in range(40000)]
    assert server.post("/double", rows).json() == [[2 * n, 0] for n in range(40000)]
    body = {"text": [["a", "bc"]], "x": [[1.5, 2]]}
    assert [*server.post("/words", body).json().values()] == [[["A", "BC"]], [[1, 2]]]
    assert server.get("/posted").json() == [[2, 2]]
    assert "memory cannot be pinned" not in server.log()


def test_gpu_outputs_that_change_in_the_next_call(server):
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        answers = [*clients.map(lambda _: server.post("/add", [[1, 2]]).json(), range(200))]
    assert all(b == 2 * a for ((a, b),) in answers)
    assert server.post("/add", [[1, 2]]).json() == [[201, 402]]


def test_gpu_without_memory_runs_a_batch_in_parts(server):
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        answers = [*clients.map(lambda n: server.post("/narrow", [[n]]), range(6))]
    assert [answer.json() for answer in answers] == [[[-n]] for n in range(6)]
    large = server.post("/narrow", [[1], [2], [3]])
    assert large.status_code == 503 and large.json()["code"] == "out_of_memory"
    assert server.post("/narrow", [[7]]).json() == [[-7]]


def test_gpu_models_learn_and_answer_as_on_the_cpu(server):
    x = torch.randn(8, 2)
    for _ in range(5):
        body = {"x": x.tolist(), "y": x.sum(1, keepdim=True).tolist()}
        found = [post(server, f"/learn_{where}", body) for where in PLACES]
        torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)
        for rows in (1, 5, 8):
            part = x[:rows].tolist()
            found = [post(server, f"/output_{where}", part) for where in PLACES]
            torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)
    assert "is run without graphs" not in server.log()


def test_gpu_that_fails_retires_the_worker(server):
    pid = server.get("/pid").text
    assert server.post("/pick", [1, 0]).json() == [2, 2]
    # an assertion in a kernel: no call of this process works after it
    assert server.post("/pick", [10**9]).status_code == 500
    server.wait_for_log("cuda:0 has failed in handler")
    wait_for(lambda: server.get("/pid").text != pid, "an answer of the other worker")
    assert server.post("/double", [[1, 2]]).json() == [[2, 4]]
