"""max_batch=, max_delay=: which requests come together."""

import concurrent.futures
import itertools

import pytest

APP = """
import torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor

calls = []

@webtorch.infer
def size(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    calls.append(n.tolist())
    return torch.full_like(n, len(n))

@webtorch.infer
def alone(n: Int64[Tensor, "1"]) -> Int64[Tensor, ""]:
    calls.append(n.tolist())
    return n.sum()

@webtorch.handler
def seen(request):
    answer = {"calls": list(calls)}
    calls.clear()
    return answer
"""

SERVER = """
location = /one { webtorch_handler app:size max_batch=1; }
location = /one_thread { webtorch_handler app:size max_batch=1 mode=thread; }
location = /four { webtorch_handler app:size max_batch=4 max_delay=10s; }
location = /delay { webtorch_handler app:size max_delay=100ms; }
location = /alone { webtorch_handler app:alone max_delay=100ms; }
location = /seen { webtorch_handler app:seen mode=inline; }
"""


def post_many(server, path, bodies):
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        return [a.json() for a in pool.map(lambda body: server.post(path, body), bodies)]


@pytest.mark.parametrize("path", ["/one", "/one_thread"])
def test_max_batch_1_is_one_request_a_call(server, path):
    server.get("/seen")
    assert post_many(server, path, [[n] for n in range(20)]) == [[1]] * 20
    # a request's rows are not torn apart
    assert server.post(path, [7, 8, 9]).json() == [3, 3, 3]
    calls = server.get("/seen").json()["calls"]
    assert sorted(calls[:-1]) == [[n] for n in range(20)] and calls[-1] == [7, 8, 9]


@pytest.mark.parametrize("path", ["/one", "/one_thread"])
def test_max_batch_1_keeps_the_order(server, path):
    server.get("/seen")
    request = "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}"
    bodies = [f"[{n}]" for n in range(50)]
    text = "".join(request.format(path, len(body), body) for body in bodies)
    with server.connection() as s:
        s.sendall(text.encode())
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 50 or not received.endswith(b"[1]"):
            received += s.recv(65536)
    assert server.get("/seen").json()["calls"] == [[n] for n in range(50)]


def test_full_batch_does_not_wait(server):
    server.get("/seen")
    assert post_many(server, "/four", [[n] for n in range(8)]) == [[4]] * 8
    calls = server.get("/seen").json()["calls"]
    assert sorted(itertools.chain(*calls)) == list(range(8)) and len(calls) == 2


def test_larger_request_is_a_batch_by_itself(server):
    assert server.post("/four", list(range(10))).json() == [10] * 10


def test_max_delay_brings_requests_together(server):
    server.get("/seen")
    sizes = post_many(server, "/delay", [[n] for n in range(16)])
    calls = server.get("/seen").json()["calls"]
    assert sorted(itertools.chain(*calls)) == list(range(16))
    assert len(calls) < 16 and max(size for (size,) in sizes) > 1


def test_function_without_batch_axis_gets_one_request(server):
    server.get("/seen")
    assert sorted(post_many(server, "/alone", [[n] for n in range(10)])) == list(range(10))
    assert sorted(server.get("/seen").json()["calls"]) == [[n] for n in range(10)]
