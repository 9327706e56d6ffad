"""Answers of custom handlers, outside nginx."""

import re
from datetime import datetime, timedelta, timezone

import pytest

from webtorch import Request, Response


def test_headers_are_added_to():
    response = Response(b"x")
    response.headers["X-Count"] = "1"
    assert response.checked_headers() == ([("X-Count", "1")], None)
    assert Response(b"y").checked_headers() == ([], None)

    response.headers["X-Count"] = 1
    with pytest.raises(TypeError):
        response.checked_headers()


def test_cookies():
    response = Response(b"x", headers={"Set-Cookie": "own=1"})
    response.set_cookie("session", "a b;\u00e9", max_age=3600, secure=True, httponly=True)
    response.set_cookie("theme", "dark", domain="example.com", path="/a", samesite=None)
    end = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))
    response.set_cookie("until", "1", expires=end, path=None, samesite="strict")
    response.delete_cookie("old")
    (_, first), *others = Response.of((response, 201)).checked_headers()[0]
    assert first == "own=1"
    assert all(name == "Set-Cookie" for name, _ in others)
    session, theme, until, old = [value for _, value in others]
    assert session.endswith("; HttpOnly; Max-Age=3600; Path=/; SameSite=lax; Secure")
    assert theme == "theme=dark; Domain=example.com; Path=/a"
    assert until == "until=1; expires=Wed, 02 Jan 2030 02:04:05 GMT; SameSite=strict"
    assert re.fullmatch(r'old=""; expires=.* GMT; Max-Age=0; Path=/; SameSite=lax', old)
    # what the browser sends back is the value
    sent = session.partition("; ")[0]
    assert Request(headers={"Cookie": sent}).cookies == {"session": "a b;\u00e9"}


@pytest.mark.parametrize(
    "cookie",
    [
        {"key": "a=b"},
        {"key": ""},
        {"key": "a", "path": "/; HttpOnly"},
        {"key": "a", "domain": "a\r\nX: y"},
        {"key": "a", "expires": "now; Secure"},
    ],
)
def test_cookies_that_are_refused(cookie):
    response = Response(b"x")
    with pytest.raises(ValueError, match=r"cookie|Set-Cookie"):
        response.set_cookie(**cookie)
    assert response.checked_headers() == ([], None)
