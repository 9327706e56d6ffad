"""Two workers that share a model step as one does: the state of optimizers, without nginx."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn, optim
from torch.nn.functional import mse_loss

from memory_zone import Zone
from webtorch._zone.shared_state import SharedState

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
Y = X.prod(dim=1, keepdim=True)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads cost more than they bring here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "dampening": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.5),
    "fused": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "adam": lambda p: optim.Adam(p),
    "amsgrad": lambda p: optim.Adam(p, amsgrad=True),
    "adam foreach": lambda p: optim.Adam(p, foreach=True),
    "adam fused": lambda p: optim.Adam(p, fused=True),
    "adamw": lambda p: optim.AdamW(p, weight_decay=0.1),
    "adamax": lambda p: optim.Adamax(p),
    "nadam": lambda p: optim.NAdam(p),
    "radam": lambda p: optim.RAdam(p),
    "rmsprop": lambda p: optim.RMSprop(p, momentum=0.9, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, initial_accumulator_value=0.1),
    "adadelta": lambda p: optim.Adadelta(p),
    "rprop": lambda p: optim.Rprop(p),
    "asgd": lambda p: optim.ASGD(p),
    "adafactor": lambda p: optim.Adafactor(p),
}


def network(frozen=False):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 1))
    module[0].weight.requires_grad_(not frozen)
    return module


def worker(zone, make, strict, module=None):
    module = module or network()
    optimizer = make(module.parameters())
    return module, SharedState(zone, "net", module, optimizer, strict, Path("none"), None)


def plain(make, steps, module=None):
    module = module or network()
    optimizer = make(module.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        mse_loss(module(X), Y).backward()
        optimizer.step()
    return module


def assert_same(module, other):
    for (key, tensor), expected in zip(
        module.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.allclose(tensor, expected, atol=1e-6), key


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_workers_in_turns_step_as_one(name, strict):
    make = OPTIMIZERS[name]
    zone = Zone()
    workers = [worker(zone, make, strict) for _ in range(2)]
    # the first one begins alone, and the third comes late
    turns = [0, 0, 1, 0, 1, 1, 0, 1]
    for turn in turns:
        module, shared = workers[turn]
        shared.step(mse_loss(module(X), Y))
    workers.append(worker(zone, make, strict))
    for turn in (2, 0, 2, 1):
        module, shared = workers[turn]
        shared.step(mse_loss(module(X), Y))

    assert shared.steps == len(turns) + 4
    for module, _ in workers:
        assert_same(module, plain(make, len(turns) + 4))


def test_parameters_that_are_frozen_stay():
    zone = Zone()
    module, shared = worker(zone, OPTIMIZERS["adamw"], False, network(frozen=True))
    before = module[0].weight.clone()
    for _ in range(3):
        shared.step(mse_loss(module(X), Y))
    assert torch.equal(module[0].weight, before)
    assert_same(module, plain(OPTIMIZERS["adamw"], 3, network(frozen=True)))


@pytest.mark.parametrize("strict", [False, True])
def test_gradients_are_clipped_by_a_hook(strict):
    def make(parameters):
        parameters = [*parameters]

        def clip(*_):
            nn.utils.clip_grad_norm_(parameters, 1e-3)

        optimizer = optim.Adam(parameters, lr=0.01)
        optimizer.register_step_pre_hook(clip)
        return optimizer

    zone = Zone()
    workers = [worker(zone, make, strict) for _ in range(2)]
    for module, shared in workers * 2:
        shared.step(mse_loss(module(X), Y))
        norms = [parameter.grad.norm() for parameter in module.parameters()]
        assert torch.stack(norms).norm() < 1.01e-3
    for module, _ in workers:
        assert_same(module, plain(make, 4))


def test_groups_of_parameters():
    def make(parameters):
        first, *rest = parameters
        return optim.AdamW([{"params": [first], "lr": 0.1}, {"params": rest}], lr=0.01)

    zone = Zone()
    workers = [worker(zone, make, False) for _ in range(2)]
    for turn in (0, 1, 1, 0):
        module, shared = workers[turn]
        shared.step(mse_loss(module(X), Y))
    assert_same(workers[0][0], plain(make, 4))


def test_tied_weights_are_one_tensor():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    zone = Zone()
    first, shared = worker(zone, OPTIMIZERS["momentum"], False, Tied())
    second, _ = worker(zone, OPTIMIZERS["momentum"], False, Tied())
    shared.step(first(X).pow(2).mean())
    assert first.second.weight is first.first.weight
    assert torch.equal(second.second.weight, first.first.weight)


def test_parameters_that_get_their_first_gradient_late():
    """Their state begins as the optimizer makes it, whichever worker steps first."""

    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(3)
            self.first = nn.Linear(3, 1)
            self.second = nn.Linear(3, 1)

    def turns(modules, step):
        for turn, head in enumerate(("first", "first", "second", "second", "first")):
            module = modules[turn % len(modules)]
            step(module, mse_loss(getattr(module, head)(X), Y))

    for make in (OPTIMIZERS["momentum"], OPTIMIZERS["nadam"], OPTIMIZERS["rprop"]):
        zone = Zone()
        workers = dict(worker(zone, make, True, Heads()) for _ in range(2))
        turns([*workers], lambda module, loss, workers=workers: workers[module].step(loss))

        expected = Heads()
        optimizer = make(expected.parameters())

        def step(module, loss, optimizer=optimizer):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        turns([expected], step)
        for module in workers:
            assert_same(module, expected)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_steps_without_order_take_no_lock(name):
    """Another model's call may hold it for long; one parameter never gets a gradient here."""
    zone = Zone()
    module = nn.ModuleDict({"used": nn.Linear(3, 1), "unused": nn.Linear(3, 1)})
    _, shared = worker(zone, OPTIMIZERS[name], False, module)
    expected = plain(OPTIMIZERS[name], 5, copy.deepcopy(module["used"]))
    for _ in range(5):
        shared.step(mse_loss(module["used"](X), Y))
    assert_same(module["used"], expected)
    assert zone.locks == 0


