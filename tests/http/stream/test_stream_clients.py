"""Streams with other clients: HTTP/2 frames, aiohttp, curl, httpx, requests; clients that go."""

import asyncio
import json
import random
import re
import struct
import subprocess
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests

from duplex import Duplex, duplex
from http_stream_app import APP
from nginx import DEADLINE, Nginx, free_port, running, wait_for
from wire_h2 import H2

H2_PORT = free_port()

SERVER = """
location = /total { webtorch_handler app:total; }
location = /small { client_max_body_size 16; client_body_timeout 50ms;
                     webtorch_handler app:total; }
location = /thread { webtorch_handler app:counted mode=thread max_streams=64; }
location = /counted { webtorch_handler app:counted max_streams=64; }
location = /facts { webtorch_handler app:facts; }
"""

HTTP = f"""
server {{
    listen 127.0.0.1:{H2_PORT} http2;
    {SERVER}
}}
"""


@pytest.fixture(scope="module")
def shared_server():
    with running(Nginx(SERVER, APP, http=HTTP)) as server:
        yield server


# --- HTTP/2 ---


def test_duplex_over_http2(server):
    """All streams of a connection are answered while their bodies are being sent."""
    client = H2(H2_PORT)
    streams = [client.open("/total") for _ in range(50)]
    for n in range(1, 20):
        for stream in streams:
            client.send(stream, [1, stream])
        client.flush()
        for stream in streams:
            assert client.row(stream) == [n, n * stream]
    assert set(client.status.values()) == {"200"}
    for stream in streams:
        client.h2.end_stream(stream)
    client.flush()
    while len(client.ended) < len(streams):
        client.receive()
    client.socket.close()


def test_limits_are_those_of_a_chunk_over_http2(server):
    client = H2(H2_PORT)
    stream = client.open("/small")
    for n in range(1, 100):
        client.send(stream, [1, 0])
        client.flush()
        assert client.row(stream) == [n, 0]
    with duplex(server, "/small"):  # longer than client_body_timeout, by other requests
        for _ in range(50):
            server.get("/alive")
    client.h2.send_data(stream, b"[1," + b" " * 20 + b"1]\n", end_stream=True)
    client.flush()
    assert client.row(stream)["code"] == "too_large"
    client.socket.close()


def test_error_before_the_end_of_the_body_over_http2(server):
    client = H2(H2_PORT)
    stream, other = client.open("/total"), client.open("/total")
    client.send(stream, [1])
    client.send(other, [1, 1])
    client.flush()
    assert client.row(other) == [1, 1]
    assert client.row(stream)["code"] == "wrong_shape"
    while stream not in client.ended:
        client.receive()
    client.send(other, [1, 1])
    client.flush()
    assert client.row(other) == [2, 2]
    client.socket.close()


def test_body_that_is_complete_at_once_over_http2(server):
    with httpx.Client(http1=False, http2=True, timeout=DEADLINE) as client:
        answer = client.post(
            f"http://127.0.0.1:{H2_PORT}/total",
            content=b"[1,1]\n" * 20000,  # into a file
            headers={"Content-Type": "application/x-ndjson"},
        )
    assert answer.http_version == "HTTP/2"
    assert answer.content.count(b"\n") == 20000


def test_reset_over_http2(server):
    ended = server.get("/facts").json()["ended"]
    client = H2(H2_PORT)
    stream = client.open("/counted?from=50")
    client.send(stream, 1)
    client.flush()
    assert client.row(stream) == 51
    client.reset(stream)
    ended.append(51.0)
    wait_for(lambda: server.get("/facts").json()["ended"] == ended, "close")
    client.socket.close()


# --- other clients ---


def test_aiohttp_in_duplex(server):
    async def talk() -> None:
        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def chunks():
            yield b"[1,0]\n"
            for n in range(1, 50):
                assert json.loads(await received.get()) == [n, 0]
                yield b"[1,0]\n"

        headers = {"Content-Type": "application/x-ndjson"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(server.url("/total"), data=chunks(), headers=headers) as answer,
        ):
            async for line in answer.content:
                await received.put(line)
        assert json.loads(await received.get()) == [50, 0]

    asyncio.run(asyncio.wait_for(talk(), DEADLINE))


