"""Models: a module, its optimizer and where their state lives."""

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from webtorch._step import Step
from webtorch._twin import Twin
from webtorch.state import LocalState, State

_names: set[str] = set()


class Progress:
    """Tells whether a thread has made optimizer steps, of any model, since it began to look.

    So it tells whether a call that failed has changed a model before it did. It is asked before
    every call, and a set that is mostly empty costs less then than what is local to a thread.
    """

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def begin(self) -> None:
        """Forget what this thread has done."""
        if self._threads:
            self._threads.discard(threading.get_ident())

    def note(self) -> None:
        """Remember that this thread has made a step."""
        self._threads.add(threading.get_ident())

    def is_made(self) -> bool:
        """Tell whether this thread has made a step."""
        return threading.get_ident() in self._threads


progress = Progress()


class Model:
    """A network that handlers train and serve.

    Within a function under `@webtorch.train` it is in training mode, elsewhere in evaluation
    mode (see `torch.nn.Module.eval`). Both are the same parameters and buffers.

    Args:
        name: unique in the process; its state is found by it.
        module: the network.
        optimizer: makes the optimizer of the parameters, as
            `lambda params: optim.SGD(params, lr=0.01)`. Without one the model cannot be trained.

    Raises:
        ValueError: if the name is taken or empty.

    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        optimizer: Callable[[Iterator[nn.Parameter]], Optimizer] | None = None,
    ) -> None:
        if not name or name in _names:
            raise ValueError(f'a model needs a name of its own, "{name}" is taken or empty')
        _names.add(name)

        self.name = name
        self.module = module
        self._state: State = LocalState()
        for key, tensor in module.state_dict(keep_vars=True).items():
            tensor.data = self._state.place(f"{name}.{key}", tensor.data)

        self._training = module.train()
        self._evaluation = Twin(module)
        self._step = Step(optimizer(module.parameters())) if optimizer else None

    @property
    def steps(self) -> int:
        """How many optimizer steps the model has made."""
        return self._state.steps

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network; gradients are recorded within `@webtorch.train` only."""
        network = self._training if torch.is_grad_enabled() else self._evaluation
        return network(*args, **kwargs)

    def step(self, loss: Tensor) -> None:
        """Make one step of the optimizer along the gradient of a scalar loss.

        Raises:
            RuntimeError: if the model has no optimizer, or the loss no gradient.
            FloatingPointError: if the loss is not finite; the model is not changed then.

        """
        if self._step is None:
            raise RuntimeError(f'model "{self.name}" has no optimizer')

        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f'the loss of model "{self.name}" is {value}')

        self._step(loss)
        self._state.steps += 1
        progress.note()
