"""Private functions of PyTorch that WebTorch uses.

They are those of PyTorch 2.6, which Debian 13 has, to the pinned version: check them first when it
changes. Tests compare their results with those of the public functions.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _profiler_enabled
from torch.nn.modules import module as _module
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

# PyTorch 2.6 without CUDA cannot count references. Then each count is another one, so that memory
# that may be referenced elsewhere is never used again.
_unknown_counts = itertools.count(1 << 20, 1 << 20)

use_count: Callable[[int], int] = getattr(
    torch._C, "_storage_Use_Count", lambda _: next(_unknown_counts)
)
"""Returns the number of references to the memory of a storage, given by its `_cdata`."""


def is_shared(tensor: Tensor) -> bool:
    """Return whether another tensor has the same memory."""
    # one reference is the tensor's, and one that of the storage's Python object, which stays
    return use_count(tensor.untyped_storage()._cdata) > 2


set_grad_enabled: Callable[[bool], None] = torch._C._set_grad_enabled
"""Sets the grad mode, as torch.no_grad and torch.enable_grad do."""

_run_backward = torch.autograd.Variable._execution_engine.run_backward


def has_global_hooks() -> bool:
    """Return whether hooks on all modules are registered."""
    return bool(
        _module._global_backward_pre_hooks
        or _module._global_backward_hooks
        or _module._global_forward_pre_hooks
        or _module._global_forward_hooks
        or _module._global_forward_hooks_always_called
        or _module._global_forward_hooks_with_kwargs
    )


def backward(loss: Tensor, gradient: Tensor) -> None:
    """Compute gradients as `loss.backward(gradient)`, without checks for subclasses and hooks."""
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
    """Return the `step` of an optimizer's class without its profiler ranges and hooks."""
    step: Any = type(optimizer).step
    return step.__wrapped__ if getattr(step, "hooked", False) else None


def is_step_watched(optimizer: Optimizer) -> bool:
    """Return whether the profiler ranges or hooks around a step are in use."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
        or "step" in optimizer.__dict__  # patched by a learning rate scheduler
        or _profiler_enabled()
    )
