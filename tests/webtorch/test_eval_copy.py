"""EvalCopy: evaluation without the overhead of nn.Module around each layer."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils.parametrizations import weight_norm

from webtorch import Model

names = (f"eval-copy-{n}" for n in itertools.count())


class Counter(nn.Module):
    """Sets a buffer, a parameter and a submodule anew in each call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(()))
        self.layer = nn.Identity()

    def forward(self, x):
        self.calls = self.calls + 1
        self.weight = nn.Parameter(self.weight + 1)
        self.layer = nn.Sequential(self.layer, nn.Identity())
        return self.layer(x * self.weight + self.calls)


class Optional(nn.Module):
    """Has a parameter, a buffer and a submodule that are None."""

    def __init__(self):
        super().__init__()
        self.register_parameter("bias", None)
        self.register_buffer("mask", None)
        self.register_module("layer", None)

    def forward(self, x):
        assert self.bias is None and self.mask is None and self.layer is None
        return x


MODULES = {
    "sequential": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)),
    "normalized": lambda: nn.Sequential(nn.Conv1d(1, 4, 1), nn.BatchNorm1d(4), nn.Dropout()),
    "parametrized": lambda: weight_norm(nn.Linear(4, 4)),
    "recurrent": lambda: nn.LSTM(4, 8, batch_first=True),
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Tanh())),
    "none": Optional,
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_eval_copy_computes_as_its_module(make):
    x = torch.randn(2, 1, 4)
    module = make()
    model = Model(next(names), module)
    with torch.no_grad():
        found = model(x)
        expected = module.eval()(x)
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_eval_copy_follows_the_parameters_of_its_module():
    module = nn.Linear(1, 1, bias=False)
    model = Model(next(names), module)
    module.load_state_dict({"weight": torch.tensor([[7.0]])})
    assert model(torch.ones(1, 1)).item() == 7


@torch.no_grad()
def test_replaced_members_are_followed():
    model = Model(next(names), Counter())
    assert [model(torch.ones(())).item() for _ in range(3)] == [2 + 1, 3 + 2, 4 + 3]


@torch.no_grad()
def test_hooks_that_the_module_has_are_called():
    module = nn.Sequential(nn.Identity(), nn.Identity())
    module[0].register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    module[1].register_forward_hook(lambda _, args, output: output * 10)
    model = Model(next(names), module)
    assert model(torch.ones(())).item() == 20


@torch.no_grad()
def test_hooks_on_all_modules_are_called_as_long_as_there_are_any():
    model = Model(next(names), nn.Sequential(nn.Tanh(), nn.ReLU()))
    seen = []
    x = torch.ones(1)
    model(x)
    handle = register_module_forward_hook(lambda part, *_: seen.append(type(part).__name__))
    model(x)
    assert seen == ["Tanh", "ReLU", "Sequential"]
    handle.remove()
    model(x)
    assert len(seen) == 3
