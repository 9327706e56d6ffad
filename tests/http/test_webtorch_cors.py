"""webtorch_cors: preflights are answered, answers and errors are marked."""

import pytest

from answers import check_error
from nginx import Nginx
from wire import connections, request

APP = """
import webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x

@webtorch.handler(methods=["GET", "OPTIONS"])
def own(request):
    return webtorch.Response(b"", headers=[("Access-Control-Allow-Origin", "https://own.example")])
"""

HTTP = """
limit_req_zone $server_name zone=one:64k rate=1r/m;
webtorch_cors https://a.example null ~^https://[a-z]+-7\\.preview\\.example$ https://*.b.example
              ~https://c\\.example|https://c\\.example:81 ~(?i)https://[de]\\.example;
"""

SERVER = """
auth_basic_user_file /nonexistent;
client_max_body_size 1k;
location = /double { webtorch_handler app:double; }
location /v2 { webtorch_inference_protocol; webtorch_cors *; }
location = /any { webtorch_cors * max_age=1d; webtorch_handler app:double; }
location = /credentials {
    webtorch_cors https://a.example credentials max_age=0;
    webtorch_handler app:double;
}
location = /off { webtorch_cors off; webtorch_handler app:double; }
location = /own { webtorch_handler app:own; }
location = /denied { deny all; webtorch_handler app:double; }
location = /password { auth_basic x; webtorch_handler app:double; }
location = /limited { limit_req zone=one; webtorch_handler app:double; }
location = /methods {
    webtorch_handler app:double;
    limit_except POST { webtorch_handler app:own; }
}
location = /text { return 200 "text"; }
location = /moved { return 301 /double; }
location = /page { error_page 404 = /text; webtorch_handler app:double; }
"""

ORIGIN = "Access-Control-Allow-Origin"


def preflight(server: Nginx, path: str, origin: str | None = "https://a.example", **headers: str):
    headers = {"Access-Control-Request-Method": "POST", **headers}
    return server.request("OPTIONS", path, headers=headers | ({"Origin": origin} if origin else {}))


def vary(answer) -> set[str]:
    return {word.strip() for word in answer.headers.get("Vary", "").split(",")} - {""}


def test_preflight(server):
    answer = preflight(
        server, "/double", **{"Access-Control-Request-Headers": "content-type,tensor-shape"}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers[ORIGIN] == "https://a.example"
    assert answer.headers["Access-Control-Allow-Methods"] == "POST, PUT"
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type,tensor-shape"
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert vary(answer) == {
        "Origin",
        "Access-Control-Request-Method",
        "Access-Control-Request-Headers",
    }


@pytest.mark.parametrize("path", ["/denied", "/password", "/limited"])
def test_preflight_comes_before_access(server, path):
    for _ in range(3):
        assert preflight(server, path).status_code == 204


def test_preflight_of_the_inference_protocol(server):
    answer = preflight(server, "/v2/models/double/infer")
    assert answer.status_code == 204
    assert answer.headers[ORIGIN] == "*"
    assert answer.headers["Access-Control-Allow-Methods"] == "POST"


def test_methods_of_a_preflight(server):
    for path, method, expected in (
        ("/double", "PUT", "POST, PUT"),
        ("/double", "DELETE", "POST, PUT, DELETE"),
        ("/double", "OST", "POST, PUT, OST"),
        ("/double", "P", "POST, PUT, P"),
        ("/methods", "POST", "GET, HEAD, OPTIONS, POST"),
        ("/v2/models", "PATCH", "PATCH"),
    ):
        answer = preflight(server, path, **{"Access-Control-Request-Method": method})
        assert answer.headers["Access-Control-Allow-Methods"] == expected


def test_preflight_of_another_origin(server):
    answer = preflight(server, "/double", "https://evil.example")
    check_error(answer, 403, "forbidden_origin", "webtorch_cors")
    assert ORIGIN not in answer.headers
    assert "Origin" in vary(answer)


def test_options_that_are_no_preflight(server):
    answer = server.request("OPTIONS", "/double", headers={"Origin": "https://a.example"})
    check_signature(answer)
    assert answer.headers[ORIGIN] == "https://a.example"
    check_signature(preflight(server, "/double", None))
    check_signature(preflight(server, "/double", **{"Access-Control-Request-Method": ""}))


PREFLIGHT = ("Origin: https://a.example", "Access-Control-Request-Method: POST")


@pytest.mark.parametrize(("headers", "status"), [((), 200), (PREFLIGHT, 204)])
def test_options_with_a_body(server, headers, status):
    with connections(server, 1) as (wire,):
        wire.send(request("/double", b"x" * 10, *headers, method="OPTIONS"))
        assert wire.answer(head=status == 204).status == status
        wire.send(request("/double", b"[[1, 2]]"))
        assert wire.answer().json() == [[2, 4]]


@pytest.mark.parametrize("headers", [(), PREFLIGHT])
def test_options_with_a_malformed_body(server, headers):
    with connections(server, 1) as (wire,):
        headers = (*headers, "Transfer-Encoding: chunked")
        wire.send(request("/double", b"x\r\n", *headers, method="OPTIONS"))
        answer = wire.answer()
        assert (answer.status, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(("headers", "status"), [((), 200), (PREFLIGHT, 204)])
def test_options_without_continue(server, headers, status):
    with connections(server, 1) as (wire,):
        headers = (*headers, "Expect: 100-continue", "Content-Length: 1000")
        wire.send(request("/double", b"", *headers, method="OPTIONS"))
        assert wire.answer(head=status == 204).status == status


def check_signature(answer):
    assert answer.status_code == 200
    assert [each["name"] for each in answer.json()["inputs"]] == ["x"]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://a.example", True),
        ("null", True),
        ("https://x-7.preview.example", True),
        ("https://x-8.preview.example", False),
        ("https://x-7.preview.example.evil", False),
        ("https://c.example", True),
        ("https://c.example:81", True),
        ("https://c.example.evil", False),
        ("https://c.example:8181", False),
        ("https://evil/https://c.example", False),
        ("https://e.example", True),
        ("https://e.example.evil", False),
        ("https://c.b.example", True),
        ("https://d.c.b.example", True),
        ("https://b.example", False),
        ("https://.b.example", False),
        ("https://evil.example/.b.example", False),
        ("https://evil.example:1@c.b.example", False),
        ("http://c.b.example", False),
        ("http://a.example", False),
        ("https://a.example:8443", False),
        ("https://a.example.evil", False),
        ("", False),
        (None, False),
    ],
)
def test_origins(server, origin, allowed):
    headers = {"Origin": origin} if origin is not None else {}
    answer = server.post("/double", [[1, 2]], headers=headers)
    assert answer.json() == [[2, 4]]
    assert answer.headers.get(ORIGIN) == (origin if allowed else None)
    assert vary(answer) == {"Origin", "Accept"}


