"""Requests as the features have them, without nginx: the C that it runs, in a library."""

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from webtorch.cli import _bundled
from webtorch.cli._nginx import MODULES

LIBRARY = "libwebtorch_formats.so"

PLACES = (
    *("path", "query", "cookie", "header", "form", "JSON"),
    *("multipart", "file", "XML", "GraphQL", "text"),
)
DECODINGS = (
    *("percent again", "percent a third time", "%u", "HTML entities", "escapes", "overlong UTF-8"),
    *("full-width letters", "UTF-16", "base64", "hexadecimal", "escaped letters"),
)
KINDS = (
    *("name", "file name", "continued", "not text", "binary", "markup", "syntax", "null bytes"),
)
UNREAD = ("content encoding", "charset", "depth", "size")
FLAWS = (
    *("not of its content type", "malformed", "unusual boundary", "unusual header of a part"),
    *("no end", "doubled header, name or type"),
)

_MOST = 65536


@dataclass
class Request:
    """A request as a client sends it.

    Attributes:
        method: Its method.
        target: Path and query, percent-encoded.
        headers: Names and values.
        body: Its body, as it is encoded.

    """

    method: bytes = b"GET"
    target: bytes = b"/"
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""


@dataclass
class Field:
    """A value of a request, decoded.

    Attributes:
        name: Its name, for example `body.user.name`.
        place: One of `PLACES`.
        value: The value.
        about: How it was decoded, and what it is otherwise.
        window: The index of its first window.

    """

    name: str
    place: str
    value: bytes
    about: list[str]
    window: int


@dataclass
class Fields:
    """The fields of a request, and their numbers.

    Attributes:
        fields: All fields.
        numbers: The feature `numbers`, int32 `[1, n]`.
        windows: The feature `windows`, int64 `[1, n]`.
        spans: Where the token of each number is in the value, int32 `[n, 2]`: begin and length; a
            length of 0: the number is of the whole value.
        unread: What could not be read; not empty: the numbers are those of the rest.
        flaws: What is unusual in the request as a whole.

    """

    fields: list[Field] = field(default_factory=list)
    numbers: Tensor = field(default_factory=lambda: torch.zeros(1, 0, dtype=torch.int32))
    windows: Tensor = field(default_factory=lambda: torch.zeros(1, 0, dtype=torch.int64))
    spans: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.int32))
    unread: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)


class _Part(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("len", ctypes.c_size_t))


class _Field(ctypes.Structure):
    _fields_ = (
        ("place", ctypes.c_uint32),
        ("decoded", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("name", ctypes.c_void_p),
        ("name_len", ctypes.c_size_t),
        ("value", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
    )


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.POINTER(_Field))


class _Reading(ctypes.Structure):
    _fields_ = (
        *((name, _Part) for name in ("method", "path", "query", "type", "encoding", "body")),
        ("headers", ctypes.POINTER(_Part)),
        ("nheaders", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        *((name, ctypes.c_void_p) for name in ("numbers", "windows", "spans")),
        ("handler", _HANDLER),
        *((name, ctypes.c_uint32) for name in ("count", "nwindows", "full", "unread", "flaws")),
    )


def read(request: Request) -> Fields:
    """Return the fields of a request.

    Raises:
        ImportError: The library is not there, or it is of another version.

    """
    library = _library()
    found = Fields()

    def add(window: int, pointer: Any) -> None:
        raw = pointer.contents
        about = _names(raw.decoded, DECODINGS) + _names(raw.flags, KINDS)
        name = ctypes.string_at(raw.name, raw.name_len).decode("utf-8", "replace")
        value = ctypes.string_at(raw.value, raw.len)
        found.fields.append(Field(name, PLACES[raw.place], value, about, window))

    numbers, windows = (torch.zeros(_MOST, dtype=torch.int32) for _ in range(2))
    spans = torch.zeros(_MOST, 2, dtype=torch.int32)
    path, _, query = request.target.partition(b"?")
    headers = {name.lower(): value for name, value in reversed(request.headers)}
    pairs = [_part(each) for header in request.headers for each in header]
    reading = _Reading(
        _part(request.method),
        _part(path),
        _part(query),
        _part(headers.get(b"content-type", b"")),
        _part(headers.get(b"content-encoding", b"")),
        _part(request.body),
        (_Part * max(1, len(pairs)))(*pairs),
        len(request.headers),
        _MOST,
        *(each.data_ptr() for each in (numbers, windows, spans)),
        _HANDLER(add),
    )
    memory = ctypes.create_string_buffer(library.ngx_webtorch_reading_size())
    library.ngx_webtorch_reading(ctypes.byref(reading), memory)
    n = reading.count
    found.numbers, found.windows = numbers[None, :n], windows[None, :n].long()
    found.spans = spans[:n]
    found.unread = _names(reading.unread, UNREAD) + ["too many fields"] * bool(reading.full)
    found.flaws = _names(reading.flaws, FLAWS)
    return found


def _part(data: bytes) -> _Part:
    return _Part(data, len(data))


def _names(bits: int, names: tuple[str, ...]) -> list[str]:
    return [name for bit, name in enumerate(names) if bits >> bit & 1]


@functools.cache
def _library() -> ctypes.CDLL:
    bundled = _bundled.library()
    candidates = [bundled] if bundled else [directory / LIBRARY for directory in MODULES]
    path = next((one for one in candidates if one.is_file()), None)
    if path is None:
        raise ImportError(
            f"this needs {LIBRARY}, which is not in "
            f"{' or '.join(str(one.parent) for one in candidates)}: install the wheel of WebTorch "
            "that has an nginx, or Debian's package, or run ./build.sh in the sources"
        )
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "ngx_webtorch_reading_size"):
        raise ImportError(f"{path} is of another version of WebTorch than the Python package")
    library.ngx_webtorch_reading_size.restype = ctypes.c_size_t
    return library
