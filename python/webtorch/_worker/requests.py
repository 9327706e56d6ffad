"""Requests of custom handlers as C hands them over; it touches cffi."""

from collections.abc import Sequence
from typing import Any

from webtorch._native import ffi, lib
from webtorch._request import Request, RequestHeaders


def take_request(job: Any, variables: Sequence[str]) -> Request:
    """Take a job's request; its memory is freed with the last view of its body."""
    source = job.request
    job.request = ffi.NULL
    block = ffi.gc(ffi.cast("char *", source), lib.ngx_webtorch_free)
    body = _body(source, block)
    return Request(
        method=_text(source.method),
        path=_text(source.path),
        args=_text(source.args),
        headers=RequestHeaders(
            [
                (_text(header.name), _text(header.value))
                for header in source.headers[0 : source.nheaders]
            ]
        ),
        body=body,
        variables={
            name: _text(value) if value.data else None
            for name, value in zip(variables, source.vars[0 : source.nvars], strict=True)
        },
    )


def _body(source: Any, block: Any) -> memoryview:
    """Return a view of the body, in the request's block or in memory shared with nginx."""
    if source.shared:
        shared = source.shared
        data = ffi.gc(source.body.data, lambda _: lib.ngx_webtorch_release(shared))
        return memoryview(ffi.buffer(data, source.body.len)).toreadonly()
    start = int(ffi.cast("uintptr_t", source.body.data)) - int(ffi.cast("uintptr_t", source))
    whole = memoryview(ffi.buffer(block, source.size)).toreadonly()
    return whole[start : start + source.body.len]


def _text(string: Any) -> str:
    """Decode a string of a request as UTF-8, other bytes as surrogates (PEP 383)."""
    return bytes(ffi.buffer(string.data, string.len)).decode(errors="surrogateescape")
