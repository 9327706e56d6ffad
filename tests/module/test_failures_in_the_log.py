"""Functions that fail: the error log has one message a second."""

import re
import time

import pytest

from nginx import wait_for
from wire import connections, request

APP = """
import torch
import webtorch
from jaxtyping import Float32
from torch import Tensor


@webtorch.infer
def fail(request: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    raise ValueError("always")


@webtorch.infer
def odd(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    raise ValueError("always")


@webtorch.handler
def custom(request: webtorch.Request) -> str:
    raise ValueError("always")
"""

SERVER = """
location /access { webtorch_access app:fail; empty_gif; }
location /set { webtorch_set $n app:fail; return 200 "$n"; }
location /log { webtorch_log app:fail max_delay=0; return 200; }
location /handler { webtorch_handler app:odd; }
location /custom { webtorch_handler app:custom; }
"""


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("/access", "GET", b""),
        ("/set", "GET", b""),
        ("/log", "GET", b""),
        ("/handler", "POST", b"[[1]]"),
        ("/custom", "POST", b"[[1]]"),
    ],
)
def test_failures_logged_once_a_second(start, path, method, body):
    server = start(SERVER, APP)
    begin = time.monotonic()
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        sent += count
        with connections(server, 1) as (wire,):
            wire.send(request(path, body, method=method) * count)
            for _ in range(count):
                assert wire.answer().status in (200, 500)

    def told() -> list[int]:
        """Return how many more failures each message counts."""
        more = r"(?:, and (\d+) more before that)?"
        found = re.findall(rf'handler "app:\w+" failed{more}:', server.log())
        return [int(number or 0) for number in found]

    send(100)
    wait_for(told, "a traceback")

    def next_ones() -> list[int]:
        send(1)
        return told()[1:]

    wait_for(next_ones, "another traceback")
    elapsed = time.monotonic() - begin
    assert "ValueError: always" in server.log()
    assert len(told()) <= elapsed + 1
    assert 0 < sum(told()) <= sent - len(told())


ADVICE_APP = (
    APP
    + """
class HTTPException(Exception):
    pass

net = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))

@webtorch.infer
def gradient(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    net[0](x).mean().backward()
    return x

@webtorch.train
def normalized(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return net.train()(x).detach()

@webtorch.handler
async def awaited(request: webtorch.Request) -> list:
    return odd.batched([[1.0]]).tolist()

@webtorch.handler
def foreign(request: webtorch.Request) -> str:
    raise HTTPException("404")
"""
)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("gradient", "gradients are recorded in functions under @webtorch.train alone"),
        ("normalized", "batch normalization is trained on two rows or more"),
        ("awaited", r"await it before its values are used"),
        ("foreign", r"webtorch\.HTTPError\(status, detail\) is answered to the client"),
    ],
)
def test_advice_after_the_traceback(start, name, advice):
    server = start(
        f"location = /f {{ webtorch_handler app:{name}; }}"
        "location = /odd { webtorch_handler app:odd; }",
        ADVICE_APP,
    )
    assert server.post("/f", [[1.0]]).status_code == 500
    server.wait_for_log(f'handler "app:{name}": .*{advice}')
