"""Handlers of bench/state.py: XOR networks that all workers share."""

import torch
from jaxtyping import Float32
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

import webtorch

torch.manual_seed(0)


def network() -> nn.Module:
    """Make the original's network."""
    return nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1))


free = webtorch.Model("free", network(), lambda p: optim.SGD(p, lr=0.01))
strict = webtorch.Model("strict", network(), lambda p: optim.SGD(p, lr=0.01), lock=True)


def label_of(x: Tensor) -> Tensor:
    """XOR of the signs."""
    return torch.where(x.prod(dim=1, keepdim=True) > 0, -1.0, 1.0)


@webtorch.train
def train(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Make a step."""
    label = label_of(x)
    free.step(mse_loss(free(x), label))
    return label


@webtorch.train
def train_strict(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Make a step, in order over all workers."""
    label = label_of(x)
    strict.step(mse_loss(strict(x), label))
    return label


@webtorch.infer
def output(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Say what it has learned."""
    return free(x)


@webtorch.infer
def output_strict(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    """Say what it has learned."""
    return strict(x)


@webtorch.handler
def about(request: webtorch.Request) -> dict[str, object]:
    """Return the steps, and whether all parameters are finite."""
    return {
        model.name: {
            "steps": model.steps,
            "finite": all(bool(p.isfinite().all()) for p in model.module.parameters()),
        }
        for model in (free, strict)
    }
