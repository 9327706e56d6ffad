"""Annotations of what handlers are made of: functions, methods, partial functions, objects."""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from torch import nn

METHOD = (
    'its parameter "self" is the object of a method, which nothing fills: decorate the method of '
    "an object, as in page = webtorch.handler(service.page)"
)


def function_of(called: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that has the annotations of what is called."""
    while isinstance(called, functools.partial):
        called = called.func
    return called if hasattr(called, "__wrapped__") else run_by(called)


def run_by(called: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a call runs, which says whether it is a coroutine or a generator.

    It is not the one that `functools.update_wrapper` makes an object look like.
    """
    while isinstance(called, functools.partial):
        called = called.func
    if isinstance(called, nn.Module):
        return type(_uncompiled(called)).forward
    if isinstance(called, type) or inspect.isfunction(called) or inspect.ismethod(called):
        return called
    own = type(called).__call__
    return own if inspect.isfunction(own) else called


def _uncompiled(module: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` was given, or the module itself."""
    found = getattr(module, "_orig_mod", None)
    return found if isinstance(found, nn.Module) else module


def _with_signature(called: Callable[..., Any]) -> Callable[..., Any]:
    """Return what has the signature of a call: that of a module is in its `forward`."""
    if isinstance(called, functools.partial):
        return functools.partial(_with_signature(called.func), *called.args, **called.keywords)
    return _uncompiled(called).forward if isinstance(called, nn.Module) else called


def code_of(called: Callable[..., Any]) -> types.CodeType | None:
    """Return the code of the innermost function of what is called; None: it is not of Python."""
    return getattr(inspect.unwrap(function_of(inspect.unwrap(called))), "__code__", None)


def hints(called: Callable[..., Any]) -> dict[str, Any]:
    """Return the evaluated annotations by name.

    Raises:
        Exception: One cannot be evaluated.

    """
    return typing.get_type_hints(function_of(called), include_extras=True)


def signature(called: Callable[..., Any]) -> inspect.Signature:
    """Return the signature without what a partial function has been given by name.

    Raises:
        TypeError: It has none.
        ValueError: It has none.

    """
    found = inspect.signature(_with_signature(called))
    given = called.keywords if isinstance(called, functools.partial) else {}
    left = [each for name, each in found.parameters.items() if name not in given]
    return found.replace(parameters=left) if given else found
