"""The asyncio loop of a worker, in which handlers under `async def` run; it touches cffi."""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import torch

from webtorch._core import pytorch
from webtorch._models import model_versions
from webtorch._native import ffi, lib
from webtorch._worker.runners import slow_coroutines
from webtorch._worker.runners.coroutine_steps import Steps
from webtorch._worker.runners.generator_runner import Feed, GeneratorRunner
from webtorch._worker.runners.posting import Posting
from webtorch._worker.runners.request_runner import RequestRunner
from webtorch._worker.telemetry import batch_logs, spans
from webtorch._worker.telemetry.batch_traces import tracing

log = logging.getLogger("webtorch")

CALLS_AT_ONCE = 64
"""Calls that are taken over from C at once."""

PATIENCE = 1.0
"""Seconds that a worker which exits waits for running calls before it cancels them."""

GRACE = 5.0
"""Seconds that tasks have to end after that."""


class Call(Steps):
    """The call of a handler for one request.

    Args:
        runner: The handler's runner, which answers.
        batch: The batch of this request, a webtorch_batch_t.
        coroutine: The handler's coroutine.
        end: Called when it has ended.

    """

    __slots__ = ("_batch", "_end", "_runner")

    def __init__(
        self,
        runner: RequestRunner,
        batch: Any,
        coroutine: Coroutine[Any, Any, Any],
        end: Callable[[Any], None],
    ) -> None:
        super().__init__(coroutine)
        self._runner = runner
        self._batch = batch
        self._end = end

    def _returned(self, value: Any) -> None:
        self._runner.answer(self._batch.jobs, value)

    def _raised(self, error: BaseException) -> None:
        self._runner.answer_error(self._batch.jobs, error, self.is_cancelled)

    def _ended(self) -> None:
        self._end(self._batch)


