"""The input buffers of batches, and the tensors over them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from webtorch._core.pytorch import use_count
from webtorch._schema import strings
from webtorch._schema.schema import Schema
from webtorch._worker.exchange.schema_writer import PAIR, numbered_shape


class Slot:
    """The input buffers of one of C's batches, and the tensors over them.

    C allocates the buffers. From their first batch on they are freed here, with the last tensor
    over them, so a handler may keep its inputs. Views are made once for each number of rows: making
    them costs more than a model of two layers does.

    Args:
        generation: Changes when C allocates other buffers.
        batched: Whether the first axis of the tensors is the batch.
        bases: Tensors over whole buffers.
        outputs: C's array of the outputs' addresses.

    """

    MAX_VIEWS = 256

    MAX_COPIED = 4
    """The part of the buffers that outputs have which are copied is at most 1 / MAX_COPIED."""

    def __init__(self, generation: int, batched: bool, bases: list[Tensor], outputs: Any) -> None:
        self.generation = generation
        self.outputs = outputs
        self._batched = batched
        self._bases = bases
        storages = [base.untyped_storage()._cdata for base in bases]
        self._references = [(storage, use_count(storage)) for storage in storages]
        self._views: dict[Any, list[Tensor]] = {}
        self._version = self._versions()

    def inputs(self, rows: int) -> list[Tensor]:
        """Return tensors of the first rows, new ones, whose shape a handler may change."""
        views = self._views.get(rows) or self._make_views(rows)
        return [*map(Tensor.detach, views)]

    def report(self, outputs: Sequence[Any]) -> None:
        """Set the sizes of axes that only outputs have, in C's batch."""

    def _make_views(self, key: Any) -> list[Tensor]:
        if len(self._views) == self.MAX_VIEWS:
            self._views.clear()
        views = self._views[key] = self._views_of(key)
        return views

    def _views_of(self, rows: Any) -> list[Tensor]:
        rows_or_row = slice(rows) if self._batched else 0
        return [base[rows_or_row] for base in self._bases]

    def is_kept(self) -> bool:
        """Return whether tensors over a buffer exist that were not made here."""
        views = len(self._views)
        for storage, references in self._references:
            if use_count(storage) != references + views:
                return True
        return False

    def copied(self, outputs: Sequence[Any]) -> Sequence[Any]:
        """Return outputs with copies of those that are small views of the buffers.

        New buffers for the next batch would take longer.
        """
        storages = {storage for storage, _ in self._references}
        size = sum(base.nbytes for base in self._bases)
        return [
            output.clone()
            if isinstance(output, Tensor)
            and output.untyped_storage()._cdata in storages
            and output.nbytes * self.MAX_COPIED <= size
            else output
            for output in outputs
        ]

    def note_versions(self) -> None:
        """Note how often the inputs were written to so far, for `is_written`."""
        self._version = self._versions()

    def is_written(self) -> bool:
        """Return whether a handler wrote to its inputs since they were noted; at first they are."""
        return self._version != self._versions()

    def _versions(self) -> int:
        return sum(base._version for base in self._bases)


class VariableSlot(Slot):
    """A slot whose rows have other sizes in each batch.

    Args:
        generation: Changes when C allocates other buffers.
        schema: Schema of the handler, with variable axes.
        bases: Tensors over whole buffers, of one axis.
        batch: C's batch, a webtorch_batch_t.

    """

    def __init__(self, generation: int, schema: Schema, bases: list[Tensor], batch: Any) -> None:
        super().__init__(generation, schema.batched, bases, batch.outputs)
        self._sizes = batch.sizes
        self._bound = schema.bound
        self._shapes = [
            numbered_shape(schema, spec) + [PAIR] * spec.has_strings for spec in schema.buffers
        ]
        self._reported = [
            (number, *schema.place_of(axis))
            for number, axis in enumerate(schema.axes)
            if number >= schema.bound
        ]

    def inputs(self, rows: int) -> list[Tensor]:
        """Return tensors of the first rows, new ones, in the sizes of the batch."""
        key = rows, *self._sizes[0 : self._bound]
        views = self._views.get(key) or self._make_views(key)
        return [*map(Tensor.detach, views)]

    def _views_of(self, key: Any) -> list[Tensor]:
        rows, *sizes = key
        views = []
        for base, numbered in zip(self._bases, self._shapes, strict=True):
            row = [sizes[-1 - size] if size < 0 else size for size in numbered]
            shape = torch.Size([rows, *row] if self._batched else row)
            flat = base[: shape.numel()]
            # an absent input has no elements of its own
            is_whole = flat.numel() == shape.numel()
            views.append(flat.view(shape) if is_whole else flat[:1].expand(shape))
        return views

    def report(self, outputs: Sequence[Any]) -> None:
        """Set the sizes of axes that only outputs have, in C's batch."""
        for number, output, axis in self._reported:
            self._sizes[number] = strings.shape(outputs[output])[axis]
