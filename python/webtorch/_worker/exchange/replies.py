"""Replies of custom handlers as C takes them; it touches cffi."""

import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webtorch._core.plain_tensors import is_plain, plain
from webtorch._handlers import json_encoding
from webtorch._handlers.response import BINARY, JSON, TEXT, Response, encode
from webtorch._native import ffi, lib
from webtorch._worker.exchange.schema_writer import is_sent, write_spec

REDIRECT = "x-accel-redirect"

_JSON = JSON.encode()
_TEXT = TEXT.encode()
_BINARY = BINARY.encode()

_reply_body = lib.ngx_webtorch_job_reply_body

_Encoder = tuple[Callable[[Any], bytes] | None, bytes]

_encoders: dict[type, _Encoder] = {}
"""How instances of a class are encoded, and their content type; None: by a Response."""

_MAX_ENCODERS = 1000  # a handler may make classes as it runs

_specs: dict[tuple[torch.dtype, torch.Size], Any] = {}
"""Descriptions of tensors as C has them, pointers to webtorch_spec_t."""

_MAX_SPECS = 1000

_BY_RESPONSE = (
    Response, Tensor, Path, bytes, bytearray, memoryview, str, tuple, types.NoneType
)  # fmt: skip


def _find_encoder(kind: Any) -> _Encoder:
    """Find out how instances of a class are encoded."""
    if len(_encoders) >= _MAX_ENCODERS:
        _encoders.clear()
    found: _Encoder
    if kind is str:
        found = (encode, _TEXT)
    elif kind is bytes:
        found = (bytes, _BINARY)
    elif issubclass(kind, _BY_RESPONSE):
        found = (None, b"")
    else:
        found = (json_encoding.encoder_of(kind), _JSON)
    _encoders[kind] = found
    return found


def send_result(job: Any, result: Any) -> None:
    """Hand what a handler returned over to C, which copies it.

    What most handlers return is sent without a Response.

    Raises:
        TypeError: It is of a type that cannot be answered.
        ValueError: A status or a header is not allowed.

    """
    encode_body, content_type = _encoders.get(type(result)) or _find_encoder(type(result))
    if encode_body is None:
        if type(result) is Tensor:
            reply = ffi.new("webtorch_reply_t *")
            reply.status = 200
            kept = _set_tensor(reply, result)
            _send(job, reply)
            del kept
        else:
            send_response(job, Response.of(result))
        return
    body = encode_body(result)
    if _reply_body(job, 200, content_type, body, len(body)) != 0:
        raise MemoryError


def send_response(job: Any, response: Response) -> None:
    """Hand a response over to C, which copies it.

    Raises:
        TypeError: It is of a type that cannot be answered.
        ValueError: A header is not allowed.

    """
    headers, content_type = response.checked_headers()
    body = response.body

    if not headers and not isinstance(body, Tensor | Path):
        text, default = response.encoded()
        kind = encode(content_type or default)
        if lib.ngx_webtorch_job_reply_body(job, response.status, kind, text, len(text)) != 0:
            raise MemoryError
        return

    reply = ffi.new("webtorch_reply_t *")
    reply.status = response.status
    reply.tensor.ndim = -1
    keep: list[Any] = []  # memory that the reply points to, until it is copied

    redirect = next((value for name, value in headers if name.lower() == REDIRECT), None)
    if redirect is not None:
        headers = [(name, value) for name, value in headers if name.lower() != REDIRECT]
        point(reply.redirect, encode(redirect), keep)
    elif isinstance(body, Tensor):
        keep.append(_set_tensor(reply, body))
    elif isinstance(body, Path):
        point(reply.file, os.fsencode(body), keep)
    else:
        text, default = response.encoded()
        point(reply.body, text, keep)
        content_type = content_type or default

    point(reply.content_type, encode(content_type or ""), keep)
    set_headers(reply, headers, keep)
    _send(job, reply)


def _send(job: Any, reply: Any) -> None:
    if lib.ngx_webtorch_job_reply(job, reply) != 0:
        raise MemoryError


def _set_tensor(reply: Any, tensor: Tensor) -> Tensor:
    """Set the tensor of a reply; return the one whose memory the reply points to.

    Raises:
        TypeError: Its dtype cannot be sent.

    """
    if not is_plain(tensor):
        tensor = plain(tensor)
    key = tensor.dtype, tensor.shape
    reply.tensor = (_specs.get(key) or _make_spec(*key))[0]
    reply.body.data = ffi.cast("char *", tensor.data_ptr())
    reply.body.len = tensor.nbytes
    return tensor


def _make_spec(dtype: torch.dtype, shape: torch.Size) -> Any:
    """Describe tensors of a dtype and a shape to C."""
    if not is_sent(dtype):
        raise TypeError(f"a tensor of {dtype} cannot be sent, convert it")
    if len(_specs) >= _MAX_SPECS:
        _specs.clear()
    spec = ffi.new("webtorch_spec_t *")
    write_spec(spec, "output", dtype, shape)
    _specs[dtype, shape] = spec
    return spec


def set_headers(target: Any, headers: list[tuple[str, str]], keep: list[Any]) -> None:
    """Set the headers of a reply or a failure.

    Args:
        target: A webtorch_reply_t or a webtorch_failure_t.
        headers: Names and values.
        keep: Gets the memory that the target points to.

    """
    if not headers:
        return
    lines = ffi.new("webtorch_header_t[]", len(headers))
    keep.append(lines)
    for line, (name, value) in zip(lines, headers, strict=True):
        point(line.name, name.encode(), keep)
        point(line.value, encode(value), keep)
    target.headers = lines
    target.nheaders = len(headers)


def point(target: Any, data: bytes, keep: list[Any]) -> None:
    """Let a webtorch_str_t point to bytes, which `keep` keeps."""
    memory = ffi.from_buffer(data)
    keep.append(memory)
    target.data = memory
    target.len = len(memory)
