"""The device of the call that a thread runs."""

import threading

from webtorch._device.interface import Device


class _Calls(threading.local):
    device: Device | None = None


_calls = _Calls()


def current() -> Device | None:
    """Return the device of the function of tensors that this thread runs; None: the CPU."""
    return _calls.device


def enter(device: Device | None) -> Device | None:
    """Set the device of this thread's calls; return the one before."""
    before, _calls.device = _calls.device, device
    return before
