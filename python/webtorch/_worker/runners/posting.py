"""Rows that handlers add to batches of functions of tensors; it touches cffi."""

import asyncio
import contextvars
import itertools
import json
import math
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any

import torch
from torch import Tensor

from webtorch._core.errors import HTTPError
from webtorch._device import devices
from webtorch._handlers.batches import (
    Batched,
    BatchTimeoutError,
    QueueFullError,
    compute,
    set_error,
)
from webtorch._handlers.functions import HandlerKind, TensorFunction
from webtorch._models import model_versions
from webtorch._native import ffi, lib
from webtorch._schema import strings
from webtorch._worker.exchange.failures import raised
from webtorch._worker.exchange.schema_writer import PAIR, write_schema
from webtorch._worker.runners.device_runner import tensor_runner
from webtorch._worker.runners.tensor_runner import TensorRunner

FIRST_MADE = 65536
"""Number of the first handler that no directive names."""

RESULTS_AT_ONCE = 64
"""Results that are taken from C at once."""

Run = Callable[[int, int, int, Any], None]

_POINTER: Any = ffi.typeof("void *")

_callers = itertools.count(1)


class Result(asyncio.Future[Any]):
    """The result of rows that wait for a batch, in the worker's asyncio loop."""

    posted: Any = None
    """C's rows, a webtorch_rows_t; None when they have ended."""
    target: "PostTarget"

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it, and leave the batch if that does not run yet."""
        is_cancelled = super().cancel(msg)
        if is_cancelled and self.posted:
            lib.ngx_webtorch_rows_cancel(self.posted)
        return is_cancelled


class PostTarget:
    """A function of tensors with its number in C.

    Args:
        number: Number of its handler.
        function: The function.

    """

    def __init__(self, number: int, function: TensorFunction) -> None:
        self.function = function
        self._number = number
        self._schema = schema = function.schema
        self._takes_strings = any(spec.has_strings for spec in schema.inputs)
        # dtype, number of elements and shape of a row; None if they vary
        self._rows: list[tuple[Any, int, list[int]]] | None = None
        if not schema.axes and not any(spec.has_strings for spec in schema.outputs):
            self._rows = [
                (spec.dtype, math.prod(spec.sizes()), spec.sizes()) for spec in schema.outputs
            ]
        # the same of the only output of one row
        self._only: tuple[Any, int, tuple[int, ...]] | None = None
        if self._rows and len(self._rows) == 1 and schema.batched:
            dtype, size, shape = self._rows[0]
            self._only = dtype, size, (1, *shape)
        self._is_training = function.kind == HandlerKind.TRAIN
        # for the only thread that gathers rows
        self._gathered = self._new_rows()
        self._gathered.gather = 1

    def post(self, inputs: Sequence[Any], rows: int, gather: bool) -> Any:
        """Give rows to C, which copies them; return C's rows, a webtorch_rows_t.

        Raises:
            ValueError: Training does not take numbers that are not finite.
            MemoryError: There is no memory.

        """
        if self._is_training:
            _refuse_not_finite(inputs)
        target = self._gathered if gather else self._new_rows()
        target.rows = rows
        if self._takes_strings:
            inputs, text = _encode(inputs)
            memory = ffi.from_buffer(text)
            target.text = memory
            target.text_len = len(text)
        for index, tensor in enumerate(inputs):
            target.inputs[index] = ffi.cast(_POINTER, tensor.data_ptr())
            target.input_size[index] = tensor.nbytes
        if self._schema.axes:
            for index, size in enumerate(self._schema.sizes_of(inputs).values()):
                target.sizes[index] = size
        target.version_set = model_versions.selected.get()
        caller = target.caller = next(_callers)
        raised[caller] = []
        posted = lib.ngx_webtorch_rows_post(target)
        if not posted:
            del raised[caller]
            raise MemoryError
        return posted

    def take(self, posted: Any) -> Any:
        """Return the result of C's rows, which are freed.

        Raises:
            QueueFullError: The queue is full.
            BatchTimeoutError: The rows were not computed in time.
            HTTPError: The function raised it in the worker that owns the device.
            RuntimeError: It raised another exception there.
            Exception: The function raised it.

        """
        status = posted.status
        errors = raised.pop(posted.caller, None)
        failure = _failure(posted)
        try:
            if status == 0:
                return self.function.result(self._outputs(posted))
        finally:
            lib.ngx_webtorch_rows_free(posted)
        name = self.function.name.rpartition(":")[2]
        if errors:
            raise errors[0]
        if failure:
            raise failure
        if status == lib.WEBTORCH_ROWS_FULL:
            raise QueueFullError(f'the queue of "{name}" is full')
        if status == lib.WEBTORCH_ROWS_LATE:
            raise BatchTimeoutError(f'"{name}" did not return in time')
        if status == lib.WEBTORCH_ROWS_EXIT:
            raise HTTPError(503, "the worker exits")
        raise RuntimeError(f'"{name}" could not be run')

    def _new_rows(self) -> Any:
        rows = ffi.new("webtorch_rows_t *")
        rows.handler = self._number
        rows.ninputs = len(self._schema.inputs)
        return rows

    def _outputs(self, posted: Any) -> list[Any]:
        schema = self._schema
        memory = bytearray(ffi.buffer(posted.result, posted.result_len))
        rows = posted.rows
        if rows == 1 and self._only is not None:
            dtype, size, shape = self._only
            found = torch.frombuffer(memory, dtype=dtype, count=size, offset=posted.output_at[0])
            return [found.view(shape)]
        if self._rows is not None:
            first = (rows,) if schema.batched else ()
            return [
                torch.frombuffer(memory, dtype=dtype, count=rows * size, offset=at).view(
                    *first, *shape
                )
                for (dtype, size, shape), at in zip(
                    self._rows, posted.output_at[0 : len(self._rows)], strict=True
                )
            ]
        first = (posted.rows,) if schema.batched else ()
        text = b""
        if posted.text_len:
            text = bytes(memory[posted.text_at : posted.text_at + posted.text_len])
        outputs: list[Any] = []
        for index, spec in enumerate(schema.outputs):
            row = [
                posted.sizes[schema.axes.index(size)] if isinstance(size, str) else size
                for size in spec.shape
            ]
            shape = (*first, *row)
            dtype = spec.dtype if isinstance(spec.dtype, torch.dtype) else torch.int64
            if spec.has_strings:
                shape = (*shape, PAIR)
            count = math.prod(shape)
            found = (
                torch.frombuffer(memory, dtype=dtype, count=count, offset=posted.output_at[index])
                if count
                else torch.empty(0, dtype=dtype)
            ).view(shape)
            if isinstance(spec.dtype, type):
                outputs.append(strings.decode(found, text, spec.dtype))
            else:
                outputs.append(found)
        return outputs


class Posting:
    """The batches of a worker, for functions that code of users calls.

    Args:
        runners: Runners of functions that directives name, by their numbers.
        run: `run` of all runners by their numbers; others are added.

    """

    def __init__(self, runners: Mapping[int, TensorRunner], run: MutableMapping[int, Run]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._runners = runners
        self._run = run
        self._lock = threading.Lock()
        self._targets: dict[Batched, PostTarget] = {}
        self._made: dict[str, list[tuple[int, TensorRunner]]] = {}
        self._waiting: dict[Any, Result] = {}
        self._finished = ffi.new("webtorch_rows_t *[]", RESULTS_AT_ONCE)
        self._is_gathering = False

    def call(self, function: Batched, inputs: Sequence[Any], rows: int) -> Any:
        """Compute rows in a batch, and wait for it."""
        if lib.ngx_webtorch_rows_direct():
            return function.result(function.compute(inputs, rows))
        target = self._targets.get(function) or self._find(function)
        posted = target.post(inputs, rows, gather=False)
        lib.ngx_webtorch_rows_wait(posted)
        return target.take(posted)

    def start(
        self,
        function: Batched,
        inputs: Sequence[Any],
        rows: int,
        loop: asyncio.AbstractEventLoop,
    ) -> asyncio.Future[Any]:
        """Compute rows in a batch, which those of all coroutines that are ready join."""
        if loop is not self.loop:
            # a loop in a thread that nginx's event loop waits for, as asyncio.run() makes one
            if lib.ngx_webtorch_rows_direct():
                return compute(function, inputs, rows, loop)
            # with the versions that the request has selected
            context = contextvars.copy_context()
            return loop.run_in_executor(None, context.run, self.call, function, inputs, rows)
        target = self._targets.get(function) or self._find(function)
        result = Result(loop=loop)
        result.target = target
        result.posted = posted = target.post(inputs, rows, gather=True)
        self._waiting[posted] = result
        if not self._is_gathering:
            self._is_gathering = True
            loop.call_soon(self._post_gathered)
        return result

    def take_finished(self) -> None:
        """Set the results that have come; called in the worker's asyncio loop."""
        taken = RESULTS_AT_ONCE
        while taken == RESULTS_AT_ONCE:
            taken = lib.ngx_webtorch_rows_finished(self._finished, RESULTS_AT_ONCE)
            for posted in self._finished[0:taken]:
                self._finish(posted)

    def _finish(self, posted: Any) -> None:
        result = self._waiting.pop(posted)
        result.posted = None
        try:
            value = result.target.take(posted)
        except BaseException as error:
            if not result.done():
                set_error(result, error)
        else:
            if not result.done():
                result.set_result(value)

    def _post_gathered(self) -> None:
        self._is_gathering = False
        lib.ngx_webtorch_rows_post_gathered()

    def _find(self, function: Batched) -> PostTarget:
        """Return the target of a function: of the first directive that names it, or a new one."""
        assert isinstance(function, TensorFunction)
        with self._lock:
            named = (n for n, runner in self._runners.items() if runner.handler is function)
            number = next(named, None)
            if number is None:
                number = self._make(function)
            # those of code that was replaced
            replaced = [
                old
                for old, target in self._targets.items()
                if target.function.is_replaced_by(function)
            ]
            for old in replaced:
                del self._targets[old]
            target = self._targets[function] = PostTarget(number, function)
        return target

    def _make(self, function: TensorFunction) -> int:
        name = function.name
        made = self._made.setdefault(name, [])
        for number, runner in made:
            if runner.handler.is_replaced_by(function) and runner.handler.serves_like(function):
                # the module was imported again
                runner.handler = function
                return number
        schema = ffi.new("webtorch_schema_t *")
        device = devices.resolve(function.device)
        write_schema(schema, function, device)
        number = FIRST_MADE + len(self._run)
        runner = tensor_runner(name, function, device)
        if lib.ngx_webtorch_rows_make(number, name.encode(), schema) != 0:
            raise ValueError(f'a row of "{name}" is too large')
        self._run[number] = runner.run
        made.append((number, runner))
        return number


