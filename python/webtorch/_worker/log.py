"""nginx's error log; it calls C."""

import logging
import threading
import traceback

from webtorch import _trace
from webtorch._native import lib


class NginxLog(logging.Handler):
    """Writes records to nginx's error log."""

    _LEVELS = (
        (logging.ERROR, lib.WEBTORCH_LOG_ERROR),
        (logging.WARNING, lib.WEBTORCH_LOG_WARN),
        (logging.INFO, lib.WEBTORCH_LOG_INFO),
    )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        level = next(
            (nginx for python, nginx in self._LEVELS if record.levelno >= python),
            lib.WEBTORCH_LOG_DEBUG,
        )
        _write(level, self.format(record))


def log_error(text: str) -> None:
    """Write a text at nginx's level `error`."""
    _write(lib.WEBTORCH_LOG_ERROR, text)


def log_exception(title: str, error: BaseException) -> None:
    """Write a title and an exception with its traceback at nginx's level `error`."""
    log_error(title + "\n" + "".join(traceback.format_exception(error)))


def install() -> None:
    """Send the records of `logging` to nginx's log, unless they go somewhere already.

    All records have the attribute `trace_id`. Exceptions that end threads of an application are
    logged, too: Python would write them to stderr, between the lines of nginx.
    """
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(NginxLog())
    _trace.install_in_logs()
    threading.excepthook = _log_thread


def _log_thread(found: threading.ExceptHookArgs) -> None:
    """Log the exception that has ended a thread; `SystemExit` ends one silently."""
    if found.exc_value is not None and not isinstance(found.exc_value, SystemExit):
        name = found.thread.name if found.thread else "?"
        log_exception(f'thread "{name}" has ended:', found.exc_value)


def _write(level: int, text: str) -> None:
    """Write a text line by line: nginx's records are lines."""
    for line in text.splitlines():
        encoded = line.encode(errors="backslashreplace")
        lib.ngx_webtorch_log(level, encoded, len(encoded))
