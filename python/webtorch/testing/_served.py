"""Functions that are served without nginx; it touches cffi.

The runners and C's formats are those of a worker. What is here stands for nginx: it makes batches
and jobs, and has no queue, no thread and no timeout.
"""

import asyncio
import re
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from webtorch._device import devices
from webtorch._handlers.functions import Handler, RequestFunction, TensorFunction, served_methods
from webtorch._streams.generations import GenerateFunction
from webtorch._streams.streams import StreamFunction
from webtorch.testing._messages import Message, Response
from webtorch.testing._native import Answer, ffi, lib  # before what follows

# isort: split
from webtorch._worker.exchange.failures import Failures
from webtorch._worker.exchange.schema_writer import write_schema
from webtorch._worker.runners.coroutines import Call
from webtorch._worker.runners.device_runner import tensor_runner
from webtorch._worker.runners.generator_runner import GeneratorRunner
from webtorch._worker.runners.request_runner import RequestRunner

JSON = "application/json"

PADDING = b"\0" * 64
"""Bytes that parsers may read after a body."""

VARY = ("Vary", "Accept")

_FIXED = ffi.sizeof("webtorch_request_t")


class Raised(Failures):
    """Failures that are kept, so that a test gets the exception itself."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.errors: list[BaseException] = []

    def log(self, error: BaseException) -> None:
        """Keep an exception that is not sent to the client, and log it."""
        self.errors.append(error)
        super().log(error)


class Served:
    """A function at a location.

    Args:
        name: Name of the function, for messages.
        handler: The function.
        captures: Named captures of the location.

    Raises:
        SignatureError: It cannot be served.
        TypeError: It is a function of a stream.

    """

    def __init__(self, name: str, handler: Handler, captures: Sequence[str] = ()) -> None:
        if isinstance(handler, StreamFunction | GenerateFunction):
            raise TypeError(f"{name} is a stream, which webtorch.testing does not serve: call it")
        self.handler = handler
        self.captures = captures
        self._schema = ffi.new("webtorch_schema_t *")
        self._schema.ncaptures = len(captures)
        for index, capture in enumerate(captures):
            self._schema.captures[index] = capture.encode()
        device = handler.device if isinstance(handler, TensorFunction) else ""
        device = devices.resolve(device)
        write_schema(self._schema, handler, device)
        self._runner: Any
        if isinstance(handler, TensorFunction):
            self._runner = tensor_runner(name, handler, device)
        else:
            kind = GeneratorRunner if handler.is_generator else RequestRunner
            self._runner = kind(name, handler, captures)
        self.failures = self._runner._failures = Raised(name)
        self._generation = 0

    @property
    def methods(self) -> Sequence[str]:
        """The methods of HTTP that it serves."""
        return served_methods(self.handler)

    # --- functions of tensors ---

    def run(self, messages: Sequence[Message], limit: int) -> list[Response]:
        """Answer requests of a function of tensors, which share as few calls as in a worker.

        Args:
            messages: The requests.
            limit: Bytes that a body may inflate to.

        """
        responses: list[Response | None] = [None] * len(messages)
        groups: list[list[tuple[int, Any]]] = []
        keep: list[Any] = []
        for index, message in enumerate(messages):
            exchange = self._exchange()
            request = _message(message, keep)
            request.limit = limit
            if lib.ngx_webtorch_exchange_decode(exchange, request) != 0:
                responses[index] = _exchange_error(exchange)
                continue
            for group in groups:
                if lib.ngx_webtorch_exchange_alike(group[0][1], exchange):
                    group.append((index, exchange))
                    break
            else:
                groups.append([(index, exchange)])
        for group in groups:
            found = self._run_batch([exchange for _, exchange in group])
            for (index, _), response in zip(group, found, strict=True):
                responses[index] = response
        return [response for response in responses if response is not None]

    def _exchange(self) -> Any:
        return ffi.gc(
            lib.ngx_webtorch_exchange_create(self._schema), lib.ngx_webtorch_exchange_free
        )

    def _run_batch(self, exchanges: Sequence[Any]) -> list[Response]:
        batch, jobs = _batch(len(exchanges))
        array = ffi.new("ngx_webtorch_exchange_t *[]", exchanges)
        if lib.ngx_webtorch_exchange_join(array, len(exchanges), batch) != 0:
            raise MemoryError
        self._generation += 1
        try:
            self._runner.run(0, self._generation, batch.rows, batch)
        finally:
            lib.ngx_webtorch_buffer_free(batch.text)
        responses = []
        for index, exchange in enumerate(exchanges):
            job = jobs + index
            if job.status:
                responses.append(failed(lib.take(job)))
                continue
            answer = ffi.new("webtorch_message_t *")
            if lib.ngx_webtorch_exchange_encode(exchange, batch, job, answer) != 0:
                raise MemoryError
            responses.append(_encoded(answer, 200, [VARY]))
        return responses

    # --- functions of requests ---

    def call(self, message: Message, variables: Mapping[str, str | None], loop: "Loop") -> Answer:
        """Call a function of a request; return its answer, of a generator with all items.

        Args:
            message: The request.
            variables: Variables of nginx and captures by name.
            loop: Runs coroutines.

        """
        values = [variables.get(name.lower()) for name in (*self._variables, *self.captures)]
        request, _memory = _pack(message, values)
        handler = self.handler
        assert isinstance(handler, RequestFunction)
        run = loop.run if handler.is_coroutine else _run
        if not handler.is_generator:
            batch, job = _batch(1)
            job[0].request = request
            run(self._runner, batch)
            return lib.take(job)
        return self._items(request, run)

    @property
    def _variables(self) -> Sequence[str]:
        return self.handler.variables if isinstance(self.handler, RequestFunction) else ()

    def _items(self, request: Any, run: Callable[[Any, Any], None]) -> Answer:
        """Return the head of a generator's answer with all of its items."""
        head: Answer | None = None
        items: list[bytes] = []
        request.state_row = self._generation = self._generation + 1
        while True:
            batch, job = _batch(1)
            job[0].request = request
            run(self._runner, batch)
            answer = lib.take(job)
            if head is None:
                head = answer
            if answer.body:
                items.append(answer.body)
            if job[0].status or not answer.more:
                break
            request.next = 1
        head.items = items
        return head

    def negotiate(self, message: Message) -> Any:
        """Return an exchange that encodes a tensor for a request."""
        exchange = self._exchange()
        keep: list[Any] = []
        lib.ngx_webtorch_exchange_negotiate(exchange, _message(message, keep))
        return exchange

    def tensor(self, message: Message, answer: Answer) -> Response:
        """Return a response that is a tensor."""
        exchange = self.negotiate(message)
        encoded = ffi.new("webtorch_message_t *")
        if lib.ngx_webtorch_exchange_encode_reply(exchange, answer.tensor, encoded) != 0:
            return _exchange_error(exchange)
        vary = [] if answer.content_type else [VARY]
        return _encoded(encoded, answer.status, [*vary, *answer.headers])


