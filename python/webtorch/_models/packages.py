"""Packages of PyTorch (`.pt2`) as networks."""

import contextlib
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn


def load_package(path: str | Path) -> nn.Module:
    """Load a package that PyTorch has written, for `webtorch.Model`.

        net = webtorch.Model("net", webtorch.load_package("net.pt2"))

    That of `torch.export.save()` is a network as others are: its weights are shared by workers,
    saved and, if it was exported in training mode, trained. That of
    `torch._inductor.aoti_compile_and_package()` is machine code, which was compiled with its
    weights: it starts without a compiler, and is not trained; on a device it needs a package that
    was compiled for that. Both execute what is in the file: load only those that you trust.

    Args:
        path: The file; a relative path begins where the Python file of the caller is.

    Returns:
        The network, in the mode in which it was exported, for training or evaluation.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a package of PyTorch.

    """
    caller = Path(sys._getframe(1).f_code.co_filename)
    path = caller.parent / path
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is not a package of PyTorch") from None
    if any("/data/aotinductor/" in name for name in names):
        with _own_files():
            return CompiledPackage(torch._inductor.aoti_load_package(str(path)))
    if not any("/models/" in name for name in names):
        raise ValueError(f"{path} is not a package of torch.export or AOTInductor")
    return ExportedNetwork(torch.export.load(path).module())


def as_network(module: Any) -> nn.Module:
    """Return a module for `webtorch.Model`; an exported program, or its module, as one.

    Raises:
        TypeError: It is no module.

    """
    if isinstance(module, torch.export.ExportedProgram):
        module = module.module()
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"a Model is of a torch.nn.Module, not of a {type(module).__qualname__}: call other "
            "things in functions"
        )
    # torch.export lets train() and eval() of a program's module raise
    return ExportedNetwork(module) if "train" in vars(module) else module


@contextlib.contextmanager
def _own_files() -> Iterator[None]:
    """Let PyTorch unpack into a directory that is removed, as workers exit without destructors.

    The code that is loaded stays in memory. Modules are imported by one thread.
    """
    before = {name: os.environ.get(name) for name in ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR")}
    with tempfile.TemporaryDirectory(prefix="webtorch-") as directory:
        os.environ["TMPDIR"] = directory
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    # set by PyTorch to a place in the directory
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class _Package(nn.Module):
    """A network with one mode, for training or evaluation."""

    def train(self, mode: bool = True) -> "_Package":
        """Do nothing but note the mode: what a package does was decided when it was made."""
        self.training = mode
        return self


class ExportedNetwork(_Package):
    """A network of `torch.export`.

    Args:
        network: The module of the exported program.

    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        return self.network(*args, **kwargs)


class CompiledPackage(_Package):
    """A network of AOTInductor: code with the weights that it was compiled with.

    Args:
        code: What `aoti_load_package` returns.

    """

    def __init__(self, code: Any) -> None:
        super().__init__()
        self._code = code

    def __deepcopy__(self, memo: dict[int, Any]) -> "CompiledPackage":
        """Return another module of the same code, which has no state."""
        return CompiledPackage(self._code)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        return self._code(*args, **kwargs)
