"""nginx's error log; it calls C."""

import logging
import threading
import traceback
from collections.abc import Iterator

from webtorch._core import trace_context
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


class OwnLogger(logging.Logger):
    """The logger of WebTorch itself, whose records are for the operator of nginx.

    An application that configures `logging` disables loggers that it does not know, takes the
    handlers of others away, or turns all off: these records are in nginx's log all the same. Their
    level is that of this logger, or else of the root.
    """

    def isEnabledFor(self, level: int) -> bool:
        """Return whether records of a level are logged: the level alone says so."""
        return level >= self.getEffectiveLevel()

    def handle(self, record: logging.LogRecord) -> None:
        """Give a record to handlers, and to nginx if none of them does."""
        found: object = self.filter(record)
        if not found:
            return
        if isinstance(found, logging.LogRecord):
            # from Python 3.12 on a filter may return another one
            record = found
        if self.hasHandlers():
            self.callHandlers(record)
        if not any(isinstance(each, NginxLog) for each in self._all_handlers()):
            _nginx.handle(record)

    def _all_handlers(self) -> Iterator[logging.Handler]:
        logger: logging.Logger | None = self
        while logger:
            yield from logger.handlers
            logger = logger.parent if logger.propagate else None


_nginx = NginxLog()


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
        logging.getLogger().addHandler(_nginx)
    logging.getLogger("webtorch").__class__ = OwnLogger
    trace_context.install_in_logs()
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
