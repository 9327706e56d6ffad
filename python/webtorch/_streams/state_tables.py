"""Tables of states: a row for each stream."""

import collections
import copy
import functools
from typing import Any

import torch
from torch import Tensor

from webtorch._schema.schema import TensorSpec

_CONTAINERS = (list, dict, set, bytearray, collections.deque)


class TensorTable:
    """A tensor state of all streams: a row for each.

    Row 0 is zeros, the state of a new stream, and is not written to. The caller's lock makes reads
    and writes one at a time, as a write may replace the memory.

    Args:
        spec: dtype and shape of a row.

    """

    FIRST_ROWS = 64
    """Rows that there are at first, fewer if they would take more than `FIRST_BYTES`."""

    FIRST_BYTES = 1 << 20

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self._dtype: Any = spec.dtype

    @functools.cached_property
    def _rows(self) -> Tensor:
        """Rows that there are; those of "resume=" are elsewhere."""
        row = torch.zeros(1, *self.spec.sizes(), dtype=self._dtype)
        count = min(self.FIRST_ROWS, self.FIRST_BYTES // max(1, row.nbytes))
        # that of zeros and two of a stream
        return row.new_zeros(max(3, count), *self.spec.sizes())

    def read(self, places: Tensor) -> Tensor:
        """Return copies of rows."""
        try:
            return self._rows.index_select(0, places)
        except (IndexError, RuntimeError):
            if not self._grow(int(places.max())):
                raise
            return self._rows.index_select(0, places)

    def write(self, places: Tensor, values: Tensor) -> None:
        """Replace rows."""
        try:
            self._rows.index_copy_(0, places, values)
        except (IndexError, RuntimeError):
            if not self._grow(int(places.max())):
                raise
            self._rows.index_copy_(0, places, values)

    def check(self, values: Any, rows: int) -> Tensor:
        """Return new values of `rows` rows.

        Raises:
            TypeError: They do not match the annotation.

        """
        if isinstance(values, Tensor):
            if values.dtype is self._dtype and values.shape == (rows, *self.spec.shape):
                return values.detach() if values.is_cpu else values.detach().cpu()
            dtype = str(values.dtype).removeprefix("torch.")
            found = f"{dtype} {list(values.shape)} for {rows} rows"
        else:
            found = str(type(values))
        raise TypeError(
            f'state "{self.spec.name}" is annotated as {self.spec.describe(True)}, '
            f"it returned {found}"
        )

    def stack(self, value: Any) -> Any:
        """Return the state of one stream as values of one row."""
        return value[None] if isinstance(value, Tensor) else value

    def forget(self, place: int) -> None:
        """Release what a row holds."""

    def _grow(self, place: int) -> bool:
        """Make room for a row; return False if there is."""
        if place < len(self._rows):
            return False
        capacity = max(2 * len(self._rows), place + 1)
        grown = self._rows.new_zeros(capacity, *self.spec.sizes())
        grown[: len(self._rows)] = self._rows
        self._rows = grown
        return True


class ObjectTable:
    """Objects of Python, one for each stream; None for a new one.

    Lists, dicts, sets, bytearrays and deques are copied when they are read, so that a call that
    fails has not changed them. Other objects are passed on as they are.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self._rows: list[Any] = [None]

    def read(self, places: Tensor) -> list[Any]:
        """Return the objects of rows."""
        numbers = places.tolist()
        if max(numbers) >= len(self._rows):
            self._grow(max(numbers))
        found = [self._rows[place] for place in numbers]
        return [copy.copy(value) if isinstance(value, _CONTAINERS) else value for value in found]

    def write(self, places: Tensor, values: list[Any]) -> None:
        """Replace the objects of rows."""
        numbers = places.tolist()
        if max(numbers) >= len(self._rows):
            self._grow(max(numbers))
        for place, value in zip(numbers, values, strict=True):
            self._rows[place] = value

    def check(self, values: Any, rows: int) -> list[Any]:
        """Return new objects of `rows` rows.

        Raises:
            TypeError: They are not a list of as many.

        """
        if isinstance(values, list) and len(values) == rows:
            return values
        found = f"{len(values)}" if isinstance(values, list) else str(type(values))
        raise TypeError(
            f'state "{self.spec.name}" is annotated as a list of objects, it returned {found} for '
            f"{rows} rows"
        )

    def stack(self, value: Any) -> Any:
        """Return the state of one stream as values of one row."""
        return [value]

    def forget(self, place: int) -> None:
        """Release what a row holds."""
        if place < len(self._rows):
            self._rows[place] = None

    def _grow(self, place: int) -> None:
        self._rows.extend([None] * (max(2 * len(self._rows), place + 1) - len(self._rows)))


Table = TensorTable | ObjectTable
