"""Streams over WebSocket, with a client of its own and frames by hand."""

import contextlib
import json
import os
import signal
import socket
import struct
import threading

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from http_stream_app import APP
from nginx import DEADLINE, Nginx, running, wait_for

SERVER = """
location = /total { webtorch_handler app:total; }
location = /counted { webtorch_handler app:counted; }
location = /several { webtorch_handler app:several; }
location = /echo { webtorch_handler app:echo; }
location = /bytes { webtorch_handler app:echo_bytes; }
location = /flip { webtorch_handler app:flip; }
location = /encode { webtorch_handler app:encode; }
location = /small { client_max_body_size 16; webtorch_handler app:total; }
location = /few { webtorch_handler app:total max_streams=1; }
location = /idle { webtorch_handler app:total idle=100ms; }
location = /origins { webtorch_handler app:echo origins=https://a.example,https://b.example
                      protocols=v2,v1; }
location = /any { webtorch_handler app:echo origins=*; }
location = /facts { webtorch_handler app:facts; }
"""


@pytest.fixture(scope="module")
def shared_server():
    with running(Nginx(SERVER, APP)) as server:
        yield server


def open_socket(server, path, **options):
    return connect(
        f"ws://127.0.0.1:{server.port}{path}",
        open_timeout=DEADLINE,
        close_timeout=DEADLINE,
        compression=None,
        **options,
    )


def closed(ws) -> tuple[int, str]:
    """Return the close code and the reason of the server."""
    with pytest.raises(ConnectionClosed) as caught:
        ws.recv(DEADLINE)
    return caught.value.rcvd.code, caught.value.rcvd.reason


# --- messages ---


def test_text_messages_are_json(server):
    with open_socket(server, "/total") as ws:
        for n in range(1, 30):
            ws.send("[1, 2]")
            assert json.loads(ws.recv(DEADLINE)) == [n, 2 * n]
        assert len(ws.response.headers["Stream-Id"]) == 32


def test_binary_messages_are_raw_rows(server):
    with open_socket(server, "/total") as ws:
        ws.send(struct.pack("<2f", 1, 2))
        assert struct.unpack("<2f", ws.recv(DEADLINE)) == (1, 2)
        ws.send("[1, 1]")
        assert json.loads(ws.recv(DEADLINE)) == [2, 3]


def test_messages_in_fragments(server):
    with open_socket(server, "/total") as ws:
        ws.send(["[1", ",", "2]"])
        assert json.loads(ws.recv(DEADLINE)) == [1, 2]


def test_messages_that_are_sent_ahead(server):
    with open_socket(server, "/total") as ws:
        for _ in range(200):
            ws.send("[1, 0]")
        for n in range(1, 201):
            assert json.loads(ws.recv(DEADLINE)) == [n, 0]


def test_strings_are_messages_as_they_are(server):
    with open_socket(server, "/echo") as ws:
        for text in ("a", "", "ä\n", "x" * 70000):
            ws.send(text)
            assert ws.recv(DEADLINE) == text


def test_bytes_are_messages_as_they_are(server):
    with open_socket(server, "/bytes") as ws:
        for data in (b"\xff\0", b"", bytes(1000), "text"):
            ws.send(data)
            assert ws.recv(DEADLINE) == data


def test_bytes_that_are_no_text(server):
    """A text message has the text of a function of bytes, if that is one; no bytes of a string."""
    with open_socket(server, "/flip") as ws:
        for data in ("\x80\x81", "text", "\x80\x81", b"\x80"):
            ws.send(data)
            flipped = bytes(255 - c for c in (data.encode() if isinstance(data, str) else data))
            text = data == "\x80\x81"
            assert ws.recv(DEADLINE) == (flipped.decode() if text else flipped)
    with open_socket(server, "/encode") as ws:
        for text in ("text", "\xff", "", "\0"):
            ws.send(text)
            assert ws.recv(DEADLINE) == text.encode("utf-16-le")


def test_several_tensors_and_done(server):
    with open_socket(server, "/several") as ws:
        ws.send('{"x": 1, "k": 0}')
        assert json.loads(ws.recv(DEADLINE)) == {"y": 1.0, "n": 1}
        ws.send('{"x": 2, "k": -1}')
        assert json.loads(ws.recv(DEADLINE)) == {"y": 3.0, "n": 2}
        assert closed(ws) == (1000, "done")


def test_pings_are_answered(server):
    with open_socket(server, "/total") as ws:
        assert ws.ping("hi").wait(DEADLINE)
        ws.send("[1, 2]")
        assert json.loads(ws.recv(DEADLINE)) == [1, 2]


# --- ends ---


def test_client_closes(server):
    ended = server.get("/facts").json()["ended"]
    with open_socket(server, "/counted?from=7") as ws:
        ws.send("1")
        assert ws.recv(DEADLINE) == "8"
        ws.close(4001, "bye")
        assert ws.close_code == 4001
    ended.append(8.0)
    wait_for(lambda: server.get("/facts").json()["ended"] == ended, "close")


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("[1,2,3]", 1007, "wrong_shape"),
        ("[1,", 1007, "malformed_body"),
        ("[666,1]", 1011, "handler_failed"),
        ("[422,1]", 4422, "unprocessable_content"),
        (b"\0" * 7, 1007, "wrong_shape"),
    ],
    ids=["shape", "half", "exception", "http_error", "bytes"],
)
def test_bad_message_ends_its_stream(server, message, code, reason):
    with open_socket(server, "/total") as other, open_socket(server, "/total") as ws:
        other.send("[1, 1]")
        assert json.loads(other.recv(DEADLINE)) == [1, 1]
        ws.send(message)
        assert json.loads(ws.recv(DEADLINE))["code"] == reason
        assert closed(ws) == (code, reason)
        other.send("[1, 1]")
        assert json.loads(other.recv(DEADLINE)) == [2, 2]


