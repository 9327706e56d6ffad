"""A module's twin for evaluation: the same parameters and buffers, but a mode of its own.

A module's mode is a flag on it, which calls in two threads cannot have two values of.

On a network of two layers a third of the time is what nn.Module does around each layer: hooks
that nobody has registered, and parameters that are looked up in `__getattr__`, which Python calls
after it has raised and caught an AttributeError. The twin is nobody else's, so it goes without.
"""

import copy
from typing import Any

from torch import nn

from webtorch import _torch


class Twin:
    """Calls a copy of a module, in evaluation mode.

    Hooks that the module has when it is copied are called, those it gets later are not.
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
        """Call parts through nn.Module if somebody has hooks on all modules, else directly."""
        for part in self._direct:
            # nn.Module calls this, where torch.compile puts its own, instead of its hooks
            part._compiled_call_impl = None if watched else part.forward
        self._watched = watched


def _is_plain(part: nn.Module) -> bool:
    """Tell whether calling a part is calling its forward()."""
    return (
        type(part).__call__ is nn.Module.__call__
        and type(part._parameters) is dict  # not kept in C++, as TorchScript does
        and part._compiled_call_impl is None
        and not part._forward_hooks
        and not part._forward_pre_hooks
    )


def _shorten_lookups(part: nn.Module) -> None:
    """Let a part find its parameters and submodules as plain attributes.

    nn.Module's `__setattr__` drops plain attributes of these two kinds when they are set anew, but
    not buffers, so those stay as they are.
    """
    for members in (part._parameters, part._modules):
        part.__dict__.update(
            (name, member) for name, member in members.items() if member is not None
        )
