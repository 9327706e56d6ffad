"""Requests of custom handlers as C hands them over; it touches cffi."""

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from webtorch._core.errors import HTTPError
from webtorch._core.headers import RequestHeaders
from webtorch._handlers import forms
from webtorch._handlers.forms import Part
from webtorch._handlers.request import Request
from webtorch._native import ffi, lib

# webtorch_request_t without the addresses: bytes of the body, of the method, the path and the
# arguments, numbers of headers and variables
_FIXED = struct.Struct("=8xQ16xIIIII")
_FIXED_SIZE = ffi.sizeof("webtorch_request_t")

_LENGTH = struct.calcsize("=I")

_NOT_SET = lib.WEBTORCH_NOT_SET

_METHODS = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
}

_new = object.__new__


@dataclass(frozen=True, slots=True)
class Names:
    """Names of the values that C evaluates for a handler's requests.

    Attributes:
        variables: Variables of nginx that the handler is declared with.
        captures: Named captures of the location, which follow them.

    """

    variables: Sequence[str]
    captures: Sequence[str]


class PackedRequest(Request):
    """A request in C's packing, of which each attribute is unpacked when it is first read."""

    __slots__ = ("_block", "_names")

    _block: bytes
    _names: Names

    def __getattr__(self, name: str) -> Any:
        """Unpack an attribute that was not read before."""
        unpack = _UNPACK.get(name)
        if unpack is None:
            return super().__getattr__(name)
        unpack(self)
        return getattr(self, name)


def take_request(job: Any, names: Names) -> Request:
    """Return a job's request. C frees its own copy; a large body is shared with nginx."""
    source = job.request
    request = _new(PackedRequest)
    request._block = ffi.buffer(source, source.size)[:]
    request._names = names
    if source.shared:
        request.body = _take_body(source)
    return request


def _take_body(source: Any) -> memoryview:
    """Return a view of memory shared with nginx, which is released with the last view."""
    shared = source.shared
    source.shared = ffi.NULL
    data = ffi.gc(source.data, lambda _: lib.ngx_webtorch_shared_release(shared))
    return memoryview(ffi.buffer(data, source.body)).toreadonly()


def _unpack_line(request: PackedRequest) -> None:
    """Set method, path and args."""
    block = request._block
    _, method, path, args, nheaders, nvars = _FIXED.unpack_from(block)
    at = _FIXED_SIZE + _LENGTH * (nvars + 2 * nheaders)
    name = block[at : at + method]
    request.method = _METHODS.get(name) or _text(name)
    at += method
    request.path = _text(block[at : at + path])
    at += path
    request.args = _text(block[at : at + args])


def _unpack_values(request: PackedRequest) -> None:
    """Set variables and path_params."""
    block = request._block
    _, method, path, args, nheaders, nvars = _FIXED.unpack_from(block)
    lengths = _lengths(nvars).unpack_from(block, _FIXED_SIZE)
    at = _FIXED_SIZE + _LENGTH * (nvars + 2 * nheaders) + method + path + args
    values = iter(_texts(block, lengths, at))
    request.variables = {name: next(values) for name in request._names.variables}
    request.path_params = {
        name: value
        for name, value in zip(request._names.captures, values, strict=True)
        if value is not None
    }


def _unpack_headers(request: PackedRequest) -> None:
    block = request._block
    _, method, path, args, nheaders, nvars = _FIXED.unpack_from(block)
    count = nvars + 2 * nheaders
    lengths = _lengths(count).unpack_from(block, _FIXED_SIZE)
    at = _FIXED_SIZE + _LENGTH * count + method + path + args
    at += sum([length for length in lengths[:nvars] if length != _NOT_SET])
    texts = _texts(block, lengths[nvars:], at)
    request.headers = RequestHeaders(list(zip(texts[::2], texts[1::2], strict=True)))


def _unpack_body(request: PackedRequest) -> None:
    block = request._block
    (body, *_) = _FIXED.unpack_from(block)
    request.body = memoryview(block)[len(block) - body :]


@functools.lru_cache(256)
def _lengths(count: int) -> struct.Struct:
    """Return the layout of a number of lengths."""
    return struct.Struct(f"={count}I")


def _texts(block: bytes, lengths: Sequence[int], at: int) -> list[Any]:
    """Return strings that follow each other; None for those that are not set."""
    texts: list[str | None] = []
    for length in lengths:
        if length == _NOT_SET:
            texts.append(None)
            continue
        texts.append(_text(block[at : at + length]))
        at += length
    return texts


def _text(data: bytes) -> str:
    """Decode a string of a request as UTF-8, other bytes as surrogates (PEP 383)."""
    return data.decode(errors="surrogateescape")


_UNPACK: dict[str, Callable[[PackedRequest], None]] = {
    "method": _unpack_line,
    "path": _unpack_line,
    "args": _unpack_line,
    "headers": _unpack_headers,
    "variables": _unpack_values,
    "path_params": _unpack_values,
    "body": _unpack_body,
}


# --- forms ---


def _read_parts(content_type: str, body: memoryview) -> list[Part]:
    """Read the parts of a form by C's reader; their contents are views of the body."""
    form = ffi.new("webtorch_form_t *")
    kind = content_type.encode(errors="surrogateescape")
    memory = ffi.from_buffer(body)
    if lib.ngx_webtorch_form_open(form, kind, len(kind), memory, len(body)) != 0:
        raise _error(form)
    batch = ffi.new("webtorch_part_t[]", _PARTS)
    parts = []
    while True:
        count = lib.ngx_webtorch_form_read(form, batch, _PARTS)
        if count < 0:
            raise _error(form)
        parts += [_part(form, batch[index], body) for index in range(count)]
        if count < _PARTS:
            break
    form.charset.len = min(form.charset.len, forms.MAX_CHARSET)
    charset = _span(form.charset, body).decode("ascii", errors="replace")
    return [Part(*part, charset) for part in parts]


_PARTS = 16
"""Parts that are read at once."""


def _part(form: Any, part: Any, body: memoryview) -> tuple[str, str | None, str, memoryview]:
    data = part.data
    return (
        _decoded(form, part.name),
        _decoded(form, part.filename) if part.is_file else None,
        _text(_span(part.content_type, body)),
        body[data.at : data.at + data.len],
    )


def _span(span: Any, body: memoryview) -> bytes:
    return bytes(body[span.at : span.at + span.len])


def _decoded(form: Any, span: Any) -> str:
    """Return a name or a filename."""
    text = ffi.new("char[]", span.len)
    size = lib.ngx_webtorch_form_decode(form, ffi.addressof(span), text)
    return _text(ffi.buffer(text, size)[:])


def _error(form: Any) -> HTTPError:
    message = ffi.string(form.message).decode(errors="replace")
    return HTTPError(form.status, message, code=ffi.string(form.code).decode())


forms.reader = _read_parts
