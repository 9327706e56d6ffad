"""webtorch_intercept_errors: statuses of handlers are handed to error_page."""

import pytest

from answers import check_error

APP = """
import webtorch
from jaxtyping import Float32
from torch import Tensor

HEADERS = [
    ("WWW-Authenticate", 'Basic realm="a"'),
    ("WWW-Authenticate", 'Bearer realm="b"'),
    ("Set-Cookie", "a=b"),
    ("Cache-Control", "max-age=60"),
]

@webtorch.handler
def answer(request):
    status = int(request.args)
    return webtorch.Response("of the handler", status=status, headers=HEADERS)

@webtorch.handler
def fail(request):
    if request.args:
        raise webtorch.HTTPError(int(request.args), "of the handler")
    raise ValueError

@webtorch.infer
def f(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    raise webtorch.HTTPError(422, "of the handler")
"""

SERVER = """
webtorch_intercept_errors on;
error_page 401 404 409 422 429 500 503 /page;
error_page 410 =200 /page;
error_page 302 @moved;
error_page 402 /again?402;
location = /page { return 200 "page of $status for $request_method"; }
location @moved { return 200 "moved"; }
location = /answer { webtorch_handler app:answer; }
location = /fail { webtorch_handler app:fail; }
location = /f { webtorch_handler app:f; }
location /v2 { webtorch_inference_protocol; }
location = /again { webtorch_handler app:answer; }
location = /off { webtorch_intercept_errors off; webtorch_handler app:answer; }
location = /no_page { error_page 599 /page; webtorch_handler app:answer; }
"""


@pytest.mark.parametrize("status", [401, 404, 409, 422, 429, 500, 503])
def test_response(server, status):
    answer = server.get(f"/answer?{status}")
    assert answer.status_code == status
    assert answer.text == f"page of {status} for GET"
    # as nginx does it for proxied servers
    assert "Set-Cookie" not in answer.headers
    assert "Cache-Control" not in answer.headers
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_authenticate_has_all_its_lines(server):
    answer = server.get("/answer?401")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="a", Bearer realm="b"'


def test_status_of_the_page(server):
    assert server.get("/answer?410").status_code == 200
    assert server.get("/answer?302", allow_redirects=False).text == "moved"


@pytest.mark.parametrize("status", [200, 206, 301, 403, 418, 502])
def test_statuses_without_a_page(server, status):
    answer = server.get(f"/answer?{status}", allow_redirects=False)
    assert answer.status_code == status
    assert answer.text == "of the handler"
    assert answer.headers["Set-Cookie"] == "a=b"


def test_errors_of_all_kinds(server):
    assert server.get("/fail").text == "page of 500 for GET"
    assert server.get("/fail?409").text == "page of 409 for GET"
    assert server.post("/f", [[1, 2]]).text == "page of 422 for GET"
    assert server.post("/f", [[1]]).text == "page of 422 for GET"
    assert server.get("/v2/models/none").text == "page of 404 for GET"
    check_error(server.get("/f"), 405, "method_not_allowed")


def test_handler_as_the_page(server):
    # its status is that of the error, its text its own
    answer = server.get("/answer?402")
    assert answer.status_code == 402
    assert answer.text == "of the handler"


@pytest.mark.parametrize("path", ["/off?404", "/no_page?404"])
def test_intercept_errors_off(server, path):
    answer = server.get(path)
    assert answer.status_code == 404
    assert answer.text == "of the handler"


def test_connection_is_kept(server):
    with server.connection() as s:
        for _ in range(3):
            s.sendall(b"GET /answer?404 HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b""
            while not answer.endswith(b"page of 404 for GET"):
                piece = s.recv(4096)
                assert piece
                answer += piece
            assert answer.startswith(b"HTTP/1.1 404 ")
