"""Answers of custom handlers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

Headers = Sequence[tuple[str, str]]

# written by nginx, which knows the connection and the body
_OF_NGINX = {
    "connection", "content-length", "date", "keep-alive", "proxy-connection", "server", "te",
    "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip
_OF_FILES = {"accept-ranges", "content-range", "last-modified"}

# all others are lists, or Set-Cookie, and may come in several lines
_ONCE = {
    "access-control-allow-credentials", "access-control-allow-origin", "access-control-max-age",
    "age", "content-disposition", "content-location", "content-range", "content-type", "etag",
    "expires", "last-modified", "location", "retry-after", "strict-transport-security",
    "x-accel-charset", "x-accel-limit-rate", "x-accel-redirect",
}  # fmt: skip

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of a custom handler.

        return webtorch.Response({"stored": 3}, status=201, headers=[("Location", "/items/3")])

    Attributes:
        body: Bytes, text, or a dict or list, which is sent as JSON; a tensor, which is sent in the
            format that the request accepts, or in that of `content_type`; or the absolute path of a
            file, which nginx sends, ranges of it included. By default it is empty.
        status: Status of HTTP, 200 to 599; by default 200.
        headers: Names and values, by default none. They may be a list that is added to, and are
            checked again when the answer is sent. A `Content-Type` among them is the content type.
            Headers that nginx writes are refused. `X-Accel-Redirect` lets another location of nginx
            answer instead.
        content_type: The media type. By default it follows from the type of the body, or from the
            extension of the file and nginx's `types`.

    Raises:
        TypeError: The value of a header is not a str.
        ValueError: The status or a header is not allowed, or the path is relative or has a NUL.

    """

    body: bytes | str | dict[str, Any] | list[Any] | Tensor | Path = b""
    status: int = 200
    headers: Headers = field(default=())
    content_type: str | None = None

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"status {self.status} is not one of 200 to 599")
        if isinstance(self.body, Path):
            _check_path(self.body)
        self.checked_headers()

    @classmethod
    def of(cls, result: Any) -> "Response":
        """Return a value that a handler returned as a response.

        Raises:
            TypeError: It is of a type that a handler may not return.

        """
        if isinstance(result, cls):
            return result
        if isinstance(result, bytes | bytearray | memoryview):
            return cls(bytes(result))
        if isinstance(result, str | dict | Tensor | Path):
            return cls(result)
        raise TypeError(
            "a handler returns a webtorch.Response, bytes, a str, a dict, a tensor or a Path, "
            f"not {type(result).__name__}"
        )

    def checked_headers(self) -> tuple[Headers, str | None]:
        """Return the headers as they are now, without Content-Type, and the content type, if any.

        Raises:
            TypeError: The value of a header is not a str.
            ValueError: A header is not allowed, or not as often as it is there.

        """
        headers = []
        content_type = self.content_type
        once = set()
        if content_type is not None:
            _check_header("Content-Type", content_type)
            once.add("content-type")
        for name, value in self.headers:
            _check_header(name, value)
            key = name.lower()
            if isinstance(self.body, Path) and key in _OF_FILES:
                raise ValueError(f"nginx writes the {name} of a file")
            if key == "x-accel-redirect" and not value.startswith(("/", "@")):
                raise ValueError(f"the header {name} has neither a path nor a @location in it")
            if key in once:
                raise ValueError(f"the header {name} is sent twice")
            if key in _ONCE:
                once.add(key)
            if key == "content-type":
                content_type = value
            else:
                headers.append((name, value))
        return headers, content_type

    def encoded(self) -> tuple[bytes, str]:
        """Return the body as bytes, and its content type, which is the body's by default.

        Raises:
            TypeError: The body is a tensor or a file, or it has values that JSON does not have.
            ValueError: The body has a number that is not finite.

        """
        if isinstance(self.body, Tensor | Path):
            raise TypeError("tensors and files are not encoded here")
        if isinstance(self.body, bytes):
            return self.body, self.content_type or "application/octet-stream"
        if isinstance(self.body, str):
            return encode(self.body), self.content_type or "text/plain; charset=utf-8"
        text = json.dumps(self.body, separators=(",", ":"), allow_nan=False)
        return text.encode(), self.content_type or "application/json"


def encode(text: str) -> bytes:
    """Encode a text as UTF-8, surrogates as the bytes that they stand for (PEP 383)."""
    return text.encode(errors="surrogateescape")


def _check_path(path: Path) -> None:
    """Refuse a path that is another file for the system than for Python."""
    if not path.is_absolute():
        raise ValueError(f"the path {path} is relative")
    if "\0" in str(path):
        raise ValueError(f"the path {str(path)!r} has a NUL")


def _check_header(name: str, value: str) -> None:
    """Refuse a header that would be parsed as another one, or that nginx writes."""
    if not name or not _TOKEN.issuperset(name):
        raise ValueError(f"{name!r} is not a name of a header")
    if name.lower() in _OF_NGINX:
        raise ValueError(f"the header {name} is written by nginx")
    if not isinstance(value, str):
        raise TypeError(f"the value of the header {name} is of type {type(value).__name__}")
    if any((ord(c) < 0x20 and c != "\t") or ord(c) == 0x7F for c in value):
        raise ValueError(f"the header {name} has control characters in its value")