def test_unsharable_optimizers_are_errors():
    with pytest.raises(ValueError, match=r"LBFGS cannot be used: its step\(\) needs the argument"):
        worker(Zone(), lambda p: optim.LBFGS(p), False)


def test_creation_changes_no_weights():
    """The optimizer's copy that shows the state makes steps, with weight decay."""
    zone = Zone()
    module, _ = worker(zone, lambda p: optim.SGD(p, lr=1.0, momentum=0.9, weight_decay=0.5), False)
    assert_same(module, network())


class Assigning(optim.Optimizer):
    """Assigns its state and the parameters anew, as in textbooks."""

    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self):
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            momentum = state.get("momentum", torch.zeros_like(parameter))
            state["momentum"] = 0.9 * momentum + parameter.grad
            parameter.data = parameter.data - 0.05 * state["momentum"]


@pytest.mark.parametrize("strict", [False, True])
def test_assigned_state_is_shared(strict):
    zone = Zone()
    workers = [worker(zone, Assigning, strict) for _ in range(2)]
    for turn in (0, 1, 1, 0, 1):
        module, shared = workers[turn]
        shared.step(mse_loss(module(X), Y))
        shared.gather()
    for module, _ in workers:
        assert_same(module, plain(Assigning, 5))


@pytest.mark.parametrize("strict", [False, True])
def test_sparse_adam_shares_its_state(strict):
    def table():
        torch.manual_seed(4)
        return nn.Embedding(5, 3, sparse=True)

    zone = Zone()
    make = optim.SparseAdam
    workers = [worker(zone, make, strict, table()) for _ in range(2)]
    expected = table()
    optimizer = make(expected.parameters())
    for turn in (0, 1, 1, 0):
        rows = torch.tensor([turn, 2, 4])
        module, shared = workers[turn]
        shared.step(module(rows).pow(2).sum())
        optimizer.zero_grad()
        expected(rows).pow(2).sum().backward()
        optimizer.step()
    for module, _ in workers:
        assert_same(module, expected)
