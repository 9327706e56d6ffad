"""Devices by their names."""

import logging
import re
import threading
from collections.abc import Callable

import torch

from webtorch._device import simulated
from webtorch._device.cuda import CudaDevice
from webtorch._device.interface import Device
from webtorch._device.simulated import SimulatedDevice

log = logging.getLogger("webtorch")

_NAME = re.compile(r"cpu|auto|cuda(:\d{1,3})?")

listeners: list[Callable[[], None]] = []
"""Called when this process opens a device."""

_devices: dict[str, Device] = {}
_lock = threading.Lock()
_is_told = False


class DeviceError(ValueError):
    """A device cannot be used."""


def check(name: object) -> str:
    """Return the name of a device as it is written in `device=`.

    Raises:
        ValueError: It is not one.

    """
    text = str(name)
    if not _NAME.fullmatch(text):
        raise ValueError(f'device is "cpu", "cuda", "cuda:" and a number, or "auto", not {name!r}')
    return text


def resolve(name: str, announces: bool = False) -> str:
    """Find out which device a name stands for, without a use of it.

    It counts devices, which makes no context of CUDA and takes none of its memory.

    Args:
        name: What `check` has returned.
        announces: Whether the use of the CPU in place of a device is logged, once.

    Returns:
        The name of the device, `cuda:1`; empty: the CPU.

    Raises:
        DeviceError: It is not there, or cannot be used in this process.

    """
    if name in ("", "cpu"):
        return ""
    try:
        number = _count()
        index = int(name.partition(":")[2] or 0)
        if index < number:
            return f"cuda:{index}"
        raise DeviceError(_describe(number))
    except DeviceError as error:
        if name != "auto":
            raise DeviceError(f'device "{name}": {error}') from None
        if announces:
            _announce(str(error))
        return ""


def open_device(name: str) -> Device:
    """Return a device of this process, which is not the master.

    Args:
        name: What `resolve` has returned.

    Raises:
        RuntimeError: It cannot be used.

    """
    with _lock:
        device = _devices.get(name)
        if device is not None:
            return device
        index = int(name.partition(":")[2])
        is_simulated = simulated.count() is not None
        device = SimulatedDevice(index) if is_simulated else CudaDevice(index)
        # another thread must not get it before models are prepared for it
        for listener in listeners:
            listener()
        _devices[name] = device
    return device


def lost_by(error: BaseException) -> Device | None:
    """Return a device of this process that does not work any more after an exception."""
    found = [*_devices.values()]
    lost = next((device for device in found if device.is_lost), None)
    return lost or next((device for device in found if device.has_lost(error)), None)


def _count() -> int:
    found = simulated.count()
    if found is not None:
        return found
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceError(f"this PyTorch ({torch.__version__}) is built without CUDA")
    if torch.cuda._is_in_bad_fork():
        raise DeviceError(
            "CUDA has been used in the master, and does not survive a fork: a module of "
            "webtorch_preload calls it, for example by torch.cuda.is_available()"
        )
    return torch.cuda.device_count()


def _describe(number: int) -> str:
    if number == 0:
        return "PyTorch finds no device of CUDA"
    return f"PyTorch finds {number} device{'s' * (number > 1)} of CUDA, from cuda:0 on"


def _announce(reason: str) -> None:
    global _is_told
    if not _is_told:
        _is_told = True
        log.warning('device "auto" is the CPU: %s', reason)
