"""A copy of a module for evaluation: the same parameters and buffers, but a mode of its own.

The mode is a flag of the module, so calls in two threads cannot have two modes of one module.

On a network of two layers a third of the time is spent in nn.Module around each layer: on hooks
that are not registered, and on parameters that are found in `__getattr__`, which Python calls after
it has raised and caught an AttributeError. User code has no reference to the copy, so the copy can
do without both.
"""

import contextlib
import copy
import itertools
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.jit import ScriptModule

from webtorch._core import pytorch


class EvalCopy:
    """Calls a copy of a module in evaluation mode.

    Hooks that the module has when it is copied are called; hooks registered later are not.

    Args:
        module: The module, whose parameters and buffers are shared with the copy.

    Raises:
        ValueError: The module cannot be copied.

    """

    def __init__(self, module: nn.Module) -> None:
        self._module = _copy(module)
        self._module.eval()
        self._direct = [part for part in self._module.modules() if _is_plain(part)]
        for part in self._direct:
            _shorten_lookups(part)
        self._watched = True
        self._watch(pytorch.has_global_hooks())

    @property
    def module(self) -> nn.Module:
        """The copy."""
        return self._module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        watched = pytorch.has_global_hooks()
        if watched != self._watched:
            self._watch(watched)
        return self._module(*args, **kwargs)

    def _watch(self, watched: bool) -> None:
        """Call parts through nn.Module if hooks on all modules are registered, else directly."""
        for part in self._direct:
            # nn.Module calls this attribute of torch.compile instead of hooks and forward()
            part._compiled_call_impl = None if watched else part.forward
        self._watched = watched


def copy_module(module: nn.Module) -> nn.Module:
    """Return a copy of a module with parameters and buffers of its own.

    Raises:
        ValueError: The module cannot be copied.

    """
    # deepcopy() would copy the whole memory that a tensor is a view of
    own: dict[int, Any] = {id(each): each.detach().clone() for each in module.buffers()}
    for parameter in module.parameters():
        own[id(parameter)] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    for part in module.modules():
        for tensor in _computed(vars(part)):
            own.setdefault(id(tensor), tensor.detach().clone())
    with _explained("a version"):
        return copy.deepcopy(module, own)


def _copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module that has the same parameters and buffers."""
    same: dict[int, Any] = {id(each): each for each in (*module.parameters(), *module.buffers())}
    for part in module.modules():
        for tensor in _computed(vars(part)):
            same.setdefault(id(tensor), tensor.detach())
    with _explained("evaluation"):
        made = copy.deepcopy(module, same)
        parts = [*zip(module.modules(), made.modules(), strict=True)]
    for part, twin in parts:
        if isinstance(part, ScriptModule):  # copied in C++, with its tensors
            members: tuple[Any, ...] = part._parameters, part._buffers
            for name, tensor in itertools.chain.from_iterable(each.items() for each in members):
                setattr(twin, name, tensor)
    return made


@contextlib.contextmanager
def _explained(purpose: str) -> Iterator[None]:
    """Turn any error into a ValueError that says what the copy is for."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{purpose} needs a copy of the module, copy.deepcopy() of it raises "
            f"{type(error).__name__}: {error}"
        ) from error


def _computed(value: Any) -> Iterator[Tensor]:
    """Yield computed tensors that a module keeps, which deepcopy refuses.

    Hooks before forward() compute them again: nn.utils.weight_norm and prune have such ones.
    """
    if isinstance(value, Tensor):
        if not value.is_leaf:
            yield value
    elif type(value) in (dict, list, tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _computed(each)


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
