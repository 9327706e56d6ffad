"""Model(compile=True) in workers: compiled before the first request, counted, followed by steps."""

import pytest

APP = """
import torch, webtorch
from jaxtyping import Float32
from torch import Tensor, nn, optim

net = webtorch.Model(
    "net",
    nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 2)),
    lambda parameters: optim.SGD(parameters, lr=0.1),
    compile=True,
)
calls = []

@webtorch.infer
def output(x: Float32[Tensor, "batch 3"]) -> Float32[Tensor, "batch 2"]:
    calls.append(len(x))
    return net(x)

@webtorch.infer
def plain(x: Float32[Tensor, "batch 3"]) -> Float32[Tensor, "batch 2"]:
    if (x == 0).all():
        raise ValueError("zeros have no direction")
    return net.copy_network()(x)

@webtorch.train
def learn(x: Float32[Tensor, "batch 3"]) -> Float32[Tensor, "batch"]:
    loss = net(x).square().mean()
    net.step(loss)
    return torch.full((len(x),), loss.item())

@webtorch.handler
def seen(request: webtorch.Request):
    return calls
"""

SERVER = """
location = /output { webtorch_handler app:output max_batch=4; }
location = /plain { webtorch_handler app:plain; }
location = /learn { webtorch_handler app:learn; }
location = /seen { webtorch_handler app:seen; }
location = /status { webtorch_status; }
"""


def compilations(server):
    text = server.get("/status?format=prometheus").text
    [line] = [line for line in text.splitlines() if line.startswith("webtorch_model_compilations")]
    assert line.split()[0] == 'webtorch_model_compilations_total{model="net"}'
    return int(line.split()[1])


def test_compiled_before_the_first_request(start):
    server = start(SERVER, APP, http="webtorch_zone net:8m;", main="env PATH;")
    assert server.get("/seen").json() == [4, 2, 1], server.log()
    assert compilations(server) >= 2
    server.wait_for_log("a call with 256 rows of zeros, for torch.compile, raised ValueError")
    rows = [[1, 2, 3], [4, 5, 6], [0, -1, 7]]
    for _ in range(2):
        found = server.post("/output", json=rows).json()
        plain = server.post("/plain", json=rows).json()
        assert sum(found, []) == pytest.approx(sum(plain, []), abs=1e-5)
        assert server.post("/learn", json=rows).ok
