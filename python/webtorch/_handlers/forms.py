"""Forms: fields and files of a request's body."""

import email.parser
import email.policy
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from webtorch._core.errors import HTTPError
from webtorch._core.headers import media_type

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

MAX_FIELDS = 1000
"""Fields and files that a form may have; C has the same limit for its parts."""

MAX_NAME = 8192
"""Bytes of the name of a field; C has the same limit for the header lines of a part."""

MAX_CHARSET = 64
"""Bytes of the name of a charset that are read."""

# Python has others whose decoder takes quadratic time, and keeps each name that it does not know.
_CHARSETS = frozenset({
    "utf-8", "utf8", "us-ascii", "ascii", "latin-1", "latin1", "utf-16", "utf-16le", "utf-16be",
    *(f"iso-8859-{number}" for number in range(1, 17) if number != 12),
    *(f"windows-{number}" for number in range(1250, 1259)),
    "koi8-r", "koi8-u", "ibm866", "macintosh", "shift_jis", "euc-jp", "iso-2022-jp", "euc-kr",
    "gbk", "gb2312", "gb18030", "big5",
})  # fmt: skip

_Value = TypeVar("_Value")


class Several(Mapping[str, _Value]):
    """Values by name, of which one may have several; a lookup returns the first.

    Args:
        items: Names and values, in the order in which they were sent.

    """

    def __init__(self, items: list[tuple[str, _Value]]) -> None:
        self._values: dict[str, list[_Value]] = {}
        for name, value in items:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> _Value:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values})"

    def getlist(self, name: str) -> list[_Value]:
        """Return all values of a name, in the order in which they were sent; there may be none."""
        return list(self._values.get(name, ()))


class Form(Several[str]):
    """The fields of a form by name: a mapping to str, and `getlist` for several of one name."""


class Query(Several[str]):
    """The arguments of a query by name: a mapping to str, and `getlist` for several of one name."""


class UploadedFile(io.RawIOBase):
    """A file of a form, which is read like a binary file that is open.

        image = PIL.Image.open(request.files["photo"])

    It is a view of the request's body, of which nothing is copied, and may be kept. Its name is the
    client's: no part of a path may be made of it.

    Args:
        data: The content.
        filename: Name of the file at the client; it has no folders.
        content_type: The media type that the client named, or an empty text.

    Attributes:
        filename: Name of the file at the client; it has no folders.
        content_type: The media type that the client named, or an empty text.
        size: Bytes of the content.
        view: The content, as a read-only memoryview.

    """

    def __init__(
        self, data: bytes | memoryview, filename: str = "", content_type: str = ""
    ) -> None:
        super().__init__()
        self.view = memoryview(data).toreadonly()
        self.filename = filename
        self.content_type = content_type
        self.size = len(self.view)
        self._at = 0

    def __repr__(self) -> str:
        return f"UploadedFile({self.filename!r}, {self.content_type!r}, {self.size} bytes)"

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer; return their number."""
        target = memoryview(buffer).cast("B")
        part = self.view[self._at : self._at + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def readall(self) -> bytes:
        """Read all bytes that are left."""
        part = bytes(self.view[self._at :])
        self._at = max(self._at, self.size)
        return part

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, as in other files; return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"position {start + offset} is before the file")
        self._at = start + offset
        return self._at

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the content to a file, which is replaced if it exists.

        Args:
            path: Path of the file. It must not be made of `filename`, which the client chose.

        Raises:
            OSError: The file cannot be written.

        """
        Path(path).write_bytes(self.view)


class Files(Several[UploadedFile]):
    """The files of a form by the name of their field; `getlist` returns several of one name."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form of multipart/form-data.

    Attributes:
        name: Name of the field.
        filename: Name of the file; None for a field that is no file.
        content_type: The part's media type, or an empty text.
        data: The content.
        charset: Charset of the field "_charset_", or an empty text.

    """

    name: str
    filename: str | None
    content_type: str
    data: memoryview
    charset: str = ""