class Loop:
    """A loop of asyncio in a thread of its own, as a worker has one."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._call: asyncio.Task[None] | None = None
        # a client makes one call at a time
        self._done = threading.Event()

    def run(self, runner: Any, batch: Any) -> None:
        """Run the next step of a job's coroutine or generator, and wait for it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._serve, daemon=True, name="webtorch asyncio").start()
        self._done.clear()
        self._loop.call_soon_threadsafe(self._begin, runner, batch)
        self._done.wait()

    def _serve(self) -> None:
        assert self._loop
        asyncio.set_event_loop(self._loop)
        torch.set_grad_enabled(False)
        self._loop.run_forever()

    def _end(self, batch: Any) -> None:
        self._done.set()

    def _begin(self, runner: Any, batch: Any) -> None:
        try:
            if isinstance(runner, GeneratorRunner):
                feed = runner.feed(batch, self._end)
                if feed is not None and feed.task is None:
                    feed.task = asyncio.ensure_future(feed)
                return
            call = Call(runner, batch, runner.start(batch.jobs), self._end)
        except BaseException as error:
            runner.answer_error(batch.jobs, error, False)
            self._done.set()
            return
        self._call = asyncio.ensure_future(call)


def _run(runner: Any, batch: Any) -> None:
    runner.run(0, 0, 1, batch)


def _batch(jobs: int) -> tuple[Any, Any]:
    """Return a batch and its jobs, which must be kept as long."""
    array = ffi.new("webtorch_job_t[]", jobs)
    batch = ffi.new("webtorch_batch_t *")
    batch.jobs = array
    batch.njobs = jobs
    return batch, array


