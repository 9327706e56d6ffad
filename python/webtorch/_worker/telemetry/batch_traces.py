"""Traces of the requests that a batch is for; it touches cffi."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from webtorch._core import trace_context
from webtorch._native import ffi

MAX_IDS = 16
"""Traces that a record of `logging` names, at most."""


class Ids:
    """The identifiers of a batch's traces, which are read when they are needed.

    Args:
        batch: A webtorch_batch_t.
        is_request: Whether the call is for one request, after which tasks and threads may run on:
            they are read at once.

    """

    __slots__ = ("_batch", "_text")

    def __init__(self, batch: Any, is_request: bool) -> None:
        self._batch = batch
        self._text: str | None = None
        if is_request:
            self()

    def __call__(self) -> str:
        """Return the identifiers, joined with commas."""
        if self._text is None:
            traces = itertools.islice(traces_of(self._batch), MAX_IDS)
            self._text = ",".join(dict.fromkeys(hex_of(trace.trace) for trace in traces))
        return self._text

    def close(self) -> None:
        """Forget the batch, whose memory C uses again; contexts may be kept for longer."""
        if self._text is None:
            self._text = ""
        self._batch = None


def traces_of(batch: Any) -> Iterator[Any]:
    """Yield the traces of a batch's requests, webtorch_trace_t."""
    for index in range(batch.njobs):
        if trace := batch.jobs[index].trace:
            yield trace


def hex_of(identifier: Any) -> str:
    """Return an identifier, an array of bytes in C, in hexadecimal digits."""
    return bytes(ffi.buffer(identifier, ffi.sizeof(identifier))).hex()


@contextlib.contextmanager
def tracing(batch: Any) -> Iterator[None]:
    """Let records of `logging` have the trace of a request, the only one of a batch."""
    token = trace_context.current.set(Ids(batch, True))
    try:
        yield
    finally:
        trace_context.current.reset(token)
