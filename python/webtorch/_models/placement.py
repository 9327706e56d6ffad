"""Networks of models on devices; the tensors on the CPU, which workers share, are what counts.

For evaluation a device has a copy, which is refreshed when a step was made or the weights were
replaced. For training the parameters are copied to the device in each call, and their gradients
back, so that the optimizer's step is one on the CPU, as all other steps of a shared model are.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.jit import ScriptModule

from webtorch._device import calls, devices
from webtorch._device.interface import Device
from webtorch._models.graphs import Graphs


class Evaluation(Protocol):
    """Calls a network in evaluation mode."""

    @property
    def module(self) -> nn.Module:
        """The network."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""


class Placed(Protocol):
    """A model as its networks on devices see it."""

    @property
    def key(self) -> str:
        """Its name and its version."""

    def copy_network(self) -> nn.Module:
        """Return a copy of the network with tensors of its own, on the CPU."""

    def evaluate(self, module: nn.Module) -> Evaluation:
        """Return what calls a network in evaluation mode."""

    @property
    def revision(self) -> tuple[object, object]:
        """Its steps and the memory of its tensors: one of them changes if another process steps."""


class Place:
    """Where the calls of a model run.

    Args:
        name: Name of a device; "cpu"; empty: where the function runs that makes the call.

    """

    def __init__(self, name: str) -> None:
        self._is_cpu = name == "cpu"
        self._name = devices.resolve(name)

    def find(self) -> Device | None:
        """Return the device of a call; None: the CPU.

        Raises:
            RuntimeError: The call is one of a network that is recorded as a graph.

        """
        calls.check()
        if self._name:
            return devices.open_device(self._name)
        return None if self._is_cpu else calls.current()


class PlacedEvaluation:
    """Calls a network in evaluation mode, on the CPU or on a device.

    Args:
        model: The model.
        evaluation: The network's copy for evaluation on the CPU.
        place: Where calls run.
        sizes: Numbers of rows for which a device has graphs.

    """

    def __init__(
        self, model: Placed, evaluation: Evaluation, place: Place, sizes: Sequence[int]
    ) -> None:
        self._model = model
        self._sizes = sizes
        self._evaluation = evaluation
        self._place = place
        # a network may call a function that calls it
        self._lock = threading.RLock()
        self._copies: dict[str, _Copy] = {}

    @property
    def module(self) -> nn.Module:
        """The copy on the CPU."""
        return self._evaluation.module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        device = self._place.find()
        if device is None:
            return self._evaluation(*args, **kwargs)
        # until all of its operations are queued, no other function refreshes the tensors
        with self._lock:
            copy = self._copies.get(device.name)
            if copy is None:
                copy = _Copy(self._model, self._evaluation.module, device, self._sizes)
                self._copies[device.name] = copy
            copy.refresh()
            return copy.run(*args, **kwargs)


class _Copy:
    """A copy of a model's network on a device, in evaluation mode.

    Args:
        model: The model.
        source: Its copy for evaluation on the CPU, whose tensors are copied: those of the network
            itself are replaced while it is trained on a device.
        device: The device.
        sizes: Numbers of rows for which there are graphs.

    """

    def __init__(
        self, model: Placed, source: nn.Module, device: Device, sizes: Sequence[int]
    ) -> None:
        self._model = model
        self._source = source
        self._device = device
        self._sizes = sizes
        self._seen: tuple[Any, ...] = ()
        self._make()

    def _make(self) -> None:
        # later calls may write to its tensors outside inference mode
        with torch.inference_mode(False), torch.no_grad():
            module = self._model.copy_network().to(self._device.torch_device)
        evaluation = self._model.evaluate(module)
        self._sources = _tensors(self._source)
        self._targets = _tensors(module)
        self.run: Callable[..., Any] = evaluation
        if self._sizes:
            self.run = Graphs(self._model.key, self._device, evaluation, self._sizes)

    def refresh(self) -> None:
        """Copy the tensors if they have changed since the last time."""
        steps, memory = self._model.revision
        seen = steps, sum(source._version for source in self._sources)
        if self._seen and self._seen[:2] == seen and self._seen[2] is memory:
            return
        # a buffer may have become another tensor, of another size
        self._sources = _tensors(self._source)
        if [*map(_shape, self._sources)] != [*map(_shape, self._targets)]:
            self._make()
        # calls of other functions may read the tensors in other streams
        self._device.synchronize()
        with torch.no_grad():
            for source, target in zip(self._sources, self._targets, strict=True):
                target.copy_(source)
        self._device.synchronize()
        # a step that was made meanwhile counts as a later one
        self._seen = steps, sum(source._version for source in self._sources), memory


class PlacedTraining:
    """Calls a network in training mode, on the CPU or on a device.

    Args:
        module: The network.
        place: Where calls run.
        lock: Held while the network has the tensors of a device.

    """

    def __init__(self, module: nn.Module, place: Place, lock: AbstractContextManager[Any]) -> None:
        self._module = module
        self._lock = lock
        self._place = place

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network.

        Raises:
            RuntimeError: It is TorchScript, which trains on the CPU alone.

        """
        device = self._place.find()
        if device is None:
            return self._module(*args, **kwargs)
        if any(isinstance(part, ScriptModule) for part in self._module.modules()):
            raise RuntimeError("TorchScript cannot be trained on a device")
        module = self._module
        with self._lock:
            buffers = {name: device.move(buffer) for name, buffer in module.named_buffers()}
            parameters = {name: device.move(each) for name, each in module.named_parameters()}
            tensors = parameters | buffers
            output = functional_call(module, tensors, args, kwargs)
            # batch normalization writes to its buffers, of which PyTorch counts nothing
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    buffer.copy_(tensors[name])
        return output


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _shape(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype
