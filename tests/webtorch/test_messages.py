"""webtorch.Request, Response, HTTPError."""

import asyncio
import copy
import pickle
from types import SimpleNamespace

import pytest
import torch

from webtorch import BatchTimeoutError, HTTPError, Request, Response, handler
from webtorch._core.headers import RequestHeaders


def test_headers_are_found_in_any_case():
    headers = RequestHeaders([("Accept", "a"), ("X", "1"), ("accept", "b")])
    assert headers["ACCEPT"] == "a, b" and headers["x"] == "1"
    assert "accept" in headers and "y" not in headers
    assert len(headers) == 2 and list(headers) == ["accept", "x"]
    assert headers.items_as_sent() == (("Accept", "a"), ("X", "1"), ("accept", "b"))


def test_query():
    query = Request(args="a=1&b=&a=%20").query()
    assert query == {"a": "1", "b": ""}
    assert query.getlist("a") == ["1", " "] and query.getlist("c") == []
    assert Request().query() == {}


def test_target_with_arguments():
    request = Request("GET", "/x?token=bad&b=?")
    assert (request.path, request.args) == ("/x", "token=bad&b=?")
    assert request.query().get("token") == "bad"
    # a path that clients have sent as /a%3Fb
    assert Request(path="/a?b", args="c").path == "/a?b"
    request.path = "/a?b"
    request.args = ""
    copied = pickle.loads(pickle.dumps(request))
    assert (copied.path, copied.args) == ("/a?b", "")


def test_request_of_a_test():
    request = Request("POST", "/f", "a=1", {"X-A": "1"}, b"[1]", {"uri": "/f"}, {"id": "7"})
    assert (request.method, request.path, request.args) == ("POST", "/f", "a=1")
    assert request.headers["x-a"] == "1" and request.json() == [1]
    assert request.variables == {"uri": "/f"} and request.path_params == {"id": "7"}
    request = Request()
    assert (request.method, request.path, request.args, bytes(request.body)) == (
        "GET",
        "/",
        "",
        b"",
    )
    assert dict(request.headers) == {} and request.variables == {} and request.path_params == {}
    with pytest.raises(AttributeError, match="nothing"):
        request.nothing  # noqa: B018
    with pytest.raises(AttributeError, match=r"use query\(\)"):
        request.query_params  # noqa: B018


def test_handler_has_no_address():
    with pytest.raises(TypeError, match="'/items' is one of the configuration"):
        handler("/items", methods=["GET"])


def test_cookies():
    request = Request(headers={"Cookie": 'a=1; b="x\\"y"; a=2; bad; c=d=e, f'})
    assert request.cookies == {"a": "1", "b": 'x"y', "c": "d=e, f"}
    assert Request().cookies == {}
    assert Request(headers=[("cookie", "a=1"), ("Cookie", "b=2")]).cookies == {"a": "1", "b": "2"}


def test_json_with_a_byte_order_mark():
    assert Request(body=b'\xef\xbb\xbf{"a": 1}').json() == {"a": 1}
    with pytest.raises(HTTPError):
        Request(body=b"\xef\xbb{}").json()


def test_json_too_deep():
    with pytest.raises(HTTPError) as caught:
        Request(body=b"[" * 100000).json()
    assert caught.value.status == 400 and caught.value.code == "malformed_body"


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
        (Response("x", headers={"X": "1"}), b"x", "text/plain; charset=utf-8"),
        ([1, None], b"[1,null]", "application/json"),
        (None, b"", "application/octet-stream"),
        (True, b"true", "application/json"),
    ],
)
def test_response_of_results(result, body, content_type):
    assert Response.of(result).encoded() == (body, content_type)


def test_tensor_is_left_to_its_codec():
    response = Response.of(torch.ones(2))
    with pytest.raises(TypeError):
        response.encoded()


def test_results_with_a_status():
    response = Response.of(({"a": 1}, 201))
    assert response.status == 201 and response.encoded()[0] == b'{"a":1}'
    response = Response.of((None, 303, {"Location": "/x"}))
    assert response.status == 303 and response.checked_headers() == ([("Location", "/x")], None)
    response = Response.of((Response("x", headers={"A": "1"}), 404, [("B", "2")]))
    assert response.status == 404 and response.checked_headers()[0] == [("A", "1"), ("B", "2")]
    assert Response.of(None).status == 204
    with pytest.raises(ValueError, match="status 5"):
        Response.of((1, 5))