def test_message_that_is_too_large(server):
    with open_socket(server, "/small") as ws:
        for n in range(1, 30):
            ws.send("[1, 0]")
            assert json.loads(ws.recv(DEADLINE)) == [n, 0]
        ws.send("[" + " " * 20 + "1,2]")
        assert closed(ws)[0] == 1009


def test_binary_messages_of_several_tensors(server):
    with open_socket(server, "/several") as ws:
        ws.send(b"1234")
        assert json.loads(ws.recv(DEADLINE))["code"] == "unsupported_media_type"
        assert closed(ws)[0] == 1003


def test_idle(server):
    with open_socket(server, "/idle") as ws:
        assert json.loads(ws.recv(DEADLINE))["code"] == "idle"
        assert closed(ws) == (1008, "idle")


def test_max_streams(server):
    with open_socket(server, "/few"), pytest.raises(InvalidStatus) as caught:
        open_socket(server, "/few")
    assert caught.value.response.status_code == 503


def test_open_refuses(server):
    with pytest.raises(InvalidStatus) as caught:
        open_socket(server, "/counted?refuse")
    assert caught.value.response.status_code == 403


# --- the handshake ---


def test_subprotocol(server):
    with open_socket(server, "/origins", subprotocols=["x", "v1", "v2"]) as ws:
        assert ws.subprotocol == "v1"
    with open_socket(server, "/origins", subprotocols=["x"]) as ws:
        assert ws.subprotocol is None


@pytest.mark.parametrize(
    ("path", "origin", "allowed"),
    [
        ("/echo", "http://127.0.0.1:{port}", True),
        ("/echo", "http://127.0.0.1", False),
        ("/echo", "http://a.example", False),
        ("/echo", "null", False),
        ("/origins", "https://b.example", True),
        ("/origins", "http://b.example", False),
        ("/origins", "http://127.0.0.1:{port}", False),
        ("/any", "null", True),
    ],
    ids=str,
)
def test_origin(server, path, origin, allowed):
    origin = origin.format(port=server.port)
    if allowed:
        with open_socket(server, path, origin=origin) as ws:
            ws.send("x")
            assert ws.recv(DEADLINE) == "x"
    else:
        with pytest.raises(InvalidStatus) as caught:
            open_socket(server, path, origin=origin)
        assert caught.value.response.status_code == 403


GOOD = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


HANDSHAKE = "\r\n".join(
    ["GET /echo HTTP/1.1", "Host: x", *(f"{name}: {GOOD[name]}" for name in GOOD), "", ""]
).encode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"Upgrade": "h2c"},
        {"Connection": "close"},
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Key": "c2hvcnQ="},
        {"Content-Length": "5"},
    ],
    ids=["upgrade", "connection", "version", "key", "body"],
)
def test_handshake_is_refused(server, wrong):
    body = b"hello" if "Content-Length" in wrong else None
    answer = requests.get(server.url("/echo"), headers=GOOD | wrong, data=body, timeout=DEADLINE)
    assert answer.status_code == 426
    assert answer.headers["Sec-WebSocket-Version"] == "13"
    assert answer.json()["code"] == "upgrade_required"


def test_frames_that_are_no_messages_delay_nobody(server):
    pongs = b"\x8a\x80\0\0\0\0" * 20_000
    sent = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                s.sendall(pongs)
                sent.set()

    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as s:
        s.sendall(HANDSHAKE)
        thread = threading.Thread(target=send)
        thread.start()
        try:
            assert sent.wait(DEADLINE)
            assert requests.get(server.url("/alive"), timeout=DEADLINE).text == "alive"
        finally:
            s.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_headers_in_several_lines(server):
    head = HANDSHAKE.replace(b"keep-alive, Upgrade", b"keep-alive\r\nConnection: Upgrade")
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as s:
        s.sendall(head + b"\x88\x80\0\0\0\0")
        assert s.makefile("rb").readline() == b"HTTP/1.1 101 Switching Protocols\r\n"


def test_first_frame_comes_with_the_handshake(server):
    frame = b"\x81\x82\0\0\0\0hi"
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as s:
        s.sendall(HANDSHAKE + frame[:4])
        s.sendall(frame[4:] + b"\x88\x80\0\0\0\0")
        answer = s.makefile("rb").read()
    head, _, frames = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    assert frames == b"\x81\x02hi\x88\x02\x03\xe8"


# --- exit ---


def test_going_away_when_the_worker_exits(start):
    server = start(SERVER, APP, main="worker_shutdown_timeout 1s;")
    with open_socket(server, "/total") as ws:
        ws.send("[1, 2]")
        assert json.loads(ws.recv(DEADLINE)) == [1, 2]
        os.kill(server.process.pid, signal.SIGHUP)
        assert closed(ws)[0] == 1001
