"""`webtorch.testing`: functions answer without nginx as they do in nginx."""

import gzip
import importlib
import io
import sys

import numpy as np
import pytest
import requests
import torch
from jaxtyping import Float32
from torch import Tensor

from nginx import Nginx

APP = r"""
import asyncio
from dataclasses import dataclass
from pathlib import Path

import torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor, nn, optim

torch.manual_seed(0)
line = webtorch.Model("line", nn.Linear(2, 1), optimizer=lambda p: optim.SGD(p, lr=0.1))
calls = []

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    calls.append(len(x))
    if (x == 13).any():
        raise RuntimeError("thirteen")
    if (x == 14).any():
        raise webtorch.HTTPError(409, "fourteen is not wanted")
    return 2 * x

@webtorch.infer
def pad(x: Float32[Tensor, "batch n"]) -> Float32[Tensor, "batch n"]:
    return x + 1

@webtorch.infer
def upper(
    s: webtorch.Strings[list[str], "batch"], n: Int64[Tensor, "batch"]
) -> webtorch.Strings[list[str], "batch"]:
    return [text.upper() * int(times) for text, times in zip(s, n)]

@webtorch.infer
def sizes(files: webtorch.Strings[list[bytes], "batch"]) -> Int64[Tensor, "batch"]:
    return torch.tensor([len(file) for file in files])

@webtorch.train
def learn(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    found = line(x)
    line.step((found ** 2).mean())
    return found.detach()

@dataclass
class Point:
    x: int
    y: int = 2

@webtorch.handler
def add(point: Point, scale: int = 1):
    return {"sum": scale * (point.x + point.y)}

@webtorch.handler(methods=["GET", "POST"], variables=["request_method", "arg_b"])
def echo(request: webtorch.Request):
    body = bytes(request.body).decode()
    return [request.method, request.path, request.args, body, dict(request.variables)]

@webtorch.handler
def item(request: webtorch.Request, number: int):
    return {"number": number}

@webtorch.handler
async def later(request: webtorch.Request):
    await asyncio.sleep(0)
    if request.args == "refuse":
        raise webtorch.HTTPError(429, [{"field": "a"}], headers={"X-Why": "busy"})
    return f"{torch.is_grad_enabled()}", 201, {"X-A": "b"}

@webtorch.handler
def form(request: webtorch.Request):
    found = request.form()
    return {name: found[name] for name in found}

@webtorch.handler
def matrix(request: webtorch.Request):
    return torch.arange(4.0).view(2, 2)

@webtorch.handler
def source(request: webtorch.Request):
    return Path(__file__)

@webtorch.handler
def rows(request: webtorch.Request):
    yield {"a": 1}
    yield {"a": 2}

@webtorch.handler
async def words(request: webtorch.Request):
    yield "x"
    await asyncio.sleep(0)
    yield "y"

@webtorch.handler
def broken(request: webtorch.Request):
    raise KeyError("secret")
"""

SERVER = r"""
types { text/x-python py; }
location ~ ^/([a-z]+)$ { return 404; }
location = /double { webtorch_handler app:double; }
location = /pad { webtorch_handler app:pad; }
location = /upper { webtorch_handler app:upper; }
location = /sizes { webtorch_handler app:sizes; }
location = /learn { webtorch_handler app:learn; }
location = /add { webtorch_handler app:add; }
location = /echo { webtorch_handler app:echo; }
location ~ ^/items/(?<number>\w+)$ { webtorch_handler app:item; }
location = /later { webtorch_handler app:later; }
location = /form { webtorch_handler app:form; }
location = /matrix { webtorch_handler app:matrix; }
location = /source { webtorch_handler app:source; }
location = /rows { webtorch_handler app:rows; }
location = /words { webtorch_handler app:words; }
location = /broken { webtorch_handler app:broken; }
"""

NPY = io.BytesIO()
np.save(NPY, np.ones((2, 2), np.float32))

