"""Programs that handlers run, with `subprocess` or `multiprocessing`."""

import _posixsubprocess
import signal
import subprocess
from typing import Any


def install() -> None:
    """Let programs start with no signal blocked, in whichever thread they are started.

    nginx's signals are blocked in threads of handlers, so that its event loop gets them, and a
    program inherits what is blocked: it could not be terminated. While a thread starts a program,
    it may get a signal; but the kernel prefers the event loop's thread.
    """
    start: Any = _posixsubprocess.fork_exec

    def fork_exec(*args: Any) -> Any:
        blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            return start(*args)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    modules: list[Any] = [_posixsubprocess, subprocess]
    modules[0].fork_exec = modules[1]._fork_exec = fork_exec
    # posix_spawn() inherits them, too
    modules[1]._USE_POSIX_SPAWN = False
