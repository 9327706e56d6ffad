"""The runner of handlers that yield the items of their answers; it touches cffi."""

import asyncio
import contextvars
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import Any

import torch

from webtorch._core import pytorch
from webtorch._handlers.functions import RequestFunction
from webtorch._handlers.items import ItemWriter
from webtorch._handlers.response import Response, encode
from webtorch._native import ffi, lib
from webtorch._worker.exchange.replies import REDIRECT, point, set_headers
from webtorch._worker.exchange.requests import take_request
from webtorch._worker.runners.coroutine_steps import Steps
from webtorch._worker.runners.request_runner import RequestRunner


class GeneratorRunner(RequestRunner):
    """Runs the batches of a handler that yields: a job for each item.

    C numbers the generators. The first job of one has its request, the others have its number. C
    posts one job of a generator at a time, and a last one if the client has gone before the end.

    Args:
        name: Name of the handler, `module:function`.
        handler: The handler.
        captures: Named captures of its location.

    Raises:
        SignatureError: Nothing fills an argument of the handler.

    """

    def __init__(self, name: str, handler: RequestFunction, captures: Sequence[str]) -> None:
        super().__init__(name, handler, captures)
        self._generators: dict[int, tuple[Generator[Any, Any, Any], ItemWriter, Any]] = {}
        self._feeds: dict[int, Feed] = {}

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run the jobs of a batch, a webtorch_batch_t, one after the other."""
        for index in range(batch.njobs):
            job = batch.jobs + index
            place = job.request.state_row
            try:
                if job.request.closing:
                    self._close(place)
                elif job.request.next:
                    self._next(job, place)
                else:
                    self._first(job, place)
            except BaseException as error:
                self._failures.answer(job, error)

    def _first(self, job: Any, place: int) -> None:
        request = take_request(job, self.names)
        # its variables are its own, in whatever thread its items are computed
        context = contextvars.copy_context()
        generator = context.run(self._call, request)
        writer = ItemWriter(self.handler.content_type, request.headers.get("accept", ""))
        self._generators[place] = generator, writer, context
        self._step(job, place, True)

    def _next(self, job: Any, place: int) -> None:
        self._step(job, place, False)

    def _step(self, job: Any, place: int, is_first: bool) -> None:
        """Answer a job with the next item; the generator is closed if that cannot be sent."""
        generator, writer, context = self._generators[place]
        before = torch.is_grad_enabled()
        pytorch.set_grad_enabled(False)
        try:
            item = context.run(next, generator)
            if is_first:
                send_first(job, item, writer)
            else:
                send_item(job, item, writer)
        except StopIteration:
            del self._generators[place]
            if is_first:
                send_empty(job, writer)
        except BaseException:
            del self._generators[place]
            context.run(generator.close)
            raise
        finally:
            pytorch.set_grad_enabled(before)

    def _close(self, place: int) -> None:
        """Close a generator whose client has gone: its `finally` blocks run."""
        found = self._generators.pop(place, None)
        if found is None:
            return
        generator, _, context = found
        if inspect.getgeneratorstate(generator) == inspect.GEN_RUNNING:
            # the worker exits without waiting for it
            return
        with torch.no_grad():
            context.run(generator.close)

    def close_all(self) -> None:
        """Close all generators, as the worker exits."""
        for place in [*self._generators]:
            try:
                self._close(place)
            except BaseException as error:
                self.log(error)

    # --- asynchronous generators ---

    def feed(self, batch: Any, end: Callable[[Any], None]) -> "Feed | None":
        """Return the feed that a batch is for, a new one for a new request; None: it has ended.

        Args:
            batch: The batch of one job, a webtorch_batch_t.
            end: Called with a batch that is answered.

        """
        job = batch.jobs
        place = job.request.state_row
        if job.request.closing or job.request.next:
            feed = self._feeds.get(place)
            if feed is None:
                end(batch)
                return None
            feed.resume(batch)
            return feed
        request = take_request(job, self.names)
        writer = ItemWriter(self.handler.content_type, request.headers.get("accept", ""))
        generator = contextvars.copy_context().run(self._call, request)
        return Feed(self, place, generator, writer, batch, end)


class Feed(Steps):
    """An asynchronous generator, which one task of asyncio runs to its end.

    Between two items the task waits for the next job.

    Args:
        runner: The handler's runner.
        place: Number of the generator.
        generator: The generator.
        writer: Encodes its items.
        batch: The batch of the first item.
        end: Called with a batch that is answered.

    """

    __slots__ = ("_end", "_generator", "_next", "_place", "_runner", "_writer", "batch", "task")

    def __init__(
        self,
        runner: GeneratorRunner,
        place: int,
        generator: AsyncGenerator[Any, Any],
        writer: ItemWriter,
        batch: Any,
        end: Callable[[Any], None],
    ) -> None:
        super().__init__(self._run())
        self._runner = runner
        self._place = place
        self._generator = generator
        self._writer = writer
        self._end = end
        self._next: asyncio.Future[Any] | None = None
        self.batch: Any = batch
        self.task: Any = None
        runner._feeds[place] = self

    def resume(self, batch: Any) -> None:
        """Continue for the next item, or for the end."""
        self.batch = batch
        if self._next and not self._next.done():
            self._next.set_result(None)

    async def _run(self) -> None:
        send: Callable[[Any, Any, ItemWriter], None] = send_first
        try:
            async for item in self._generator:
                send(self.batch.jobs, item, self._writer)
                send = send_item
                self._give_back()
                # the next job may have come already
                if self.batch is None:
                    self._next = asyncio.get_running_loop().create_future()
                    await self._next
                if self.batch.jobs.request.closing:
                    return
            if send is send_first:
                send_empty(self.batch.jobs, self._writer)
        finally:
            await self._generator.aclose()

    def _give_back(self) -> None:
        batch, self.batch = self.batch, None
        self._end(batch)

    def _returned(self, value: Any) -> None:
        """Do nothing: the last item is sent."""

    def _raised(self, error: BaseException) -> None:
        if self.batch is not None:
            self._runner.answer_error(self.batch.jobs, error, self.is_cancelled)
        elif not isinstance(error, asyncio.CancelledError):
            self._runner.log(error)

    def _ended(self) -> None:
        self._runner._feeds.pop(self._place, None)
        if self.batch is not None:
            self._give_back()


def send_first(job: Any, item: Any, writer: ItemWriter) -> None:
    """Answer a job with the head of an answer and its first item, which C copies.

    A `webtorch.Response` is the head, and its body the first item unless it is empty.

    Raises:
        TypeError: The item cannot be sent.
        ValueError: A header is not allowed.

    """
    if isinstance(item, Response):
        is_empty = item.body is None or item.body == b""
        _send_head(job, item, writer, [] if is_empty else [item.body])
    else:
        _send_head(job, Response(), writer, [item])


def send_item(job: Any, item: Any, writer: ItemWriter) -> None:
    """Answer a job with another item, which C copies.

    Raises:
        TypeError: The item cannot be sent.

    """
    if isinstance(item, Response):
        raise TypeError("a webtorch.Response is the first item of a generator or none")
    data = writer.write(item)
    if lib.ngx_webtorch_job_reply_item(job, data, len(data)) != 0:
        raise MemoryError


def send_empty(job: Any, writer: ItemWriter) -> None:
    """Answer a job of a generator that has ended without an item."""
    _send_head(job, Response(), writer, None)


def _send_head(job: Any, response: Response, writer: ItemWriter, items: list[Any] | None) -> None:
    """Send the head of an answer with up to one item; None: it has no items at all."""
    headers, content_type = response.checked_headers()
    if any(name.lower() == REDIRECT for name, _ in headers):
        raise ValueError("a generator cannot answer with X-Accel-Redirect")
    kind = writer.begin(content_type, items)
    reply = ffi.new("webtorch_reply_t *")
    reply.status = response.status
    reply.tensor.ndim = -1
    reply.more = items is not None
    keep: list[Any] = []  # memory that the reply points to, until it is copied
    point(reply.body, b"".join(map(writer.write, items or ())), keep)
    point(reply.content_type, encode(kind), keep)
    set_headers(reply, headers, keep)
    if lib.ngx_webtorch_job_reply(job, reply) != 0:
        raise MemoryError
