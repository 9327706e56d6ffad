"""PyTorch inside nginx: handlers that train and infer in nginx's workers.

A tensor function is a plain function of tensors whose annotations are its schema:

    import torch, webtorch
    from jaxtyping import Float32
    from torch import Tensor

    @webtorch.infer
    def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
        return 2 * x

and `webtorch_handler module:double;` in a location of nginx's configuration serves it.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Annotated as Strings

    from webtorch._handlers import handler, infer, train
    from webtorch._messages import HTTPError, Request, Response
    from webtorch._model import Model
    from webtorch._process import is_check, on_exit
    from webtorch._schema import SignatureError
    from webtorch._streams import State, stream
else:
    # Imported at their first use (PEP 562): all of them import torch, which webtorch.client does
    # not need.
    _MODULES = {
        "HTTPError": "_messages",
        "Model": "_model",
        "Request": "_messages",
        "Response": "_messages",
        "SignatureError": "_schema",
        "State": "_streams",
        "Strings": "_schema",
        "handler": "_handlers",
        "infer": "_handlers",
        "is_check": "_process",
        "on_exit": "_process",
        "stream": "_streams",
        "train": "_handlers",
    }

    def __getattr__(name):
        """Import a name of the package from its module."""
        from importlib import import_module

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found
        return found

    def __dir__():
        """List all names, those that are not imported yet among them."""
        return sorted({*globals(), *__all__})


__all__ = [
    "HTTPError",
    "Model",
    "Request",
    "Response",
    "SignatureError",
    "State",
    "Strings",
    "handler",
    "infer",
    "is_check",
    "on_exit",
    "stream",
    "train",
]
