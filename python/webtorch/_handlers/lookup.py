"""Handlers of modules, by name."""

import importlib
from types import ModuleType

from webtorch._handlers.functions import Handler


def handlers_of(module: ModuleType) -> dict[str, Handler]:
    """Return the handlers of a module by their names in it, but for those with an underscore."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, Handler)
    }


class HandlerNotFoundError(LookupError):
    """There is no handler of the given name."""


def find(name: str) -> Handler:
    """Import a handler.

    Args:
        name: `module:function`.

    Raises:
        HandlerNotFoundError: The module has no such function, or it is not decorated.
        Exception: Importing the module raised it.

    """
    module_name, _, function_name = name.partition(":")
    if module_name.endswith(".py"):
        module_name = module_name.removesuffix(".py").replace("/", ".").lstrip(".")
        raise HandlerNotFoundError(
            f'handlers are named by modules, not by files: "{module_name}:{function_name}"'
        )
    module = importlib.import_module(module_name)
    found = getattr(module, function_name, None)
    if found is None:
        raise HandlerNotFoundError(f'module "{module_name}" has no function "{function_name}"')
    if isinstance(getattr(found, "__wrapped__", None), Handler):
        raise HandlerNotFoundError(
            f'"{function_name}" has another decorator above that of webtorch, which is to be first'
        )
    if not isinstance(found, Handler):
        raise HandlerNotFoundError(
            f'"{function_name}" is not decorated with @webtorch.infer, @webtorch.train, '
            "@webtorch.stream, @webtorch.generate or @webtorch.handler"
        )
    return found