def read_form(content_type: str, body: memoryview) -> tuple[Form, Files]:
    """Read a body as a form.

    Args:
        content_type: The request's header Content-Type.
        body: The request's body.

    Returns:
        The fields and the files. A body that is empty has neither.

    Raises:
        HTTPError: The body is not a form (415), or malformed or of an unknown charset (400), or has
            more fields than MAX_FIELDS or a longer name than MAX_NAME (413).

    """
    kind = media_type(content_type)
    if kind == MULTIPART:
        return _sorted(reader(content_type, body))
    if kind == URLENCODED:
        return Form(_read_urlencoded(content_type, bytes(body))), Files([])
    if not body:
        return Form([]), Files([])
    raise HTTPError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"the body is not a form: send {MULTIPART} or {URLENCODED}",
        code="unsupported_media_type",
    )


def is_form(content_type: str) -> bool:
    """Return whether a Content-Type is that of a form."""
    return media_type(content_type) in (MULTIPART, URLENCODED)


def _sorted(parts: list[Part]) -> tuple[Form, Files]:
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, UploadedFile]] = []
    for part in parts:
        if part.filename is None:
            charset = _charset(_parameter(part.content_type, "charset") or part.charset)
            fields.append((part.name, _decode(bytes(part.data), charset, part.name)))
        elif part.filename or part.data:  # browsers send an empty part if no file is chosen
            name = part.filename.replace("\\", "/").rpartition("/")[2]
            files.append((part.name, UploadedFile(part.data, name, part.content_type)))
    return Form(fields), Files(files)


def _read_urlencoded(content_type: str, body: bytes) -> list[tuple[str, str]]:
    charset = _charset(_parameter(content_type, "charset"))
    if body.count(b"&") >= MAX_FIELDS:
        raise HTTPError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the form has more than {MAX_FIELDS} fields",
            code="too_many_parts",
        )
    try:
        text = body.decode("ascii")
        items = parse_qsl(
            text.rstrip("\r\n"), keep_blank_values=True, encoding=charset, errors="strict"
        )
    except UnicodeError:
        raise _malformed(
            f'the form is not percent-encoded text of the charset "{charset}"'
        ) from None
    if any(len(name) > MAX_NAME for name, _ in items):
        raise HTTPError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the name of a field of the form has more than {MAX_NAME} characters",
            code="too_large",
        )
    return items


def _decode(data: bytes, charset: str, name: str) -> str:
    try:
        return data.decode(charset)
    except UnicodeError:
        raise _malformed(f'field "{name[:100]}" is not text of the charset "{charset}"') from None


def _charset(name: str) -> str:
    """Return a charset that the client named, UTF-8 if it named none."""
    charset = name.strip().lower() or "utf-8"
    if charset not in _CHARSETS:
        raise _malformed(f'the charset "{charset}" of the form is not supported')
    return charset


def _parameter(content_type: str, name: str) -> str:
    """Return a parameter of a media type, or an empty text."""
    for part in content_type.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')[:MAX_CHARSET]
    return ""


def _malformed(text: str) -> HTTPError:
    return HTTPError(HTTPStatus.BAD_REQUEST, text, code="malformed_body")


def _read_parts(content_type: str, body: memoryview) -> list[Part]:
    """Read a form outside nginx, for tests of handlers; workers have C's reader."""
    head = b"Content-Type: " + content_type.encode() + b"\r\n\r\n"
    message: Any = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + bytes(body))
    if not message.is_multipart():
        raise _malformed("the body of the form does not have the boundary of the Content-Type")
    parts = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if name is None:
            raise _malformed("a part of the form has no name")
        data = memoryview(part.get_payload(decode=True) or b"")
        parts.append(Part(str(name), part.get_filename(), part.get("content-type", ""), data))
    return parts


reader: Callable[[str, memoryview], list[Part]] = _read_parts
"""Reads the parts of a form; workers have another one."""
