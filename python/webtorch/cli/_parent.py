"""Processes that end with the one that started them."""

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: int = signal.SIGTERM) -> Callable[[], None]:
    """Return a function that lets the process that calls it end with its parent.

    Args:
        parent: Process ID of the parent.
        number: Signal that the process gets when the thread that started it ends, however that is.

    """
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
