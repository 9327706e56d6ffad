"""Networks of models on devices; the tensors on the CPU, which workers share, are what counts.

For evaluation a device has a copy, which is refreshed when a step was made or the weights were
replaced. For training the parameters are copied to the device in each call, and their gradients
back, so that the optimizer's step is one on the CPU, as all other steps of a shared model are.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.jit import ScriptModule

from webtorch._device import calls, devices
from webtorch._device.interface import Device
from webtorch._eval_copy import EvalCopy, copy_module
from webtorch._graphs import Graphs


class Placed(Protocol):
    """A model as its networks on devices see it."""

    @property
    def key(self) -> str:
        """Its name and its version."""

    @property
    def network(self) -> nn.Module:
        """The network, with the tensors of the CPU."""

    @property
    def revision(self) -> tuple[int, object]:
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
        """Return the device of a call; None: the CPU."""
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
        self, model: Placed, evaluation: EvalCopy, place: Place, sizes: Sequence[int]
    ) -> None:
        self._model = model
        self._sizes = sizes
        self._evaluation = evaluation
        self._place = place
        self._lock = threading.Lock()
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
        with self._lock:
            copy = self._copies.get(device.name)
            if copy is None:
                copy = self._copies[device.name] = _Copy(self._model, device, self._sizes)
            copy.refresh()
            if self._sizes:
                return copy.run(*args, **kwargs)
        return copy.run(*args, **kwargs)


class _Copy:
    """A copy of a model's network on a device, in evaluation mode.

    Args:
        model: The model.
        device: The device.
        sizes: Numbers of rows for which there are graphs.

    """

    def __init__(self, model: Placed, device: Device, sizes: Sequence[int]) -> None:
        self._model = model
        self._device = device
        self._sizes = sizes
        self._seen: tuple[Any, ...] = ()
        self._make()

    def _make(self) -> None:
        network = self._model.network
        module = copy_module(network).to(self._device.torch_device)
        evaluation = EvalCopy(module)
        self._sources = _tensors(network)
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
        self._sources = _tensors(self._model.network)
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

    """

    def __init__(self, module: nn.Module, place: Place) -> None:
        self._module = module
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
        buffers = {name: device.move(buffer) for name, buffer in module.named_buffers()}
        tensors = {name: device.move(each) for name, each in module.named_parameters()} | buffers
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
