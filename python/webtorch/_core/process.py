"""What code of users may ask about its process, and do when the process exits."""

import atexit
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[[], Any])

log = logging.getLogger("webtorch")

checks = False
"""Whether this process only checks a configuration; set before handlers are imported."""

owns = True
"""Whether functions that workers offload to one of them run in this process; set like the above."""

instance = os.urandom(8).hex()
"""Random, the same in all workers of a server: it is made by the process that they are forked
from."""

began = time.time()
"""When the server was started, seconds since 1970: as old as `instance`."""

_functions: list[Callable[[], Any]] = []


def is_check() -> bool:
    """Return whether this process only imports handlers to check a configuration.

        if not webtorch.is_check():
            metrics = start_metrics_server()

    `nginx -t`, a start and a reload import handlers in a process that exits afterwards and serves
    nothing, beside the workers that are running. In workers, and outside nginx, it is false.
    """
    return checks


def is_owner() -> bool:
    """Return whether this process runs the functions that workers offload to one of them.

        if webtorch.is_owner() and not webtorch.is_check():
            net.to("cuda")

    With `owner` in `webtorch_device` it is true in the first worker alone, so that the others
    take no memory of the device. Without it, and outside nginx, it is true.

    It is not for modules of `webtorch_preload`: the master imports them for all workers, and it is
    true there.
    """
    return owns


@contextlib.contextmanager
def checking() -> Iterator[None]:
    """Let what is imported see a process that only checks a configuration."""
    global checks
    before, checks = checks, True
    try:
        yield
    finally:
        checks = before


def on_exit(function: _Function) -> _Function:
    """Call a function when the worker exits, after its last request and its last checkpoint.

        @webtorch.on_exit
        def close():
            database.close()

    Functions are called in the reverse order, before those of `atexit`, while threads can still
    be started and executors still work. An exception is logged and does not keep others from being
    called. In a process that only checks a configuration they are not called; outside nginx they
    are called when the interpreter exits.

    Args:
        function: The function, which is also returned. It is called without arguments.

    """
    if not _functions:
        atexit.unregister(run_exit_functions)
        atexit.register(run_exit_functions)
    _functions.append(function)
    return function


def run_exit_functions() -> None:
    """Call the functions of `on_exit`, each once."""
    while _functions:
        function = _functions.pop()
        try:
            function()
        except BaseException as error:
            log.error("a function of webtorch.on_exit failed", exc_info=error)
