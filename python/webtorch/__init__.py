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

from webtorch.handlers import handler, infer, train
from webtorch.messages import HTTPError, Request, Response
from webtorch.model import Model
from webtorch.schema import SignatureError

__all__ = [
    "HTTPError",
    "Model",
    "Request",
    "Response",
    "SignatureError",
    "handler",
    "infer",
    "train",
]
