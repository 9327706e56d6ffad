"""The runner of tensor functions' batches; it touches cffi.

A call follows on the network code of many requests and finds the caches cold, which makes it
several times slower than in a loop: each line that runs for every batch counts.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from webtorch._core.pytorch import is_shared
from webtorch._core.reference_counts import OWN_ITEM, OWN_LIST
from webtorch._handlers.functions import TensorFunction
from webtorch._handlers.isolation import Run, Span
from webtorch._models.training import progress
from webtorch._native import ffi, lib
from webtorch._schema import strings
from webtorch._schema.missing import Masked
from webtorch._worker.exchange.failures import Failures
from webtorch._worker.exchange.schema_writer import PAIR, element_size
from webtorch._worker.runners.replaceable import Replaceable
from webtorch._worker.runners.slots import Slot, VariableSlot

# looking up an attribute of lib takes longer than the comparison
_ONLY_SLOT = lib.WEBTORCH_ONLY_SLOT
_DROP_SLOT = lib.WEBTORCH_DROP_SLOT
_ABSENT = lib.WEBTORCH_ABSENT


class TensorRunner(Replaceable):
    """Runs the batches of a tensor function.

    Args:
        name: Name of the handler, `module:function`.
        handler: The handler, which may be replaced by one with the same schema.

    """

    handler: TensorFunction

    max_batch = 1
    """Rows of a batch."""

    is_offloaded = False
    """Whether another worker runs its batches."""

    def __init__(self, name: str, handler: TensorFunction) -> None:
        self.name = name
        self.handler = handler
        self._failures = Failures(name)
        self._shared_from = self._min_rows_uncopied()
        self._is_variable = bool(handler.schema.axes)
        self._takes_strings = any(spec.has_strings for spec in handler.schema.inputs)
        # whether the function was seen to write to its inputs; noting that costs time in each call,
        # so the first batch that fails after a later call has begun to is not run row by row
        self._writes_inputs = False
        self._has_gaps = bool(handler.schema.optional or handler.schema.masks)
        self._returns_strings = any(spec.has_strings for spec in handler.schema.outputs)
        self._slots: dict[int, Slot] = {}
        # C reads the outputs of a batch until it uses its slot again
        self._outputs: dict[int, Sequence[Tensor]] = {}
        self._texts: dict[int, list[bytes]] = {}
        # C's addresses of outputs that are dropped when C has cleared them
        self._dropped: dict[int, Any] = {}

    def compute(self, inputs: Sequence[Any], rows: int) -> None:
        """Run the function on rows that are no requests'.

        Raises:
            Exception: The function raised it.

        """
        self.handler.run(inputs, rows)

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run a batch: one call for all of its requests, unless that fails.

        Args:
            number: Number of the slot, with WEBTORCH_ONLY_SLOT if all others can be dropped, and
                with WEBTORCH_DROP_SLOT if this one is to be dropped afterwards.
            generation: Generation of the slot's buffers.
            rows: Number of rows.
            batch: The batch, a webtorch_batch_t, whose outputs are set.

        """
        drop = False
        if number >= _DROP_SLOT:
            drop = bool(number & _DROP_SLOT)
            only = number >= _ONLY_SLOT
            number &= _DROP_SLOT - 1
            if only:
                self._drop_others(number)
        if self._dropped:
            self._drop_answered(number)

        slot = self._slots.get(number)
        is_new = slot is None or slot.generation != generation
        if slot is None or is_new:
            slot = self._slots[number] = self._adopt(generation, batch)
        elif self._writes_inputs:
            slot.note_versions()

        inputs: Sequence[Any] = slot.inputs(rows)
        if self._takes_strings or self._has_gaps:
            inputs = self._prepare(inputs, batch)
        progress.begin()
        try:
            outputs: Sequence[Any] = self.handler.run(inputs, rows)
        except BaseException as error:
            is_written = slot.is_written()
            changed = is_written or progress.has_stepped()
            if self._takes_strings:
                # the lists may have been changed
                inputs = self._prepare(slot.inputs(rows), batch)
            outputs = self._run_each(batch, inputs, error, changed)
            self._writes_inputs |= is_written
        else:
            if is_new and not self._writes_inputs:
                self._writes_inputs = slot.is_written()
        del inputs
        is_kept = slot.is_kept()
        if is_kept:
            outputs = slot.copied(outputs)
            is_kept = slot.is_kept()

        if self._is_variable and outputs:
            slot.report(outputs)
        if self._returns_strings:
            outputs, self._texts[number] = self._encode(outputs)

        if rows >= self._shared_from:
            batch.shared = sys.getrefcount(outputs) > OWN_LIST or any(
                sys.getrefcount(output) > OWN_ITEM or is_shared(output) for output in outputs
            )

        self._outputs[number] = outputs
        for index, output in enumerate(outputs):
            slot.outputs[index] = output.data_ptr()

        if drop or is_kept:
            batch.retained = 1
            del self._slots[number]
            if drop:
                self._dropped[number] = slot.outputs

    def _min_rows_uncopied(self) -> int:
        """Return the least number of rows whose outputs may be sent from where they are."""
        outputs = self.handler.schema.outputs
        if any(isinstance(size, str) for spec in outputs for size in spec.shape):
            return 1
        # a long string makes a row large, which is sent while the next call may change a tensor
        if len({spec.has_strings for spec in outputs}) == 2:
            return 1
        size = sum(math.prod(spec.sizes()) * element_size(spec.dtype) for spec in outputs)
        return lib.WEBTORCH_COPY_SIZE // size + 1 if size else sys.maxsize

    def _drop_others(self, number: int) -> None:
        """Release the memory of all slots but one."""
        self._outputs.clear()
        self._texts.clear()
        self._slots = {number: self._slots[number]} if number in self._slots else {}
        lib.ngx_webtorch_trim()

    def _drop_answered(self, number: int) -> None:
        """Release the outputs of dropped slots whose batches have been answered."""
        self._dropped.pop(number, None)
        count = len(self.handler.schema.outputs)
        # a tensor without elements has no address, one of the others has
        for dropped in [each for each, found in self._dropped.items() if not any(found[0:count])]:
            del self._dropped[dropped]
            self._outputs.pop(dropped, None)
            self._texts.pop(dropped, None)

    def _adopt(self, generation: int, batch: Any) -> Slot:
        """Return a slot over C's buffers, which are freed with the last tensor over them."""
        schema = self.handler.schema
        bases = []
        for index, spec in enumerate(schema.buffers):
            dtype = spec.dtype if isinstance(spec.dtype, torch.dtype) else torch.int64
            if batch.allocated[index]:
                memory = ffi.cast("char *", batch.inputs[index])
                memory = ffi.gc(memory, self._owner_of(memory, batch.allocated[index]))
                buffer = ffi.buffer(memory, batch.allocated[index])
                flat = torch.frombuffer(buffer, dtype=dtype)
            else:
                # of an absent input, in whose place the function gets None
                flat = torch.zeros(1, dtype=dtype)
            if not schema.axes:
                shape = batch.capacity, *spec.sizes(), *[PAIR] * spec.has_strings
                flat = flat.view(shape) if batch.allocated[index] else flat.expand(shape)
            bases.append(flat)
        if schema.axes:
            return VariableSlot(generation, schema, bases, batch)
        return Slot(generation, schema.batched, bases, batch.outputs)

    def _owner_of(self, memory: Any, size: int) -> Callable[[Any], None]:
        """Take over C's buffer of `size` bytes; return what frees it."""
        return lib.ngx_webtorch_buffer_free

    def _prepare(self, buffers: Sequence[Tensor], batch: Any) -> list[Any]:
        """Return what the function gets for C's buffers: strings, masks and None."""
        schema = self.handler.schema
        inputs: list[Any] = [*buffers[: len(schema.inputs)]]
        absent = batch.sizes[_ABSENT] if schema.optional else 0
        if absent:
            for index in schema.optional:
                if absent >> index & 1:
                    inputs[index] = None
        if self._takes_strings:
            inputs = self._decode(inputs, batch)
        for index, mask in schema.masks:
            if inputs[index] is not None:
                inputs[index] = Masked(inputs[index], buffers[mask])
        return inputs

    def _decode(self, inputs: Sequence[Tensor], batch: Any) -> list[Any]:
        """Return the inputs with strings for offsets and lengths in the batch's text."""
        text = bytes(ffi.buffer(batch.text, batch.text_len)) if batch.text_len else b""
        return [
            strings.decode(value, text, spec.dtype)
            if isinstance(spec.dtype, type) and value is not None
            else value
            for spec, value in zip(self.handler.schema.inputs, inputs, strict=True)
        ]

    def _encode(self, outputs: Sequence[Any]) -> tuple[list[Tensor], list[bytes]]:
        """Return the outputs with addresses and lengths for strings, and the texts of these."""
        encoded = []
        texts = []
        for output in outputs:
            if isinstance(output, Tensor):
                encoded.append(output)
                continue
            entries, text = strings.encode(output, strings.shape(output))
            entries[..., 0] += int(ffi.cast("uintptr_t", ffi.from_buffer(text)))
            encoded.append(entries)
            texts.append(text)
        return encoded, texts

    def _run_each(
        self,
        batch: Any,
        inputs: Sequence[Any],
        error: BaseException,
        changed: bool,
        run: Run | None = None,
    ) -> Sequence[Any]:
        """Answer the requests that failed and serve the others, unless the call changed things."""
        jobs = batch.jobs[0 : batch.njobs]
        if batch.njobs == 1 or changed:
            for job in jobs:
                self._answer(ffi.addressof(job), error)
            return []

        spans = [Span(job.first, job.rows) for job in jobs]
        outputs, failures = self.handler.run_each(inputs, spans, error, run)
        for index, failure in failures.items():
            self._answer(ffi.addressof(jobs[index]), failure)
        return outputs

    def _answer(self, job: Any, error: BaseException) -> None:
        """Answer a request that failed."""
        self._failures.answer(job, error)
