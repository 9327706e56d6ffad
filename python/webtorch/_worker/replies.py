"""Replies of custom handlers as C takes them; it touches cffi."""

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from webtorch._native import ffi, lib
from webtorch._response import Response, encode
from webtorch._worker.schema_writer import is_sent, write_spec

_REDIRECT = "x-accel-redirect"


def send_reply(job: Any, response: Response) -> None:
    """Hand a response over to C, which copies it."""
    headers, content_type = response.checked_headers()
    redirect = next((value for name, value in headers if name.lower() == _REDIRECT), None)
    reply = ffi.new("webtorch_reply_t *")
    reply.status = response.status
    reply.tensor.ndim = -1
    keep: list[Any] = []  # memory that the reply points to, until it is copied

    def point(target: Any, data: Any) -> None:
        memory = ffi.from_buffer(data)
        keep.append(memory)
        target.data = memory
        target.len = len(memory)

    if redirect is not None:
        headers = [(name, value) for name, value in headers if name.lower() != _REDIRECT]
        point(reply.redirect, encode(redirect))
    elif isinstance(response.body, Tensor):
        tensor = response.body.detach().cpu().contiguous()
        if not is_sent(tensor.dtype):
            raise TypeError(f"a tensor of {tensor.dtype} cannot be sent, convert it")
        write_spec(reply.tensor, "output", tensor.dtype, tensor.shape)
        reply.body.data = ffi.cast("char *", tensor.data_ptr())
        reply.body.len = tensor.nbytes
        keep.append(tensor)
    elif isinstance(response.body, Path):
        point(reply.file, os.fsencode(response.body))
    else:
        body, default = response.encoded()
        point(reply.body, body)
        content_type = content_type or default

    point(reply.content_type, encode(content_type or ""))

    lines = ffi.new("webtorch_header_t[]", len(headers))
    for line, (name, value) in zip(lines, headers, strict=True):
        point(line.name, name.encode())
        point(line.value, encode(value))
    reply.headers = lines
    reply.nheaders = len(headers)

    if lib.ngx_webtorch_reply(job, reply) != 0:
        raise MemoryError
