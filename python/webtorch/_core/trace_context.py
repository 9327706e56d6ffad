"""Traces of requests, as the header `traceparent` of W3C's Trace Context names them."""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

NONE = "-"
"""What logs have in place of a trace."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of a request, and the span of its caller."""

    trace_id: str
    """16 bytes in hexadecimal digits."""
    span_id: str
    """8 bytes in hexadecimal digits."""
    is_sampled: bool
    """Whether the caller records the trace."""


def parse(header: str) -> Trace | None:
    """Return what a header `traceparent` says; None if it is not one."""
    found = _TRACEPARENT.fullmatch(header)
    if not found:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    return Trace(trace, span, bool(int(flags, 16) & 1))


current: ContextVar[Callable[[], str] | None] = ContextVar("webtorch_trace", default=None)
"""Returns the identifiers of the traces of the requests that the current call is for."""


has_spans: ContextVar[bool] = ContextVar("webtorch_spans", default=False)
"""Whether the current call has a span, which those of stages are in."""


def current_ids() -> str:
    """Return the identifiers of the current traces, `-` without one."""
    ids = current.get()
    return (ids and ids()) or NONE


def install_in_logs() -> None:
    """Let each record of `logging` have an attribute `trace_id`."""
    make = logging.getLogRecordFactory()

    def make_traced(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.trace_id = current_ids()
        return record

    logging.setLogRecordFactory(make_traced)
