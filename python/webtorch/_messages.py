"""Requests and responses of custom handlers, and errors that are meant for clients."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from torch import Tensor

Headers = Sequence[tuple[str, str]]

# nginx writes these itself, from what it knows about the connection and the body
_OF_NGINX = {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"}

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class HTTPError(Exception):
    """Answers a request with an error: a handler raises it for what its client did.

    Any other exception is answered with 500 and told to the error log only.
    """

    def __init__(self, status: int, message: str) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"status {status} is not one of an error, 400 to 599")
        super().__init__(message)
        self.status = status
        self.message = message


class RequestHeaders(Mapping[str, str]):
    """Headers by name in any case; of several with one name, the values with commas."""

    def __init__(self, items: Headers) -> None:
        self._items = tuple(items)
        self._values: dict[str, str] = {}
        for name, value in self._items:
            key = name.lower()
            known = self._values.get(key)
            self._values[key] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def items_as_sent(self) -> Headers:
        """Return names and values as the client sent them, in order."""
        return self._items


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a custom handler sees it; it may be kept after the call.

    Attributes:
        method: `GET`, `POST`, ...
        path: the decoded path, without the arguments.
        args: the arguments as sent, after the `?`.
        headers: by name, in any case.
        body: its bytes, without a copy, to be read only.
        variables: those of nginx that the handler is declared with; None is one that is not set.

    """

    method: str
    path: str
    args: str
    headers: RequestHeaders
    body: memoryview
    variables: Mapping[str, str | None] = field(default_factory=dict)

    def query(self) -> dict[str, list[str]]:
        """Return the decoded arguments, each with all of its values."""
        return parse_qs(self.args, keep_blank_values=True)

    def json(self) -> Any:
        """Parse the body as JSON.

        Raises:
            HTTPError: 400, if it is not.

        """
        try:
            return json.loads(bytes(self.body))
        except (ValueError, RecursionError) as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"invalid JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of a custom handler.

    Attributes:
        body: bytes, text, something for JSON; a tensor, which is written in the format that the
            request accepts, or in that of `content_type`; or the absolute path of a file, which
            nginx sends itself, also ranges of it.
        status: of HTTP, 200 to 599.
        headers: names and values; those that nginx writes itself are refused.
        content_type: by default it follows from the type of the body, or from nginx's `types` and
            the extension of the file.

    Raises:
        ValueError: for a status or a header that HTTP does not allow, or a path that is relative
            or has a NUL.

    """

    body: bytes | str | dict[str, Any] | list[Any] | Tensor | Path = b""
    status: int = 200
    headers: Headers = field(default=())
    content_type: str | None = None

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"status {self.status} is not one of 200 to 599")
        for name, value in self.headers:
            _check_header(name, value)
            if isinstance(self.body, Path) and name.lower() == "last-modified":
                raise ValueError("nginx writes the Last-Modified of a file")
        if isinstance(self.body, Path):
            _check_path(self.body)
        if self.content_type is not None:
            _check_header("Content-Type", self.content_type)

    @classmethod
    def of(cls, result: Any) -> "Response":
        """Make a response of what a handler returned.

        Raises:
            TypeError: if that is none of the types that a handler may return.

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

    def encoded(self) -> tuple[bytes, str]:
        """Return a body that is no tensor and no file as bytes, and its content type."""
        if isinstance(self.body, Tensor | Path):
            raise TypeError("tensors and files are not encoded here")
        if isinstance(self.body, bytes):
            return self.body, self.content_type or "application/octet-stream"
        if isinstance(self.body, str):
            return self.body.encode(), self.content_type or "text/plain; charset=utf-8"
        text = json.dumps(self.body, separators=(",", ":"), allow_nan=False)
        return text.encode(), self.content_type or "application/json"


def _check_path(path: Path) -> None:
    """Refuse what would be another file to the system than to Python."""
    if not path.is_absolute():
        raise ValueError(f"the path {path} is relative")
    if "\0" in str(path):
        raise ValueError(f"the path {str(path)!r} has a NUL")


def _check_header(name: str, value: str) -> None:
    """Refuse what would be another header, or would contradict one of nginx's."""
    if not name or not _TOKEN.issuperset(name):
        raise ValueError(f"{name!r} is not a name of a header")
    if name.lower() in _OF_NGINX:
        raise ValueError(f"the header {name} is written by nginx")
    if any((ord(c) < 0x20 and c != "\t") or ord(c) == 0x7F for c in value):
        raise ValueError(f"the header {name} has control characters in its value")
