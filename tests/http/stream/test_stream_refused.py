"""Requests that are refused: they end no other stream, and their answers are their own."""

import contextlib
import os
import socket

import pytest

from duplex import duplex
from nginx import DEADLINE, Nginx, running, wait_for

# nginx waits for so long for the next request of a client that was refused and has reset the
# connection: it has discarded what would have told it
HTTP = "webtorch_zone models:16m; keepalive_timeout 1s;"

SERVER = """
location = /total { webtorch_handler app:total resume=60s; }
location = /page {
    webtorch_handler app:total resume=60s;
    webtorch_intercept_errors on;
    error_page 403 =200 /large.bin;
}
location = /through {
    webtorch_handler app:total resume=60s;
    webtorch_intercept_errors on;
    error_page 403 =200 /slow;
}
location = /again {
    webtorch_handler app:total resume=60s;
    webtorch_intercept_errors on;
    error_page 415 = @words;
}
location = /second {
    webtorch_handler app:total resume=60s;
    webtorch_intercept_errors on;
    error_page 403 = @words;
}
location @words { webtorch_handler app:words; }
location = /passed {
    proxy_request_buffering off;
    proxy_pass http://127.0.0.1:1;
    error_page 502 = @total;
}
location @total { webtorch_handler app:total resume=60s; }
location = /large.bin { root PREFIX; }
location = /slow { proxy_ignore_client_abort on; proxy_pass http://127.0.0.1:PORT/waiting; }
location = /waiting { webtorch_handler app:waiting; }
location = /door { webtorch_handler app:open_door; }
"""

APP = """
import logging, threading

import torch, webtorch
from jaxtyping import Float32
from torch import Tensor
from webtorch import State, Strings

door = threading.Event()

@webtorch.stream
def total(
    x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch"]]
) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch"]]]:
    return s + x, s + x

@total.open
def begin(request: webtorch.Request) -> Float32[Tensor, ""]:
    if "refuse" in request.query():
        raise webtorch.HTTPError(403, "not you")
    return torch.tensor(0.0)

@webtorch.stream
def words(x: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    return x

@webtorch.handler
def waiting(request):
    logging.warning("waiting")
    door.wait(60)
    return "slow"

@webtorch.handler
def open_door(request):
    door.set()
    return ""
"""

SIZE = 40_000_000
"""Bytes of /large.bin: more than sockets buffer."""

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)

LENGTH = ("Content-Length: 100000",)

REFUSED = [
    ("POST", ("Content-Type: image/png", *LENGTH), 415),
    ("POST", ("Accept: image/png", *LENGTH), 406),
    ("GET", LENGTH, 426),
    ("GET", (*UPGRADE, "Origin: https://other.example"), 403),
]


@pytest.fixture(scope="module")
def shared_server():
    with running(create()) as server:
        yield server


@pytest.fixture
def fresh():
    """A server that one test reloads."""
    with running(create()) as server:
        yield server


def create() -> Nginx:
    server = Nginx(http=HTTP, app=APP)
    text = SERVER.replace("PREFIX", str(server.prefix)).replace("PORT", str(server.port))
    server.configure(server=text)
    with open(server.prefix / "large.bin", "wb") as f:
        os.truncate(f.fileno(), SIZE)
    return server


@contextlib.contextmanager
def request(server, method, path, *headers, body=b""):
    """Send a request; its body may end later, or never."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as s:
        s.sendall("\r\n".join(lines).encode() + body)
        yield s


def status(s: socket.socket) -> int:
    """Read the status line of an answer."""
    return int(s.makefile("rb", 0).readline().split()[1])


@pytest.mark.parametrize(("method", "headers", "code"), REFUSED, ids=[415, 406, 426, 403])
def test_stream_goes_on_beside_a_refused_request(server, method, headers, code):
    """The id of the stream is in it, and nginx waits for its body."""
    with duplex(server, "/total") as client:
        client.send_row(1)
        assert client.row() == 1
        path = f"/total?stream_id={client.headers['stream-id']}&stream_offset=1"
        with request(server, method, path, *headers, body=b"x") as refused:
            assert status(refused) == code
            client.send_row(2)
            assert client.row() == 3
            with duplex(server, path) as taker:
                assert taker.row() == 3
                assert client.row()["code"] == "taken_over"
                taker.send_row(3)
                assert taker.row() == 6
                taker.finish()
                assert taker.line() == b""


def test_stream_goes_on_beside_an_incomplete_body(server):
    """A proxy that does not buffer has begun to read it."""
    with duplex(server, "/total") as client:
        client.send_row(1)
        assert client.row() == 1
        path = f"/passed?stream_id={client.headers['stream-id']}&stream_offset=1"
        kind = "Content-Type: application/x-ndjson"
        with request(server, "POST", path, kind, *LENGTH, body=b"x") as refused:
            assert status(refused) == 500
            server.wait_for_log("the request body has not been read to its end")
            client.send_row(2)
            assert client.row() == 3


def test_reload_beside_refused_requests(fresh):
    """Those that came before the stream that is asked to come back were asked before it, too."""
    with contextlib.ExitStack() as stack:
        for method, headers, code in REFUSED:
            refused = stack.enter_context(request(fresh, method, "/total", *headers, body=b"x"))
            assert status(refused) == code
        chunked = "Transfer-Encoding: chunked"
        refused = stack.enter_context(request(fresh, "POST", "/total?refuse", chunked))
        assert status(refused) == 403
        client = stack.enter_context(duplex(fresh, "/total"))
        client.send_row(1)
        assert client.row() == 1
        old = fresh.workers()
        fresh.reload()
        assert client.row()["code"] == "restart"
        back = f"Stream-Id: {client.headers['stream-id']}", "Stream-Offset: 1"
        with duplex(fresh, "/total", *back) as again:
            again.send_row(2)
            assert again.row() == 3
            again.finish()
    wait_for(lambda: not {pid for pid, _ in fresh.children()} & {*old}, "the old worker to exit")


def test_error_page_is_sent_as_it_is(fresh):
    """A client reads it slowly, while the worker asks all streams to come back."""
    headers = ("Content-Type: application/json", "Content-Length: 2", "Connection: close")
    with request(fresh, "POST", "/page?refuse", *headers, body=b"1\n") as s:
        answer = s.recv(100)
        assert answer.startswith(b"HTTP/1.1 200 ")
        with duplex(fresh, "/total") as client:
            fresh.reload()
            assert client.row()["code"] == "restart"
        while piece := s.recv(1 << 20):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {SIZE}".encode() in head
    assert len(body) == SIZE
    assert not body.strip(b"\0")


def test_body_that_goes_on_behind_an_error_page(server):
    """It comes while another location answers."""
    chunked = "Transfer-Encoding: chunked"
    with request(server, "POST", "/through?refuse", chunked, body=b"2\r\n1\n\r\n") as s:
        server.wait_for_log("waiting")
        for _ in range(20):
            s.sendall(b"2\r\n1\n\r\n")
            assert server.get("/alive").text == "alive"
        server.get("/door")
        assert status(s) == 200


def test_error_page_that_is_a_stream(server):
    """It gets the body, of which the location before has read a part, or nothing."""
    for path, kind in (("/again", "text/plain"), ("/second?refuse", "application/x-ndjson")):
        with duplex(server, path, content_type=kind) as client:
            for n in range(3):
                client.send(b'"a"\n')
                assert client.line() == b'"a"', (path, n)
            client.finish()
            assert client.line() == b""
    with request(server, "POST", "/again", "Content-Type: text/plain", *LENGTH, body=b"x") as s:
        assert status(s) == 200
