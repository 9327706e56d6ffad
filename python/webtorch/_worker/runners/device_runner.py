"""The runner of functions of tensors on a device; it touches cffi."""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from webtorch._core import process
from webtorch._device import devices
from webtorch._device.interface import Device, DeviceLostError, DeviceMemoryError
from webtorch._device.memory import HostBuffer, host_memory
from webtorch._device.pipeline import Pipeline, new_memory
from webtorch._handlers.functions import TensorFunction
from webtorch._models.training import progress
from webtorch._native import ffi, lib
from webtorch._worker.exchange.failures import retire
from webtorch._worker.runners.slots import Slot
from webtorch._worker.runners.tensor_runner import TensorRunner
from webtorch._worker.telemetry.log import log_error

_ONLY_SLOT = lib.WEBTORCH_ONLY_SLOT
_DROP_SLOT = lib.WEBTORCH_DROP_SLOT


class DeviceRunner(TensorRunner):
    """Runs the batches of a function on a device, in several threads at once.

    C's buffers are copied to the device, so the function never has tensors over them, and they are
    used again when the call is over.

    Args:
        name: Name of the handler, `module:function`.
        handler: The handler, which may be replaced by one with the same schema.
        device: Name of the device.

    """

    def __init__(self, name: str, handler: TensorFunction, device: str) -> None:
        super().__init__(name, handler)
        self._device_name = device
        self._opening = threading.Lock()
        self._open: _Opened | None = None
        # guards slots, outputs and texts of all batches
        self._books = threading.Lock()
        self._buffers: dict[int, list[HostBuffer | None]] = {}
        self._told = -1.0

    def open(self) -> "_Opened":
        """Return the device of this process, with the streams of the function.

        Raises:
            RuntimeError: It cannot be used.

        """
        with self._opening:
            if self._open is None:
                self._open = _Opened(devices.open_device(self._device_name))
            return self._open

    def compute(self, inputs: Sequence[Any], rows: int) -> None:
        """Run the function on rows that are no requests'.

        Raises:
            Exception: The function raised it.

        """
        pipeline = self.open().pipeline
        pipeline.call(lambda placed: self.handler.run_placed(placed, rows), inputs, new_memory)

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run a batch: one call for all of its requests, unless that fails.

        Args:
            number: Number of the slot, with WEBTORCH_ONLY_SLOT if all others can be dropped, and
                with WEBTORCH_DROP_SLOT if this one is to be dropped afterwards.
            generation: Generation of the slot's buffers.
            rows: Number of rows.
            batch: The batch, a webtorch_batch_t, whose outputs are set.

        """
        opened = self._open or self.open()
        drop = bool(number & _DROP_SLOT)
        only = bool(number & _ONLY_SLOT)
        number &= _DROP_SLOT - 1
        with self._books:
            if only:
                self._drop_others(number)
            self._drop_answered(number)
            slot = self._slots.get(number)
            is_new = slot is None or slot.generation != generation
            if slot is None or is_new:
                slot = self._slots[number] = self._adopt(generation, batch)
            buffers = [] if drop else self._buffers.setdefault(number, [])
        if is_new and not drop:
            self._pin(opened, batch)

        inputs = self._inputs(slot, rows, batch)
        progress.begin()
        try:
            outputs: Sequence[Any] = opened.pipeline.call(
                lambda placed: self.handler.run_placed(placed, rows),
                inputs,
                lambda index, like: self._memory(opened, buffers, index, like),
            )
        except BaseException as error:
            # the lists of strings may have been changed
            inputs = self._inputs(slot, rows, batch)
            outputs = self._recover(opened, batch, inputs, error)

        if self._is_variable and outputs:
            slot.report(outputs)
        texts: list[bytes] = []
        if self._returns_strings:
            outputs, texts = self._encode(outputs)
        for index, output in enumerate(outputs):
            slot.outputs[index] = output.data_ptr()
        with self._books:
            self._outputs[number] = outputs
            self._texts[number] = texts
            if drop:
                batch.retained = 1
                del self._slots[number]
                self._dropped[number] = slot.outputs

    def _inputs(self, slot: Slot, rows: int, batch: Any) -> Sequence[Any]:
        inputs: Sequence[Any] = slot.inputs(rows)
        if self._takes_strings or self._has_gaps:
            inputs = self._prepare(inputs, batch)
        return inputs

    def _memory(
        self, opened: "_Opened", buffers: list[HostBuffer | None], index: int, like: Tensor
    ) -> Tensor:
        """Return memory for an output: that of the slot's batch before, which is answered."""
        while len(buffers) <= index:
            buffers.append(None)
        found = buffers[index]
        if found is None or not found.has_room(like.nbytes):
            found = buffers[index] = None
            found = opened.memory.buffer(like.nbytes)
            # so the bound of pinned memory is that of what slots keep
            if found.is_pinned:
                buffers[index] = found
        return found.view(like)

    def _drop_others(self, number: int) -> None:
        super()._drop_others(number)
        self._buffers = {number: self._buffers[number]} if number in self._buffers else {}

    def _pin(self, opened: "_Opened", batch: Any) -> None:
        """Pin C's buffers, which takes longer than a copy: only those that are used again."""
        for index in range(len(self.handler.schema.buffers)):
            if size := batch.allocated[index]:
                opened.memory.register(_address(batch.inputs[index]), size)

    def _owner_of(self, memory: Any, size: int) -> Callable[[Any], None]:
        """Take over C's buffer, which may be pinned; return what frees it."""
        host = self.open().memory
        address = _address(memory)

        def free(memory: Any) -> None:
            host.unregister(address)
            lib.ngx_webtorch_buffer_free(memory)

        return free

    # --- failures ---

    def _recover(
        self, opened: "_Opened", batch: Any, inputs: Sequence[Any], error: BaseException
    ) -> Sequence[Any]:
        """Answer the requests that failed and serve the others, unless the call made a step."""
        self._look_at(opened, error)

        def run(part: Sequence[Any], rows: int) -> Sequence[Any]:
            try:
                return opened.pipeline.call(
                    lambda placed: self.handler.run_placed(placed, rows), part, new_memory
                )
            except BaseException as error:
                self._look_at(opened, error)
                raise

        changed = progress.has_stepped() or opened.device.is_lost
        return self._run_each(batch, inputs, error, changed, run)

    def _look_at(self, opened: "_Opened", error: BaseException) -> None:
        """Do what an exception of the device requires, before anything is run again."""
        device = opened.device
        if isinstance(error, DeviceLostError) or device.has_lost(error):
            retire(self.name, device)
        elif device.is_out_of_memory(error):
            # the frames of the call have tensors yet
            traceback.clear_frames(error.__traceback__)
            # the batch is run in parts all the same
            with contextlib.suppress(RuntimeError):
                device.release_cached()
            now = time.monotonic()
            if now >= self._told:
                self._told = now + 1
                log_error(
                    f'handler "{self.name}": {device.name} has no memory for a batch, '
                    f"which is run in parts: {error}"
                )

    def _answer(self, job: Any, error: BaseException) -> None:
        device = self.open().device
        if not isinstance(error, DeviceLostError) and device.is_out_of_memory(error):
            failure = DeviceMemoryError(device.name)
            failure.__cause__ = error
            error = failure
        super()._answer(job, error)


class _Opened:
    """A device that is in use.

    Args:
        device: The device.

    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.pipeline = Pipeline(device)
        self.memory = host_memory(device)


def _address(memory: Any) -> int:
    return int(ffi.cast("uintptr_t", memory))


def tensor_runner(
    name: str, handler: TensorFunction, device: str, *, offloaded: bool = False
) -> TensorRunner:
    """Return the runner of a function of tensors.

    Args:
        name: Name of the handler, `module:function`.
        handler: The handler.
        device: The device that it runs on, `cuda:1`; empty: the CPU.
        offloaded: Whether another worker runs its batches, and this one uses no device for it.

    Raises:
        RuntimeError: The device cannot be used.

    """
    if offloaded or not device:
        runner = TensorRunner(name, handler)
        runner.is_offloaded = offloaded
        return runner
    opened = DeviceRunner(name, handler, device)
    if not process.is_check():
        opened.open()
    return opened
