"""The networks in WebTorch."""

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import mse_loss

import nets
import webtorch

xor_net = webtorch.Model("xor", nets.xor())
mlp_net = webtorch.Model("mlp", nets.mlp())
trained = webtorch.Model(
    "trained", nets.xor(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.01)
)


@webtorch.infer
def xor(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return xor_net(x)


@webtorch.infer
def mlp(x: Float32[Tensor, "batch 784"]) -> Float32[Tensor, "batch 10"]:
    return mlp_net(x)


@webtorch.train
def train(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    label = nets.label_of(x)
    trained.step(mse_loss(trained(x), label))
    return label


@webtorch.infer
def beginning(x: Float32[Tensor, "batch 3 224 224"]) -> Float32[Tensor, "batch 1024"]:
    return x.flatten(1)[:, : nets.BEGINNING]
