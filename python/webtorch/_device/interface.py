"""What the path of a batch needs of a device."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from webtorch._core.errors import HTTPError


class DeviceLostError(HTTPError):
    """The device failed before the call had begun: another worker can answer the request."""

    def __init__(self, name: str) -> None:
        super().__init__(
            503,
            f"device {name} has failed, this worker is replaced",
            code="device_lost",
            headers={"Retry-After": "1"},
        )


class DeviceMemoryError(HTTPError):
    """The device has no memory for a single request."""

    def __init__(self, name: str) -> None:
        super().__init__(
            503,
            f"device {name} has no memory for the request",
            code="out_of_memory",
            headers={"Retry-After": "1"},
        )


class Event(Protocol):
    """A moment in a stream."""

    def synchronize(self) -> None:
        """Wait until the device has come to it, without the GIL.

        Raises:
            RuntimeError: An operation before it failed.

        """


class Stream(Protocol):
    """Operations of a device that run one after the other; those of several run at once."""

    def record(self) -> Event:
        """Return the moment after the last operation that was queued."""

    def wait(self, event: Event) -> None:
        """Let operations that are queued later begin after a moment of another stream."""


class Graph(Protocol):
    """What a network does with an input of some size, recorded."""

    @property
    def outputs(self) -> Sequence[Tensor]:
        """Its outputs, whose memory each run writes to."""

    @property
    def is_single(self) -> bool:
        """Whether the network returned one tensor, not several."""

    def run(self, value: Tensor) -> list[Tensor]:
        """Run it on as many rows as were recorded, or less; return new tensors with as many rows.

        It is queued in the stream of the thread, after the run before, whatever its stream was.
        """


class Device(Protocol):
    """A device of this process. All methods may be called in any thread."""

    @property
    def name(self) -> str:
        """Its name, `cuda:1`."""

    @property
    def is_lost(self) -> bool:
        """Whether no operation works any more in this process."""

    @property
    def torch_device(self) -> torch.device:
        """PyTorch's device that its tensors are on."""

    def synchronize(self) -> None:
        """Wait until all that was queued has run."""

    def stream(self, label: str) -> Stream:
        """Return a new stream; the label is for traces."""

    def computing(self, stream: Stream) -> AbstractContextManager[None]:
        """Let operations of PyTorch in this thread be queued in a stream."""

    def put(self, tensor: Tensor, stream: Stream) -> Tensor:
        """Queue a copy of a tensor to the device, and return it.

        The tensor must stay as it is until the stream has come to the copy.
        """

    def fetch(self, tensor: Tensor, target: Tensor, stream: Stream) -> None:
        """Queue a copy of a tensor of the device into memory of the CPU."""

    def move(self, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor on the device, which passes gradients back to it."""

    def record(self, network: Callable[[Tensor], Any], example: Tensor) -> Graph:
        """Record what a network does with an input, whose memory becomes the graph's.

        Raises:
            TypeError: The network returned something else than tensors.
            RuntimeError: It cannot be recorded.

        """

    def keep(self, tensor: Tensor, stream: Stream) -> None:
        """Note that a stream uses a tensor that is another one's: its memory stays until then."""

    def allocate(self, size: int) -> Tensor | None:
        """Return pinned memory, uint8 `[size]`; None if there is none."""

    def pin(self, address: int, size: int) -> int:
        """Pin memory of `size` bytes that was allocated elsewhere.

        Returns:
            0; the code of the error if it cannot be pinned.

        """

    def unpin(self, address: int) -> None:
        """Undo `pin` before the memory is freed."""

    def release_cached(self) -> None:
        """Give memory back that PyTorch keeps for later tensors."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether an exception says that the device had no memory."""

    def has_lost(self, error: BaseException) -> bool:
        """Return whether the device does not work any more after an exception."""
