"""`webtorch checkpoints`: files as nginx writes them, without nginx."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from webtorch._zone.checkpoint import Checkpoints, write
from webtorch._zone.layout import Layout
from webtorch.cli import cli


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["checkpoints", *map(str, arguments)], prog_name="webtorch")


def checkpoint(directory: Path, sequence: int, value: float) -> Path:
    """Write a checkpoint of the model "my net"."""
    tensors = {"weight": torch.full((2, 3), value), "optimizer.weight.momentum": torch.ones(2, 3)}
    path = directory / "my net" / f"{sequence * 10:012}.safetensors"
    path.parent.mkdir(exist_ok=True)
    time = f"2026-01-0{sequence}T00:00:00+00:00"
    metadata = {"model": "my net", "step": str(sequence * 10), "sequence": str(sequence)}
    write(path, Layout.of(tensors), tensors, {**metadata, "time": time})
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [checkpoint(tmp_path, sequence, sequence / 2) for sequence in (1, 2, 3)]


def test_checkpoints_list_and_show(tmp_path, files):
    lines = run("list", tmp_path).output.splitlines()
    assert lines[0].split() == ["MODEL", "STEPS", "WRITTEN", "SIZE", "FILE"]
    assert [line.split()[2] for line in lines[1:]] == ["30", "20", "10"]
    assert lines[1].endswith(str(files[2]))

    done = run("show", files[0])
    assert done.exit_code == 0
    assert "step: 10\n" in done.output
    assert "weight: float32 [2, 3]\n" in done.output

    damaged = bytearray(files[0].read_bytes())
    damaged[-1] ^= 1
    files[0].write_bytes(damaged)
    done = run("show", files[0])
    assert done.exit_code == 1
    assert "checksum differs" in done.output


def test_checkpoints_compare(files):
    assert run("compare", files[0], files[0]).exit_code == 0
    done = run("compare", files[0], files[2])
    assert (done.exit_code, done.output) == (1, "weight: differs by up to 1\n")


def test_checkpoints_export(tmp_path, files):
    target = tmp_path / "weights.pt"
    assert run("export", tmp_path, "my net", target).exit_code == 0
    assert torch.load(target, weights_only=True)["weight"].tolist() == [[1.5] * 3] * 2
    assert [*torch.load(target, weights_only=True)] == ["weight"]

    # the newest one is damaged
    files[2].write_bytes(files[2].read_bytes()[:-1])
    target = tmp_path / "weights.safetensors"
    assert run("export", tmp_path, "my net", target).exit_code == 0
    assert load_file(target)["weight"].tolist() == [[1.0] * 3] * 2

    assert run("export", tmp_path, "other", target).exit_code == 1
    done = run("export", tmp_path, "my net", tmp_path / "none/weights.pt")
    assert done.exit_code == 1
    assert f"{tmp_path}/none/weights.pt: No such file or directory.\n" in done.output


def test_checkpoints_removed_meanwhile(tmp_path, files, monkeypatch):
    find = Checkpoints.files

    def find_and_remove(self, name):
        found = find(self, name)
        found[0].path.unlink()
        return found

    monkeypatch.setattr(Checkpoints, "files", find_and_remove)
    done = run("list", tmp_path)
    assert done.exit_code == 0
    assert [line.split()[2] for line in done.output.splitlines()[1:]] == ["20", "10"]

    target = tmp_path / "weights.safetensors"
    done = run("export", tmp_path, "my net", target)
    assert done.exit_code == 0
    assert f"{files[1]}: No such file or directory.\n" in done.output
    assert load_file(target)["weight"].tolist() == [[0.5] * 3] * 2


def test_checkpoints_unreadable(tmp_path, files, monkeypatch):
    run("list", tmp_path)

    def refuse(self, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    lines = run("list", tmp_path).output.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["-", "-", "-"]
    done = run("show", files[0])
    assert (done.exit_code, done.output) == (1, f"webtorch: {files[0]}: Permission denied.\n")


def test_checkpoints_import(tmp_path, files):
    torch.save({"weight": torch.zeros(2, 3)}, tmp_path / "7.pt")
    done = run("import", tmp_path, "my net", tmp_path / "7.pt")
    assert done.exit_code == 0, done.output
    assert load_file(tmp_path / "my net/imported-7.safetensors")["weight"].sum() == 0
    # it is the one that the next start reads
    assert "imported-7" in run("list", tmp_path).output.splitlines()[1]

    save_file({"weight": torch.ones(2, 3)}, tmp_path / "new.safetensors")
    assert run("import", tmp_path, "my net", tmp_path / "new.safetensors").exit_code == 0
    assert (tmp_path / "my net/new.safetensors").exists()

    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    assert run("import", tmp_path, "my net", tmp_path / "noise.safetensors").exit_code == 1
    assert not list(tmp_path.glob("my net/.*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_checkpoints_import_of_new_model_by_root(tmp_path):
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "new.safetensors")
    root = tmp_path / "models"
    root.mkdir(mode=0o700)
    os.chown(root, 65534, 65533)
    assert run("import", root, "new net", tmp_path / "new.safetensors").exit_code == 0
    store = root / "new net"
    for path in (store, store / "new.safetensors"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533), path
    assert store.stat().st_mode & 0o777 == 0o700


def test_checkpoints_import_into_directory_of_another_user(tmp_path, monkeypatch):
    save_file({"weight": torch.ones(2, 3)}, tmp_path / "new.safetensors")

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(shutil, "chown", refuse)
    done = run("import", tmp_path, "new", tmp_path / "new.safetensors")
    assert done.exit_code == 1
    assert "is of another user" in done.output
    assert not (tmp_path / "new").exists()


def test_checkpoints_export_into_missing_directory(tmp_path, files):
    for name in ("weights.pt", "weights.safetensors"):
        done = run("export", tmp_path, "my net", tmp_path / "missing" / name)
        assert isinstance(done.exception, FileNotFoundError) or "No such file" in done.output


def test_checkpoints_prune(tmp_path, files):
    run("import", tmp_path, "my net", files[0])
    assert run("prune", tmp_path, "--keep", 1, "--dry-run").output.split("\n")[:2] == [
        str(files[1]),
        str(files[0]),
    ]
    assert all(file.exists() for file in files)
    assert run("prune", tmp_path, "my net", "--keep", 1).exit_code == 0
    assert [file.exists() for file in files] == [False, False, True]
    assert (tmp_path / "my net/imported-000000000010.safetensors").exists()
