"""What else is in an answer's headers: negotiation, nginx's filters, early refusals."""

from urllib.parse import quote

import pytest

from answers import check_error
from apps import ROWS_APP, ROWS_SERVER
from wire import connections, request

APP = (
    ROWS_APP
    + """
@webtorch.handler
def tensor(request): return torch.ones(2)

@webtorch.handler
def torch7(request): return webtorch.Response(torch.ones(2), content_type="text/plain")

@webtorch.handler
def cached(request):
    headers = [("Cache-Control", "no-store"), ("Expires", "0"), ("Cache-Control", "private")]
    return webtorch.Response("x", headers=headers)

@webtorch.handler
def text(request):
    content_type = request.query().get("type", "text/plain; charset=utf-8")
    return webtorch.Response("hello " * 100, content_type=content_type)

@webtorch.handler(methods=["GET", "PUT"])
def limited(request): raise ValueError
"""
)
SERVER = (
    ROWS_SERVER
    + """
location = /tensor { webtorch_handler app:tensor; }
location = /torch7 { webtorch_handler app:torch7; }
location = /text { webtorch_handler app:text; }
location = /cached { webtorch_handler app:cached; }
location = /limited { webtorch_handler app:limited; }
location = /expires { expires 1h; webtorch_handler app:cached; }
location = /expires/error { expires 1h; webtorch_handler app:limited; }
location = /gzip { gzip on; gzip_types text/plain; webtorch_handler app:text; }
location = /sub { sub_filter hello bye; sub_filter_types text/plain; webtorch_handler app:text; }
location = /charset {
    charset koi8-r; source_charset koi8-r; charset_types text/plain; webtorch_handler app:text;
}
location = /returned { webtorch_handler app:text; return 429 "slow down"; }
location = /returned/page { webtorch_handler app:text; return 429; }
"""
)


def test_vary_of_negotiated_format(server):
    for path in ("/f32", "/pair"):
        for accept, status in (("application/json", 200), ("image/png", 406)):
            answer = server.post(path, [[1, 2]], headers={"Accept": accept})
            assert answer.status_code == status and answer.headers["Vary"] == "Accept"
    assert server.get("/tensor").headers["Vary"] == "Accept"
    assert server.get("/tensor", headers={"Accept": "a/b"}).headers["Vary"] == "Accept"
    for path in ("/torch7", "/text"):
        assert "Vary" not in server.get(path).headers


def test_accept_in_several_lines(server):
    with connections(server, 1) as (wire,):
        accept = ("Accept: image/png", "Accept: text/plain;q=0.5", "Accept: application/x-npy")
        for count, expected in ((1, None), (2, "text/plain"), (3, "application/x-npy")):
            wire.send(request("/f32", b"[[1, 2]]", *accept[:count]))
            answer = wire.answer()
            assert answer.status == (200 if expected else 406)
            assert answer.headers["content-type"] == (expected or "application/json")


def test_types_without_charset(server):
    for type_ in ("text/plain; charset=utf-8", "text/plain;charset=x", 'text/plain; CHARSET="a"'):
        answer = server.get(f"/gzip?type={quote(type_)}", headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Type"] == type_
        answer = server.get(f"/sub?type={quote(type_)}")
        assert answer.text.startswith("bye")
        assert answer.headers["Content-Type"] == type_


@pytest.mark.parametrize("type_", ["text/plain; charset=utf-8", "a/b", "text/plain; a=b", "a/b;"])
def test_charset_of_handler_is_kept(server, type_):
    assert server.get(f"/charset?type={quote(type_)}").headers["Content-Type"] == type_


def test_charset_of_nginx(server):
    answer = server.get("/charset?type=text/plain")
    assert answer.headers["Content-Type"] == "text/plain; charset=koi8-r"


def test_expires_and_cache_control(server):
    answer = server.get("/cached")
    assert answer.headers["Cache-Control"] == "no-store, private"
    assert answer.headers["Expires"] == "0"
    answer = server.get("/expires")
    assert answer.headers["Cache-Control"] == "max-age=3600"
    assert answer.headers["Expires"].endswith("GMT") and "," not in answer.headers["Expires"][5:]
    assert "Cache-Control" not in server.get("/expires/error").headers


def test_text_of_return_is_kept(server):
    answer = server.get("/returned")
    assert answer.status_code == 429 and answer.text == "slow down"
    check_error(server.get("/returned/page"), 429, "too_many_requests")


@pytest.mark.parametrize(
    ("path", "header", "status"),
    [
        ("/limited", "X: y", 405),
        ("/f32", "Content-Type: image/png", 415),
        ("/f32", "Content-Encoding: br", 415),
        ("/f32", "Accept: image/png", 406),
    ],
)
def test_refused_without_continue(server, path, header, status):
    with connections(server, 1) as (wire,):
        head = request(path, b"", header, "Expect: 100-continue", "Content-Length: 1000")
        wire.send(head)
        assert wire.answer().status == status


def test_continue(server):
    with connections(server, 1) as (wire,):
        wire.send(request("/f32", b"", "Expect: 100-continue", "Content-Length: 8"))
        assert wire.answer().status == 100
        wire.send(b"[[1, 2]]")
        assert wire.answer().json() == [[1, 2]]
