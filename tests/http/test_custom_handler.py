"""@webtorch.handler: requests and responses."""

import re
from urllib.parse import quote

import pytest

from wire import connections

APP = r"""
import torch, webtorch

kept = []

@webtorch.handler
def echo(request):
    return {
        "method": request.method, "path": request.path, "args": request.args,
        "query": request.query(), "x": request.headers.get("X-TEST"),
        "many": request.headers["many"] if "many" in request.headers else None,
        "body": bytes(request.body).decode(),
    }

@webtorch.handler
def keep(request):
    kept.append(request)
    return str(len(kept))

@webtorch.handler
def check_kept(request):
    return str(all(bytes(k.body) == k.args.encode() * 1000 for k in kept))

@webtorch.handler
def text(request): return "grüße"

@webtorch.handler
def reflect(request):
    value = request.headers.get("X-Value", "")
    if request.args.startswith("error"):
        raise webtorch.HTTPError(404, f"nothing is at {request.path}")
    if request.args.startswith("json"):
        return {"path": request.path}
    return webtorch.Response(f"{request.path}?{request.args} {value}", headers=[("X-Value", value)])

@webtorch.handler
def raw(request): return bytes(request.body)[::-1]

@webtorch.handler
def parsed(request): return {"sum": sum(request.json())}

@webtorch.handler
def response(request):
    return webtorch.Response(
        b"\x89PNG", status=201, content_type="image/png",
        headers=[("X-One", "1"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])

@webtorch.handler
def empty(request): return webtorch.Response(status=204)

@webtorch.handler
def inject(request): return webtorch.Response("x", headers=[("X", "a\r\nSet-Cookie: evil=1")])

@webtorch.handler
def not_json(request): return {"x": object()}

@webtorch.handler
def bad_status(request): return "x", 700

@webtorch.handler
def tensor(request): return torch.tensor([[1.5, 2.5]])

@webtorch.handler
def no_elements(request): return torch.zeros(1000, 0, 3)

@webtorch.handler
def torch7(request): return webtorch.Response(torch.tensor([1, 2]), content_type="text/plain")

@webtorch.handler
def complex(request): return torch.ones(2, dtype=torch.complex64)

@webtorch.handler
def teapot(request): raise webtorch.HTTPError(418, "short and \"stout\"\n")

@webtorch.handler(methods=["GET"])
def only_get(request): return "got"

@webtorch.handler
def large(request): return b"x" * 5_000_000
"""

NAMES = re.findall(r"def (\w+)", APP)
SERVER = "client_max_body_size 10m;\n" + "\n".join(
    f"location /{name} {{ webtorch_handler app:{name}; }}" for name in NAMES
)


def test_request_attributes(server):
    headers = {"x-test": "yes", "Many": "1"}
    answer = server.post("/echo/a%20b?k=v&k=w%21&e=", data="body", headers=headers)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {
        "method": "POST",
        "path": "/echo/a b",
        "args": "k=v&k=w%21&e=",
        "query": {"k": "v", "e": ""},
        "x": "yes",
        "many": "1",
        "body": "body",
    }


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_methods(server, method):
    assert server.request(method, "/echo").json()["method"] == method


def test_other_methods_are_not_served(server):
    answer = server.request("PROPFIND", "/echo")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"


def test_requests_may_be_kept(server):
    for n in range(50):
        server.post(f"/keep?{n % 10}", data=str(n % 10) * 1000)
    assert server.get("/check_kept").text == "True"


def test_text_is_utf_8(server):
    answer = server.get("/text")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.content.decode() == "grüße"


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", "caf\u00e9".encode()])
def test_text_that_is_not_utf_8(server, name):
    with connections(server, 1) as (wire,):
        path = b"/reflect/" + name
        for args in (b"", b"json", b"error"):
            target = quote(path).encode()
            wire.send(
                b"GET %s?%s%s HTTP/1.1\r\nHost: a\r\nX-Value: %s\r\n\r\n"
                % (target, args, name, name)
            )
            answer = wire.answer()
            if args == b"":
                assert answer.status == 200
                assert answer.body == path + b"?" + name + b" " + name
                assert answer.headers["x-value"].encode("latin-1") == name
            elif args == b"json":
                expected = path.decode(errors="surrogateescape")
                assert answer.status == 200 and answer.json() == {"path": expected}
            else:
                assert answer.status == 404 and answer.json()["code"] == "not_found"


def test_bytes(server):
    body = bytes(range(256)) * 8000
    answer = server.post("/raw", data=body)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.content == body[::-1]


def test_json_of_a_request(server):
    assert server.post("/parsed", [1, 2, 3]).json() == {"sum": 6}
    answer = server.post("/parsed", data="[1,")
    assert answer.status_code == 400 and "invalid JSON" in answer.json()["error"]


def test_response(server):
    answer = server.get("/response")
    assert answer.status_code == 201 and answer.content == b"\x89PNG"
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-One"] == "1"
    assert answer.headers["Set-Cookie"] == "a=b, c=d"


def test_empty_response(server):
    answer = server.get("/empty")
    assert answer.status_code == 204 and answer.content == b""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/inject", "ValueError: the header X has control characters"),
        ("/not_json", "TypeError: JSON cannot hold a builtins.object"),
        ("/bad_status", "ValueError: status 700 is not one of 200 to 599"),
        ("/complex", "TypeError: a tensor of torch.complex64 cannot be sent"),
    ],
)
def test_unsupported_results(server, path, message):
    answer = server.get(path)
    assert answer.status_code == 500 and answer.json()["code"] == "handler_failed"
    assert "Set-Cookie" not in answer.headers
    server.wait_for_log(message)


def test_tensor_by_accept(server):
    assert server.get("/tensor").json() == [[1.5, 2.5]]
    answer = server.get("/tensor", headers={"Accept": "text/plain"})
    assert "torch.FloatTensor" in answer.text and answer.text.endswith("1.5 2.5\n")
    assert server.get("/tensor", headers={"Accept": "image/png"}).status_code == 406
    assert "torch.LongTensor" in server.get("/torch7", headers={"Accept": "*/*"}).text
    assert server.get("/no_elements").json() == [[]] * 1000


def test_error_for_the_client(server):
    answer = server.get("/teapot")
    assert answer.status_code == 418
    assert answer.json() == {"error": 'short and "stout"\n', "code": "handler_error"}


def test_head(server):
    answer = server.request("HEAD", "/only_get")
    assert answer.status_code == 200 and answer.content == b""
    assert answer.headers["Content-Length"] == "3"
    refused = server.post("/only_get", data="x")
    assert refused.status_code == 405 and refused.headers["Allow"] == "GET, HEAD"


def test_large_answer(server):
    assert server.get("/large").content == b"x" * 5_000_000
