"""What WebTorch uses of PyTorch that has no public name there.

All of it is of the pinned version; whoever raises that looks here first. Tests compare what it does
with the public calls.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _profiler_enabled
from torch.nn.modules.module import _has_any_global_hook
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

use_count: Callable[[int], int] = torch._C._storage_Use_Count
"""How many tensors and storages share the memory of a storage, given by its `_cdata`."""

set_grad_enabled: Callable[[bool], None] = torch._C._set_grad_enabled
"""What torch.no_grad and torch.enable_grad call."""

has_global_hooks: Callable[[], bool] = _has_any_global_hook
"""Whether somebody has registered hooks on all modules."""

_run_backward = torch.autograd.Variable._execution_engine.run_backward


def backward(loss: Tensor, gradient: Tensor) -> None:
    """Compute gradients as `loss.backward(gradient)`, without looking for subclasses and hooks."""
    _run_backward(
        (loss,),
        (gradient,),
        False,  # keep_graph
        False,  # create_graph
        (),
        allow_unreachable=True,
        accumulate_grad=True,
    )


def bare_step(optimizer: Optimizer) -> Callable[[Optimizer], Any] | None:
    """Return the `step` of an optimizer's class without the ranges and hooks put around it."""
    step: Any = type(optimizer).step
    return step.__wrapped__ if getattr(step, "hooked", False) else None


def is_step_watched(optimizer: Optimizer) -> bool:
    """Tell whether somebody would miss the ranges or hooks around a step."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
        or "step" in optimizer.__dict__  # as a learning rate scheduler patches it
        or _profiler_enabled()
    )
