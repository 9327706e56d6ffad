"""The end of a worker, whose interpreter is not finalized: PyTorch does not survive it."""

import atexit
import contextlib
import gc
import io
import sys
import threading
from collections.abc import Callable

from webtorch._core.process import run_exit_functions
from webtorch._worker.telemetry.log import log_exception


def finish() -> None:
    """Do what the interpreter does at its end: run exit functions and flush files."""
    run_exit_functions()
    # executors end their processes and threads, as multiprocessing waits for them in atexit
    functions: list[Callable[[], None]] = getattr(threading, "_threading_atexits", [])
    for function in reversed(functions):
        try:
            function()
        except BaseException as error:
            log_exception("an exit function failed:", error)
    atexit._run_exitfuncs()
    # isinstance() would run code of objects that pretend to be of another class
    files = [each for each in gc.get_objects() if issubclass(type(each), io.IOBase)]
    for file in [*files, sys.stdout, sys.stderr]:
        with contextlib.suppress(Exception):
            if not file.closed and file.writable():
                file.flush()
