"""A copy of a module for evaluation: the same parameters and buffers, but a mode of its own.

The mode is a flag of the module, so calls in two threads cannot have two modes of one module.

On a network of two layers a third of the time is spent in nn.Module around each layer: on hooks
that are not registered, and on parameters that are found in `__getattr__`, which Python calls after
it has raised and caught an AttributeError. User code has no reference to the copy, so the copy can
do without both.
"""

import copy
from typing import Any

from torch import nn

from webtorch import _torch


class EvalCopy:
    """Calls a copy of a module in evaluation mode.

    Hooks that the module has when it is copied are called; hooks registered later are not.

    Args:
        module: The module, whose parameters and buffers are shared with the copy.

    """

    def __init__(self, module: nn.Module) -> None:
        tensors = [*module.parameters(), *module.buffers()]
        self._module = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
        self._module.eval()
        self._direct = [part for part in self._module.modules() if _is_plain(part)]
        for part in self._direct:
            _shorten_lookups(part)
        self._watched = True
        self._watch(_torch.has_global_hooks())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        watched = _torch.has_global_hooks()
        if watched != self._watched:
            self._watch(watched)
        return self._module(*args, **kwargs)

    def _watch(self, watched: bool) -> None:
        """Call parts through nn.Module if hooks on all modules are registered, else directly."""
        for part in self._direct:
            # nn.Module calls this attribute of torch.compile instead of hooks and forward()
            part._compiled_call_impl = None if watched else part.forward
        self._watched = watched


def _is_plain(part: nn.Module) -> bool:
    """Return whether calling a part does nothing but call its forward()."""
    return (
        type(part).__call__ is nn.Module.__call__
        and type(part._parameters) is dict  # not kept in C++, as TorchScript does
        and part._compiled_call_impl is None
        and not part._forward_hooks
        and not part._forward_pre_hooks
    )


def _shorten_lookups(part: nn.Module) -> None:
    """Make the parameters and submodules of a part plain attributes.

    nn.Module's `__setattr__` removes plain attributes when a parameter or submodule is set again.
    It does not for buffers, so those stay as they are.
    """
    for members in (part._parameters, part._modules):
        part.__dict__.update(
            (name, member) for name, member in members.items() if member is not None
        )
