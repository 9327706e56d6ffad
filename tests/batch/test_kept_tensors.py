"""A handler may keep its inputs, and write to them."""

import concurrent.futures

APP = """
import torch, webtorch
from jaxtyping import Float32
from torch import Tensor

kept, views, graphs = [], [], []
weight = torch.ones(2, requires_grad=True)

@webtorch.infer
def keep(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    kept.append((x, x.clone()))
    views.append((x[0], x[0].clone()))
    return x

@webtorch.train
def graph(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    graphs.append(((weight * x).sum(), x.sum(0)))
    return x

@webtorch.infer
def write(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    x.mul_(2)
    x.unsqueeze_(0)
    return x[0]

@webtorch.infer
def write_and_fail(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    x.mul_(2)
    if (x == 26).any():
        raise ValueError
    return x

@webtorch.handler
def unchanged(request):
    same = all(torch.equal(x, copy) for x, copy in kept + views)
    for loss, expected in graphs:
        weight.grad = None
        loss.backward(retain_graph=True)
        same = same and torch.equal(weight.grad, expected)
    return {"same": same, "kept": len(kept), "graphs": len(graphs)}
"""

SERVER = """
client_max_body_size 10m;
location = /keep { webtorch_handler app:keep; }
location = /graph { webtorch_handler app:graph; }
location = /write { webtorch_handler app:write; }
location = /write_and_fail { webtorch_handler app:write_and_fail max_delay=50ms; }
location = /unchanged { webtorch_handler app:unchanged; }
"""


def test_kept_inputs_stay_as_they_were(server):
    # of growing sizes, so that buffers are replaced
    for rows in [1, 2, 3, 17, 40, 300, 5000, 1, 2, 3] * 5:
        body = [[rows, n] for n in range(rows)]
        assert server.post("/keep", body).json() == body
        assert server.post("/graph", body).json() == body
    answer = server.get("/unchanged").json()
    assert answer["same"] is True
    assert answer["kept"] == 50 and answer["graphs"] == 50


def test_inputs_may_be_written_to(server):
    for n in range(200):
        assert server.post("/write", [[n, 1], [n, 2]]).json() == [[2 * n, 2], [2 * n, 4]]


def test_written_inputs_are_not_run_again(server):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        bodies = [[[n, n]] for n in range(10, 18)]
        answers = list(pool.map(lambda body: server.post("/write_and_fail", body), bodies))
    for body, answer in zip(bodies, answers, strict=True):
        # in the batch of the one that fails all do, but none is doubled twice
        assert answer.status_code == 500 or answer.json() == [[2 * v for v in body[0]]]
    assert answers[3].status_code == 500
