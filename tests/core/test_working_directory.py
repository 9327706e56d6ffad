"""Names that are relative: nginx's prefix may be, and workers may have another directory."""

import pytest

from nginx import BINARY, running, wait_for

APP = """
import os
import torch, webtorch
from jaxtyping import Float32
from torch import Tensor

IMPORTED = os.getcwd()
DATA = open("data.txt").read()

model = webtorch.Model(
    "line", torch.nn.Linear(1, 1), optimizer=lambda p: torch.optim.SGD(p, lr=0.1))

@webtorch.train
def learn(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    y = model(x)
    model.step(y.sum())
    return y.detach()

@webtorch.handler
def directories(request):
    return {"imported": IMPORTED, "now": os.getcwd(), "data": DATA}
"""

HTTP = """
webtorch_path code;
webtorch_zone models:4m;
webtorch_checkpoint checkpoints interval=100ms;
"""

SERVER = """
location = /learn { webtorch_handler relative:learn; }
location = /directories { webtorch_handler relative:directories; }
location = /ready { webtorch_health ready drain=drain; }
"""


@pytest.fixture
def server(configured):
    """Start nginx in its prefix, with "-p .", and its workers in another directory."""
    server = configured(SERVER, http=HTTP)
    server.configure(main=f"working_directory {server.prefix}/work;")
    for name in ("code", "work"):
        (server.prefix / name).mkdir()
    (server.prefix / "code" / "relative.py").write_text(APP)
    (server.prefix / "work" / "data.txt").write_text("some")
    server.command = lambda *arguments: [
        *("env", "-C", str(server.prefix), BINARY.path, "-p", ".", "-c", "nginx.conf"),
        *arguments,
    ]
    with running(server):
        yield server


def test_modules_are_imported_in_the_working_directory(server):
    work = f"{server.prefix}/work"
    expected = {"imported": work, "now": work, "data": "some"}
    assert server.get("/directories").json() == expected
    server.reload()
    assert server.get("/directories").json() == expected


def test_relative_names_of_directives(server):
    assert server.post("/learn", [[1]]).ok
    wait_for(lambda: any((server.prefix / "checkpoints").iterdir()), "a checkpoint")
    assert server.get("/ready").status_code == 200
    (server.prefix / "drain").touch()
    assert server.get("/ready").status_code == 503


def test_check_in_the_working_directory(server):
    (server.prefix / "work" / "data.txt").unlink()
    status, output = server.check()
    assert status == 1 and "data.txt" in output
