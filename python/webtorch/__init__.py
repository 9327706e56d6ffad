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

    from webtorch import metrics
    from webtorch._core.errors import HTTPError
    from webtorch._core.process import is_check, is_owner, on_exit
    from webtorch._handlers.batches import BatchTimeoutError, QueueFullError
    from webtorch._handlers.decorators import handler, infer, train
    from webtorch._handlers.request import Request
    from webtorch._handlers.response import Response
    from webtorch._metrics.rewards import reward
    from webtorch._metrics.stages import stage
    from webtorch._models.model import Model
    from webtorch._models.packages import load_package
    from webtorch._schema.missing import Masked, Missing
    from webtorch._schema.schema import SignatureError
    from webtorch._streams.generations import generate
    from webtorch._streams.streams import State, stream
else:
    # Imported at their first use (PEP 562): all of them import torch, which webtorch.client does
    # not need.
    _MODULES = {
        "BatchTimeoutError": "_handlers.batches",
        "HTTPError": "_core.errors",
        "Masked": "_schema.missing",
        "Missing": "_schema.missing",
        "Model": "_models.model",
        "QueueFullError": "_handlers.batches",
        "Request": "_handlers.request",
        "Response": "_handlers.response",
        "SignatureError": "_schema.schema",
        "State": "_streams.streams",
        "Strings": "_schema.schema",
        "generate": "_streams.generations",
        "handler": "_handlers.decorators",
        "infer": "_handlers.decorators",
        "is_check": "_core.process",
        "is_owner": "_core.process",
        "load_package": "_models.packages",
        "on_exit": "_core.process",
        "reward": "_metrics.rewards",
        "stage": "_metrics.stages",
        "stream": "_streams.streams",
        "train": "_handlers.decorators",
    }

    def __getattr__(name):
        """Import a name of the package from its module."""
        from importlib import import_module

        if name == "metrics":
            return import_module("webtorch.metrics")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found
        return found

    def __dir__():
        """List all names, those that are not imported yet among them."""
        return sorted({*globals(), *__all__})


__all__ = [
    "BatchTimeoutError",
    "HTTPError",
    "Masked",
    "Missing",
    "Model",
    "QueueFullError",
    "Request",
    "Response",
    "SignatureError",
    "State",
    "Strings",
    "generate",
    "handler",
    "infer",
    "is_check",
    "is_owner",
    "load_package",
    "metrics",
    "on_exit",
    "reward",
    "stage",
    "stream",
    "train",
]