REQUESTS = [
    ("POST", "/double", {"json": [[1, 2]]}),
    ("POST", "/double", {"json": {"x": [1, 2]}}),
    ("POST", "/double", {"json": [[1, 2, 3]]}),
    ("POST", "/double", {"json": [["a", 2]]}),
    ("POST", "/double", {"json": [[14, 2]]}),
    ("POST", "/double", {"json": [[13, 2]]}),
    ("POST", "/double", {"data": b""}),
    ("POST", "/double", {"data": "[[1,"}),
    ("POST", "/double", {"data": b"x", "headers": {"Content-Type": "image/png"}}),
    ("POST", "/double", {"json": [[1, 2]], "headers": {"Accept": "image/png"}}),
    ("POST", "/double", {"json": [[1, 2]], "headers": {"Accept": "application/x-npy"}}),
    ("POST", "/double", {"data": NPY.getvalue(), "headers": {"Content-Type": "application/x-npy"}}),
    ("POST", "/double", {"data": b"\x00" * 8, "headers": {"Content-Type": "x-pytorch/none"}}),
    ("POST", "/double", {"data": NPY.getvalue(), "headers": {"Content-Type": "text/csv"}}),
    ("POST", "/double", {"data": "[[3, 4]]", "headers": {"Content-Type": "text/plain"}}),
    ("POST", "/double", {"data": "PK", "headers": {"Content-Type": "application/x-pytorch"}}),
    ("POST", "/double", {"data": gzip.compress(b"[[5, 6]]", mtime=0),
                         "headers": {"Content-Encoding": "gzip"}}),
    ("POST", "/double", {"data": "[]", "headers": {"Content-Encoding": "br"}}),
    ("GET", "/double", {}),
    ("POST", "/pad", {"json": [[1, 2, 3]]}),
    ("POST", "/pad", {"data": np.ones(3, np.float32).tobytes(), "headers":
                      {"Content-Type": "application/octet-stream", "Tensor-Shape": "1,3"}}),
    ("POST", "/pad", {"data": b"1234", "headers":
                      {"Content-Type": "application/octet-stream", "Tensor-Shape": "a"}}),
    ("POST", "/upper", {"json": {"s": ["grüße", "b"], "n": [1, 2]}}),
    ("POST", "/upper", {"json": {"s": ["a"]}}),
    ("POST", "/sizes", {"data": b"12345", "headers": {"Content-Type": "image/png"}}),
    ("POST", "/learn", {"json": [[1, 1]]}),
    ("POST", "/learn", {"json": [[1, 1]]}),
    ("POST", "/learn", {"data": b"\x00\x00\xc0\x7f" * 2,
                        "headers": {"Content-Type": "application/octet-stream"}}),
    ("POST", "/add?scale=3", {"json": {"x": 4}}),
    ("POST", "/add", {"json": {"y": "a"}}),
    ("POST", "/echo?a=1&b=%20", {"data": "text"}),
    ("PUT", "/echo", {"data": "text"}),
    ("GET", "/items/17", {}),
    ("GET", "/items/x", {}),
    ("GET", "/later", {}),
    ("GET", "/later?refuse", {}),
    ("POST", "/form", {"data": {"a": "1 2", "b": "ü"}}),
    ("GET", "/matrix", {}),
    ("GET", "/matrix", {"headers": {"Accept": "application/x-npy"}}),
    ("HEAD", "/matrix", {}),
    ("GET", "/rows", {}),
    ("GET", "/words", {}),
    ("GET", "/broken", {}),
]  # fmt: skip

COMPARED = ("allow", "content-type", "tensor-shape", "vary", "x-a", "x-why", "accept-encoding")


@pytest.fixture(scope="module")
def app(shared_server: Nginx):
    sys.path.insert(0, str(shared_server.prefix / "app"))
    sys.modules.pop("app", None)
    yield importlib.import_module("app")
    sys.path.remove(str(shared_server.prefix / "app"))
    del sys.modules["app"]


@pytest.fixture
def client(app):
    from webtorch.testing import Client

    return Client(app)


def test_answers_are_those_of_nginx(server, app):
    """Status, headers and bodies, byte by byte."""
    from webtorch.testing import Client

    locations = {f"/{name}": name for name in vars(app) if f"location = /{name} " in SERVER}
    locations[r"~ ^/items/(?<number>\w+)$"] = "item"
    client = Client(app, locations=locations, raise_server_exceptions=False)
    server.expected_in_log += ("RuntimeError: thirteen", "KeyError: 'secret'")
    for method, path, options in REQUESTS:
        expected = server.request(method, path, **options)
        prepared = requests.Request(method, server.url(path), **options).prepare()
        body = prepared.body or b""
        found = client.request(
            method,
            path,
            content=body.encode() if isinstance(body, str) else body,
            headers=dict(prepared.headers),
        )
        where = (method, path, options)
        assert (found.status_code, found.content) == (expected.status_code, expected.content), where
        for name in COMPARED:
            assert found.headers.get(name) == expected.headers.get(name), (name, where)