@pytest.mark.parametrize("result", [(1, "2"), (1, True), (1, 200, "x"), (1,), (1, 2, 3, 4)])
def test_other_tuples_are_lists(result):
    response = Response.of(result)
    assert response.status == 200 and response.encoded()[0].startswith(b"[1")


def test_unknown_class():
    with pytest.raises(TypeError, match="JSON cannot hold a builtins"):
        Response.of(object()).encoded()


def test_forgotten_await_and_raise():
    with pytest.raises(TypeError, match=r"builtins\.coroutine: await it"):
        Response.of(coroutine := asyncio.sleep(0)).encoded()
    coroutine.close()
    with pytest.raises(TypeError, match="HTTPError: raise it"):
        Response.of({"a": HTTPError(404)}).encoded()
    with pytest.raises(TypeError, match="call it"):
        Response.of({"a": Request().json}).encoded()
    with pytest.raises(TypeError, match=r"return a webtorch\.Response"):
        Response.of(SimpleNamespace(status_code=404, body=b"")).encoded()


@pytest.mark.parametrize(
    ("error", "message", "detail"),
    [
        (HTTPError(404), "Not Found", "Not Found"),
        (HTTPError(404, "gone"), "gone", "gone"),
        (HTTPError(404, message="gone"), "gone", "gone"),
        (HTTPError(422, [{"field": "age"}]), "Unprocessable Entity", [{"field": "age"}]),
        (HTTPError(422, {"a": 1}, message="no"), "no", {"a": 1}),
        (HTTPError(499), "status 499", "status 499"),
    ],
)
def test_http_error_message_and_detail(error, message, detail):
    assert error.message == str(error) == message and error.detail == detail


@pytest.mark.parametrize("code", ["", "a b", 'a"', "a" * 65])
def test_codes_that_are_refused(code):
    with pytest.raises(ValueError, match="code"):
        HTTPError(400, code=code)


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
    with pytest.raises(ValueError, match="header"):
        HTTPError(400, headers={name: value})


@pytest.mark.parametrize("status", [0, 100, 199, 600])
def test_statuses_that_are_refused(status):
    with pytest.raises(ValueError, match="status"):
        Response("", status=status)
    with pytest.raises(TypeError, match="the status is of type str"):
        Response("", status=str(status))
    with pytest.raises(ValueError, match="status"):
        HTTPError(status, "x")


class NotFoundError(HTTPError):
    def __init__(self, name):
        super().__init__(404, f"no {name}", headers={"X-A": "b"})
        self.name = name


@pytest.mark.parametrize("how", [copy.copy, lambda each: pickle.loads(pickle.dumps(each))])
def test_errors_of_other_processes(how):
    """A pool breaks when it cannot read what a function has raised."""
    error = how(HTTPError(409, [1], code="taken", message="text"))
    assert (error.status, error.detail, error.code, str(error)) == (409, [1], "taken", "text")
    error = how(NotFoundError("iris"))
    assert (error.status, error.message, error.name) == (404, "no iris", "iris")
    assert error.headers == {"X-A": "b"}
    error = how(BatchTimeoutError("late"))
    assert (error.status, str(error)) == (504, "late")


def test_requests_for_other_processes():
    request = Request("POST", "/f", "a=1", [("X", "1")], b"[1]", {"uri": None}, {"id": "7"})
    found = pickle.loads(pickle.dumps(request))
    assert (found.method, found.path, found.args, found.json()) == ("POST", "/f", "a=1", [1])
    assert found.headers["x"] == "1"
    assert found.variables == {"uri": None} and found.path_params == {"id": "7"}
    response = pickle.loads(pickle.dumps(Response({"a": 1}, 201, {"X": "1"})))
    assert response.encoded()[0] == b'{"a":1}' and response.checked_headers()[0] == [("X", "1")]


def test_int_that_is_no_status():
    with pytest.raises(ValueError, match="a body and its status, return a list to send both"):
        Response.of((0.5, 7))
