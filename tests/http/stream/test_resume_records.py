"""Records of streams with `resume=`: what is read of them while clients come and go."""

import contextlib
import re
from pathlib import Path

import pytest

from duplex import Duplex, duplex
from nginx import Nginx, running, wait_for

HTTP = "webtorch_zone models:80m;"

SERVER = """
client_max_body_size 1m;
location = /soon { webtorch_handler app:total resume=300ms; }
location = /one { webtorch_handler app:total resume=60s resume_buffer=16m; }
location = /echo { webtorch_handler app:echo resume=60s resume_buffer=16m; }
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
    for each, before in zip(x.tolist(), s.tolist()):
        logging.warning("adds %d to %d", each, before)
    if (x == 666).any():
        raise ValueError("a bad chunk")
    return s + x, s + x

@total.open
def begin(request: webtorch.Request) -> Float32[Tensor, ""]:
    if "wait" in request.query():
        logging.warning("opening")
        door.wait(60)
    return torch.tensor(0.0)

@total.close
def end(s: Float32[Tensor, ""]) -> None:
    logging.warning("ended with %d", s)

@webtorch.stream
def echo(x: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    return x

@webtorch.handler
def open_door(request):
    door.set()
    return ""
"""


@pytest.fixture(scope="module")
def shared_server():
    with running(Nginx(SERVER, APP, http=HTTP)) as server:
        yield server


def back(client: Duplex, offset: int) -> tuple[str, str]:
    """Return the headers with which a client comes back."""
    return f"Stream-Id: {client.headers['stream-id']}", f"Stream-Offset: {offset}"


def memory(server) -> int:
    """Return the bytes of the worker that it shares with none."""
    status = Path(f"/proc/{server.workers()[0]}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def test_client_resets_while_open_is_called(server):
    """What was opened is closed once, when its client cannot come back any more."""
    client = Duplex(server, "/soon?wait")
    server.wait_for_log("opening")
    client.reset()
    server.get("/door")
    server.wait_for_log("ended with 0")
    with duplex(server, "/soon") as other:
        other.send_row(5)
        assert other.row() == 5
        other.finish()
        assert other.line() == b""
    server.wait_for_log("ended with 5")
    assert server.log().count("ended with 0") == 1
    assert 'close" failed' not in server.log()


def test_many_answers_are_sent_again_in_pieces(server):
    """A client that does not read them costs two buffers of answers, not a copy of all."""
    lines = [bytes([b"abcdefgh"[n % 8]]) * 199_999 for n in range(64)]
    headers = {"content_type": "text/plain"}
    with duplex(server, "/echo", **headers) as client:
        for line in lines:
            client.send(line + b"\n")
            assert client.line() == line
        client.reset()
    before = memory(server)
    slow = Duplex(server, "/echo", *back(client, 0), **headers)
    with contextlib.closing(slow):
        slow.send(b"last\n")
        assert slow.head() == 200
        assert server.get("/alive").text == "alive"
        assert memory(server) - before < 6_000_000
        assert [slow.line() for _ in lines] == lines
        assert slow.line() == b"last"
        slow.finish()
        assert slow.line() == b""


def test_short_answers_are_sent_again(server):
    """They are more than a buffer of answers has."""
    lines = [b"%d" % n for n in range(20_000)]
    headers = {"content_type": "text/plain"}
    with duplex(server, "/echo", **headers) as client:
        for n in range(0, len(lines), 1000):
            client.send(b"".join(line + b"\n" for line in lines[n : n + 1000]))
            assert [client.line() for _ in range(1000)] == lines[n : n + 1000]
        client.finish()
        assert client.line() == b""
    with duplex(server, "/echo", *back(client, 5), **headers) as again:
        assert [*iter(again.line, b"")] == lines[5:]


def test_chunk_of_a_lost_stream_is_not_computed(server):
    """Its record is that of another stream by then: there is room for one of this size."""
    for n in range(5):
        with duplex(server, "/one") as lost:
            lost.send_row(1)
            assert lost.row() == 1
            with duplex(server, "/one", *back(lost, 1)) as taker:
                taker.send_row(666)
                assert taker.row()["code"] == "handler_failed"
                assert taker.line() == b""
            with contextlib.closing(wait_for(lambda: try_one(server), "a free record")) as other:
                other.send_row(100 + n)
                assert other.row() == 100 + n
                with contextlib.suppress(OSError):
                    lost.send_row(7)
                assert lost.row()["code"] == "taken_over"
                other.finish()
                assert other.line() == b""
    assert "adds 7 to" not in server.log()


def try_one(server) -> Duplex | None:
    client = Duplex(server, "/one")
    if client.head() == 200:
        return client
    client.close()
    return None
