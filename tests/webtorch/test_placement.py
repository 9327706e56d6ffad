"""Models on devices, of which a simulated one is at hand."""

import copy
import itertools

import pytest
import torch
from jaxtyping import Float32
from torch import Tensor, nn, optim

import webtorch
from memory_zone import Zone
from webtorch import Model
from webtorch._device import devices
from webtorch._models import model_state
from webtorch._zone.shared_state import refresh_all

names = (f"placed-{n}" for n in itertools.count())


@pytest.fixture(autouse=True)
def simulated(monkeypatch):
    monkeypatch.setenv("WEBTORCH_SIMULATED_DEVICE", "1")


def is_on_cpu(model: Model) -> bool:
    """Run the model; return whether it used the tensors of the CPU."""
    places: list[int] = []

    def note(module, args):
        places.append(module.weight.data_ptr())

    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: note(module, args) if isinstance(module, nn.Linear) else None
    )
    try:
        with torch.no_grad():
            model(torch.ones(1, 2))
    finally:
        hook.remove()
    return places == [model.module.weight.data_ptr()]


def evaluate(model: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(x)
    return result


def test_model_on_a_device_learns_as_on_the_cpu():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def make(device):
        return Model(
            next(names),
            copy.deepcopy(module),
            lambda parameters: optim.Adam(parameters, lr=0.01),
            device=device,
        )

    here, there = make("cpu"), make("cuda")
    for _ in range(4):
        x = torch.randn(8, 4)
        for model in (here, there):
            model.step(model(x).pow(2).mean())
        assert torch.equal(evaluate(here, x), evaluate(there, x))
    states = here.module.state_dict(), there.module.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["1.running_mean"], torch.zeros(4))


def test_model_on_a_device_has_a_copy_that_follows_other_workers(monkeypatch):
    monkeypatch.setattr(model_state, "zone", Zone())
    model = Model(next(names), nn.Linear(2, 1, bias=False), optim.SGD, device="cuda")
    assert not is_on_cpu(model)
    x = torch.ones(1, 2)
    weight = model.module.weight
    with torch.no_grad():
        weight.fill_(1)
    assert evaluate(model, x).item() == 2
    # a step of another worker, of which PyTorch knows nothing here
    weight.detach().numpy().fill(2)
    assert evaluate(model, x).item() == 2
    model.state.blocks.tensors.count_step()
    assert evaluate(model, x).item() == 4
    model.state.replace({"weight": torch.full((1, 2), 5.0)}, 1, None)
    assert evaluate(model, x).item() == 4
    assert refresh_all()
    assert evaluate(model, x).item() == 10


def test_model_runs_where_the_function_does():
    model = Model(next(names), nn.Linear(2, 1))
    fixed = Model(next(names), nn.Linear(2, 1), device="cpu")
    found = []

    @webtorch.infer(device="cuda")
    def there(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
        found.append((is_on_cpu(model), is_on_cpu(fixed)))
        return model(x)

    @webtorch.infer
    def here(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
        found.append((is_on_cpu(model), is_on_cpu(fixed)))
        return model(x)

    @webtorch.infer(device="cuda")
    def nested(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
        return here.batched(x) + there.batched(x)

    x = torch.ones(3, 2)
    expected = here.batched(x)
    assert torch.equal(there.batched(x), expected)
    assert torch.equal(nested.batched(x), 2 * expected)
    assert found == [(True, True), (False, True), (True, True), (False, True)]


def test_model_on_a_device_that_is_not_there():
    for device in ("cuda:1", "tpu"):
        with pytest.raises(ValueError, match="device"):
            Model(next(names), nn.Linear(2, 1), device=device)


def test_model_graphs_are_padded_to_the_next_size():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    model = Model(next(names), module, optim.SGD, device="cuda", graphs=[8, 1, 3])
    device = devices.open_device("cuda:0")
    begun = len(device.graphs)
    results = []
    for rows in (1, 2, 3, 5, 8, 2, 9, 0):
        x = torch.randn(rows, 2)
        results.append((x, evaluate(model, x)))
    # later runs do not write to results of earlier ones
    for x, found in results:
        torch.testing.assert_close(found, module.eval()(x))
    assert [graph.runs for graph in device.graphs[begun:]] == [1, 3, 2]
    # graphs have the weights of later steps
    model.step(model(torch.randn(8, 2)).sum())
    x = torch.randn(2, 2)
    torch.testing.assert_close(evaluate(model, x), module.eval()(x))
    assert [graph.runs for graph in device.graphs[begun:]] == [1, 4, 2]


class Total(nn.Module):
    """A network whose output has no row for each row of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


class Pair(nn.Module):
    """A network with an option and two outputs."""

    def forward(self, x: Tensor, *, negative: bool = False) -> tuple[Tensor, Tensor]:
        return (-x, x) if negative else (x, -x)


def test_model_graphs_of_other_networks(caplog):
    device = devices.open_device("cuda:0")
    x = torch.randn(2, 2)
    total = Model(next(names), Total(), device="cuda", graphs=[4])
    for _ in range(2):
        assert torch.equal(evaluate(total, x), x.sum())
    assert caplog.text.count("is run without graphs") == 1
    begun = len(device.graphs)
    pair = Model(next(names), Pair(), device="cuda", graphs=[4])
    with torch.no_grad():
        assert all(map(torch.equal, pair(x), (x, -x)))
        assert all(map(torch.equal, pair(x, negative=True), (-x, x)))
    assert [graph.runs for graph in device.graphs[begun:]] == [1]


class Outer(nn.Module):
    """A network that calls another model."""

    def __init__(self, inner: Model) -> None:
        super().__init__()
        self.inner = [inner]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner[0](x)
        return result

    def __deepcopy__(self, memo):
        return Outer(self.inner[0])


def test_model_graphs_have_no_other_model(caplog):
    device = devices.open_device("cuda:0")
    inner = Model(next(names), nn.Linear(2, 1), optim.SGD, device="cuda")
    outer = Model(next(names), Outer(inner), device="cuda", graphs=[2, 4])
    begun = len(device.graphs)
    for rows in (1, 3, 1):
        x = torch.randn(rows, 2)
        assert torch.equal(evaluate(outer, x), evaluate(inner, x))
        inner.step(inner(x).sum())
    # sizes after the first one are not tried
    assert caplog.text.count("is run without graphs") == 1
    assert len(device.graphs) == begun


def test_model_graphs_are_not_run_where_gradients_are(monkeypatch):
    device = devices.open_device("cuda:0")
    model = Model(next(names), nn.Linear(2, 1), device="cuda", graphs=[2])
    begun = len(device.graphs)
    x = torch.randn(2, 2)
    with torch.inference_mode():
        expected = model(x)
    # memory of the first call is written to outside inference mode
    assert torch.equal(evaluate(model, x), expected)
    assert [graph.runs for graph in device.graphs[begun:]] == [2]
    monkeypatch.setattr(model.state, "frozen", True)
    x.requires_grad_()
    model(x).sum().backward()
    assert torch.allclose(x.grad, model.module.weight.detach().expand(2, 2))
    assert [graph.runs for graph in device.graphs[begun:]] == [2]


@pytest.mark.parametrize("sizes", [[0], [1.5], [True], [70000]])
def test_model_graphs_are_numbers_of_rows(sizes):
    with pytest.raises(ValueError, match="graphs is a list"):
        Model(next(names), nn.Linear(2, 1), graphs=sizes)
