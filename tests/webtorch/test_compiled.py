"""Model(compile=True): what is compiled, when, and what is not."""

import itertools
import threading

import pytest
import torch
from torch import Tensor, nn, optim

from nginx import wait_for
from webtorch import Model
from webtorch._device import devices
from webtorch._device.calls import enter
from webtorch._models import compiled

names = (f"compiled-{n}" for n in itertools.count())


@pytest.fixture(autouse=True)
def eager_backend(monkeypatch):
    """Trace networks as for the compiler, which would take seconds."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 2))


def model_of(module: nn.Module, **options) -> Model:
    return Model(next(names), module, lambda p: optim.SGD(p, lr=0.1), compile=True, **options)


def evaluate(model: Model, *args: Tensor, **kwargs: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(*args, **kwargs)
    return result


def expected(model: Model, x: Tensor) -> Tensor:
    module = model.copy_network().eval()
    with torch.no_grad():
        result: Tensor = module(x)
    return result


def graphs(model: Model) -> int:
    return model._counts._cells.ints[model._counts.COMPILED]


def test_compiled_network_follows_training():
    model = model_of(network())
    x = torch.randn(6, 4)
    for _ in range(3):
        assert torch.allclose(evaluate(model, x), expected(model, x), atol=1e-6)
        with torch.enable_grad():
            model.step(model(x).square().sum())
    assert graphs(model) == 1


def test_one_graph_serves_several_numbers_of_rows():
    model = model_of(network())
    for rows in (2, 7, 64, 1, 0):
        x = torch.randn(rows, 4)
        assert torch.allclose(evaluate(model, x), expected(model, x), atol=1e-6)
    assert graphs(model) <= 3  # of none, one and several rows


class Scaled(nn.Linear):
    def forward(self, x: Tensor, *, scale: Tensor | None = None) -> Tensor:
        return super().forward(x if scale is None else x * scale)


def test_calls_that_are_not_compiled():
    model = model_of(Scaled(2, 1))
    x = torch.randn(2, 2)
    found = evaluate(model, x, scale=torch.tensor(3.0))
    assert torch.allclose(found, expected(model, 3 * x))
    with torch.enable_grad():
        assert model(x).requires_grad
    assert graphs(model) == 0


def test_networks_of_a_class_have_limits_of_their_own():
    for size in range(1, 12):
        model = model_of(nn.Sequential(nn.Linear(4, size), nn.ReLU()))
        for rows in (1, 3):
            x = torch.randn(rows, 4)
            assert torch.allclose(evaluate(model, x), expected(model, x), atol=1e-6)
        assert graphs(model) == 2


class Branching(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(-x if x.sum() > 0 else x)


def test_code_that_depends_on_values_is_not_compiled(caplog):
    model = model_of(Branching(2, 1))
    for x in (torch.zeros(2, 2), torch.ones(2, 2)):
        assert torch.allclose(evaluate(model, x), expected(model, x))
    [record] = [record for record in caplog.records if record.name == "webtorch"]
    assert "is run without torch.compile" in record.message
    assert graphs(model) == 0


class Counting(nn.Linear):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * (self.calls > 0)


def test_calls_in_workers_do_not_compile_again(monkeypatch, caplog):
    monkeypatch.setattr(compiled, "in_background", True)
    model = model_of(Counting(2, 1))
    x = torch.ones(3, 2)
    with compiled.compiling():
        evaluate(model, x)
    before = graphs(model)
    for _ in range(3):
        assert torch.allclose(evaluate(model, x), expected(model, x))
    assert graphs(model) == before
    assert sum(record.name == "webtorch" for record in caplog.records) <= 1


def test_compiler_failure_is_logged_once(monkeypatch, caplog):
    def fail(graph, inputs):
        raise RuntimeError("no C++ compiler was found")

    torch._dynamo.register_backend(fail, name="test_fail")
    monkeypatch.setattr(compiled, "BACKEND", "test_fail")
    model = model_of(network())
    for rows in (2, 3):
        x = torch.randn(rows, 4)
        assert torch.allclose(evaluate(model, x), expected(model, x), atol=1e-6)
    [record] = [record for record in caplog.records if record.name == "webtorch"]
    assert f'model "{model.name}" is run without torch.compile' in record.message
    assert "no C++ compiler was found" in record.message


def test_calls_in_workers_do_not_wait_for_the_compiler(monkeypatch):
    begun, release = threading.Event(), threading.Event()

    def wait(graph, inputs):
        begun.set()
        assert release.wait(120)
        return graph

    torch._dynamo.register_backend(wait, name="test_wait")
    monkeypatch.setattr(compiled, "BACKEND", "test_wait")
    monkeypatch.setattr(compiled, "in_background", True)
    model = model_of(network())
    x = torch.randn(3, 4)
    result = expected(model, x)
    for _ in range(2):
        assert torch.allclose(evaluate(model, x), result, atol=1e-6)
    assert begun.wait(120)
    assert torch.allclose(evaluate(model, x), result, atol=1e-6)
    assert graphs(model) == 0
    release.set()
    wait_for(lambda: graphs(model), "the compiler")
    assert torch.allclose(evaluate(model, x), result, atol=1e-6)


def test_compiled_on_a_device_with_graphs(monkeypatch):
    monkeypatch.setenv("WEBTORCH_SIMULATED_DEVICE", "1")
    model = model_of(network(), device="cuda", graphs=[4])
    for rows in (3, 9):
        x = torch.randn(rows, 4)
        before = enter(devices.open_device(devices.resolve("cuda")))
        try:
            found = evaluate(model, x)
        finally:
            enter(before)
        assert torch.allclose(found.cpu(), expected(model, x), atol=1e-6)
    assert graphs(model) >= 1
