"""A device that is the CPU, for tests: its streams are threads, and may be slow or fail.

It is there if the environment has `WEBTORCH_SIMULATED_DEVICE` with the number of devices, under
the names of those of CUDA. Its tensors are in memory of the CPU; a copy to it and from it is made
by the thread of its stream, at its turn, and until then the target holds other numbers. A test sets
`before` of a device, and reads its `trace`.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from webtorch._device.graph import outputs_of
from webtorch._device.interface import Event, Graph, Stream

VARIABLE = "WEBTORCH_SIMULATED_DEVICE"

_GARBAGE = 0x5A
"""The bytes of memory that is not written yet."""


class SimulatedFaultError(RuntimeError):
    """An operation failed, after which no other one works."""


class SimulatedEvent:
    """A moment in a stream."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.error: BaseException | None = None

    def synchronize(self) -> None:
        """Wait until the stream has come to it.

        Raises:
            RuntimeError: An operation before it failed.

        """
        self.reached.wait()
        if self.error:
            raise self.error


class SimulatedStream:
    """Operations that a thread runs one after the other.

    Args:
        label: Its name in the trace.

    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.error: BaseException | None = None
        self._operations: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def queue(self, operation: Callable[[], None]) -> None:
        """Add an operation; its exception is that of later events."""
        self._operations.put(operation)

    def record(self) -> Event:
        """Return the moment after the last operation that was queued."""
        event = SimulatedEvent()

        def reach() -> None:
            event.error, self.error = self.error, None
            event.reached.set()

        self.queue(reach)
        return event

    def wait(self, event: Event) -> None:
        """Let operations that are queued later begin after a moment of another stream."""
        self.queue(event.synchronize)

    def _run(self) -> None:
        while True:
            operation = self._operations.get()
            try:
                operation()
            except BaseException as error:
                self.error = error


class SimulatedGraph:
    """A network that writes to the same memory in each run.

    Args:
        network: The network.
        example: Its input.

    """

    def __init__(self, network: Callable[[Tensor], Any], example: Tensor) -> None:
        self._network = network
        self._input = example
        self.outputs, self.is_single = outputs_of(network(example))
        self.runs = 0

    def run(self, value: Tensor) -> list[Tensor]:
        """Run it; return new tensors with as many rows."""
        rows = len(value)
        self.runs += 1
        self._input[:rows].copy_(value)
        for output, result in zip(
            self.outputs, outputs_of(self._network(self._input))[0], strict=True
        ):
            output.copy_(result)
        return [output[:rows].clone() for output in self.outputs]


class SimulatedDevice:
    """A device on the CPU; see `webtorch._device.interface.Device`.

    Args:
        index: Its number.

    Attributes:
        before: Called before each operation, in the thread that runs it, with "put", "compute",
            "fetch", "allocate" or "pin" and the number of bytes, 0 for "compute". It may wait, and
            may raise torch.OutOfMemoryError or `SimulatedFaultError`.
        trace: Operations in the order of time: the label of their stream and the operation, "+"
            at its begin and "-" at its end.
        pinned: Bytes that are pinned, by their addresses.
        releases: How often memory was given back.
        graphs: What was recorded.

    """

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self.torch_device = torch.device("cpu")
        self.is_lost = False
        self.before: Callable[[str, int], None] = lambda operation, size: None
        self.trace: list[str] = []
        self.pinned: dict[int, int] = {}
        self.releases = 0
        self.graphs: list[SimulatedGraph] = []

    def synchronize(self) -> None:
        """Do nothing: what computes does so at once, and copies are waited for."""

    def stream(self, label: str) -> SimulatedStream:
        """Return a new stream."""
        return SimulatedStream(label)

    @contextlib.contextmanager
    def computing(self, stream: Stream) -> Iterator[None]:
        """Run the operations of this thread at their turn in a stream: they are one operation."""
        stream.record().synchronize()
        with self._traced(stream, "compute", 0):
            yield

    def put(self, tensor: Tensor, stream: Stream) -> Tensor:
        """Queue a copy of a tensor to the device, and return it."""
        self._check("allocate", tensor.nbytes)
        placed = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        _spoil(placed)
        self._queue(stream, "put", tensor.nbytes, lambda: placed.copy_(tensor))
        return placed

    def fetch(self, tensor: Tensor, target: Tensor, stream: Stream) -> None:
        """Queue a copy of a tensor of the device into memory of the CPU."""
        _spoil(target)
        self._queue(stream, "fetch", tensor.nbytes, lambda: target.copy_(tensor))

    def move(self, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor on the device, which passes gradients back to it."""
        return tensor.clone()

    def record(self, network: Callable[[Tensor], Any], example: Tensor) -> Graph:
        """Record what a network does with an input."""
        self.graphs.append(SimulatedGraph(network, example))
        return self.graphs[-1]

    def keep(self, tensor: Tensor, stream: Stream) -> None:
        """Do nothing: memory is that of Python."""

    def allocate(self, size: int) -> Tensor | None:
        """Return memory, uint8 `[size]`; None if `before` raises a RuntimeError for "pin"."""
        with contextlib.suppress(RuntimeError):
            self._check("pin", size)
            return torch.empty(size, dtype=torch.uint8)
        return None

    def pin(self, address: int, size: int) -> int:
        """Note memory that is pinned and return 0; 1 if `before` raises a RuntimeError."""
        try:
            self._check("pin", size)
        except RuntimeError:
            return 1
        self.pinned[address] = size
        return 0

    def unpin(self, address: int) -> None:
        """Undo `pin` before the memory is freed."""
        del self.pinned[address]

    def release_cached(self) -> None:
        """Count the call."""
        self.releases += 1

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether an exception says that the device had no memory."""
        return isinstance(error, torch.OutOfMemoryError)

    def has_lost(self, error: BaseException) -> bool:
        """Return whether the device does not work any more after an exception."""
        self.is_lost = self.is_lost or isinstance(error, SimulatedFaultError)
        return self.is_lost

    def _check(self, operation: str, size: int) -> None:
        if self.is_lost:
            raise SimulatedFaultError("the device has failed")
        self.before(operation, size)

    def _queue(
        self, stream: Stream, operation: str, size: int, function: Callable[[], Any]
    ) -> None:
        assert isinstance(stream, SimulatedStream)

        def run() -> None:
            with self._traced(stream, operation, size):
                function()

        stream.queue(run)

    @contextlib.contextmanager
    def _traced(self, stream: Stream, operation: str, size: int) -> Iterator[None]:
        assert isinstance(stream, SimulatedStream)
        self.trace.append(f"+{stream.label} {operation}")
        try:
            self._check(operation, size)
            yield
        finally:
            self.trace.append(f"-{stream.label} {operation}")


def _spoil(tensor: Tensor) -> None:
    """Fill memory that a copy will write to, so that reading it too early is seen."""
    if tensor.numel():
        tensor.reshape(-1).view(torch.uint8).fill_(_GARBAGE)


def count() -> int | None:
    """Return the number of simulated devices; None if there are none but real ones."""
    found = os.environ.get(VARIABLE)
    return int(found) if found else None
