"""The runner that begins and ends streams; it touches cffi."""

import contextvars
from collections.abc import Sequence
from typing import Any

import torch

from webtorch._native import ffi
from webtorch._streams.resumable import ResumableFunction
from webtorch._streams.streams import StreamFunction
from webtorch._worker.exchange.failures import Failures
from webtorch._worker.exchange.replies import send_result
from webtorch._worker.exchange.requests import Names, take_request
from webtorch._worker.runners.replaceable import Replaceable

LIFE = "/life"
"""Follows the name of a handler in that of this runner's."""


class LifeRunner(Replaceable):
    """Calls `open` and `close` of a stream function: a job for each call.

    Calls for several streams run in several threads. C posts the call for the end of a stream when
    no other one has its rows.

    Args:
        name: Name of the handler, `module:function`, and LIFE.
        handler: The handler.
        captures: Named captures of its location.

    """

    handler: StreamFunction | ResumableFunction

    def __init__(
        self, name: str, handler: StreamFunction | ResumableFunction, captures: Sequence[str]
    ) -> None:
        self.name = name
        self.handler = handler
        if isinstance(handler, StreamFunction):
            # created before several threads use them
            _ = handler.tables
        self._names = Names((), captures)
        name = name.removesuffix(LIFE)
        self._opened = Failures(f"{name}.open")
        self._closed = Failures(f"{name}.close")

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run the jobs of a batch, a webtorch_batch_t, one after the other, each in a context."""
        for index in range(batch.njobs):
            job = batch.jobs + index
            place = _place(job.request)
            context = contextvars.copy_context()
            if job.request.closing:
                context.run(self._end, job, place, job.request.old_state_row)
            else:
                context.run(self._begin, job, place)

    def _begin(self, job: Any, place: Any) -> None:
        """Begin a stream; the reply says that it is to be ended, also without a waiter."""
        try:
            self.handler.begin(place, take_request(job, self._names))
            send_result(job, "")
        except BaseException as error:
            self._opened.answer(job, error)

    def _end(self, job: Any, place: Any, other: int) -> None:
        """End a stream; C frees the request and counts a failure."""
        try:
            self.handler.end(place, other)
        except BaseException as error:
            self._closed.answer(job, error)


def _place(request: Any) -> Any:
    """Return the number of a stream's row, or its states in C's memory, uint8 `[bytes]`."""
    if request.states == ffi.NULL:
        return request.state_row
    if not request.states_size:
        return torch.empty(0, dtype=torch.uint8)
    memory = ffi.buffer(request.states, request.states_size)
    return torch.frombuffer(memory, dtype=torch.uint8)
