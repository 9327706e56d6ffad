"""webtorch.Request, Response, HTTPError."""

import pytest
import torch

from webtorch import HTTPError, Request, Response
from webtorch._request import RequestHeaders


def request(**changes) -> Request:
    fields = {
        "method": "GET",
        "path": "/",
        "args": "",
        "headers": RequestHeaders([]),
        "body": memoryview(b""),
    }
    return Request(**fields | changes)


def test_headers_are_found_in_any_case():
    headers = RequestHeaders([("Accept", "a"), ("X", "1"), ("accept", "b")])
    assert headers["ACCEPT"] == "a, b" and headers["x"] == "1"
    assert "accept" in headers and "y" not in headers
    assert len(headers) == 2 and list(headers) == ["accept", "x"]
    assert headers.items_as_sent() == (("Accept", "a"), ("X", "1"), ("accept", "b"))


def test_query():
    assert request(args="a=1&b=&a=%20").query() == {"a": ["1", " "], "b": [""]}


def test_json_too_deep():
    with pytest.raises(HTTPError) as caught:
        request(body=memoryview(b"[" * 100000)).json()
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("result", "body", "content_type"),
    [
        (b"x", b"x", "application/octet-stream"),
        (bytearray(b"x"), b"x", "application/octet-stream"),
        (memoryview(b"x"), b"x", "application/octet-stream"),
        ("é", "é".encode(), "text/plain; charset=utf-8"),
        ({"a": 1}, b'{"a":1}', "application/json"),
        (Response([1, 2]), b"[1,2]", "application/json"),
        (Response("x", content_type="text/html"), b"x", "text/html"),
    ],
)
def test_results(result, body, content_type):
    assert Response.of(result).encoded() == (body, content_type)


def test_tensor_is_left_to_its_codec():
    response = Response.of(torch.ones(2))
    with pytest.raises(TypeError):
        response.encoded()


@pytest.mark.parametrize("result", [None, 1, object()])
def test_other_results(result):
    with pytest.raises(TypeError, match="a handler returns"):
        Response.of(result)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "a\0b"),
        ("X Y", "a"),
        ("X:", "a"),
        ("", "a"),
        ("Content-Length", "1"),
        ("transfer-encoding", "chunked"),
        ("Connection", "close"),
    ],
)
def test_headers_that_are_refused(name, value):
    with pytest.raises(ValueError, match="header"):
        Response("", headers=[(name, value)])


@pytest.mark.parametrize("status", [0, 100, 199, 600])
def test_statuses_that_are_refused(status):
    with pytest.raises(ValueError, match="status"):
        Response("", status=status)
    with pytest.raises(ValueError, match="status"):
        HTTPError(status, "x")