class Loop(threading.Thread):
    """The thread of the loop; it is started before the worker serves.

    Args:
        runners: Runners of handlers, by their numbers.
        posting: The batches whose results it takes.
        threads: Threads of an operator of torch.

    """

    def __init__(
        self, runners: Mapping[int, RequestRunner], posting: Posting, threads: int
    ) -> None:
        super().__init__(name="webtorch asyncio", daemon=True)
        self._posting = posting
        self._runners = runners
        self._torch_threads = threads
        self._batches = ffi.new("webtorch_batch_t *[]", CALLS_AT_ONCE)
        self._calls: dict[Any, tuple[asyncio.Task[None], Call | Feed]] = {}
        self._spans: dict[Any, spans.CallSpan] = {}
        self._slow: dict[Any, asyncio.TimerHandle] = {}
        self._begun = threading.Event()
        self._beats: asyncio.TimerHandle | None = None
        self._is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread, and wait until it takes calls."""
        super().start()
        self._begun.wait()

    def run(self) -> None:
        """Run the loop until `stop` is called."""
        try:
            self._loop = self._posting.loop = loop = _new_event_loop()
            asyncio.set_event_loop(loop)
            self._set_up_thread()
            executor = concurrent.futures.ThreadPoolExecutor(
                thread_name_prefix="webtorch asyncio", initializer=self._set_up_thread
            )
            loop.set_default_executor(executor)
            loop.add_reader(lib.ngx_webtorch_async_begin(), self._take)
        finally:
            self._begun.set()
        while not self._is_stopping:
            try:
                loop.run_forever()
            except BaseException as error:  # SystemExit of a task, for example
                log.error("asyncio's loop was left by %r, it goes on", error)

    def stop(self) -> bool:
        """End all calls and tasks, and the thread; return whether that succeeded.

        Calls that run are awaited, then all tasks are cancelled.
        """
        if not self.is_alive() or not self._loop:
            return True
        future = asyncio.run_coroutine_threadsafe(self._finish(), self._loop)
        try:
            future.result(PATIENCE + GRACE + 1)
        except BaseException as error:
            is_stuck = isinstance(error, TimeoutError)
            log.warning("asyncio's loop did not end: %s", "it is stuck" if is_stuck else error)
            return False
        self._is_stopping = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(GRACE)
        return not self.is_alive() and not self._calls

    def _set_up_thread(self) -> None:
        torch.set_num_threads(self._torch_threads)
        pytorch.set_grad_enabled(False)

    def _take(self) -> None:
        """Begin with the calls that nginx's event loop has handed over, and cancel some."""
        batches = self._batches
        taken = CALLS_AT_ONCE
        while taken == CALLS_AT_ONCE:
            taken = lib.ngx_webtorch_async_take(batches, CALLS_AT_ONCE)
            for batch in batches[0:taken]:
                self._begin(batch)
        cancelled = CALLS_AT_ONCE
        while cancelled == CALLS_AT_ONCE:
            cancelled = lib.ngx_webtorch_async_cancelled(batches, CALLS_AT_ONCE)
            for batch in batches[0:cancelled]:
                self._cancel(batch)
        self._posting.take_finished()
        self._beat()

    def _begin(self, batch: Any) -> None:
        if model_versions.table and (number := batch.sizes[lib.WEBTORCH_VERSION_SET]):
            # the task copies the context
            model_versions.using(number, self._begin_call, batch)
        else:
            self._begin_call(batch)

    def _begin_call(self, batch: Any) -> None:
        if batch.watch & lib.WEBTORCH_WATCH_TRACE:
            # the task copies the context
            with tracing(batch), self._span_of(batch):
                self._begin_traced(batch)
        else:
            self._begin_traced(batch)

    def _span_of(self, batch: Any) -> contextlib.AbstractContextManager[object]:
        """Begin the span of a sampled call, which `_end` ends."""
        span = spans.begin(self._runners[batch.handler].name, batch)
        if span is None:
            return contextlib.nullcontext()
        self._spans[batch] = span
        return span

    def _begin_traced(self, batch: Any) -> None:
        runner = self._runners[batch.handler]
        if isinstance(runner, GeneratorRunner):
            self._begin_item(runner, batch)
            return
        try:
            call = Call(runner, batch, runner.start(batch.jobs), self._end)
        except BaseException as error:
            runner.answer_error(batch.jobs, error, False)
            self._end(batch)
            return
        loop: Any = self._loop
        task = loop.create_task(call)
        # it has ended if the user's loop starts tasks at once
        if not task.done():
            self._calls[batch] = task, call
            if runner.slow:
                self._slow[batch] = loop.call_later(runner.slow, self._report_slow, batch)

    def _report_slow(self, batch: Any) -> None:
        """Log a call that takes longer than `webtorch_slow` allows, and what it awaits."""
        del self._slow[batch]
        runner = self._runners[batch.handler]
        _, call = self._calls[batch]
        slow_coroutines.report(runner.name, runner.slow, call.coroutine)

    def _begin_item(self, runner: GeneratorRunner, batch: Any) -> None:
        """Begin with an item of an asynchronous generator, in the task of that."""
        try:
            feed = runner.feed(batch, self._end)
        except BaseException as error:
            runner.answer_error(batch.jobs, error, False)
            self._end(batch)
            return
        if feed is None:
            return
        if feed.task is None:
            loop: Any = self._loop
            feed.task = loop.create_task(feed)
        if feed.batch == batch:
            self._calls[batch] = feed.task, feed

    def _end(self, batch: Any) -> None:
        """Give a batch back, together with those of other calls that are ready now."""
        if batch.watch & lib.WEBTORCH_WATCH_MODELS:
            batch_logs.write_models(batch)
        # it is not there if the user's loop has started the task at once
        self._calls.pop(batch, None)
        if self._spans and (span := self._spans.pop(batch, None)):
            span.end()
        if self._slow and (timer := self._slow.pop(batch, None)):
            timer.cancel()
        if lib.ngx_webtorch_async_done(batch) and self._loop:
            self._loop.call_soon(_flush)

    def _cancel(self, batch: Any) -> None:
        if found := self._calls.get(batch):
            task, call = found
            call.is_cancelled = True
            task.cancel()

    def _beat(self) -> None:
        """Show that the loop is not stuck, again and again while calls with `stuck=` run."""
        milliseconds = lib.ngx_webtorch_async_beat()
        if self._beats:
            # a call that has begun may have a shorter time
            self._beats.cancel()
            self._beats = None
        if milliseconds and self._loop:
            self._beats = self._loop.call_later(milliseconds / 1000, self._beat)

    async def _finish(self) -> None:
        """Wait for the calls, then cancel them and all other tasks."""
        await _wait((task for task, _ in self._calls.values()), PATIENCE)
        for _, call in self._calls.values():
            call.is_cancelled = True
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await _wait(others, GRACE)
        loop: Any = self._loop
        await asyncio.wait_for(loop.shutdown_asyncgens(), 1)


def _flush() -> None:
    lib.ngx_webtorch_async_flush()


async def _wait(tasks: Iterable[asyncio.Task[Any]], timeout: float) -> None:
    if waiting := [*tasks]:
        await asyncio.wait(waiting, timeout=timeout)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop, if that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
