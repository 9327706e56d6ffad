"""Spans of calls for OpenTelemetry, if the application has loaded its SDK; it touches cffi."""

import itertools
import logging
import math
import sys
import threading
import time
from typing import Any

from webtorch._core import trace_context
from webtorch._metrics import stages
from webtorch._native import ffi, lib
from webtorch._worker.telemetry.batch_traces import hex_of, traces_of

log = logging.getLogger("webtorch")

_TAKEN = 64
"""Spans that are taken over from C at once."""

_MAX_SPANS = 64
"""Sampled requests of a call that have spans: any client may ask for them, each takes time."""

_INTERVAL = 1.0
"""Seconds between two messages about failures of one kind."""

_CLOCK_AGE = 10_000_000_000
"""Nanoseconds after which the difference of the clocks is measured again."""


def begin(name: str, batch: Any) -> "CallSpan | None":
    """Begin the span of a call; None if no request is sampled, or there is no SDK.

    Args:
        name: Name of the handler, `module:function`.
        batch: A webtorch_batch_t.

    """
    if not batch.watch & lib.WEBTORCH_WATCH_SPANS or "opentelemetry.sdk.trace" not in sys.modules:
        return None
    # samplers and processors are code of the application, for which no request must fail
    try:
        sampled = _sampled(batch)
        # those that were have left the batch while it waited
        return CallSpan(name, batch, sampled) if sampled else None
    except Exception:
        _log_failure("begin")
        return None


class CallSpan:
    """The span of a call, which is current within it, and those of its requests' waiting.

    Args:
        name: Name of the handler, `module:function`.
        batch: A webtorch_batch_t.
        sampled: The trace of each sampled request, a webtorch_trace_t, and its context.

    """

    def __init__(self, name: str, batch: Any, sampled: list[tuple[Any, Any]]) -> None:
        from opentelemetry import context, trace

        self._batch = batch
        self._detach = context.detach
        tracer = _tracer()
        now = time.monotonic_ns()
        start = _wall(now)
        attributes = {"webtorch.handler": name, "webtorch.batch.rows": batch.rows}
        attributes["webtorch.batch.requests"] = batch.njobs
        contexts = [each for _, each in sampled]
        parent = trace.set_span_in_context(trace.NonRecordingSpan(contexts[0]))
        self._span = tracer.start_span(
            "webtorch.run",
            context=parent,
            links=[trace.Link(each) for each in contexts] if len(contexts) > 1 else None,
            attributes=attributes,
            start_time=start,
        )
        link = [trace.Link(self._span.get_span_context())]
        for found, each in sampled:
            queue = tracer.start_span(
                "webtorch.queue",
                context=trace.set_span_in_context(trace.NonRecordingSpan(each)),
                links=link,
                attributes={"webtorch.handler": name},
                start_time=_wall(min(found.queued * 1000, now)),
            )
            queue.end(start)
        self._current = trace.set_span_in_context(self._span)
        self._attach = context.attach
        _taker.begin()

    def __enter__(self) -> "CallSpan":
        self._token = self._attach(self._current)
        self._of_stages = trace_context.has_spans.set(True)
        return self

    def __exit__(self, *_: object) -> None:
        trace_context.has_spans.reset(self._of_stages)
        self._detach(self._token)

    def end(self) -> None:
        """End the span: the call has returned."""
        try:
            self._end()
        except Exception:
            _log_failure("end")

    def _end(self) -> None:
        from opentelemetry.trace import Status, StatusCode

        jobs = self._batch.jobs[0 : self._batch.njobs]
        if failed := [job.status for job in jobs if job.status]:
            self._span.set_attribute("webtorch.status", max(failed))
            if max(failed) >= 500:
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(_wall(time.monotonic_ns()))


class StageSpan:
    """The span of a stage, within that of the call."""

    def __init__(self, name: str) -> None:
        from opentelemetry import context, trace

        self._detach = context.detach
        self._span = _tracer().start_span(name)
        self._token = context.attach(trace.set_span_in_context(self._span))

    def end(self, error: BaseException | None) -> None:
        """End it, with the exception that has left the stage."""
        self._detach(self._token)
        try:
            self._end(error)
        except Exception:
            _log_failure("end")

    def _end(self, error: BaseException | None) -> None:
        if error is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _begin_stage(name: str) -> StageSpan | None:
    """Begin the span of a stage; None if that fails, as no request must for its spans."""
    try:
        return StageSpan(name)
    except Exception:
        _log_failure("begin")
        return None


class _Taker:
    """A thread that exports what C has measured: the time to encode an answer, and to send it."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="webtorch spans", daemon=True
                    )
                    # spans are kept from now on, before the thread runs
                    lib.ngx_webtorch_spans_take(ffi.NULL, 0)
                    self._thread.start()
                    stages.open_span = _begin_stage

    def stop(self) -> None:
        """Take the rest, before the exit functions of the SDK run."""
        if self._thread is not None:
            lib.ngx_webtorch_spans_stop()
            self._thread.join(1)

    def _run(self) -> None:
        spans = ffi.new("webtorch_trace_span_t[]", _TAKEN)
        while count := lib.ngx_webtorch_spans_take(spans, _TAKEN):
            for index in range(count):
                try:
                    _export(spans[index])
                except Exception:
                    _log_failure("be exported")


def _export(found: Any) -> None:
    """Make a span of a webtorch_trace_span_t."""
    from opentelemetry import trace

    parent = trace.NonRecordingSpan(_context_of(found.trace))
    span = _tracer().start_span(
        "webtorch.encode",
        context=trace.set_span_in_context(parent),
        attributes={"http.response.status_code": found.status},
        start_time=_wall(found.begun * 1000),
    )
    span.end(_wall(found.ended * 1000))


_taker = _Taker()
stop = _taker.stop


# of each kind of failure: the time of its last message
_logged: dict[str, float] = {}


def _log_failure(what: str) -> None:
    """Log the exception for which a span could not do something, at most once a second."""
    now = time.monotonic()
    if now - _logged.get(what, -math.inf) >= _INTERVAL:
        _logged[what] = now
        log.exception("a span could not %s:", what)


def _tracer() -> Any:
    from opentelemetry import trace

    return trace.get_tracer("webtorch")


def _sampled(batch: Any) -> list[tuple[Any, Any]]:
    """Return traces and contexts of the first sampled requests of a webtorch_batch_t."""
    sampled = (found for found in traces_of(batch) if found.sampled)
    return [(found, _context_of(found)) for found in itertools.islice(sampled, _MAX_SPANS)]


def _context_of(found: Any) -> Any:
    """Return the context of a request's caller, of a webtorch_trace_t."""
    from opentelemetry import trace

    return trace.SpanContext(
        int(hex_of(found.trace), 16),
        int(hex_of(found.span), 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )


class _Clock:
    """The difference between the time of day and the clock that C measures with."""

    def __init__(self) -> None:
        self._measured = 0
        self._offset = 0

    def offset(self) -> int:
        """Return the difference in nanoseconds."""
        now = time.monotonic_ns()
        if not self._measured or now - self._measured > _CLOCK_AGE:
            # a thread that is interrupted between the two sees too little
            self._offset = max(time.time_ns() - time.monotonic_ns() for _ in range(5))
            self._measured = now
        return self._offset


_clock = _Clock()


def _wall(nanoseconds: int) -> int:
    """Return the time of day, nanoseconds since 1970, of a time of C's clock."""
    return nanoseconds + _clock.offset()