def test_batch_is_one_call(client, app):
    app.calls.clear()
    answers = client.batch(
        "/double", [{"json": [[1, 2]]}, {"json": [[14, 0]]}, {"json": "x"}, {"json": [[3, 4]] * 2}]
    )
    assert [one.status_code for one in answers] == [200, 409, 422, 200]
    assert [one.json() for one in answers[::3]] == [[[2, 4]], [[6, 8]] * 2]
    assert app.calls[0] == 4
    different = client.batch("/pad", [{"json": [[1]]}, {"json": [[1, 2]]}])
    assert [one.json() for one in different] == [[[2]], [[2, 3]]]
    strings = client.batch("/upper", [{"json": {"s": ["a"], "n": [2]}}] * 3)
    assert [one.json() for one in strings] == [{"output": ["AA"]}] * 3


def test_training_is_seen_by_the_test(client, app):
    before = app.line.module.weight.clone()
    client.post("/learn", json=torch.ones(1, 2)).raise_for_status()
    assert not torch.equal(before, app.line.module.weight)


def test_unexpected_exceptions_are_raised(client):
    with pytest.raises(RuntimeError, match="thirteen"):
        client.post("/double", json=[[13, 0]])
    with pytest.raises(KeyError, match="secret"):
        client.get("/broken")
    assert client.post("/double", json=[[1, 2]]).json() == [[2, 4]]


def test_forms_and_files(client, app, tmp_path):
    assert client.post("/form", data={"a": "x"}, files={"f": b"1"}).json() == {"a": "x"}
    file = tmp_path / "a.png"
    file.write_bytes(b"12")
    files = {"a": file, "b": ("b.png", b"123", "image/png")}
    assert client.post("/sizes", files=files).json() == [2, 3]
    answer = client.get("/source")
    assert answer.text.startswith("\nimport asyncio")
    assert "python" in answer.headers["content-type"]


def test_items_of_generators(client):
    assert client.get("/rows").items == [b'{"a":1}\n', b'{"a":2}\n']
    assert client.get("/words").items == [b"x", b"y"]


def test_client_settings(app):
    from webtorch.testing import Client, HTTPStatusError

    client = Client(
        {"echo": app.echo}, variables={"arg_b": "set"}, headers={"X": "1"}, max_body_size=4
    )
    assert client.get("/echo").json()[4] == {"request_method": "GET", "arg_b": "set"}
    assert client.post("/echo", content="12345").json()["code"] == "too_large"
    assert client.get("/double").status_code == 404
    with pytest.raises(HTTPStatusError, match="404 Not Found"):
        client.get("/double").raise_for_status()
    with pytest.raises(ValueError, match="one of json, content"):
        client.post("/echo", json=1, content=b"2")


def test_library_that_is_missing_is_named(tmp_path):
    import subprocess

    program = (
        "import webtorch.cli._nginx as n, webtorch.cli._bundled as b\n"
        f"n.MODULES = (n.Path({str(tmp_path)!r}),); b.DIRECTORY = n.Path({str(tmp_path)!r})\n"
        "import webtorch.testing"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "libwebtorch_formats.so" in done.stderr and "./build.sh" in done.stderr


def test_function_that_cannot_be_served():
    import webtorch
    from webtorch.testing import Client

    @webtorch.infer
    async def later(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
        return x

    with pytest.raises(webtorch.SignatureError, match="it is a coroutine"):
        Client({"later": later})


def test_applications_with_one_name(tmp_path, monkeypatch):
    from webtorch.testing import Client

    monkeypatch.setattr(sys, "path", [*sys.path])
    text = "import webtorch\n\n@webtorch.handler\ndef who(request): return {name!r}\n"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "twin_app.py").write_text(text.format(name=name))
    try:
        for _ in range(2):
            assert Client(tmp_path / "one" / "twin_app.py").get("/who").text == "one"
        with pytest.raises(ImportError, match="processes of their own"):
            Client(tmp_path / "two" / "twin_app.py")
    finally:
        sys.modules.pop("twin_app", None)
