"""The weights that a model begins with."""

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Weights = str | Path | Mapping[str, Tensor]

# what `weights_only` names of a file
_FOREIGN = re.compile(r"Unsupported global: GLOBAL (\S+)")


def load_weights(module: nn.Module, weights: Weights, directory: Path) -> int:
    """Load weights into a module.

    Args:
        module: The module, in memory of this process.
        weights: A state dict, or the path of a file that has one: written by `torch.save()`, or a
            safetensors file if its name ends so. Checkpoints of WebTorch are among these.
        directory: Where a relative path begins.

    Returns:
        A number that identifies the file and its last change; 0 for a state dict.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file, or its tensors do not fit the module.

    """
    source = ""
    identity = 0
    if isinstance(weights, str | Path):
        path = directory / weights
        source = f" of {path}"
        identity = _identify(path)
        weights = read_weights(path)
    state = module.state_dict(keep_vars=True)
    used = {
        key: tensor
        for key, tensor in weights.items()
        if key in state or not key.startswith("optimizer.")
    }
    if prefix := _prefix(used, state):
        raise ValueError(
            f'the weights{source} do not fit the module: all of their names begin with "{prefix}", '
            "as of a network within another one; pass them as a dict without it, or such a module"
        )
    try:
        missing, unexpected = module.load_state_dict(used, strict=False)
    except Exception as error:
        raise ValueError(f"the weights{source} do not fit the module: {error}") from error
    # safetensors files have tied tensors once
    loaded = {id(state[key]) for key in used if key in state}
    for key in (key for key in missing if id(state.get(key)) not in loaded):
        raise ValueError(f'the weights{source} do not fit the module: "{key}" is missing')
    for key in unexpected:
        raise ValueError(f'the weights{source} do not fit the module, which has no "{key}"')
    return identity


def _prefix(found: Collection[str], expected: Collection[str]) -> str:
    """Return what makes all names others than those of a module, as DataParallel's "module."."""
    names = [*found]
    if not names or any(name in expected for name in names):
        return ""
    for key in expected:
        prefix = names[0].removesuffix(key)
        if names[0].endswith(key) and all(
            each.startswith(prefix) and each.removeprefix(prefix) in expected for each in names
        ):
            return prefix
    return ""


def _identify(path: Path) -> int:
    """Return a number of a file and its last change, at least 1 and below 2^64."""
    found = path.stat()
    text = f"{path} {found.st_mtime_ns} {found.st_size}"
    return int.from_bytes(hashlib.sha256(os.fsencode(text)).digest()[:8], "little") | 1


def read_weights(path: Path) -> Mapping[str, Any]:
    """Read the tensors of a file of `torch.save()`, or of safetensors if its name ends so.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file.

    """
    try:
        # safetensors says of a file that may not be read that there is none
        path.open("rb").close()
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what weights_only raises for other files is not specified
        if found := _FOREIGN.search(str(error)):
            raise ValueError(
                f"{path} has a {found[1]} in it, and is read without running its code: save the "
                "state_dict() of the module alone"
            ) from error
        if "TorchScript archive" in str(error):
            raise ValueError(
                f"{path} is of TorchScript: pass torch.jit.load() of it as the module"
            ) from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, LookupError):  # of bytes that are no instructions of a pickle
            reason = "it is not a pickle"
        # what PyTorch recommends next would run code of the file
        reason = re.split(r"\. In PyTorch |\. This file can still be loaded", reason)[0]
        raise ValueError(
            f"{path} is no file of tensors, written by torch.save() or as safetensors: {reason}"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise ValueError(f"{path} has no state dict: load it, and pass the state dict in it")
    return found
