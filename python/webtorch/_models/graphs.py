"""Networks on a device as graphs, which are recorded once for some numbers of rows."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from webtorch._device import calls
from webtorch._device.interface import Device, Graph

log = logging.getLogger("webtorch")

MAX_GRAPHS = 64
"""Graphs of a model on a device: each has memory of its own there."""


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return numbers of rows in ascending order.

    Raises:
        ValueError: They are not numbers from 1 to 65536.

    """
    if any(isinstance(size, bool) or not isinstance(size, int) for size in sizes) or not all(
        1 <= size <= 65536 for size in sizes
    ):
        raise ValueError(f"graphs is a list of numbers of rows, 1 to 65536, not {sizes!r}")
    return tuple(sorted(set(sizes)))


class Graphs:
    """Runs a network as a graph: its kernels are launched at once, without Python.

    Rows are padded to the next size, so each row of the output must depend on that of the input
    alone. A network that cannot be recorded is run as it is, and so are calls with other arguments
    than one tensor, with more rows than the largest size or with gradients. One call at a time.

    Args:
        name: Name of the model, for the log.
        device: The device.
        network: The network on the device, in evaluation mode, whose tensors keep their memory.
        sizes: Numbers of rows, ascending.

    """

    def __init__(
        self, name: str, device: Device, network: Callable[..., Any], sizes: Sequence[int]
    ) -> None:
        self._name = name
        self._device = device
        self._network = network
        self._sizes = sizes
        self._graphs: dict[Any, Graph | None] = {}
        self._is_refused = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        if torch.is_grad_enabled():  # a graph has no backward pass
            return self._network(*args, **kwargs)
        if kwargs or len(args) != 1 or not isinstance(args[0], Tensor) or not args[0].dim():
            return self._network(*args, **kwargs)
        value = args[0]
        rows = len(value)
        size = next((size for size in self._sizes if size >= rows), 0)
        if not rows or not size:
            return self._network(value)
        key = size, value.shape[1:], value.dtype
        if key not in self._graphs and not self._is_refused and len(self._graphs) < MAX_GRAPHS:
            self._graphs[key] = self._record(size, value)
        graph = self._graphs.get(key)
        if graph is None:
            return self._network(value)
        outputs = graph.run(value)
        return outputs[0] if graph.is_single else tuple(outputs)

    def _record(self, size: int, value: Tensor) -> Graph | None:
        try:
            # later runs write to its memory outside inference mode, too
            with torch.inference_mode(False), torch.no_grad(), calls.recording():
                example = value.new_zeros((size, *value.shape[1:]))
                example[: len(value)] = value
                graph = self._device.record(self._network, example)
        except Exception as error:
            if self._device.is_out_of_memory(error) or self._device.has_lost(error):
                raise
            self._tell(f"{type(error).__name__}: {error}")
            return None
        if not all(output.dim() and len(output) == size for output in graph.outputs):
            self._tell("its outputs are not tensors with a row for each row of the input")
            return None
        return graph

    def _tell(self, reason: str) -> None:
        # each attempt costs time and memory, and other sizes fail for the same reason
        self._is_refused = True
        log.warning('model "%s" is run without graphs: %s', self._name, " ".join(reason.split()))