def test_curl_in_duplex(server):
    command = ["curl", "-sN", "-X", "POST", "-T", ".", "-H", "Content-Type: application/x-ndjson"]
    with subprocess.Popen(
        [*command, server.url("/total")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as curl:
        for n in range(1, 5):
            curl.stdin.write(b"[1, 2]\n")
            curl.stdin.flush()
            assert json.loads(curl.stdout.readline()) == [n, 2 * n]
        curl.stdin.close()
        assert curl.stdout.read() == b""
    assert curl.returncode == 0


def test_get_over_http2(server):
    client = H2(H2_PORT)
    stream = client.open("/total", "GET")
    client.h2.end_stream(stream)
    client.flush()
    # the client refuses an answer with the header Upgrade
    while stream not in client.ended:
        client.receive()
    assert client.status[stream] == "426"
    assert json.loads(client.received[stream])["code"] == "upgrade_required"
    client.socket.close()


@pytest.mark.parametrize("post", [requests.post, httpx.post], ids=["requests", "httpx"])
def test_client_that_reads_after_it_has_sent(server, post):
    body = struct.pack("<2f", 1, 2) * 5000
    headers = {"Content-Type": "application/octet-stream"}
    options = {"data": body} if post is requests.post else {"content": body}
    answer = post(server.url("/total"), headers=headers, timeout=DEADLINE, **options)
    assert answer.content[-8:] == struct.pack("<2f", 5000, 10000)
    assert len(answer.content) == len(body)


# --- clients that go ---


@pytest.mark.parametrize("path", ["/counted", "/thread"])
def test_rows_of_clients_that_go_are_free(server, path):
    """More streams than there may be at a time, of which each is closed once."""
    rng = random.Random(1)
    before = len(server.get("/facts").json()["ended"])
    count = 200
    for n in range(count):
        client = Duplex(server, f"{path}?from={n}")
        wait_for(lambda client=client: client.head() in (200, 503), "an answer")
        if client.status == 200 and rng.random() < 0.7:
            client.send_row(1)
            if rng.random() < 0.5:
                assert client.row() == n + 1
        (client.reset if rng.random() < 0.5 else client.close)()
        if client.status == 503:
            count -= 1
    wait_for(
        lambda: len(server.get("/facts").json()["ended"]) == before + count,
        lambda: f"{count} calls of close, not {len(server.get('/facts').json()['ended']) - before}",
    )
    with duplex(server, f"{path}?from=5") as client:
        client.send_row(1)
        assert client.row() == 6


def test_memory_does_not_grow_with_a_stream(server):
    """The pool of a request would grow with each answer."""
    (pid,) = server.workers()

    def resident() -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    with duplex(server, "/total") as client:
        for n in range(1, 2001):
            client.send_row([1, 0])
            assert client.row() == [n, 0]
        before = resident()
        for n in range(2001, 8001):
            client.send_row([1, 0])
            assert client.row() == [n, 0]
        assert resident() - before < 1024


# --- configurations and reloads ---


PLAIN = """
@webtorch.infer
def plain(body_bytes: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch"]:
    return body_bytes[:, 0]
"""


@pytest.mark.parametrize(
    ("server", "app", "message"),
    [
        pytest.param(
            "location / { webtorch_handler app:total; }",
            APP.replace("return s, s", "return s, s").replace(
                'State[Float32[Tensor, "batch 2"]]\n) ->', 'State[Float32[Tensor, "batch 3"]]\n) ->'
            ),
            'state "s" is float32 [batch, 3] as an argument, but is returned as float32 [batch, 2]',
            id="states_differ",
        ),
        pytest.param(
            "webtorch_log app:total; location / { return 200; }",
            APP,
            "is a function of streams, one of tensors is needed",
            id="in_a_phase",
        ),
        pytest.param(
            "location / { webtorch_handler app:total max_streams=0; }",
            APP,
            'invalid parameter "max_streams=0"',
            id="max_streams",
        ),
        pytest.param(
            "location / { webtorch_handler app:plain timeout=1s idle=1s; }",
            APP + PLAIN,
            '"app:plain": "idle=" is for functions under @webtorch.stream and @webtorch.generate',
            id="not_a_stream",
        ),
        pytest.param(
            "webtorch_access app:plain ping=1s; location / { return 200; }",
            APP + PLAIN,
            'invalid parameter "ping=1s"',
            id="not_a_stream_in_a_phase",
        ),
        pytest.param(
            "location / { webtorch_handler app:total threads=4; }",
            APP,
            '"threads=4" is for functions under @webtorch.handler',
            id="threads",
        ),
        pytest.param(
            "location / { webtorch_handler app:total; }",
            APP.replace('s: State[Float32[Tensor, "batch 2"]]\n', "s: State[list[int]] = ()\n"),
            'the state "s" has a default',
            id="default_of_a_state",
        ),
    ],
)
def test_configuration_is_refused(reconfigured, server, app, message):
    assert message in reconfigured(server, app).refuse()


def test_new_code_continues_streams(start):
    server = start(SERVER, APP, http="webtorch_reload on;")
    with duplex(server, "/counted?from=1") as client:
        client.send_row(1)
        assert client.row() == 2
        server.write_app(APP.replace("return s + x, s + x", "return s + 100 * x, s + x"))
        server.wait_for_log("app.py: the new code is served")
        client.send_row(1)
        assert client.row() == 102
        client.finish()
        assert client.line() == b""
    wait_for(lambda: server.get("/facts").json()["ended"] == [3.0], "close")
