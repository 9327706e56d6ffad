"""The optimizer step of a model does what PyTorch's public calls do."""

import itertools

import pytest
import torch
from jaxtyping import Float32
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss
from torch.optim.optimizer import register_optimizer_step_post_hook

from webtorch import Model, infer

names = (f"step-{n}" for n in itertools.count())

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
Y = X.prod(dim=1, keepdim=True)


class Stubborn(optim.SGD):
    """Keeps its gradients."""

    def zero_grad(self, set_to_none=True):
        pass


class Plain(optim.Optimizer):
    """An optimizer written by a user."""

    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= 0.01 * parameter.grad


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "fused": lambda p: optim.SGD(p, lr=0.05, fused=True),
    "foreach": lambda p: optim.SGD(p, lr=0.05, foreach=True),
    "adam": lambda p: optim.Adam(p),
    "adamw": lambda p: optim.AdamW(p, weight_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p),
    "clears itself": lambda p: Stubborn(p, lr=0.001),
    "own": Plain,
}


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 1))


def trained(make, loss_of, steps=20):
    """Train one network with public calls and one as a model; return their parameters."""
    ours, theirs = network(), network()
    model = Model(next(names), ours, make)
    optimizer = make(theirs.parameters())
    for _ in range(steps):
        model.step(loss_of(model(X)))
        loss = loss_of(theirs(X))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return list(ours.parameters()), list(theirs.parameters())


def assert_same(parameters):
    for ours, theirs in zip(*parameters, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_parameters_bit_by_bit(name):
    assert_same(trained(OPTIMIZERS[name], lambda y: mse_loss(y, Y)))


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda y: (y - Y).pow(2).mean(dim=0),  # of shape [1]
        lambda y: mse_loss(y.double(), Y.double()),
        lambda y: mse_loss(y, Y).as_subclass(nn.Parameter),
    ],
)
def test_losses_of_other_kinds(loss_of):
    assert_same(trained(OPTIMIZERS["sgd"], loss_of))


def test_hooks_and_schedulers_are_called():
    calls = []
    kept = []

    def make(params):
        optimizer = optim.SGD(params, lr=1.0)
        kept.append(optimizer)
        return optimizer

    model = Model(next(names), network(), make)
    hooks = [
        kept[0].register_step_pre_hook(lambda *_: calls.append("before")),
        kept[0].register_step_post_hook(lambda *_: calls.append("after")),
        register_optimizer_step_post_hook(lambda *_: calls.append("everywhere")),
    ]
    model.step(mse_loss(model(X), Y))
    assert calls == ["before", "after", "everywhere"]
    for hook in hooks:
        hook.remove()
    model.step(mse_loss(model(X), Y))
    assert len(calls) == 3

    scheduler = optim.lr_scheduler.ExponentialLR(kept[0], gamma=0.5)
    model.step(mse_loss(model(X), Y))
    scheduler.step()  # warns if the optimizer was not seen to step
    assert kept[0].param_groups[0]["lr"] == 0.5


def test_profiler_sees_the_step():
    model = Model(next(names), network(), OPTIMIZERS["sgd"])
    with torch.profiler.profile() as profile:
        model.step(mse_loss(model(X), Y))
    assert "Optimizer.step#SGD.step" in {event.key for event in profile.key_averages()}


def test_loss_without_gradient_is_an_error():
    model = Model(next(names), network(), OPTIMIZERS["sgd"])
    with pytest.raises(RuntimeError, match="no gradient: compute it from the model's outputs"):
        model.step(torch.tensor(1.0))

    @infer
    def output(x: Float32[Tensor, "batch 3"]) -> Float32[Tensor, "batch 1"]:
        model.step(model(x).mean())

    with pytest.raises(RuntimeError, match=r"train in a function under @webtorch\.train"):
        output(X)
    assert model.steps == 0


def test_loss_is_a_tensor_of_one_element():
    model = Model(next(names), network(), OPTIMIZERS["sgd"])
    with pytest.raises(ValueError, match=r"has 16 elements: pass one, as loss\.mean\(\)"):
        model.step(model(X))
    with pytest.raises(TypeError, match="pass the tensor, not the number"):
        model.step(model(X).mean().item())
    assert model.steps == 0
