"""Models: networks that handlers train and serve, with their optimizers."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from webtorch import _state
from webtorch._eval_copy import EvalCopy
from webtorch._training import progress, training
from webtorch._zone.shared_state import SharedState


class Models(dict[str, "Model"]):
    """All models of this process by name."""

    def __init__(self) -> None:
        super().__init__()
        self._previous: dict[str, Model] = {}

    @contextlib.contextmanager
    def rebuild(self) -> Iterator[None]:
        """Let all models be made again, with the current weights; restore them if that fails."""
        self._previous = dict(self)
        self.clear()
        try:
            yield
        except BaseException:
            self.discard(set(self))
            self.update(self._previous)
            raise
        finally:
            self._previous = {}

    def discard(self, names: Set[str]) -> None:
        """Remove models that will not be used, and release their shared state."""
        for name in names:
            model = self.pop(name)
            if isinstance(model.state, SharedState):
                model.state.discard()

    def previous(self, name: str) -> "Model | None":
        """Return the model that is being rebuilt under this name."""
        return self._previous.get(name)

    def shared_states(self) -> list[SharedState]:
        """Return the states of the models that workers share; safe in any thread."""
        states = [model.state for model in [*self.values()]]
        return [state for state in states if isinstance(state, SharedState)]


models = Models()


class Model:
    """A network that handlers train and serve.

        xor = webtorch.Model(
            "xor",
            nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1)),
            optimizer=lambda parameters: optim.SGD(parameters, lr=0.01),
        )

        @webtorch.infer
        def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
            return xor(x)

    Within a function under `@webtorch.train` it is in training mode, elsewhere in evaluation
    mode (see `torch.nn.Module.eval`). Both modes use the same parameters and buffers.

    With `webtorch_zone` in nginx's configuration all workers share one model: its parameters,
    persistent buffers and the state of its optimizer are in shared memory, where workers that start
    later find them. Without it each worker has a model of its own.

    Args:
        name: Name of the model, unique in the process and not empty. Its state in shared memory
            and its checkpoints are found by it.
        module: The network.
        optimizer: Makes the optimizer from an iterator of the network's parameters. By default
            there is none, and the model cannot be trained.
        lock: Whether to train in strict order over all workers, by default False: workers step
            at any time ("Hogwild!"). With True, each call of a training function that uses the
            model has it to itself, and if the call fails or its worker crashes before a step is
            complete, the model is restored.

    Raises:
        ValueError: The name is taken, empty or too long, or a tensor or the optimizer cannot be
            shared by workers.
        MemoryError: The zone has no room for the model.

    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        optimizer: Callable[[Iterator[nn.Parameter]], Optimizer] | None = None,
        *,
        lock: bool = False,
    ) -> None:
        if not name or name in models:
            raise ValueError(f'a model needs a name of its own, "{name}" is taken or empty')

        self.name = name
        self.module = module
        self._training = module.train()
        own = optimizer(module.parameters()) if optimizer else None
        self._has_optimizer = own is not None
        previous = models.previous(name)
        if previous:
            _copy_weights(module, previous.module)
        code = Path(sys._getframe(1).f_code.co_filename)
        self.state = _state.create_state(name, module, own, lock, code)
        if previous and isinstance(self.state, _state.LocalState):
            self.state.steps = previous.steps
        self._strict = self.state if isinstance(self.state, SharedState) and lock else None
        self._evaluation = EvalCopy(module)
        models[name] = self

    @property
    def steps(self) -> int:
        """The number of optimizer steps made, in all workers that share the model."""
        return self.state.steps

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network with its own arguments; only `@webtorch.train` records gradients."""
        if not torch.is_grad_enabled():
            return self._evaluation(*args, **kwargs)
        if self._strict and training.held_by_this_thread():
            training.acquire(self._strict)
        return self._training(*args, **kwargs)

    def step(self, loss: Tensor) -> None:
        """Make one step of the optimizer along the gradient of a loss.

        Args:
            loss: Tensor of one element, computed from the model's outputs.

        Raises:
            RuntimeError: The model has no optimizer, or the loss no gradient.
            FloatingPointError: The loss is not finite; the model is not changed.

        """
        if not self._has_optimizer:
            raise RuntimeError(f'model "{self.name}" has no optimizer')

        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f'the loss of model "{self.name}" is {value}')

        if self._strict:
            with training:
                training.acquire(self._strict)
                self._strict.step(loss)
                training.commit(self._strict)
        else:
            self.state.step(loss)
        progress.mark()


def _copy_weights(module: nn.Module, previous: nn.Module) -> None:
    """Copy the tensors of the previous module that have the same name, dtype and shape."""
    old = previous.state_dict()
    for key, tensor in module.state_dict().items():
        if key in old and (tensor.dtype, tensor.shape) == (old[key].dtype, old[key].shape):
            tensor.copy_(old[key])
