"""What two workers that share a model serve after they have trained it in turns."""

import copy
import itertools
import warnings

import pytest
import torch
from torch import nn, optim
from torch.nn.functional import mse_loss
from torch.nn.utils import parametrizations, prune
from torch.optim.lr_scheduler import StepLR

from memory_zone import Zone
from webtorch import Model
from webtorch._models import model_state
from webtorch._models.model import models

X = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
Y = X.prod(dim=1, keepdim=True)

names = (f"shared-{n}" for n in itertools.count())


def sgd(parameters):
    return optim.SGD(parameters, lr=0.05, momentum=0.5)


@pytest.fixture
def zone(monkeypatch):
    monkeypatch.setattr(model_state, "zone", Zone())


@pytest.fixture
def load(zone):
    """Make the model of another worker, which runs the same code."""
    name = next(names)

    def load(make, optimizer=sgd, **options):
        models.pop(name, None)
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Model(name, make(), optimizer, **options)

    return load


def step(model):
    model.step(mse_loss(model(X), Y))


def evaluate(model):
    with torch.no_grad():
        return model(X)


class Counted(nn.Module):
    """Has tensors of several dtypes."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.ones(5, dtype=torch.bool))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.line(x)


@pytest.mark.parametrize("make", [Counted, lambda: nn.Linear(3, 1)])
def test_shared_weights_are_saved_by_torch(load, make, tmp_path):
    """Whatever their dtypes are, and nothing else of the zone with them."""
    model = load(make)
    step(model)
    path = tmp_path / "saved.pt"
    torch.save(model.module.state_dict(), path)
    saved = torch.load(path, weights_only=True)
    assert saved.keys() == model.module.state_dict().keys()
    for key, value in model.module.state_dict().items():
        assert torch.equal(saved[key], value)
        assert saved[key].untyped_storage().nbytes() == value.nbytes


class Mean(nn.Module):
    """Assigns buffers, or a parameter's memory, anew in each call in training."""

    def __init__(self, persistent=True):
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.register_buffer("mean", torch.zeros(3), persistent=persistent)

    def forward(self, x):
        if self.training:
            self.mean = 0.5 * self.mean + x.mean(0)
            self.line.bias.data = self.line.bias.data.clamp(-0.1, 0.1)
        return self.line(x - self.mean)


def noted_weight_norm():
    return nn.utils.weight_norm(nn.Linear(3, 1))


def used_weight_norm():
    module = noted_weight_norm()
    module(X)
    return module


def pruned():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    prune.random_unstructured(module[0], "weight", 0.5)
    return module


def layers():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def partly_scripted():
    return nn.Sequential(nn.Linear(3, 4), torch.jit.script(nn.Linear(4, 1)))


MODULES = {
    "scripted": lambda: torch.jit.script(layers()),
    "scripted, with assignments": lambda: torch.jit.script(Scripted()),
    "traced": lambda: torch.jit.trace(layers(), X),
    "partly scripted": partly_scripted,
    "buffer assigned anew": Mean,
    "weight_norm": noted_weight_norm,
    "weight_norm after a call": used_weight_norm,
    "spectral_norm": lambda: nn.utils.spectral_norm(nn.Linear(3, 1)),
    "pruned": pruned,
    "parametrized by weight_norm": lambda: parametrizations.weight_norm(nn.Linear(3, 1)),
    "parametrized by spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(3, 1)),
    "parametrized by orthogonal": lambda: parametrizations.orthogonal(nn.Linear(3, 1)),
}


