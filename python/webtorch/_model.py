"""Models: a module, its optimizer and where their state lives."""

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from webtorch import _state
from webtorch._eval_copy import Twin
from webtorch._zone.shared_state import SharedState


class Models(dict[str, "Model"]):
    """All models of this process by name."""

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, Model] = {}

    @contextlib.contextmanager
    def anew(self) -> Iterator[None]:
        """Let all be made anew, with the weights of those before; if that fails nothing changes."""
        self._before = dict(self)
        self.clear()
        try:
            yield
        except BaseException:
            self.discard(set(self))
            self.update(self._before)
            raise
        finally:
            self._before = {}

    def discard(self, names: Set[str]) -> None:
        """Forget models that nobody will use, and give up what others do not share with them."""
        for name in names:
            model = self.pop(name)
            if isinstance(model.state, SharedState):
                model.state.discard()

    def before(self, name: str) -> "Model | None":
        """Return the model that one is made anew of."""
        return self._before.get(name)


models = Models()


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


class Training:
    """A call of a training function: one at a time in this process, and they may be nested.

    Two calls would mix their gradients, and one would change the weights between the other's
    forward and backward pass. With models that are trained in strict order it is one at a time over
    all workers, from a call's first use of such a model on.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._zone: _state.Zone | None = None  # locked
        self._kept: list[SharedState] = []
        self._depth = 0
        self._thread = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1
        self._thread = threading.get_ident()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._thread = 0
            if self._zone:
                self._leave(kind is not None)
        self._lock.release()

    def is_mine(self) -> bool:
        """Tell whether this thread is within a call."""
        return self._thread == threading.get_ident()

    def enter(self, shared: SharedState) -> None:
        """Be alone with a model that is trained in strict order, and keep a copy of it."""
        if shared not in self._kept:
            if self._zone is None:
                shared.zone.lock()
                self._zone = shared.zone
            shared.block.keep()
            self._kept.append(shared)

    def commit(self, shared: SharedState) -> None:
        """Let the copy go: a step is made."""
        shared.block.commit()
        self._kept.remove(shared)

    def _leave(self, failed: bool) -> None:
        """Let others train; what a call that failed did since its last step is undone."""
        for shared in self._kept:
            if failed:
                shared.block.restore()
            else:
                shared.block.commit()
        self._kept.clear()
        if self._zone:
            self._zone.unlock()
            self._zone = None


training = Training()


class Model:
    """A network that handlers train and serve.

    Within a function under `@webtorch.train` it is in training mode, elsewhere in evaluation
    mode (see `torch.nn.Module.eval`). Both are the same parameters and buffers.

    With `webtorch_zone` in nginx's configuration it is one model for all workers: parameters,
    persistent buffers and the optimizer's state are in shared memory, and found there again by a
    worker that comes later. Without it each worker has a model of its own.

    Args:
        name: unique in the process; its state is found by it.
        module: the network.
        optimizer: makes the optimizer of the parameters, as
            `lambda params: optim.SGD(params, lr=0.01)`. Without one the model cannot be trained.
        lock: train in strict order over all workers. Each call of a training function that uses
            the model is alone with it then, and leaves it as it was if it fails or its worker dies
            before a step is whole. Without, workers step whenever they like ("Hogwild!").

    Raises:
        ValueError: if the name is taken or empty, or a tensor cannot be shared.
        MemoryError: if the zone has no room.

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
        made = optimizer(module.parameters()) if optimizer else None
        self._has_optimizer = made is not None
        before = models.before(name)
        if before:
            _take_weights(module, before.module)
        code = Path(sys._getframe(1).f_code.co_filename)
        self.state = _state.place(name, module, made, lock, code)
        if before and isinstance(self.state, _state.LocalState):
            self.state.steps = before.steps
        self._strict = self.state if isinstance(self.state, SharedState) and lock else None
        self._evaluation = Twin(module)
        models[name] = self

    @property
    def steps(self) -> int:
        """How many optimizer steps the model has made, in all workers that share it."""
        return self.state.steps

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network; gradients are recorded within `@webtorch.train` only."""
        if not torch.is_grad_enabled():
            return self._evaluation(*args, **kwargs)
        if self._strict and training.is_mine():
            training.enter(self._strict)
        return self._training(*args, **kwargs)

    def step(self, loss: Tensor) -> None:
        """Make one step of the optimizer along the gradient of a scalar loss.

        Raises:
            RuntimeError: if the model has no optimizer, or the loss no gradient.
            FloatingPointError: if the loss is not finite; the model is not changed then.

        """
        if not self._has_optimizer:
            raise RuntimeError(f'model "{self.name}" has no optimizer')

        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f'the loss of model "{self.name}" is {value}')

        if self._strict:
            with training:
                training.enter(self._strict)
                self._strict.step(loss)
                training.commit(self._strict)
        else:
            self.state.step(loss)
        progress.note()


def _take_weights(module: nn.Module, before: nn.Module) -> None:
    """Copy the tensors of a module before, where they are of the same name, dtype and shape."""
    old = before.state_dict()
    for key, tensor in module.state_dict().items():
        if key in old and (tensor.dtype, tensor.shape) == (old[key].dtype, old[key].shape):
            tensor.copy_(old[key])
