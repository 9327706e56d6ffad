"""The layout of a model's tensors in memory, which is that of a safetensors file."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
}
"""The dtypes that a model's tensors can have, and their names in safetensors files."""

_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """A tensor of a layout; `begin` and `end` are offsets in bytes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    def describe(self) -> str:
        """Return dtype and shape as text, for example `F32 [20, 2]`."""
        return f"{DTYPES[self.dtype]} {list(self.shape)}"


class Layout:
    """Tensors one after the other, without gaps.

    Args:
        entries: The tensors by name, in the order of their offsets.
        owner: The layout that it belongs to; layouts of other owners are other ones.

    """

    def __init__(self, entries: Mapping[str, Entry], owner: "Layout | None" = None) -> None:
        self.entries = entries
        self._owner = hashlib.sha256(owner.key).hexdigest() if owner else ""
        self.size = max((entry.end for entry in entries.values()), default=0)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], owner: "Layout | None" = None) -> "Layout":
        """Return the layout of tensors: the widest dtypes first, so that all elements are aligned.

        Raises:
            ValueError: A dtype has no name in DTYPES.

        """
        entries = {}
        end = 0
        for key in sorted(tensors, key=lambda key: -tensors[key].dtype.itemsize):
            tensor = tensors[key]
            if tensor.dtype not in DTYPES:
                raise ValueError(f'tensor "{key}" of {tensor.dtype} cannot be shared by workers')
            begin, end = end, end + tensor.nbytes
            entries[key] = Entry(tensor.dtype, tuple(tensor.shape), begin, end)
        return cls(entries, owner)

    @classmethod
    def read(cls, header: bytes) -> "Layout":
        """Parse a header that `header` has written."""
        return cls(
            {
                key: Entry(_BY_NAME[entry["dtype"]], tuple(entry["shape"]), *entry["data_offsets"])
                for key, entry in json.loads(header).items()
                if key != "__metadata__"
            }
        )

    @functools.cached_property
    def key(self) -> bytes:
        """A header of it: equal for equal layouts only."""
        return self.header({"owner": self._owner} if self._owner else None)

    def header(self, metadata: Mapping[str, str] | None = None) -> bytes:
        """Return the header of a safetensors file."""
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        for key, entry in self.entries.items():
            header[key] = {
                "dtype": DTYPES[entry.dtype],
                "shape": entry.shape,
                "data_offsets": (entry.begin, entry.end),
            }
        return json.dumps(header, separators=(",", ":")).encode()

    def views(self, memory: Tensor) -> dict[str, Tensor]:
        """Return views of the tensors by name in memory, uint8 `[size]`, of the CPU.

        Each has a storage of its own: `torch.save()` writes whole storages, and refuses one that
        tensors of several dtypes share.
        """
        whole = memory.numpy()
        return {
            key: torch.from_numpy(whole[entry.begin : entry.end])
            .view(entry.dtype)
            .view(entry.shape)
            for key, entry in self.entries.items()
        }

    def mismatch(self, keys: Iterable[str], tensors: Mapping[str, Tensor]) -> str | None:
        """Describe the first key whose tensor is missing or does not fit; None if all fit."""
        for key in sorted(keys):
            entry, tensor = self.entries[key], tensors.get(key)
            if tensor is None:
                return f'tensor "{key}" is missing, {entry.describe()} is expected'
            if tensor.dtype is not entry.dtype or tuple(tensor.shape) != entry.shape:
                found = f"{DTYPES.get(tensor.dtype, tensor.dtype)} {list(tensor.shape)}"
                return f'tensor "{key}" is {found}, {entry.describe()} is expected'
        return None


def mismatch(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Describe the first tensor in which two states of modules differ; None if none does."""
    for key in sorted({*expected, *found}):
        texts = [_describe(state.get(key)) for state in (found, expected)]
        if texts[0] != texts[1]:
            return f'"{key}" is {texts[0]}, {texts[1]} is expected'
    return None


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return "missing" if value is None else type(value).__name__
    return f"{DTYPES.get(value.dtype, value.dtype)} {list(value.shape)}"