def _failure(posted: Any) -> HTTPError | None:
    """Return the error of the worker that owns the device, or of a function that it has run."""
    failure = posted.failure
    if not failure:
        return None
    message, code, detail = (
        bytes(ffi.buffer(part.data, part.len)).decode() if part.len else ""
        for part in (failure.message, failure.code, failure.detail)
    )
    if (posted.status, code) == (HTTPStatus.SERVICE_UNAVAILABLE, "queue_full"):
        return QueueFullError(message)
    if (posted.status, code) == (HTTPStatus.GATEWAY_TIMEOUT, "timeout"):
        return BatchTimeoutError(message)
    headers = [
        (
            bytes(ffi.buffer(header.name.data, header.name.len)).decode(),
            bytes(ffi.buffer(header.value.data, header.value.len)).decode("latin-1"),
        )
        for header in failure.headers[0 : failure.nheaders]
    ]
    return HTTPError(
        posted.status,
        json.loads(detail) if detail else message,
        message=message,
        code=code or None,
        headers=headers,
    )


def _encode(inputs: Sequence[Any]) -> tuple[list[Tensor], bytes]:
    """Return entries in place of strings, and the text of all."""
    encoded = []
    texts = []
    at = 0
    for value in inputs:
        if isinstance(value, Tensor):
            encoded.append(value)
            continue
        entries, text = strings.encode(value, strings.shape(value))
        entries[..., 0] += at
        at += len(text)
        encoded.append(entries)
        texts.append(text)
    return encoded, b"".join(texts)


def _refuse_not_finite(inputs: Sequence[Any]) -> None:
    for value in inputs:
        if (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and not bool(value.isfinite().all())
        ):
            raise ValueError("training does not take numbers that are not finite")
