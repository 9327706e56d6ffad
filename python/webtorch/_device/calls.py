"""The device of the call that a thread runs."""

import contextlib
import threading
from collections.abc import Iterator

from webtorch._device.interface import Device


class _Calls(threading.local):
    device: Device | None = None
    records = False


_calls = _Calls()


def current() -> Device | None:
    """Return the device of the function of tensors that this thread runs; None: the CPU."""
    return _calls.device


def enter(device: Device | None) -> Device | None:
    """Set the device of this thread's calls; return the one before."""
    before, _calls.device = _calls.device, device
    return before


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Let the calls of this thread be those of a network that is recorded as a graph."""
    _calls.records = True
    try:
        yield
    finally:
        _calls.records = False


def check() -> None:
    """Refuse calls of models and functions on devices in a network that is recorded.

    The graph would have the weights of now, and the call could wait for a thread that waits for the
    end of the capture.

    Raises:
        RuntimeError: This thread records one.

    """
    if _calls.records:
        raise RuntimeError("it calls another model or function on a device")
