"""A network that learns XOR from its requests: the label is -1 if a*b > 0, else 1.

Run it with `./build.sh run`; nginx-conf/xor.conf names the functions.
"""

import torch
from jaxtyping import Float32
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

import webtorch

xor = webtorch.Model(
    "xor",
    nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1)),
    optimizer=lambda params: optim.SGD(params, lr=0.05),
)


@webtorch.infer
def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Return the network's output for each row."""
    return xor(x)


@webtorch.train
def train(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Make a step on the rows of all requests of the batch, and return their labels."""
    label = torch.where(x.prod(dim=1, keepdim=True) > 0, -1.0, 1.0)
    xor.step(mse_loss(xor(x), label))
    return label


@webtorch.handler(methods=["GET", "HEAD"])
def output_of_sample(request: webtorch.Request) -> str:
    """Return the network's output for (0.5, 0.5) as a plain number."""
    return str(output(torch.tensor([[0.5, 0.5]])).item())


@webtorch.handler(methods=["GET"])
def train_on_sample(request: webtorch.Request) -> webtorch.Response:
    """Make a step on a random sample, and return its label in the format of Torch7."""
    label = train(torch.rand(1, 2) * 2 - 1)
    return webtorch.Response(label, content_type="text/plain")
