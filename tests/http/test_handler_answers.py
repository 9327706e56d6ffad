"""@webtorch.handler: what functions return and raise."""

import pytest

from answers import check_error

APP = """
import datetime, decimal, math
import numpy, torch, webtorch
from jaxtyping import Float32

KINDS = {
    "list": lambda: [1, {"a": None}],
    "number": lambda: numpy.float32(0.1),
    "array": lambda: {"x": numpy.arange(3), "y": numpy.float64("nan")},
    "tensor": lambda: {"x": torch.tensor([0.1])},
    "times": lambda: [datetime.date(2020, 1, 2), decimal.Decimal("1.5")],
    "none": lambda: None,
    "status": lambda: ({"a": 1}, 201),
    "headers": lambda: ("x", 202, {"X-A": "1"}),
    "dict": lambda: webtorch.Response("x", headers={"X-A": "1", "Content-Type": "text/css"}),
    "redirect": lambda: (None, 303, [("Location", "/answer?list")]),
    "tensor_and_status": lambda: (torch.ones(2), 201),
}

@webtorch.handler
def answer(request): return KINDS[request.args]()

ERRORS = {
    "401": lambda: webtorch.HTTPError(401, headers={"WWW-Authenticate": "Bearer"}),
    "detail": lambda: webtorch.HTTPError(422, [{"field": "age"}], code="too_young", message="no"),
    "large": lambda: webtorch.HTTPError(400, {"x": "y" * 100_000}),
    "text": lambda: webtorch.HTTPError(409, "there is one"),
    "unknown": lambda: webtorch.HTTPError(418, "short"),
    "500": lambda: webtorch.HTTPError(500, "broken"),
    "headers": lambda: webtorch.HTTPError(429, "slow", headers=[("Retry-After", "3"), ("X", "1")]),
    "object": lambda: webtorch.HTTPError(400, object()),
}

@webtorch.handler
def error(request): raise ERRORS[request.args]()

@webtorch.infer
def infer(x: Float32[torch.Tensor, "batch"]) -> Float32[torch.Tensor, "batch"]:
    raise webtorch.HTTPError(429, {"left": 0}, headers={"Retry-After": "3"})
"""

SERVER = """
location = /answer { webtorch_handler app:answer; }
location = /error { webtorch_handler app:error; }
location = /infer { webtorch_handler app:infer; }
location = /pages {
    webtorch_handler app:error;
    webtorch_intercept_errors on;
    error_page 401 429 /page;
}
location = /page { return 200 page; }
location = /basic { webtorch_handler app:answer; auth_basic x; auth_basic_user_file nothing; }
location = /limited { webtorch_handler app:answer; return 429; }
"""


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("list", [1, {"a": None}]),
        ("number", 0.1),
        ("array", {"x": [0, 1, 2], "y": None}),
        ("tensor", {"x": [0.1]}),
        ("times", ["2020-01-02", "1.5"]),
    ],
)
def test_json(server, kind, value):
    answer = server.get(f"/answer?{kind}")
    assert answer.json() == value and answer.headers["Content-Type"] == "application/json"


def test_answer_of_none_is_204(server):
    answer = server.get("/answer?none")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Type" not in answer.headers


def test_tuples(server):
    answer = server.get("/answer?status")
    assert (answer.status_code, answer.json()) == (201, {"a": 1})
    answer = server.get("/answer?headers")
    assert (answer.status_code, answer.text, answer.headers["X-A"]) == (202, "x", "1")
    answer = server.get("/answer?tensor_and_status")
    assert (answer.status_code, answer.json()) == (201, [1, 1])
    answer = server.get("/answer?dict")
    assert answer.headers["X-A"] == "1" and answer.headers["Content-Type"] == "text/css"


def test_redirect(server):
    answer = server.get("/answer?redirect", allow_redirects=False)
    assert answer.status_code == 303 and answer.headers["Location"] == "/answer?list"
    assert server.get("/answer?redirect").json() == [1, {"a": None}]


def test_http_errors_of_handlers(server):
    answer = server.get("/error?401")
    check_error(answer, 401, "unauthorized", "Unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    answer = server.get("/error?detail")
    check_error(answer, 422, "too_young", "no")
    assert answer.json()["detail"] == [{"field": "age"}]
    assert server.get("/error?large").json()["detail"] == {"x": "y" * 100_000}
    check_error(server.get("/error?text"), 409, "conflict", "there is one")
    check_error(server.get("/error?unknown"), 418, "handler_error", "short")
    check_error(server.get("/error?500"), 500, "handler_error", "broken")
    answer = server.get("/error?headers")
    check_error(answer, 429, "too_many_requests", "slow")
    assert answer.headers["Retry-After"] == "3" and answer.headers["X"] == "1"


def test_error_of_a_tensor_function(server):
    answer = server.post("/infer", [1])
    check_error(answer, 429, "too_many_requests")
    assert answer.json()["detail"] == {"left": 0} and answer.headers["Retry-After"] == "3"


def test_detail_that_cannot_be_sent(server):
    check_error(server.get("/error?object"), 500, "handler_failed")
    server.wait_for_log("TypeError: JSON cannot hold a builtins.object")


def test_error_pages(server):
    answer = server.get("/pages?401")
    assert answer.text == "page" and answer.headers["WWW-Authenticate"] == "Bearer"
    answer = server.get("/pages?headers")
    assert answer.text == "page" and "Retry-After" not in answer.headers
    assert "X" not in answer.headers


def test_errors_of_nginx(server):
    answer = server.get("/basic")
    check_error(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    check_error(server.get("/limited"), 429, "too_many_requests")
