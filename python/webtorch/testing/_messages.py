"""Requests as they are sent, and their responses."""

import json as json_module
import secrets
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from webtorch._core.headers import Headers, RequestHeaders, pairs

File = bytes | str | Path | tuple[str, bytes] | tuple[str, bytes, str]
"""Contents, a path, or a name with contents and a media type."""


class HTTPStatusError(Exception):
    """A response is an error; see `Response.raise_for_status`.

    Attributes:
        response: The response.

    """

    def __init__(self, response: "Response") -> None:
        super().__init__(f"{response.status_code} {response.reason_phrase}: {response.text}")
        self.response = response


class Response:
    """A response of a function.

    Attributes:
        status_code: Status of HTTP.
        headers: Headers by name, in any case.
        content: The body.
        items: The pieces in which a function that yields has sent it.

    """

    def __init__(
        self,
        status_code: int,
        headers: Headers,
        content: bytes = b"",
        items: Sequence[bytes] | None = None,
    ) -> None:
        self.status_code = status_code
        self.headers = RequestHeaders(headers)
        self.content = content
        self.items = [content] if items is None else [*items]

    @property
    def text(self) -> str:
        """The body as text in UTF-8."""
        return self.content.decode(errors="replace")

    @property
    def reason_phrase(self) -> str:
        """The name of the status, for example "Not Found"."""
        try:
            return HTTPStatus(self.status_code).phrase
        except ValueError:
            return ""

    @property
    def is_success(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status_code < 300

    def json(self) -> Any:
        """Return the body, which is JSON.

        Raises:
            ValueError: It is not.

        """
        return json_module.loads(self.content)

    def raise_for_status(self) -> "Response":
        """Return the response if it is no error.

        Raises:
            HTTPStatusError: The status is 400 or higher.

        """
        if self.status_code >= 400:
            raise HTTPStatusError(self)
        return self

    def __repr__(self) -> str:
        return f"<Response [{self.status_code} {self.reason_phrase}]>"


class Message:
    """A request as nginx reads it.

    Args:
        method: Method of HTTP.
        url: Path and query, or an absolute address.
        params: More arguments of the query.
        headers: Headers.
        json: A value that is sent as JSON; tensors and arrays are lists.
        content: The body itself.
        data: Fields of a form.
        files: Files of a form, by the names of their fields.

    Raises:
        ValueError: There are several bodies.

    """

    def __init__(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None,
        headers: Headers | None = None,
        json: Any = None,
        content: bytes | str | None = None,
        data: Mapping[str, Any] | None = None,
        files: Mapping[str, File] | None = None,
    ) -> None:
        given = [json is not None, content is not None, data is not None or files is not None]
        if sum(given) > 1:
            raise ValueError("a request has one of json, content, and data with files")
        parts = urlsplit(url)
        self.method = method.upper()
        self.path = unquote(parts.path, errors="surrogateescape") or "/"
        more = urlencode(params, doseq=True) if params else ""
        self.args = "&".join(filter(None, (parts.query, more)))
        self.uri = quote(self.path, safe="/:@!$&'()*+,;=~") + (f"?{self.args}" if self.args else "")
        kind = None
        self.body = b""
        if json is not None:
            self.body = json_module.dumps(json, default=_listed).encode()
            kind = "application/json"
        elif content is not None:
            self.body = content.encode() if isinstance(content, str) else bytes(content)
        elif files is not None:
            kind, self.body = _multipart(data or {}, files)
        elif data is not None:
            kind = "application/x-www-form-urlencoded"
            self.body = urlencode(data, doseq=True).encode()
        sent = [*pairs(headers or ())]
        names = {name.lower() for name, _ in sent}
        ours = [
            ("Host", parts.netloc or "testserver"),
            ("User-Agent", "webtorch.testing"),
            ("Accept", "*/*"),
        ]
        if kind:
            ours.append(("Content-Type", kind))
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            ours.append(("Content-Length", str(len(self.body))))
        self.headers = RequestHeaders(
            [(name, value) for name, value in ours if name.lower() not in names] + sent
        )

    def without(self, header: str) -> Iterable[tuple[str, str]]:
        """Return the headers as they were sent, but for one."""
        sent = self.headers.items_as_sent()
        return [(name, value) for name, value in sent if name.lower() != header]


def _listed(value: Any) -> Any:
    """Return a tensor or an array as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _multipart(data: Mapping[str, Any], files: Mapping[str, File]) -> tuple[str, bytes]:
    """Return the content type and the body of a form."""
    boundary = secrets.token_hex(16)
    lines: list[bytes] = []
    for name, value in data.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            content = one if isinstance(one, bytes) else str(one).encode()
            lines += _part(boundary, f'name="{_quoted(name)}"', "", content)
    for name, file in files.items():
        filename, content, kind = _file(name, file)
        place = f'name="{_quoted(name)}"; filename="{_quoted(filename)}"'
        lines += _part(boundary, place, kind, content)
    lines.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(lines)


def _part(boundary: str, place: str, kind: str, content: bytes) -> list[bytes]:
    head = f"--{boundary}\r\nContent-Disposition: form-data; {place}\r\n"
    if kind:
        head += f"Content-Type: {kind}\r\n"
    return [f"{head}\r\n".encode(), content, b"\r\n"]


def _file(name: str, file: File) -> tuple[str, bytes, str]:
    import mimetypes

    if isinstance(file, Path):
        file = file.name, file.read_bytes()
    elif isinstance(file, bytes | str):
        file = name, file.encode() if isinstance(file, str) else file
    filename, content, *kind = file
    guessed = mimetypes.guess_type(filename)[0] or "application/octet-stream"
    return filename, content, kind[0] if kind else guessed


def _quoted(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
