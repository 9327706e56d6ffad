"""Bodies that a proxy without buffering has begun to pass on, when a handler gets the request."""

import socketserver
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from nginx import DEADLINE, Nginx, running, wait_for
from wire import chunked, connections, request

APP = """
import torch, webtorch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

calls: list[int] = []

@webtorch.train
def train(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    calls.append(len(x))
    return x

@webtorch.handler
def size(request: webtorch.Request) -> str:
    calls.append(len(request.body))
    return str(len(request.body))

@webtorch.stream
def total(
    x: Float64[Tensor, "batch 1"], s: webtorch.State[Float64[Tensor, "batch 1"]]
) -> tuple[Float64[Tensor, "batch 1"], webtorch.State[Float64[Tensor, "batch 1"]]]:
    calls.append(len(x))
    return s + x, s + x

@webtorch.infer
def guard(bytes: UInt8[Tensor, "batch 64"]) -> Float32[Tensor, "batch 1"]:
    return torch.zeros(len(bytes), 1)

@webtorch.handler
def called(request: webtorch.Request) -> list:
    found = calls[:]
    calls.clear()
    return found
"""

SERVER = """
proxy_request_buffering off;
location /train { proxy_pass http://127.0.0.1:1; error_page 502 = @train; }
location /size { proxy_pass http://127.0.0.1:1; error_page 502 = @size; }
location /v2/ { proxy_pass http://127.0.0.1:1; error_page 502 = @protocol; }
location /stream { proxy_pass http://127.0.0.1:1; error_page 502 = @stream; }
location /taken/ {
    proxy_http_version 1.1;
    proxy_pass http://127.0.0.1:TAKER;
    location /taken/train { proxy_pass http://127.0.0.1:TAKER; error_page 502 = @train; }
    location /taken/size { proxy_pass http://127.0.0.1:TAKER; error_page 502 = @size; }
    location /taken/stream { proxy_pass http://127.0.0.1:TAKER; error_page 502 = @stream; }
    location /taken/guarded { proxy_pass http://127.0.0.1:TAKER; error_page 502 = @guarded; }
}
location /large/ {
    client_max_body_size 10;
    webtorch_handler app:train;
    location /large/stream { error_page 413 = @stream; webtorch_handler app:train; }
    location /large/size { error_page 413 = @size; webtorch_handler app:train; }
}
location @stream { webtorch_handler app:total; }
location @guarded { webtorch_access app:guard body=1k on_unread=deny; webtorch_handler app:size; }
location @train { webtorch_handler app:train; }
location @size { webtorch_handler app:size; }
location @protocol { webtorch_inference_protocol; }
location = /called { webtorch_handler app:called; }
"""


class Taker(socketserver.StreamRequestHandler):
    """Reads a request to its end, and closes the connection without an answer."""

    begun: threading.Event

    def handle(self) -> None:
        """Read a header and a body."""
        length = None
        while line := self.rfile.readline().strip():
            name, _, value = line.lower().partition(b": ")
            if name == b"content-length":
                length = int(value)
        self.begun.set()
        if length is not None:
            self.rfile.read(length)
            return
        while size := int(self.rfile.readline() or b"0", 16):
            self.rfile.read(size + 2)


@pytest.fixture(scope="module")
def taker() -> Iterator[tuple[int, threading.Event]]:
    """Run a server of `Taker`; return its port, and what is set when it has a header."""
    begun = threading.Event()
    handler = type("Handler", (Taker,), {"begun": begun})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1], begun
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def shared_server(taker: tuple[int, threading.Event]) -> Iterator[Nginx]:
    with running(Nginx(SERVER.replace("TAKER", str(taker[0])), APP)) as server:
        yield server


@pytest.fixture
def begun(taker: tuple[int, threading.Event]) -> threading.Event:
    """Return what is set when the other server has a header."""
    taker[1].clear()
    return taker[1]


def calls(server: Nginx) -> list[int]:
    """Return the rows or the bytes of each call since this was last asked."""
    found: list[int] = server.get("/called").json()
    return found


BODY = np.array([1, 2, 3.0]).tobytes()


@pytest.mark.parametrize("path", ["/train", "/size", "/stream", "/v2/models/train/infer"])
def test_body_that_is_not_complete(server, path):
    message = "the request body has not been read to its end"
    logged = server.log().count(message)
    body = np.zeros(1000).tobytes()
    whole = request(path, body, content_type="application/octet-stream")
    with connections(server, 1) as (wire,):
        wire.send(whole[: 3 * 8 - len(body)])
        answer = wire.answer()
    assert answer.status == 500
    assert answer.json()["code"] == "incomplete_body"
    wait_for(lambda: server.log().count(message) > logged, message)
    assert calls(server) == []


@pytest.mark.parametrize("path", ["/train", "/stream"])
def test_body_that_came_with_the_headers(server, path):
    with connections(server, 1) as (wire,):
        wire.send(request(path, np.zeros(3).tobytes(), content_type="application/octet-stream"))
        assert wire.answer().status == 200
    assert sum(calls(server)) == 3


@pytest.mark.parametrize("path", ["/train", "/size", "/stream", "/guarded"])
@pytest.mark.parametrize("body", [BODY, chunked([BODY[:8], BODY[8:]])], ids=["length", "chunked"])
@pytest.mark.parametrize("cut", [0, 12])
def test_body_that_was_passed_on(server, begun, path, body, cut):
    encoding = ("Transfer-Encoding: chunked",) if body != BODY else ()
    whole = request(f"/taken{path}", body, *encoding, content_type="application/octet-stream")
    with connections(server, 1) as (wire,):
        wire.send(whole[: len(whole) - cut])
        assert begun.wait(DEADLINE)
        wire.send(whole[len(whole) - cut :])
        answer = wire.answer()
    called = calls(server)
    if cut == 0:
        # it has come with the headers: nginx has kept it
        assert answer.status == 200
        assert sum(called) == (24 if path in ("/size", "/guarded") else 3)
        return
    assert called == []
    if path == "/guarded":
        assert answer.status == 403
    else:
        assert (answer.status, answer.json()["code"]) == (500, "incomplete_body")


@pytest.mark.parametrize("page", ["stream", "size"])
@pytest.mark.parametrize("encoding", ["Transfer-Encoding: chunked", "X-Length: yes"])
def test_body_that_was_refused(server, page, encoding):
    (worker,) = server.workers()
    body = bytes(200_000)
    if "chunked" in encoding:
        body = chunked([body])
    message = request(f"/large/{page}", body, encoding, content_type="application/octet-stream")
    with connections(server, 1) as (wire,):
        wire.send(message)
        answer = wire.answer()
    assert (answer.status, answer.body) == (200, b"0" if page == "size" else b"")
    assert server.workers() == [worker]
    assert sum(calls(server)) == 0
