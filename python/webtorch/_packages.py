"""Packages of PyTorch (`.pt2`) as networks."""

import sys
import zipfile
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
        The network. Its training mode is that of the package.

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
        return CompiledPackage(torch._inductor.aoti_load_package(str(path)))
    if not any("/models/" in name for name in names):
        raise ValueError(f"{path} is not a package of torch.export or AOTInductor")
    return ExportedNetwork(torch.export.load(path).module())


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
