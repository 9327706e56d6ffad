"""Model(weights=...): what a model begins with."""

import itertools
import runpy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from webtorch import Model

names = (f"weights-{n}" for n in itertools.count())

STATE = {"weight": torch.tensor([[2.0, 3.0]]), "bias": torch.tensor([5.0])}


@pytest.fixture
def directory(tmp_path):
    torch.save(STATE, tmp_path / "state.pt")
    save_file(STATE, tmp_path / "state.safetensors")
    save_file(STATE | {"optimizer.made": torch.ones(2)}, tmp_path / "checkpoint.safetensors")
    torch.save({"epoch": 3, "state": STATE}, tmp_path / "nested.pt")
    torch.save(nn.Linear(2, 1), tmp_path / "pickled.pt")
    (tmp_path / "text.pt").write_text("text")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "hello.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("text")
    return tmp_path


@pytest.mark.parametrize("file", ["state.pt", "state.safetensors", "checkpoint.safetensors", ""])
@pytest.mark.parametrize("kind", [str, None])
def test_files_and_state_dicts(directory, file, kind):
    weights = directory / file if file else STATE
    if file and kind:
        weights = kind(weights)
    model = Model(next(names), nn.Linear(2, 1), weights=weights)
    assert torch.equal(model.module.weight.data, STATE["weight"])
    with torch.no_grad():
        assert model(torch.tensor([[10.0, 100.0]])).item() == 20 + 300 + 5


def test_relative_path_begins_where_the_code_is(directory):
    code = directory / "code.py"
    code.write_text(
        "import webtorch\nfrom torch import nn\n"
        f"model = webtorch.Model({next(names)!r}, nn.Linear(2, 1), weights='state.pt')\n"
    )
    assert runpy.run_path(str(code))["model"].module.bias.item() == 5


def test_relative_path_does_not_begin_where_a_subclass_is(directory):
    class Linear(Model):
        def __init__(self, name, **options):
            super().__init__(name, nn.Linear(2, 1), **options)

    code = directory / "code.py"
    code.write_text(f"model = Linear({next(names)!r}, weights='state.pt')\n")
    assert runpy.run_path(str(code), {"Linear": Linear})["model"].module.bias.item() == 5


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("nested.pt", "has no state dict: load it, and pass the state dict in it"),
        ("pickled.pt", "has a .* in it"),
        ("text.pt", "is no file of tensors"),
        ("empty.pt", "is no file of tensors"),
        ("hello.pt", "is no file of tensors, .*: it is not a pickle"),
        ("text.safetensors", "is no file of tensors"),
    ],
)
def test_other_files_are_errors(directory, file, text):
    with pytest.raises(ValueError, match=text):
        Model(next(names), nn.Linear(2, 1), weights=directory / file)


def test_missing_file_is_an_error(directory):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        Model(next(names), nn.Linear(2, 1), weights=directory / "none.pt")


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"weight": STATE["weight"]}, 'the weights do not fit the module: "bias" is missing'),
        (STATE | {"other": torch.ones(1)}, 'do not fit the module, which has no "other"'),
        (STATE | {"bias": torch.ones(2)}, "size mismatch for bias"),
        (
            {f"module.{key}": value for key, value in STATE.items()},
            'all of their names begin with "module.", as of a network within another one',
        ),
    ],
)
def test_weights_that_do_not_fit_are_errors(weights, text):
    with pytest.raises(ValueError, match=text):
        Model(next(names), nn.Linear(2, 1), weights=weights)


def test_tied_tensors_are_in_files_once():
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    model = Model(next(names), module, weights={"0.weight": torch.full((2, 2), 4.0)})
    assert model.module[1].weight[0, 0] == 4


def test_files_with_code_say_what_to_save(directory):
    torch.jit.script(nn.Linear(2, 1)).save(directory / "script.pt")
    for file, text in (
        (
            "pickled.pt",
            r"has a torch\.nn\.modules\.linear\.Linear in it.*: save the state_dict\(\)",
        ),
        ("script.pt", r"is of TorchScript: pass torch\.jit\.load\(\) of it as the module"),
    ):
        with pytest.raises(ValueError, match=text):
            Model(next(names), nn.Linear(2, 1), weights=directory / file)
