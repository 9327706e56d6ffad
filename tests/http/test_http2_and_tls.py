"""HTTP/2 and TLS."""

import asyncio
import gzip
import subprocess

import httpx
import pytest

from nginx import Nginx, free_port, running

APP = """
import torch, webtorch
from jaxtyping import Int64
from torch import Tensor

@webtorch.infer
def size(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    return n * 1000 + len(n)

@webtorch.handler
def length(request): return str(len(request.body))
"""

SERVER = """
client_max_body_size 10m;
location = /size {{ webtorch_handler app:size max_delay=50ms; }}
location = /thread {{ webtorch_handler app:size mode=thread; }}
location = /small {{ client_max_body_size 100; webtorch_handler app:size; }}
location = /length {{ webtorch_handler app:length mode=thread; }}
listen 127.0.0.1:{port} ssl http2;
ssl_certificate {directory}/cert.pem;
ssl_certificate_key {directory}/key.pem;
"""


PORT = free_port()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2"
    files = ["-keyout", directory / "key.pem", "-out", directory / "cert.pem"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return directory


@pytest.fixture(scope="module")
def shared_server(certificate):
    with running(Nginx(SERVER.format(port=PORT, directory=certificate), APP)) as server:
        yield server


@pytest.fixture
def tls(server) -> tuple[Nginx, str]:
    return server, f"https://127.0.0.1:{PORT}"


def test_tls_over_http_1(tls):
    _, address = tls
    with httpx.Client(verify=False) as client:
        assert client.post(f"{address}/size", json=[7]).json() == [7001]
        body = b"x" * 5_000_000
        assert client.post(f"{address}/length", content=body).text == "5000000"


def test_streams_of_one_connection_come_together(tls):
    _, address = tls

    async def ask() -> list[list[int]]:
        async with httpx.AsyncClient(http1=False, http2=True, verify=False, timeout=30) as client:
            await client.post(f"{address}/size", json=[0])
            posts = [client.post(f"{address}/size", json=[n]) for n in range(40)]
            answers = await asyncio.gather(*posts)
            assert all(answer.http_version == "HTTP/2" for answer in answers)
            return [answer.json() for answer in answers]

    values = [value for (value,) in asyncio.run(ask())]
    assert [value // 1000 for value in values] == list(range(40))
    assert max(value % 1000 for value in values) > 1


def test_large_bodies_and_errors_over_http_2(tls):
    _, address = tls
    with httpx.Client(http1=False, http2=True, verify=False, timeout=30) as client:
        assert client.post(f"{address}/length", content=b"x" * 5_000_000).text == "5000000"
        assert client.post(f"{address}/size", content=b"[[").status_code == 400
        assert client.post(f"{address}/small", content=b"x" * 101).json()["code"] == "too_large"
        assert client.get(f"{address}/size").status_code == 405
        assert client.post(f"{address}/thread", json=[1, 2]).json() == [1002, 2002]


@pytest.mark.parametrize("in_one_piece", [True, False])
def test_compressed_bodies_over_http_2(tls, in_one_piece):
    """Without a content-length, too, which is not announced in any other way."""
    _, address = tls

    def post(body: bytes, coding: str) -> httpx.Response:
        pieces = body if in_one_piece else iter([body[:9], body[9:]])
        headers = {"Content-Encoding": coding}
        return client.post(f"{address}/size", content=pieces, headers=headers)

    with httpx.Client(http1=False, http2=True, verify=False, timeout=30) as client:
        assert post(gzip.compress(b"[1, 2]"), "gzip").json() == [1002, 2002]
        assert post(gzip.compress(b"[1, 2]")[:-1], "gzip").status_code == 400
        answer = post(b"whatever it is", "br")
        assert answer.status_code == 415
        assert answer.headers["accept-encoding"] == "gzip, deflate"
        assert post(gzip.compress(b"[1, 2]"), "gzip").json() == [1002, 2002]


def test_connection_closed_with_waiting_streams(tls):
    server, address = tls

    async def abandon() -> None:
        async with httpx.AsyncClient(http1=False, http2=True, verify=False) as client:
            await client.post(f"{address}/size", json=[0])
            posts = [
                asyncio.create_task(client.post(f"{address}/size", json=[n])) for n in range(30)
            ]
            await asyncio.sleep(0)
            _, pending = await asyncio.wait(posts, timeout=0.02)
            for task in pending:
                task.cancel()
            await asyncio.gather(*posts, return_exceptions=True)

    for _ in range(5):
        asyncio.run(abandon())
    with httpx.Client(verify=False) as client:
        assert client.post(f"{address}/size", json=[7]).json() == [7001]
    assert server.get("/alive").ok