def test_any_origin(server):
    for headers in ({}, {"Origin": "https://x.example"}):
        answer = server.post("/any", [[1, 2]], headers=headers)
        assert answer.headers[ORIGIN] == "*"
        assert answer.headers["Access-Control-Expose-Headers"] == "*"
        assert vary(answer) == {"Accept"}
    assert preflight(server, "/any").headers["Access-Control-Max-Age"] == "86400"


def test_credentials(server):
    answer = preflight(server, "/credentials")
    assert answer.headers["Access-Control-Max-Age"] == "0"
    for each in (
        answer,
        server.post("/credentials", [[1, 2]], headers={"Origin": "https://a.example"}),
    ):
        assert each.headers[ORIGIN] == "https://a.example"
        assert each.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Tensor-Shape" in each.headers["Access-Control-Expose-Headers"]


def test_errors_are_marked(server):
    headers = {"Origin": "https://a.example"}
    answers = [
        (server.get("/double", headers=headers), 405),
        (server.post("/double", [[1]], headers=headers), 422),
        (server.post("/double", data=b"x" * 2000, headers=headers), 413),
        (server.post("/denied", [[1, 2]], headers=headers), 403),
        (server.post("/password", [[1, 2]], headers=headers), 401),
        (server.get("/nowhere", headers=headers), 404),
        (server.get("/text", headers=headers), 200),
        (server.get("/moved", headers=headers, allow_redirects=False), 301),
    ]
    for answer, status in answers:
        assert answer.status_code == status
        assert answer.headers[ORIGIN] == "https://a.example"


def test_cors_off(server):
    answer = server.post("/off", [[1, 2]], headers={"Origin": "https://a.example"})
    assert answer.ok
    assert ORIGIN not in answer.headers
    answer = preflight(server, "/off")
    check_signature(answer)
    assert ORIGIN not in answer.headers


def test_headers_of_a_handler_have_precedence(server):
    answer = server.get("/own", headers={"Origin": "https://a.example"})
    assert answer.headers[ORIGIN] == "https://own.example"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("* credentials", 'allows "credentials" for "*"'),
        ("https://a.example NULL credentials", 'allows "credentials" for "null"'),
        ("~.* credentials", 'allows "credentials" for "null"'),
        ("credentials", "has no origin"),
        ("* https://a.example", 'has "*" and other origins'),
        ("a.example", "it must be like"),
        ("https://", "it has no host"),
        ("https://a.example/", "it has more than a scheme"),
        ("https://a.example/path", "it has more than a scheme"),
        ("https://a.example:443", "the default port"),
        ("http://a.example:80", "the default port"),
        ("https://a.*.example", "the beginning of a host"),
        ("https://*", "the beginning of a host"),
        ("https://*example.com", "the beginning of a host"),
        ('"~("', "pcre"),
        ('"~https://a.example)|(https://b.example"', "pcre"),
        ("~", "has an empty regular expression"),
        ("https://a.example max_age=x", 'invalid parameter "max_age=x"'),
        ("https://a.example max_age=1 max_age=2", 'invalid parameter "max_age=2"'),
        ("https://a.example; webtorch_cors *", "is duplicate"),
    ],
)
def test_configuration_errors(configured, parameters, message):
    server = configured(f"location = /x {{ webtorch_cors {parameters}; }}")
    status, output = server.check()
    assert status == 1
    assert "[emerg]" in output
    assert message in output
    assert f"{server.conf}:" in output