class Scripted(nn.Module):
    """Assigns a buffer anew, in C++."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        if self.training:
            self.mean = 0.5 * self.mean + x.mean(0)
        return self.line(x - self.mean)


def quantised_in_training(called=True):
    module = nn.Sequential(
        torch.ao.quantization.QuantStub(), nn.Linear(3, 1), torch.ao.quantization.DeQuantStub()
    ).train()
    module.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86", version=0)
    module = torch.ao.quantization.prepare_qat(module)
    if called:
        module(X)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_all_workers_serve_what_each_trains(load, make, lock):
    workers = [load(make, lock=lock) for _ in range(2)]
    torch.manual_seed(1)
    module = make().train()
    optimizer = sgd(module.parameters())
    for turn in (0, 1, 1, 0, 1):
        step(workers[turn])
        optimizer.zero_grad()
        mse_loss(module(X), Y).backward()
        optimizer.step()
    module.eval()
    with torch.no_grad():
        expected = module(X)
    workers.append(load(make, lock=lock))
    for model in workers:
        torch.testing.assert_close(evaluate(model), expected)
        assert model.steps == 5


@pytest.mark.filterwarnings("ignore")
def test_quantisation_aware_training(load):
    """Its observers change in evaluation, too, so that outputs are not compared."""
    workers = [load(quantised_in_training) for _ in range(2)]
    torch.manual_seed(1)
    module = quantised_in_training()
    optimizer = sgd(module.parameters())
    for turn in (0, 1, 1, 0):
        step(workers[turn])
        optimizer.zero_grad()
        mse_loss(module(X), Y).backward()
        optimizer.step()
    for model in workers:
        for key, tensor in model._evaluation.module.state_dict().items():
            torch.testing.assert_close(tensor, module.state_dict()[key])


@pytest.mark.filterwarnings("ignore")
def test_buffer_that_grows_is_an_error(load):
    model = load(lambda: quantised_in_training(called=False))
    with pytest.raises(ValueError, match=r"min_val. was empty when the model was made"):
        step(model)


@pytest.mark.parametrize("persistent", [False, True])
def test_assigned_buffer_without_a_zone(persistent):
    model = Model(next(names), Mean(persistent), sgd)
    step(model)
    torch.testing.assert_close(model._evaluation.module.mean, X.mean(0))


def test_attributes_are_of_each_mode_and_worker(load):
    first, second = (load(Noting) for _ in range(2))
    step(first)
    assert first.module.noted.any()
    assert not first._evaluation.module.noted.any() and not second.module.noted.any()


class Noting(nn.Linear):
    """Assigns an attribute that is no buffer."""

    def __init__(self):
        super().__init__(3, 1)
        self.noted = torch.zeros(3)

    def forward(self, x):
        self.noted = x.mean(0)
        return super().forward(x)


def test_buffer_that_is_not_persistent_is_of_each_worker(load):
    first, second = (load(lambda: Mean(persistent=False)) for _ in range(2))
    step(first)
    assert first._evaluation.module.mean.any() and not second._evaluation.module.mean.any()


class Counting(nn.Module):
    """Assigns a buffer anew in evaluation."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        return x + self.calls


def test_buffer_assigned_in_evaluation_is_shared(load):
    first, second = (load(Counting, None) for _ in range(2))
    for model in (first, second, first):
        evaluate(model)
    assert second.module.calls == 3


class Growing(nn.Module):
    """Changes a buffer in a way that workers cannot share."""

    def __init__(self, before, after):
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.register_buffer("kept", before)
        self.after = after

    def forward(self, x):
        if self.training:
            self.kept = self.after
        return self.line(x)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (torch.zeros(1), torch.zeros(2), r"was float32 \[1\], now it is float32 \[2\]"),
        (torch.zeros(1), torch.zeros(1).long(), r"was float32 \[1\], now it is int64 \[1\]"),
        (torch.zeros(0), torch.zeros(2), r"was float32 \[0\], now it is float32 \[2\]"),
        (None, torch.zeros(2), r"was None, now it is float32 \[2\]"),
        (torch.zeros(1), None, r"was float32 \[1\], now it is None"),
    ],
)
def test_buffers_that_cannot_be_shared_are_errors(load, before, after, text):
    model = load(lambda: Growing(before, after))
    with pytest.raises(ValueError, match='dtypes and shapes stay: "kept" ' + text):
        step(model)
    assert model.module.kept is before


def test_parameter_of_another_shape_is_an_error(load):
    model = load(lambda: nn.Linear(3, 1))
    loss = mse_loss(model(X), Y)
    pointer = model.module.bias.data_ptr()
    model.module.bias.data = torch.zeros(2)
    model.module.bias.grad = None
    with pytest.raises(ValueError, match=r'"bias" is F32 \[2\], F32 \[1\] is expected'):
        model.gather()
    assert model.module.bias.data_ptr() == pointer
    model.step(loss)


def train(function):
    """Call a function as one of training."""
    from webtorch._models.training import training

    with training:
        function()


def test_call_without_a_step_is_gathered(load):
    first, second = (load(Mean, lock=True) for _ in range(2))
    train(lambda: first(X))
    torch.testing.assert_close(second._evaluation.module.mean, X.mean(0))


def test_failed_call_in_strict_order_assigns_nothing(load):
    first, second = (load(Mean, lock=True) for _ in range(2))
    step(first)
    before = copy.deepcopy(second.module.state_dict())

    def fail():
        first(X)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        train(fail)
    for model in (first, second):
        for key, tensor in model.module.state_dict().items():
            torch.testing.assert_close(tensor, before[key])
    step(second)
    torch.testing.assert_close(first.module.mean, second._evaluation.module.mean)


