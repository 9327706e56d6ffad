"""X-Accel headers of a handler's answer, which nginx obeys as those of a proxied server."""

import time

import pytest

APP = """
import json, pathlib, torch, webtorch

@webtorch.handler
def accel(request):
    options = json.loads(bytes(request.body))
    body = options.pop("body", "of the handler")
    if body == "tensor":
        body = torch.zeros(3)
    elif body == "path":
        body = pathlib.Path("/nowhere")
    return webtorch.Response(body, **options)

@webtorch.handler
def show(request):
    return {"path": request.path, "args": request.args, "method": request.method}
"""

SERVER = """
location = /accel { webtorch_handler app:accel; }
location /files/ { internal; alias PREFIX/; }
location /args/ { internal; return 200 "$uri?$args $request_method"; }
location /again { internal; webtorch_handler app:show; }
location /loop { webtorch_handler app:accel; }
location @named { return 200 "named $uri $request_method"; }
location = /known { charset utf-8; }
location = /charset { charset koi8-r; charset_types text/plain; webtorch_handler app:accel; }
types { text/html html; application/x-thing thing; }
"""


@pytest.fixture
def accel(start):
    server = start(SERVER, APP)
    server.configure(server=SERVER.replace("PREFIX", str(server.prefix / "app")))
    (server.prefix / "app" / "a b.thing").write_text("a thing")
    server.reload()

    def post(redirect, *headers, method="POST", path="/accel", **options):
        headers = [*headers, ("X-Accel-Redirect", redirect)]
        return server.request(method, path, json={"headers": headers, **options})

    post.server = server
    return post


def test_redirect_to_a_file(accel):
    answer = accel(
        "/files/a%20b.thing",
        ("Set-Cookie", "a=b"),
        ("Content-Disposition", "attachment"),
        ("Cache-Control", "max-age=60"),
        ("Expires", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("ETag", '"of the handler"'),
        ("Location", "/elsewhere"),
        ("X-Other", "1"),
        status=404,
    )
    assert answer.status_code == 200
    assert answer.text == "a thing"
    headers = answer.headers
    assert headers["Content-Type"] == "application/x-thing"
    assert headers["Set-Cookie"] == "a=b"
    assert headers["Content-Disposition"] == "attachment"
    assert headers["Cache-Control"] == "max-age=60"
    assert headers["Expires"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert headers["ETag"] != '"of the handler"'
    assert not {"Location", "X-Other", "X-Accel-Redirect"} & set(headers)


def test_redirect_keeps_the_content_type_that_is_given(accel):
    assert accel("/files/a%20b.thing", content_type="text/x").headers["Content-Type"] == "text/x"


@pytest.mark.parametrize("body", ["tensor", "path", {"a": 1}])
def test_body_is_not_sent(accel, body):
    assert accel("/files/a%20b.thing", body=body).text == "a thing"


def test_other_locations(accel):
    assert accel("/args/x?y=1").text == "/args/x?y=1 GET"
    assert accel("@named").text == "named /accel POST"
    assert accel("/again/x?z").json() == {"path": "/again/x", "args": "z", "method": "GET"}
    head = accel("/files/a%20b.thing", method="HEAD")
    assert head.headers["Content-Length"] == "7"


def test_redirect_that_fails(accel):
    assert accel("/files/none", ("Set-Cookie", "a=b")).status_code == 404
    assert accel("/files/../app.py").status_code == 404
    answer = accel("/../etc/passwd", ("Set-Cookie", "a=b"))
    assert answer.status_code == 404
    assert "Set-Cookie" not in answer.headers
    assert accel("@none").status_code == 500
    for redirect in ("", "x", "http://a/"):
        assert accel(redirect).status_code == 500
    assert "X-Accel-Redirect has neither a path nor a @location" in accel.server.log()


def test_redirect_without_end(accel):
    # the body is that of the request, so that each answer is a redirect
    assert accel("/loop").status_code == 500
    assert "internal redirection cycle" in accel.server.log()


def test_internal_locations_stay_internal(accel):
    assert accel.server.get("/files/a%20b.thing").status_code == 404


def test_charset(accel):
    def content_type(*headers):
        answer = accel.server.post("/charset", {"headers": headers, "content_type": "text/plain"})
        assert "X-Accel-Charset" not in answer.headers
        return answer.headers["Content-Type"]

    assert content_type() == "text/plain; charset=koi8-r"
    assert content_type(("x-accel-charset", "utf-8")) == "text/plain; charset=utf-8"


def test_limit_rate(accel):
    options = {"body": "x" * 200, "headers": [("X-Accel-Limit-Rate", "100")]}
    begun = time.monotonic()
    answer = accel.server.post("/accel", options)
    # bytes a second, with the first second's at once
    assert time.monotonic() - begun >= 1
    assert answer.text == "x" * 200
    assert "X-Accel-Limit-Rate" not in answer.headers


def test_headers_for_a_proxy_in_front(accel):
    options = {"headers": [("X-Accel-Buffering", "no"), ("X-Accel-Expires", "60")]}
    answer = accel.server.post("/accel", options)
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["X-Accel-Expires"] == "60"
