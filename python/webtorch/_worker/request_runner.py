"""The runner of custom handlers' batches, their requests and replies; it touches cffi."""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from webtorch._handlers import RequestFunction
from webtorch._messages import Request, RequestHeaders, Response, encode
from webtorch._native import ffi, lib
from webtorch._worker.failures import Failures
from webtorch._worker.schema_writer import is_sent, write_spec

_REDIRECT = "x-accel-redirect"


class RequestRunner:
    """Runs the batches of a custom handler: a call for each request.

    Args:
        name: Name of the handler, `module:function`.
        handler: The handler, which may be replaced by one with the same variables.

    """

    def __init__(self, name: str, handler: RequestFunction) -> None:
        self.name = name
        self.handler = handler
        self._failures = Failures(name)

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run the requests of a batch, a webtorch_batch_t, one after the other."""
        for index in range(batch.njobs):
            job = batch.jobs + index
            try:
                response = self.handler.run(_take_request(job, self.handler.variables))
                _reply(job, response)
            except BaseException as error:
                self._failures.answer(job, error)

    def start(self, job: Any) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that answers a job, for a handler under `async def`."""
        return self.handler.start(_take_request(job, self.handler.variables))

    def answer(self, job: Any, result: Any) -> None:
        """Answer a job with what the coroutine has returned."""
        try:
            _reply(job, Response.of(result))
        except BaseException as error:
            self._failures.answer(job, error)

    def answer_error(self, job: Any, error: BaseException, is_cancelled: bool) -> None:
        """Answer a job whose coroutine has raised; nobody waits for one that was cancelled."""
        if is_cancelled and isinstance(error, asyncio.CancelledError):
            lib.ngx_webtorch_fail(job, 500, b"", 0)
        else:
            self._failures.answer(job, error)


def _take_request(job: Any, variables: Sequence[str]) -> Request:
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


def _reply(job: Any, response: Response) -> None:
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
