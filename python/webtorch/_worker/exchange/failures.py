"""Answers to requests that failed; it calls C."""

import math
import time
from typing import Any

from webtorch._core.errors import HTTPError
from webtorch._core.headers import check_headers
from webtorch._device import devices
from webtorch._device.interface import Device
from webtorch._handlers import json_encoding
from webtorch._native import ffi, lib
from webtorch._worker.exchange import hints
from webtorch._worker.exchange.replies import point, set_headers
from webtorch._worker.telemetry.log import log_error, log_exception

_OFFLOADED = lib.WEBTORCH_OFFLOADED

raised: dict[int, list[BaseException]] = {}
"""For each caller that waits for rows, by its number in C's jobs: what the call has raised."""


class Failures:
    """Answers failed requests of a handler and logs some of them.

    Thousands of records a second would fill the disk. So in an interval one failure of each kind is
    logged; failures are of one kind if a line has raised exceptions of one type.

    Args:
        name: Name of the handler, for the log.

    """

    INTERVAL = 1.0
    """Seconds between two logged failures of one kind."""

    MAX_KINDS = 4
    """Kinds that are logged in an interval."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kinds: set[tuple[type[BaseException], object, int]] = set()
        self._end = -math.inf
        self._unlogged = 0

    def answer(self, job: Any, error: BaseException) -> None:
        """Answer a request: an HTTPError with its details, others with 500 and none.

        Callers in this process get the exception itself, unless they wait no more.
        """
        if job.caller and job.caller != _OFFLOADED:
            if (found := raised.get(job.caller)) is not None:
                found.append(error)
            lib.ngx_webtorch_job_fail(job, 500, ffi.NULL)
            return
        if isinstance(error, HTTPError):
            try:
                _send(job, error)
            except Exception as failure:  # its detail or its headers cannot be sent
                failure.__cause__ = error
                error = failure
            else:
                return
        self.log(error)
        lib.ngx_webtorch_job_fail(job, 500, ffi.NULL)

    def log(self, error: BaseException) -> None:
        """Log an exception, unless several of its kind were logged in this interval.

        If a device has failed, by a model that a function calls on the CPU, the worker is replaced.
        """
        try:
            if device := devices.lost_by(error):
                retire(self._name, device)
            self._log(error)
        except Exception as failure:  # of its __str__, for example
            kind = type(error).__name__
            log_error(f'handler "{self._name}" failed: {kind}, which cannot be logged: {failure!r}')

    def _log(self, error: BaseException) -> None:
        now = time.monotonic()
        if now >= self._end:
            self._kinds.clear()
            self._end = now + self.INTERVAL
        kind = _kind(error)
        if kind in self._kinds or len(self._kinds) == self.MAX_KINDS:
            self._unlogged += 1
            return
        self._kinds.add(kind)
        more = f", and {self._unlogged} more before that" if self._unlogged else ""
        log_exception(f'handler "{self._name}" failed{more}:', error)
        if hint := hints.on_call(error):
            log_error(f'handler "{self._name}": {hint}')
        self._unlogged = 0


def retire(name: str, device: Device) -> None:
    """Let the worker be replaced, as a device has failed in a handler; it may be called again."""
    text = (
        f'{device.name} has failed in handler "{name}" and cannot be used any more by this worker, '
        "which is replaced"
    ).encode()
    lib.ngx_webtorch_retire(text, len(text))


def _send(job: Any, error: HTTPError) -> None:
    """Hand an error for the client over to C, which copies it."""
    failure = ffi.new("webtorch_failure_t *")
    keep: list[Any] = []
    point(failure.message, error.message.encode(errors="replace"), keep)
    point(failure.code, (error.code or "").encode(), keep)
    if not isinstance(error.detail, str):
        point(failure.detail, json_encoding.encode(error.detail), keep)
    set_headers(failure, check_headers(error.headers)[0], keep)
    lib.ngx_webtorch_job_fail(job, error.status, failure)


def _kind(error: BaseException) -> tuple[type[BaseException], object, int]:
    """Return the kind of a failure: type, and function and line that raised it."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    return (
        type(error),
        frame and frame.tb_frame.f_code,
        frame.tb_lineno if frame else 0,
    )