def _message(message: Message, keep: list[Any]) -> Any:
    """Return a request as C reads it; `keep` keeps its memory."""
    target = ffi.new("webtorch_message_t *")

    def point(value: Any, text: str | None) -> None:
        if text is not None:
            memory = ffi.from_buffer(text.encode(errors="surrogateescape") + b"\0")
            keep.append(memory)
            value.data = memory
            value.len = len(memory) - 1

    point(target.content_type, message.headers.get("content-type"))
    point(target.accept, message.headers.get("accept"))
    point(target.shape, message.headers.get("tensor-shape"))
    body = ffi.from_buffer(message.body + PADDING)
    keep.append(body)
    target.body.data = body
    target.body.len = len(message.body)
    return target


def _pack(message: Message, values: Sequence[str | None]) -> tuple[Any, Any]:
    """Return a webtorch_request_t and its memory: a block of lengths and strings."""

    def encoded(text: str) -> bytes:
        return text.encode(errors="surrogateescape")

    line = [encoded(text) for text in (message.method, message.path, message.args)]
    headers = [encoded(text) for pair in message.without("content-encoding") for text in pair]
    texts = [None if value is None else encoded(value) for value in values]
    lengths = [lib.WEBTORCH_NOT_SET if text is None else len(text) for text in texts]
    lengths += map(len, headers)
    strings = b"".join([*line, *(text or b"" for text in texts), *headers, message.body])
    size = _FIXED + 4 * len(lengths) + len(strings)
    block = ffi.new("char[]", size)
    request = ffi.cast("webtorch_request_t *", block)
    request.size = size
    request.body = len(message.body)
    request.method, request.path, request.args = map(len, line)
    request.nheaders = len(headers) // 2
    request.nvars = len(texts)
    tail = struct.pack(f"={len(lengths)}I", *lengths) + strings
    ffi.memmove(block + _FIXED, tail, len(tail))
    return request, block


def _encoded(answer: Any, status: int, headers: list[tuple[str, str]]) -> Response:
    kind = ffi.buffer(answer.content_type.data, answer.content_type.len)[:].decode()
    if answer.shape.data:
        shape = ffi.buffer(answer.shape.data, answer.shape.len)[:].decode()
        headers = [("Tensor-Shape", shape), *headers]
    return response(status, kind, ffi.buffer(answer.body.data, answer.body.len)[:], headers)


def response(
    status: int, kind: str, body: bytes, headers: Sequence[tuple[str, str]] = ()
) -> Response:
    """Return a response with the headers that nginx writes."""
    ours = [("Content-Type", kind)] if kind else []
    return Response(status, [*ours, ("Content-Length", str(len(body))), *headers], body)


def error(
    status: int,
    code: str,
    text: str,
    headers: Sequence[tuple[str, str]] = (),
    detail: bytes = b"",
) -> Response:
    """Return a response that is an error."""
    import json

    # a text may quote bytes of the request
    clean = re.sub("[\ud800-\udfff]", "?", text)
    head = json.dumps({"error": clean, "code": code}, ensure_ascii=False)
    body = head.encode()
    if detail:
        body = body[:-1] + b', "detail": ' + detail + b"}"
    return response(status, JSON, body + b"\n", headers)


def _exchange_error(exchange: Any) -> Response:
    found = ffi.new("webtorch_error_t *")
    lib.ngx_webtorch_exchange_get_error(exchange, found)
    if not found.status:
        return handler_failed()
    text = ffi.string(found.text).decode(errors="replace")
    vary = [VARY] if found.status == 406 else []
    return error(found.status, ffi.string(found.code).decode(), text, vary)


def handler_failed(status: int = 500) -> Response:
    """Return the response to a request whose function has raised."""
    return error(status, "handler_failed", "the handler failed, see the error log")


def failed(answer: Answer) -> Response:
    """Return the response to a job that has failed."""
    if answer.failure is None:
        return handler_failed(answer.status)
    message, code, detail = answer.failure
    if not code:
        found = lib.ngx_webtorch_status_code(answer.status)
        code = ffi.string(found).decode() if found else "handler_error"
    return error(answer.status, code, message, answer.headers, detail)


def read_file(path: Path) -> tuple[bytes, str] | None:
    """Return the content of a file and its media type; None: it cannot be read."""
    import mimetypes

    try:
        return path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    except OSError:
        return None
