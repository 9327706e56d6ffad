"""webtorch.Model."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn, optim

from webtorch import Model

names = (f"model-{n}" for n in itertools.count())


def sgd(params):
    return optim.SGD(params, lr=0.1)


def test_step_follows_the_gradient():
    model = Model(next(names), nn.Linear(1, 1, bias=False), sgd)
    weight = model.module.weight.item()
    model.step(model(torch.tensor([[2.0]])).sum())
    assert model.module.weight.item() == pytest.approx(weight - 0.1 * 2)
    assert model.steps == 1


def test_gradients_are_cleared():
    model = Model(next(names), nn.Linear(1, 1, bias=False), sgd)
    weight = model.module.weight.item()
    for _ in range(3):
        model.step(model(torch.tensor([[1.0]])).sum())
    assert model.module.weight.item() == pytest.approx(weight - 0.3)


def test_evaluation_and_training_see_the_same_parameters_in_their_own_mode():
    model = Model(next(names), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()), sgd)
    x = torch.randn(8, 4)
    model.step(model(x).pow(2).sum())
    linear, norm, _ = model.module
    with torch.no_grad():
        first, second = model(x), model(x)
        expected = nn.functional.batch_norm(
            linear(x), norm.running_mean, norm.running_var, norm.weight, norm.bias
        )
    assert torch.equal(first, second)  # no dropout
    assert torch.allclose(first, expected, atol=1e-6)
    assert not torch.equal(model(x), model(x))  # dropout


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_not_finite_changes_nothing(value):
    model = Model(next(names), nn.Linear(1, 1), sgd)
    before = [p.clone() for p in model.module.parameters()]
    with pytest.raises(FloatingPointError, match="the loss of model"):
        model.step(model(torch.tensor([[value]])).sum())
    assert all(torch.equal(a, b) for a, b in zip(before, model.module.parameters(), strict=True))
    assert model.steps == 0


@pytest.mark.parametrize("name", ["parameters", "eval", "state_dict", "first_layer"])
def test_model_names_where_network_attributes_are(name):
    model = Model(next(names), nn.Linear(1, 1))
    with pytest.raises(AttributeError, match=f"no '{name}', the network is model.module"):
        getattr(model, name)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_models_are_not_copied(how):
    with pytest.raises(TypeError, match=r"copy model\.module, or save its state_dict"):
        how(Model(next(names), nn.Linear(1, 1)))


def test_no_optimizer_means_no_steps():
    model = Model(next(names), nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match="has no optimizer"):
        model.step(model(torch.tensor([[1.0]])).sum())


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.AdamW, optim.RMSprop])
def test_other_optimizers(optimizer):
    model = Model(next(names), nn.Linear(1, 1), lambda p: optimizer(p, lr=0.05))
    for _ in range(200):
        model.step((model(torch.tensor([[1.0]])) - 3).pow(2).sum())
    with torch.no_grad():
        assert model(torch.tensor([[1.0]])).item() == pytest.approx(3, abs=0.2)


def test_names_are_unique():
    name = next(names)
    Model(name, nn.Linear(1, 1))
    for taken in (name, ""):
        with pytest.raises(ValueError, match="a name of its own"):
            Model(taken, nn.Linear(1, 1))


def test_arguments_of_other_kinds_say_what_is_needed():
    module = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="optimizer= is a function that makes one"):
        Model(next(names), module, optim.SGD(module.parameters(), lr=0.1))
    with pytest.raises(TypeError, match=r"of a torch\.nn\.Module, not of a function: call other"):
        Model(next(names), lambda x: x)
    with torch.inference_mode():
        module = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r'"weight" was made in torch\.inference_mode\(\)'):
        Model(next(names), module)