# --- what a zone refuses, or leaves to each worker ---


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_modules_are_called_first(load):
    with pytest.raises(ValueError, match='"weight" of a lazy module has no shape yet: call'):
        load(lambda: nn.LazyLinear(1))

    def called():
        module = nn.LazyLinear(1)
        module(X)
        return module

    first, second = (load(called) for _ in range(2))
    step(first)
    torch.testing.assert_close(evaluate(second), evaluate(first))


def test_complex_tensors_are_refused(load):
    with pytest.raises(ValueError, match=r'"weight" of torch\.complex64 cannot be shared'):
        load(lambda: nn.Linear(3, 1, dtype=torch.complex64))


@torch.no_grad()
def test_complex_tensors_without_a_zone():
    module = nn.Linear(3, 1, dtype=torch.complex64)
    assert Model(next(names), module)(X + 0j).dtype is torch.complex64


@pytest.mark.parametrize("shared", [False, True])
def test_lbfgs_is_refused(shared, request):
    if shared:
        request.getfixturevalue("zone")
    with pytest.raises(ValueError, match=r'its step\(\) needs the argument "closure"'):
        Model(next(names), nn.Linear(3, 1), lambda p: optim.LBFGS(p))


def test_scheduler_is_of_each_worker(load):
    schedulers = []

    def make(parameters):
        optimizer = optim.SGD(parameters, lr=0.1)
        schedulers.append(StepLR(optimizer, 1, gamma=0.5))
        return optimizer

    workers = [load(lambda: nn.Linear(3, 1, bias=False), make) for _ in range(2)]
    expected = workers[0].module.weight.detach().clone().requires_grad_()
    rates = [0.1, 0.1]
    for turn in (0, 0, 1, 0):
        step(workers[turn])
        schedulers[turn].step()
        (gradient,) = torch.autograd.grad(mse_loss(X @ expected.T, Y), expected)
        expected.data -= rates[turn] * gradient
        rates[turn] /= 2
    for model in workers:
        torch.testing.assert_close(model.module.weight.data, expected.data)
        assert model.steps == 4


def test_autocast(load):
    first, second = (load(layers) for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = first(X)
        assert output.dtype is torch.bfloat16
        loss = mse_loss(output.float(), Y)
    first.step(loss)
    assert first.module[0].weight.dtype is torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(evaluate(second), evaluate(first))


def test_grad_scaler_goes_around_the_model(load):
    optimizers = []

    def make(parameters):
        optimizers.append(sgd(parameters))
        return optimizers[-1]

    first, second = (load(layers, make) for _ in range(2))
    before = first.module[0].weight.clone()
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(mse_loss(first(X), Y)).backward()
    scaler.step(optimizers[0])
    assert not torch.equal(second.module[0].weight, before)
    assert first.steps == 0


@pytest.mark.filterwarnings("ignore")
def test_frozen_script_is_of_each_worker(load):
    def frozen():
        return torch.jit.freeze(torch.jit.script(nn.Linear(3, 1).eval()))

    model = load(frozen, None)
    assert isinstance(model.state, model_state.LocalState)
    torch.manual_seed(1)
    torch.testing.assert_close(evaluate(model), frozen()(X))
    with pytest.raises(ValueError, match="empty parameter list"):
        load(frozen)


@pytest.mark.filterwarnings("ignore")
def test_quantised_modules_are_of_each_worker(load, caplog):
    def quantised():
        module = nn.Sequential(nn.Linear(3, 1))
        return torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, torch.qint8)

    with caplog.at_level("INFO", "webtorch"):
        model = load(quantised, None)
    assert isinstance(model.state, model_state.LocalState)
    assert 'is not shared, each worker has its own: "0.scale" in its state' in caplog.text
    torch.manual_seed(1)
    torch.testing.assert_close(evaluate(model), quantised()(X))


def test_models_with_a_tensor_in_common_are_refused(zone):
    encoder = nn.Linear(3, 3)
    first = Model(next(names), encoder)
    with pytest.raises(ValueError, match=f'models "{first.name}" and ".*" have a tensor in common'):
        Model(next(names), nn.Sequential(encoder, nn.Linear(3, 1)))


def test_trained_state_that_is_no_tensor_is_refused(load):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"count": 1}

    with pytest.raises(ValueError, match='"_extra_state" in the state of the module is not a para'):
        load(lambda: Extra(3, 1))


def test_module_that_cannot_be_copied_is_refused():
    module = nn.Linear(3, 1)
    module.lock = __import__("threading").Lock()
    with pytest.raises(ValueError, match=r"evaluation needs a copy of the module, copy\.deepcopy"):
        Model(next(names), module)
