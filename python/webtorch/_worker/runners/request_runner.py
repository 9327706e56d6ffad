"""The runner of custom handlers' batches."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from webtorch._handlers.functions import RequestFunction
from webtorch._native import ffi, lib
from webtorch._worker.exchange.failures import Failures
from webtorch._worker.exchange.replies import send_result
from webtorch._worker.exchange.requests import Names, take_request


class RequestRunner:
    """Runs the batches of a custom handler: a call for each request.

    Args:
        name: Name of the handler, `module:function`.
        handler: The handler.
        captures: Named captures of its location.

    Raises:
        SignatureError: Nothing fills an argument of the handler.

    """

    def __init__(self, name: str, handler: RequestFunction, captures: Sequence[str]) -> None:
        self.name = name
        self.names = Names(handler.variables, captures)
        self._failures = Failures(name)
        self.handler = handler
        self.slow = 0.0
        """Seconds after which the call of a coroutine is slow; 0: none is."""
        self._call = handler.bind(captures)

    def prepare(self, handler: Any) -> Callable[[], None]:
        """Return a function that takes a handler with the same variables instead.

        Raises:
            SignatureError: Nothing fills an argument of it.

        """
        call = handler.bind(self.names.captures)

        def replace() -> None:
            self.handler = handler
            self._call = call

        return replace

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run the requests of a batch, a webtorch_batch_t, one after the other.

        Each has a context of its own: variables that a call sets are not seen by others.
        """
        run = self.handler.run
        for index in range(batch.njobs):
            job = batch.jobs + index
            context = contextvars.copy_context()
            try:
                send_result(job, context.run(run, self._call, take_request(job, self.names)))
            except BaseException as error:
                self._failures.answer(job, error)

    def start(self, job: Any) -> Coroutine[Any, Any, Any]:
        """Return the coroutine that answers a job, for a handler under `async def`.

        Conversions of its arguments may run code of the application: not in the context that the
        tasks of all requests copy.
        """
        request = take_request(job, self.names)
        coroutine: Coroutine[Any, Any, Any] = contextvars.copy_context().run(self._call, request)
        return coroutine

    def answer(self, job: Any, result: Any) -> None:
        """Answer a job with what the coroutine has returned."""
        try:
            send_result(job, result)
        except BaseException as error:
            self._failures.answer(job, error)

    def answer_error(self, job: Any, error: BaseException, is_cancelled: bool) -> None:
        """Answer a job whose coroutine has raised; no request waits for one that was cancelled."""
        if is_cancelled and isinstance(error, asyncio.CancelledError):
            lib.ngx_webtorch_job_fail(job, 500, ffi.NULL)
        else:
            self._failures.answer(job, error)

    def log(self, error: BaseException) -> None:
        """Log an exception that no request is answered with."""
        self._failures.log(error)
