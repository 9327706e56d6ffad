"""One optimizer step, without PyTorch's overhead.

On a network of two layers a third of `zero_grad(); backward(); step()` is spent on profiler ranges,
on hooks that are not registered and on a new gradient of 1 for each step.
"""

import inspect

import torch
from torch import Tensor
from torch.optim import Optimizer

from webtorch._core import pytorch


class Step:
    """Clears the gradients, computes those of a loss and makes an optimizer step.

    Args:
        optimizer: The optimizer of the parameters.

    Raises:
        ValueError: Its steps have arguments.

    """

    def __init__(self, optimizer: Optimizer) -> None:
        needed = _required_arguments(optimizer)
        if needed:
            raise ValueError(
                f"{type(optimizer).__name__} cannot be used: its step() needs the argument "
                f'"{needed[0]}", and Model.step() calls it without any'
            )
        self._optimizer = optimizer
        self._bare_step = pytorch.bare_step(optimizer)
        self._clears_itself = type(optimizer).zero_grad is not Optimizer.zero_grad
        self._ones: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(self, loss: Tensor) -> None:
        """Make a step along the gradient of a scalar loss."""
        optimizer = self._optimizer
        if self._bare_step is None or pytorch.is_step_watched(optimizer):
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return

        if self._clears_itself:
            optimizer.zero_grad()
        else:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

        if type(loss) is Tensor and loss.dim() == 0:
            pytorch.backward(loss, self._one(loss))
        else:
            loss.backward()  # type: ignore[no-untyped-call]

        self._bare_step(optimizer)

    def _one(self, loss: Tensor) -> Tensor:
        key = loss.dtype, loss.device
        one = self._ones.get(key)
        if one is None:
            one = self._ones[key] = torch.ones((), dtype=loss.dtype, device=loss.device)
        return one


def _required_arguments(optimizer: Optimizer) -> list[str]:
    """Return the arguments of an optimizer's step that have no default; LBFGS has a closure."""
    # not that of the instance, which a scheduler replaces
    _, *arguments = inspect.signature(type(optimizer).step).parameters.values()
    return [
        argument.name
        for argument in arguments
        if argument.default is argument.empty
        and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    ]
