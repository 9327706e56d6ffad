"""The runner that begins and ends streams; it touches cffi."""

from typing import Any

from webtorch._streams import StreamFunction
from webtorch._worker.failures import Failures
from webtorch._worker.request_runner import _take_request

LIFE = "/life"
"""Follows the name of a handler in that of this runner's."""


class LifeRunner:
    """Calls `open` and `close` of a stream function: a job for each call.

    Args:
        name: Name of the handler, `module:function`, and LIFE.
        handler: The handler, which may be replaced by one with the same states.

    """

    def __init__(self, name: str, handler: StreamFunction) -> None:
        self.name = name
        self.handler = handler
        name = name.removesuffix(LIFE)
        self._opened = Failures(f"{name}.open")
        self._closed = Failures(f"{name}.close")

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run the jobs of a batch, a webtorch_batch_t, one after the other."""
        for index in range(batch.njobs):
            job = batch.jobs + index
            place = job.request.place
            if job.request.closing:
                self._end(job, place, job.request.other)
            else:
                self._begin(job, place)

    def _begin(self, job: Any, place: int) -> None:
        try:
            self.handler.begin(place, _take_request(job, ()))
        except BaseException as error:
            self._opened.answer(job, error)

    def _end(self, job: Any, place: int, other: int) -> None:
        """End a stream; C frees the request and counts a failure."""
        try:
            self.handler.end(place, (other,))
        except BaseException as error:
            self._closed.answer(job, error)
