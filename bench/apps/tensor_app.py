"""What bench/tensors.py serves: an MLP, a copy of an image's beginning, a network like ResNet18."""

import torch
from jaxtyping import Float32
from torch import Tensor, nn

import webtorch

mlp = webtorch.Model(
    "mlp",
    nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    ),
)


@webtorch.infer
def classify(x: Float32[Tensor, "batch 784"]) -> Float32[Tensor, "batch 10"]:
    return mlp(x)


@webtorch.infer
def beginning(x: Float32[Tensor, "batch 3 224 224"]) -> Float32[Tensor, "batch 1024"]:
    return x.flatten(1)[:, :1024]


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == out
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    """Build a network of ResNet18's shape, with random weights."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for out in (64, 128, 256, 512):
        layers += [Block(channels, out, 1 if out == 64 else 2), Block(out, out, 1)]
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


resnet = webtorch.Model("resnet18", resnet18())


@webtorch.infer
def recognize(x: Float32[Tensor, "batch 3 224 224"]) -> Float32[Tensor, "batch 1000"]:
    return resnet(x)
