"""Packages of torch.export and AOTInductor as networks."""

import itertools
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn, optim

import webtorch
from webtorch import Model, load_package

names = (f"package-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).eval()


def export(network: nn.Module) -> torch.export.ExportedProgram:
    rows = {0: torch.export.Dim.DYNAMIC}
    return torch.export.export(network, (torch.randn(2, 3),), dynamic_shapes=(rows,))


def test_exported_network_is_trained(network: nn.Module, tmp_path: Path) -> None:
    torch.export.save(export(network), tmp_path / "net.pt2")
    made = load_package(tmp_path / "net.pt2")
    model = Model(next(names), made, lambda parameters: optim.SGD(parameters, lr=0.1))
    x = torch.randn(5, 3)
    with torch.no_grad():
        assert torch.allclose(model(x), network(x), atol=1e-6)
    before = model(x).square().mean()
    model.step(before)
    assert model.steps == 1
    with torch.no_grad():
        assert model(x).square().mean() < before


def test_compiled_package_has_its_weights(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "net.pt2")
    torch._inductor.aoti_compile_and_package(export(network), package_path=path)
    files = tmp_path / "tmp"
    files.mkdir()
    monkeypatch.setenv("TMPDIR", str(files))
    monkeypatch.setattr(tempfile, "tempdir", None)
    model = Model(next(names), load_package(path))
    assert not [*files.iterdir()]
    for rows in (1, 7):
        x = torch.randn(rows, 3)
        with torch.no_grad():
            assert torch.allclose(model(x), network(x), atol=1e-5)
    assert not [*model.module.parameters()]


def test_files_that_are_no_packages(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.pt2"):
        load_package(tmp_path / "missing.pt2")
    (tmp_path / "text.pt2").write_text("text")
    with pytest.raises(ValueError, match=r"text\.pt2 is not a package of PyTorch"):
        load_package(tmp_path / "text.pt2")
    torch.save({}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"not a package of torch\.export or AOTInductor"):
        load_package(tmp_path / "state.pt")
    assert webtorch.load_package is load_package


@pytest.mark.parametrize("kind", [lambda program: program, torch.export.ExportedProgram.module])
def test_exported_programs_are_networks(network, kind):
    model = Model(
        next(names), kind(export(network)), lambda parameters: optim.SGD(parameters, lr=0.1)
    )
    x = torch.randn(5, 3)
    with torch.no_grad():
        assert torch.allclose(model(x), network(x), atol=1e-6)
    model.step(model(x).square().mean())
    assert model.steps == 1
