"""Devices of CUDA, and of ROCm under the same names."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from webtorch._device.graph import outputs_of
from webtorch._device.interface import Event, Graph, Stream

# its functions have no types
_cuda: Any = torch.cuda
_c: Any = torch._C

_capturing = threading.RLock()
"""Held while a graph is recorded, which PyTorch allows for one at a time in a process.

Another thread's wait for the whole device would break it, and so would freeing memory.
"""

_failed: list[Any] = []
"""Graphs that could not be recorded: PyTorch may have pointers to them."""

# of libraries that are called on the device, whose errors may follow from that of a kernel
_OF_DEVICE = re.compile(r"CUDA|HIP error|CUBLAS|CUDNN|cuBLAS|cuDNN")


class CudaStream:
    """A stream of CUDA.

    Args:
        device: Its device.
        priority: 0; -1: operations run before those of other streams.

    """

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        self.stream = _cuda.Stream(device, priority=priority)

    def record(self) -> Event:
        """Return the moment after the last operation that was queued."""
        # the thread that waits sleeps: otherwise it would poll, and take a core
        event: Event = _cuda.Event(blocking=True)
        self.stream.record_event(event)
        return event

    def wait(self, event: Event) -> None:
        """Let operations that are queued later begin after a moment of another stream."""
        self.stream.wait_event(event)


class CudaGraph:
    """A graph of CUDA.

    Args:
        network: What is recorded.
        example: Its input, on the device.
        beside: The stream that it is recorded in, which nothing else is queued in.

    """

    def __init__(
        self, network: Callable[[Tensor], Any], example: Tensor, beside: CudaStream
    ) -> None:
        self._input = example
        current = _cuda.current_stream(example.device)
        beside.stream.wait_stream(current)
        try:
            with _cuda.stream(beside.stream):
                # libraries allocate what they need in the first calls
                for _ in range(2):
                    network(example)
        finally:
            # after an exception the memory of the example is used again
            current.wait_stream(beside.stream)
        self._graph, result = _capture(network, example, beside.stream)
        self.outputs, self.is_single = outputs_of(result)
        self._used = _cuda.Event()
        self._used.record(current)

    def run(self, value: Tensor) -> list[Tensor]:
        """Run it; return new tensors with as many rows."""
        rows = len(value)
        current = _cuda.current_stream(self._input.device)
        current.wait_event(self._used)
        self._input[:rows].copy_(value)
        self._graph.replay()
        found = [output[:rows].clone() for output in self.outputs]
        self._used.record(current)
        return found


def _capture(network: Callable[[Tensor], Any], example: Tensor, stream: Any) -> tuple[Any, Any]:
    """Return a graph of what a network does, and its outputs.

    If CUDA cannot record an operation, `capture_end()` raises before it ends the use of the graph's
    memory pool: PyTorch would not free memory any more, and assert that in `empty_cache()`.
    """
    current = _cuda.current_stream(example.device)
    graph = _cuda.CUDAGraph()
    pool = _cuda.graph_pool_handle()
    try:
        # other threads copy batches meanwhile
        with _cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            result = network(example)
    except BaseException:
        _cuda.set_stream(current)
        with contextlib.suppress(RuntimeError):
            graph.reset()
        # raises if the pool is not in use, as after an exception of the network itself
        with contextlib.suppress(RuntimeError):
            _c._cuda_endAllocateToPool(example.device.index, pool)
            # that of pinned memory cannot be ended, and asks the graph whenever memory is allocated
            _failed.append(graph)
            _c._cuda_releasePool(example.device.index, pool)
        raise
    return graph, result


class CudaDevice:
    """A device of CUDA; see `webtorch._device.interface.Device`.

    It is made in a worker, after the fork: CUDA does not survive one.

    Args:
        index: Its number among those that `CUDA_VISIBLE_DEVICES` leaves.

    Raises:
        RuntimeError: CUDA cannot be used.

    """

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self.is_lost = False
        self.torch_device = torch.device("cuda", index)
        self._beside: CudaStream | None = None
        # creates the context, which takes a second
        torch.zeros(1, device=self.torch_device).item()

    def synchronize(self) -> None:
        """Wait until all that was queued has run."""
        with _capturing:
            torch.cuda.synchronize(self.torch_device)

    def stream(self, label: str) -> CudaStream:
        """Return a new stream."""
        return CudaStream(self.torch_device)

    @contextlib.contextmanager
    def computing(self, stream: Stream) -> Iterator[None]:
        """Let operations of PyTorch in this thread be queued in a stream."""
        # without the first, the return to a stream of another device makes a context there
        with torch.cuda.device(self.torch_device), torch.cuda.stream(_of(stream)):
            yield

    def put(self, tensor: Tensor, stream: Stream) -> Tensor:
        """Queue a copy of a tensor to the device, and return it."""
        with torch.cuda.device(self.torch_device), torch.cuda.stream(_of(stream)):
            return tensor.to(self.torch_device, non_blocking=True)

    def fetch(self, tensor: Tensor, target: Tensor, stream: Stream) -> None:
        """Queue a copy of a tensor of the device into memory of the CPU."""
        with torch.cuda.device(self.torch_device), torch.cuda.stream(_of(stream)):
            target.copy_(tensor, non_blocking=True)

    def move(self, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor on the device, which passes gradients back to it."""
        return tensor.to(self.torch_device)

    def record(self, network: Callable[[Tensor], Any], example: Tensor) -> Graph:
        """Record what a network does with an input."""
        with _capturing, torch.cuda.device(self.torch_device):
            # PyTorch has 32 streams of each priority and returns them again in turn: the one
            # of captures must not be used for anything else
            self._beside = self._beside or CudaStream(self.torch_device, priority=-1)
            return CudaGraph(network, example, self._beside)

    def keep(self, tensor: Tensor, stream: Stream) -> None:
        """Note that a stream uses a tensor that is another one's."""
        if tensor.is_cuda:
            tensor.record_stream(_of(stream))

    def allocate(self, size: int) -> Tensor | None:
        """Return pinned memory, uint8 `[size]`; None if there is none."""
        try:
            with torch.cuda.device(self.torch_device):
                return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            if self.has_lost(error):
                raise
            return None

    def pin(self, address: int, size: int) -> int:
        """Pin memory of `size` bytes that was allocated elsewhere; return 0 or CUDA's error."""
        with torch.cuda.device(self.torch_device):
            code = int(_cuda.cudart().cudaHostRegister(address, size, 0))
        if code == 0:
            return 0
        # CUDA keeps the error for the next check, which would be that of a kernel
        with contextlib.suppress(RuntimeError):
            torch.zeros(1, device=self.torch_device)
        return code

    def unpin(self, address: int) -> None:
        """Undo `pin` before the memory is freed."""
        with torch.cuda.device(self.torch_device):
            _cuda.cudart().cudaHostUnregister(address)

    def release_cached(self) -> None:
        """Give memory back that PyTorch keeps for later tensors."""
        with _capturing:
            torch.cuda.empty_cache()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether an exception says that the device had no memory."""
        if isinstance(error, torch.OutOfMemoryError):
            return True
        text = str(error)
        return isinstance(error, RuntimeError) and (
            "out of memory" in text or "STATUS_ALLOC_FAILED" in text
        )

    def has_lost(self, error: BaseException) -> bool:
        """Return whether the device does not work any more after an exception.

        Errors of kernels, such as an illegal address, are returned by all later calls of the
        process; others, such as a launch with a wrong size, are not. So one is tried.
        """
        if self.is_lost:
            return True
        if not isinstance(error, RuntimeError) or self.is_out_of_memory(error):
            return False
        if not _OF_DEVICE.search(str(error)):
            return False
        for _ in range(2):  # the first may find the error of another operation
            try:
                torch.zeros(1, device=self.torch_device).item()
            except RuntimeError as found:
                if self.is_out_of_memory(found):
                    return False
            else:
                return False
        self.is_lost = True
        return True


def _of(stream: Stream) -> Any:
    assert isinstance(stream, CudaStream)
    return stream.stream
