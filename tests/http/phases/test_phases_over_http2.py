"""Models in the phases of requests that are streams of one connection of HTTP/2."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import httpx
import pytest

from gate import GATE_APP, GATE_SERVER, Gate
from nginx import free_port, wait_for
from webtorch import features

APP = (
    GATE_APP
    + '''
from jaxtyping import Float32, UInt8

rows: list[list[str]] = []


def texts(bytes):
    return [row.numpy().tobytes().rstrip(b"\\0").decode() for row in bytes]


@webtorch.infer
def guard(
    bytes: UInt8[Tensor, "batch 64"], request: Float32[Tensor, "batch 9"]
) -> Float32[Tensor, "batch 1"]:
    """Deny an odd number, and what is not HTTP/2."""
    odd = [int(text.strip("\\x1d\\x1e").rpartition("/")[2]) % 2 for text in texts(bytes)]
    return torch.tensor(odd).float()[:, None] + 1 - request[:, 8:9]


@webtorch.infer
def reader(bytes: UInt8[Tensor, "batch 64"]) -> Float32[Tensor, "batch 1"]:
    return torch.tensor(["attack" in text for text in texts(bytes)]).float()[:, None]


@webtorch.infer
def number(bytes: UInt8[Tensor, "batch 64"]) -> Float32[Tensor, "batch 1"]:
    """Return the number at the end of the path, behind the gate."""
    calls.append(texts(bytes))
    gate.wait()
    return torch.tensor([float(text[:-2].rpartition("/")[2]) for text in texts(bytes)])[:, None]


@webtorch.infer
def note(
    bytes: UInt8[Tensor, "batch 64"], outcome: Float32[Tensor, "batch 12"]
) -> Float32[Tensor, "batch 12"]:
    rows.extend([text, row] for text, row in zip(texts(bytes), outcome.tolist()))
    return outcome


@webtorch.handler
def noted(request: webtorch.Request) -> dict:
    return {"rows": rows}


@webtorch.handler
def size(request: webtorch.Request) -> str:
    return str(len(request.body))
'''
)

SERVER = (
    GATE_SERVER.replace("{", "{{").replace("}", "}}")
    + """
listen 127.0.0.1:{port} http2;
location = /noted {{ webtorch_handler app:noted mode=thread; }}
location /access/ {{ webtorch_access app:guard; empty_gif; }}
location /body/ {{
    webtorch_access app:reader body=16k;
    webtorch_handler app:size;
    client_max_body_size 1m;
}}
location /set/ {{ webtorch_set $number app:number mode=thread; return 200 $number; }}
location /log/ {{ webtorch_log app:note max_delay=0; empty_gif; }}
"""
)

Ask = Callable[[httpx.AsyncClient], Awaitable[object]]


PORT = free_port()
SERVER = SERVER.format(port=PORT)


@pytest.fixture
def http2(server):
    return server, f"http://127.0.0.1:{PORT}"


def ask(address: str, *asks: Ask) -> list:
    """Ask on streams of one connection at a time."""

    async def all_of_them() -> list:
        options = {"http1": False, "http2": True, "timeout": 30, "base_url": address}
        async with httpx.AsyncClient(**options) as client:
            return await asyncio.gather(*(each(client) for each in asks))

    return asyncio.run(all_of_them())


def get(path: str) -> Ask:
    return lambda client: client.get(path)


def test_each_stream_has_its_verdict(http2):
    server, address = http2
    answers = ask(address, *(get(f"/access/{n}") for n in range(40)))
    assert [answer.status_code for answer in answers] == [200, 403] * 20
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    # over HTTP/1 this function denies all
    assert server.get("/access/0").status_code == 403


@pytest.mark.parametrize("size", [0, 1000, 100_000])
def test_bodies_are_seen_and_kept(http2, size):
    _, address = http2

    def post(body: bytes) -> Ask:
        return lambda client: client.post("/body/", content=body)

    answers = ask(address, post(b"x" * size), post(b"attack" + b"x" * size))
    assert [answer.status_code for answer in answers] == [200, 403]
    assert answers[0].text == str(size)


def test_each_stream_has_its_variable(http2):
    _, address = http2
    answers = ask(address, *(get(f"/set/{n}") for n in range(40)))
    assert [answer.text for answer in answers] == [str(n) for n in range(40)]


def test_stream_reset_while_waiting(http2):
    server, address = http2
    gate = Gate(server)

    async def abandon(client: httpx.AsyncClient) -> None:
        tasks = [asyncio.create_task(client.get(f"/set/{n}")) for n in range(10)]
        await asyncio.to_thread(gate.wait_for_calls, 1)
        for task in tasks[:5]:
            task.cancel()
        await asyncio.gather(*tasks[:5], return_exceptions=True)
        await asyncio.to_thread(gate.open)
        answers = await asyncio.gather(*tasks[5:])
        assert [answer.text for answer in answers] == [str(n) for n in range(5, 10)]

    gate.shut()
    ask(address, abandon)
    assert [answer.text for answer in ask(address, get("/set/7"))] == ["7"]


def test_each_stream_is_logged(http2):
    server, address = http2
    assert all(answer.status_code == 200 for answer in ask(address, *map(get, paths())))

    def noted():
        rows = json.loads(server.get("/noted").text)["rows"]
        return rows if len(rows) == len(paths()) else None

    rows = wait_for(noted, "all rows")
    assert sorted(text.partition("\x1d")[0] for text, _ in rows) == sorted(paths())
    assert all(row[features.OUTCOME.index("status_2xx")] == 1 for _, row in rows)


def paths() -> list[str]:
    return [f"/log/{n}" for n in range(30)]
