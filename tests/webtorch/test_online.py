"""webtorch.online: metrics of models that learn, and drift."""

import logging

import pytest
import torch
from torch import nn, optim

import webtorch
from webtorch import online


@pytest.fixture
def model(request):
    model = webtorch.Model(
        request.node.name, nn.Linear(2, 1), lambda parameters: optim.SGD(parameters, lr=0.5)
    )
    yield model
    webtorch._models.model.models.discard({model.name})


def errors(rate: float, count: int) -> torch.Tensor:
    """Return errors of samples, of which a share is wrong."""
    return (torch.arange(count) % round(1 / rate) == 0).float()


def test_mean_error(model):
    monitor = online.Monitor(model)
    assert monitor.mean_error == 0
    monitor.observe(torch.tensor([True, False, False, False]))
    monitor.observe(torch.tensor([[0.5], [0.5]]))
    assert monitor.samples == 6
    assert monitor.mean_error == pytest.approx(2 / 6)


@pytest.mark.parametrize("size", [1, 100])
def test_drift(model, size, caplog):
    found = []
    monitor = online.Monitor(model, on_drift=lambda monitor, drift: found.append(drift))
    for part in errors(0.05, 2000).split(size):
        monitor.observe(part)
    assert not found
    with caplog.at_level(logging.WARNING, "webtorch"):
        for part in errors(0.5, 500).split(size):
            monitor.observe(part)
    assert monitor.drifts == len(found) >= 1
    assert 2000 < found[0].samples <= 2500
    assert found[0].before < found[0].after
    assert f'model "{model.name}": drift after {found[0].samples} samples' in caplog.text


def test_improvement_is_no_drift(model):
    monitor = online.Monitor(model)
    for rate in (0.5, 0.05):
        monitor.observe(torch.zeros(0))
        for part in errors(rate, 2000).split(10):
            monitor.observe(part)
    assert monitor.drifts == 0
    assert monitor.error < 0.1


def test_rates_are_raised_for_some_samples(model):
    monitor = online.Monitor(model)
    rates = model.optimizer.param_groups
    monitor.raise_learning_rate(10, samples=20)
    assert rates[0]["lr"] == 5
    monitor.raise_learning_rate(10, samples=30)
    assert rates[0]["lr"] == 5
    monitor.observe(torch.zeros(29))
    assert rates[0]["lr"] == 5
    monitor.observe(torch.zeros(1))
    assert rates[0]["lr"] == 0.5


def test_frozen_model_does_not_learn(model):
    monitor = online.Monitor(model)

    def step() -> None:
        monitor.step(model(torch.ones(4, 2)).square().mean(), torch.zeros(4))

    with torch.enable_grad():
        step()
        assert model.steps == 1
        monitor.freeze(8)
        step()
        assert monitor.frozen
        assert model.steps == 1
        step()
        assert model.steps == 2
        monitor.freeze()
        step()
        assert model.steps == 2
        monitor.unfreeze()
        step()
        assert model.steps == 3


@pytest.mark.parametrize("values", [[0.5, 1.5], [-1.0], [float("nan")]])
def test_errors_are_checked(model, values):
    monitor = online.Monitor(model)
    with pytest.raises(ValueError, match="between 0 and 1"):
        monitor.observe(torch.tensor(values))
    assert monitor.samples == 0


def test_delta_is_checked(model):
    with pytest.raises(ValueError, match="delta"):
        online.Monitor(model, delta=1)
