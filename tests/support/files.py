"""Tensors as files: of NumPy and of PyTorch."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def npy(array: Any) -> bytes:
    """Write an array as np.save() does."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    """Write arrays by name as np.savez() or np.savez_compressed() does."""
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def load_numpy(data: bytes) -> Any:
    """Read an npy or npz file."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def save_torch(value: Any, **options: Any) -> bytes:
    """Write a value as torch.save() does."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def load_torch(data: bytes) -> Any:
    """Read what torch.save() has written."""
    return torch.load(io.BytesIO(data), weights_only=True)


def patched(body: bytes, *patches: tuple[bytes, int, str, int]) -> bytes:
    """Write numbers at offsets from the last of a kind of headers of a zip archive."""
    changed = bytearray(body)
    for header, offset, layout, number in patches:
        struct.pack_into(layout, changed, body.rindex(header) + offset, number)
    return bytes(changed)
