"""Responses of custom handlers."""

import http.cookies
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from webtorch._core.headers import Headers, check_headers, pairs
from webtorch._handlers import json_encoding

BINARY = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Response:
    """A response of a custom handler.

        return webtorch.Response({"stored": 3}, status=201, headers={"Location": "/items/3"})

    Attributes:
        body: Bytes or text; None for no body; a tensor, which is sent in the format that the
            request accepts, or in that of `content_type`; the absolute path of a file, which nginx
            sends, ranges of it included; or any other value, which is sent as JSON. By default it
            is empty.
        status: Status of HTTP, 200 to 599; by default 200.
        headers: A mapping or pairs of names and values, by default none. They may be a dict or a
            list that is added to, and are checked again when the response is sent. A `Content-Type`
            among them is the content type. Headers that nginx writes are refused.
            `X-Accel-Redirect` lets another location of nginx answer instead.
        content_type: The media type. By default it follows from the type of the body, or from the
            extension of the file and nginx's `types`.

    Raises:
        TypeError: The value of a header is not a str, or the status not an int.
        ValueError: The status or a header is not allowed, or the path is relative or has a NUL.

    """

    body: Any = b""
    status: int = 200
    headers: Headers = field(default_factory=dict)
    content_type: str | None = None
    _cookies: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.status, int):
            raise TypeError(f"the status is of type {type(self.status).__name__}")
        if not 200 <= self.status <= 599:
            raise ValueError(
                f"status {self.status} is not one of 200 to 599; a tuple of a value and an int is "
                "a body and its status, return a list to send both"
            )
        if isinstance(self.body, Path):
            _check_path(self.body)
        self.checked_headers()

    def set_cookie(
        self,
        key: str,
        value: str = "",
        max_age: int | None = None,
        expires: datetime | str | int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> None:
        """Add a cookie, as Starlette's responses do.

            response = webtorch.Response({"name": "Eva"})
            response.set_cookie("session", token, max_age=3600, secure=True, httponly=True)
            return response

        Args:
            key: Name of the cookie.
            value: Its value, which is quoted if it has other characters than a cookie may have.
            max_age: Seconds that the browser keeps it; None: as long as it runs.
            expires: When it ends, instead: a time, its text, or seconds from now.
            path: Addresses to which it is sent: this one and those below it.
            domain: The host, with those below it, to which it is sent; None: that of the request.
            secure: Whether it is sent over HTTPS alone.
            httponly: Whether scripts of pages do not see it.
            samesite: Whether requests that other sites cause have it; `"none"` needs `secure`.

        Raises:
            ValueError: The name, the path, the domain or a text has characters that are not
                allowed.

        """
        if isinstance(expires, datetime):
            expires = format_datetime(expires.astimezone(UTC), usegmt=True)
        attributes: dict[str, Any] = {
            "max-age": max_age,
            "expires": expires,
            "path": path,
            "domain": domain,
            "secure": secure or None,
            "httponly": httponly or None,
            "samesite": samesite,
        }
        cookie: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        try:
            cookie[key] = value
        except http.cookies.CookieError as error:
            raise ValueError(f"{key!r} is not a name of a cookie") from error
        for name, given in attributes.items():
            if given is not None:
                if ";" in str(given):
                    raise ValueError(f"the {name} of a cookie has a semicolon: {given!r}")
                cookie[key][name] = given
        text = cookie[key].OutputString()
        check_headers([("Set-Cookie", text)])
        self._cookies.append(text)

    def delete_cookie(
        self,
        key: str,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> None:
        """Let browsers drop a cookie that was set with the same path and domain.

        Args:
            key: Name of the cookie.
            path: Its path.
            domain: Its domain.
            secure: As for `set_cookie`.
            httponly: As for `set_cookie`.
            samesite: As for `set_cookie`.

        Raises:
            ValueError: As for `set_cookie`.

        """
        self.set_cookie(
            key,
            max_age=0,
            expires=0,
            path=path,
            domain=domain,
            secure=secure,
            httponly=httponly,
            samesite=samesite,
        )

    @classmethod
    def of(cls, result: Any) -> "Response":
        """Return a value that a handler returned as a response.

        A tuple whose second item is an int is a body and a status, and headers if it has a third.

        Raises:
            TypeError: The headers are of a wrong type.
            ValueError: The status or a header is not allowed.

        """
        if isinstance(result, cls):
            return result
        if result is None:
            return cls(b"", 204)
        if type(result) is tuple and has_status(result):
            body, status, *headers = result
            response = cls(body, status, *headers)
            return _merged(body, response) if isinstance(body, cls) else response
        return cls(result)

    def checked_headers(self) -> tuple[list[tuple[str, str]], str | None]:
        """Return the headers as they are now, without Content-Type, and the content type, if any.

        Raises:
            TypeError: The value of a header is not a str.
            ValueError: A header is not allowed, or not as often as it is there.

        """
        if not self.headers and self.content_type is None and not self._cookies:
            return [], None
        found, kind = check_headers(self.headers, self.content_type, isinstance(self.body, Path))
        return [*found, *(("Set-Cookie", cookie) for cookie in self._cookies)], kind

    def encoded(self) -> tuple[bytes, str]:
        """Return the body as bytes, and its content type, which is the body's by default.

        Raises:
            TypeError: The body is a tensor or a file, or it has values that JSON does not have.

        """
        body = self.body
        if isinstance(body, Tensor | Path):
            raise TypeError("tensors and files are not encoded here")
        if body is None:
            return b"", self.content_type or ""
        if isinstance(body, bytes | bytearray | memoryview):
            return bytes(body), self.content_type or BINARY
        if isinstance(body, str):
            return encode(body), self.content_type or TEXT
        return json_encoding.encode(body), self.content_type or JSON


def encode(text: str) -> bytes:
    """Encode a text as UTF-8, surrogates as the bytes that they stand for (PEP 383)."""
    return text.encode(errors="surrogateescape")


def has_status(result: tuple[Any, ...]) -> bool:
    """Return whether a tuple is a body, a status and, if there are three items, headers."""
    return (
        (len(result) == 2 or (len(result) == 3 and isinstance(result[2], Mapping | list | tuple)))
        and isinstance(result[1], int)
        and not isinstance(result[1], bool)
    )


def _merged(inner: Response, outer: Response) -> Response:
    """Return the response of a tuple whose body is a response itself."""
    headers = [*pairs(inner.headers), *pairs(outer.headers)]
    merged = Response(inner.body, outer.status, headers, inner.content_type)
    merged._cookies.extend(inner._cookies)
    return merged


def _check_path(path: Path) -> None:
    """Refuse a path that is another file for the system than for Python."""
    if not path.is_absolute():
        raise ValueError(f"the path {path} is relative: begin it with Path(__file__).parent")
    if "\0" in str(path):
        raise ValueError(f"the path {str(path)!r} has a NUL")
