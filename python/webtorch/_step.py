"""One optimizer step, without what PyTorch does around it.

On a network of two layers a third of `zero_grad(); backward(); step()` is profiler ranges, hooks
that nobody has registered and gradients of 1 made anew. What is called here instead has no public
name; it is that of the pinned version of PyTorch, and tests compare it with the public calls.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _profiler_enabled
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

_backward = torch.autograd.Variable._execution_engine.run_backward


class Step:
    """Clears the gradients, computes those of a loss and lets the optimizer step.

    Args:
        optimizer: of the parameters.

    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._clears_itself = type(optimizer).zero_grad is not Optimizer.zero_grad
        step: Any = type(optimizer).step
        # Optimizer's constructor has put the ranges and hooks around the class's function
        self._bare_step: Callable[[Optimizer], Any] | None = (
            step.__wrapped__ if getattr(step, "hooked", False) else None
        )
        self._ones: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(self, loss: Tensor) -> None:
        """Make a step along the gradient of a scalar loss."""
        optimizer = self._optimizer
        if self._bare_step is None or self._is_watched():
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
            _backward(
                (loss,),
                (self._one(loss),),
                False,  # keep_graph
                False,  # create_graph
                (),
                allow_unreachable=True,
                accumulate_grad=True,
            )
        else:
            loss.backward()  # type: ignore[no-untyped-call]

        self._bare_step(optimizer)

    def _is_watched(self) -> bool:
        """Tell whether somebody would miss the ranges or hooks."""
        optimizer = self._optimizer
        return bool(
            optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or "step" in optimizer.__dict__  # as a learning rate scheduler patches it
            or _profiler_enabled()
        )

    def _one(self, loss: Tensor) -> Tensor:
        key = loss.dtype, loss.device
        one = self._ones.get(key)
        if one is None:
            one = self._ones[key] = torch.ones((), dtype=loss.dtype, device=loss.device)
        return one
