"""Memory of the CPU that devices copy to and from, pinned as far as a bound allows."""

import logging
import threading

import torch
from torch import Tensor

from webtorch._device.interface import Device

log = logging.getLogger("webtorch")

MAX_PINNED = 256 * 1024 * 1024
"""Bytes that a worker pins for a device: the system cannot use them for anything else."""

MIN_REGISTERED = 128 * 1024
"""Bytes; C's smaller buffers share pages with others, and CUDA refuses pages that are pinned.

CUDA copies less than 64 KiB to memory that it has pinned itself, before a call returns.
"""


class HostMemory:
    """Pins memory for a device, and takes other memory if it cannot be pinned.

    Args:
        device: The device.

    """

    def __init__(self, device: Device) -> None:
        self._device = device
        # buffers are freed by the garbage collector, too, at any line
        self._lock = threading.RLock()
        self._used = 0
        self._is_told = False
        self._registered: dict[int, int] = {}

    def register(self, address: int, size: int) -> None:
        """Pin memory that C has allocated, if that is worth it and the bound allows."""
        if size < MIN_REGISTERED or not self._reserve(size):
            return
        code = self._device.pin(address, size)
        if code == 0:
            self._registered[address] = size
        else:
            self._give_back(size)
            self._tell(f" (error {code})")

    def unregister(self, address: int) -> None:
        """Undo `register` before the memory is freed; it may not have pinned it."""
        size = self._registered.pop(address, 0)
        if size:
            self._device.unpin(address)
            self._give_back(size)

    def buffer(self, size: int) -> "HostBuffer":
        """Return memory of at least so many bytes."""
        size = 1 << max(size - 1, 1023).bit_length()
        if self._reserve(size):
            memory = self._device.allocate(size)
            if memory is not None:
                return HostBuffer(memory, self, size)
            self._give_back(size)
            self._tell("")
        return HostBuffer(torch.empty(size, dtype=torch.uint8), self, 0)

    def _reserve(self, size: int) -> bool:
        with self._lock:
            if self._used + size > MAX_PINNED:
                return False
            self._used += size
            return True

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._used -= size

    def _tell(self, reason: str) -> None:
        if not self._is_told:
            self._is_told = True
            log.warning(
                "memory cannot be pinned%s, copies to and from %s are slower",
                reason,
                self._device.name,
            )


_memories: dict[str, HostMemory] = {}
_lock = threading.Lock()


def host_memory(device: Device) -> HostMemory:
    """Return what pins memory for a device of this process."""
    with _lock:
        return _memories.setdefault(device.name, HostMemory(device))


class HostBuffer:
    """Memory that outputs of a device are copied to.

    Args:
        memory: uint8 `[size]`.
        owner: What has pinned it.
        pinned: How many bytes are pinned.

    """

    def __init__(self, memory: Tensor, owner: HostMemory, pinned: int) -> None:
        self._memory = memory
        self._owner = owner
        self._pinned = pinned

    @property
    def is_pinned(self) -> bool:
        """Whether it is pinned."""
        return self._pinned > 0

    def __del__(self) -> None:
        self._owner._give_back(self._pinned)

    def has_room(self, size: int) -> bool:
        """Return whether so many bytes fit, and are not much less than there are."""
        return size <= len(self._memory) <= max(4 * size, 65536)

    def view(self, like: Tensor) -> Tensor:
        """Return memory for a tensor of the dtype and the shape of another one."""
        return self._memory[: like.nbytes].view(like.dtype).view(like.shape)
