"""Calls of a function of tensors on a device: inputs are copied there, outputs back."""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from webtorch._core import pytorch
from webtorch._core.reference_counts import OWN_ITEM, OWN_LIST
from webtorch._device import calls
from webtorch._device.interface import Device, DeviceLostError, Stream
from webtorch._schema.missing import Masked

Function = Callable[[Sequence[Any]], Sequence[Any]]
"""Takes inputs on the device, returns outputs there."""

Target = Callable[[int, Tensor], Tensor]
"""Returns memory of the CPU for an output, by its index."""


class Pipeline:
    """The streams of a function: copies of several threads and one computation overlap.

    Each thread has streams of its own for inputs that arrive and for outputs that leave. The
    function is called by one thread at a time, and its operations are queued in one stream. On CUDA
    it returns before they have run, so that the next call is queued behind it meanwhile.

    Args:
        device: The device.

    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._computing = device.stream("computing")
        # a function may call another one on the device
        self._launching = threading.RLock()
        self._lanes = threading.local()

    def call(self, function: Function, inputs: Sequence[Any], target: Target) -> list[Any]:
        """Call the function, and wait without the GIL until its outputs are there.

        Args:
            function: The function.
            inputs: Tensors, `Masked`, None and lists of strings, which are passed as they are. When
                the call is over, also by an exception, no copy of them runs any more.
            target: Where outputs are copied to.

        Raises:
            DeviceLostError: The device had failed before.
            Exception: The function raised it, or the device has failed.

        """
        calls.check()
        lane = self._lane()
        before = calls.enter(self._device)
        try:
            return self._call(lane, function, inputs, target)
        except BaseException:
            lane.settle()
            raise
        finally:
            calls.enter(before)

    def _call(
        self, lane: "Lane", function: Function, inputs: Sequence[Any], target: Target
    ) -> list[Any]:
        device = self._device
        if device.is_lost:
            raise DeviceLostError(device.name)
        put = functools.partial(device.put, stream=lane.arriving)
        placed = [_place(value, put) for value in inputs]
        arrived = lane.arriving.record()
        with self._launching:
            if device.is_lost:
                raise DeviceLostError(device.name)
            self._computing.wait(arrived)
            with device.computing(self._computing):
                for value in placed:
                    _place(value, self._keep)
                results = function(placed)
                is_shared = sys.getrefcount(results) > OWN_LIST or any(
                    isinstance(result, Tensor)
                    and (sys.getrefcount(result) > OWN_ITEM or pytorch.is_shared(result))
                    for result in results
                )
            computed = self._computing.record()
            if is_shared:
                # the next call may change them
                outputs = self._fetch(results, target, self._computing)
                done = self._computing.record()
        if not is_shared:
            lane.leaving.wait(computed)
            outputs = self._fetch(results, target, lane.leaving)
            done = lane.leaving.record()
        done.synchronize()
        return outputs

    def _keep(self, tensor: Tensor) -> Tensor:
        self._device.keep(tensor, self._computing)
        return tensor

    def _fetch(self, results: Sequence[Any], target: Target, stream: Stream) -> list[Any]:
        outputs: list[Any] = []
        for index, result in enumerate(results):
            if isinstance(result, Tensor):
                memory = target(index, result)
                self._device.fetch(result, memory, stream)
                outputs.append(memory)
            else:
                outputs.append(result)
        return outputs

    def _lane(self) -> "Lane":
        lane: Lane | None = getattr(self._lanes, "lane", None)
        if lane is None:
            lane = self._lanes.lane = Lane(self._device)
        return lane


_alone: dict[str, Pipeline] = {}
_lock = threading.Lock()


def pipeline_of(device: Device) -> Pipeline:
    """Return the pipeline of calls outside batches."""
    with _lock:
        pipeline = _alone.get(device.name)
        if pipeline is None:
            pipeline = _alone[device.name] = Pipeline(device)
        return pipeline


class Lane:
    """The streams of a thread.

    Args:
        device: The device.

    """

    def __init__(self, device: Device) -> None:
        self.arriving = device.stream("arriving")
        self.leaving = device.stream("leaving")

    def settle(self) -> None:
        """Wait until no copy runs, whatever has failed."""
        for stream in (self.arriving, self.leaving):
            with contextlib.suppress(Exception):
                stream.record().synchronize()


def new_memory(_: int, like: Tensor) -> Tensor:
    """Return memory of its own for an output."""
    return torch.empty(like.shape, dtype=like.dtype)


def _place(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return an input with a function's results in place of its tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Masked):
        return Masked(function(value.values), function(value.mask))
    return value
