"""The door between C and Python: runs nginx's batches with the handlers.

Imported by the nginx module in its workers. The functions under
`ffi.def_extern` are described in ngx_webtorch_api.h.
"""

import faulthandler
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webtorch import _handlers, _strings
from webtorch._handlers import Handler, Kind, RequestFunction, Span, TensorFunction
from webtorch._messages import HTTPError, Request, RequestHeaders, Response
from webtorch._model import models, progress
from webtorch._native import ffi, lib
from webtorch._schema import DTYPES, STRING_TYPES, Schema, SignatureError, TensorSpec
from webtorch._torch import use_count
from webtorch._worker.policies import PolicyRunner
from webtorch._worker.process import Process, Settings, shared_states
from webtorch._zone.shared_state import live
from webtorch.balancer import PolicyError

_METHODS = {method: 1 << index for index, method in enumerate(_handlers.METHODS)}
_DTYPES: dict[Any, int] = {
    dtype: index for index, dtype in enumerate([*DTYPES.values(), *STRING_TYPES])
}

# of an element of strings: an offset and a length
_PAIR = 2

# an attribute of lib takes longer than all that it is compared with
_ONLY_SLOT = lib.WEBTORCH_ONLY_SLOT

# by the number of the handler: what runs its batches
_run: dict[int, Callable[[int, int, int, Any], None]] = {}
_runners: "list[TensorRunner | RequestRunner]" = []

_process: Process | None = None

# likewise, of policies
_policies: dict[int, PolicyRunner] = {}


# --- the log ---


class NginxLog(logging.Handler):
    """Writes records to nginx's error log."""

    _LEVELS = (
        (logging.ERROR, lib.WEBTORCH_LOG_ERROR),
        (logging.WARNING, lib.WEBTORCH_LOG_WARN),
        (logging.INFO, lib.WEBTORCH_LOG_INFO),
    )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, line by line: nginx's records are lines."""
        level = next(
            (to for of, to in self._LEVELS if record.levelno >= of), lib.WEBTORCH_LOG_DEBUG
        )
        _log(level, self.format(record))


def _log(level: int, text: str) -> None:
    for line in text.splitlines():
        encoded = line.encode(errors="backslashreplace")
        lib.ngx_webtorch_log(level, encoded, len(encoded))


def _log_exception(what: str, error: BaseException) -> None:
    _log(lib.WEBTORCH_LOG_ERROR, what + "\n" + "".join(traceback.format_exception(error)))


def _on_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Tell what went wrong in the bridge itself; C sees the function's error value."""
    _log_exception("an error in the bridge:", error)


# --- the process ---


@ffi.def_extern(onerror=_on_error)
def ngx_webtorch_py_init(settings: Any) -> None:
    global _process
    if settings.log >= 0:
        # who crashes writes a traceback first
        faulthandler.enable(settings.log, all_threads=False)
    checkpoints = settings.checkpoint
    _process = Process(
        Settings(
            check=bool(settings.check),
            zone=bool(lib.ngx_webtorch_zone_exists()),
            checkpoints=Path(os.fsdecode(ffi.string(checkpoints))) if checkpoints else None,
            interval=settings.interval / 1000,
            keep=settings.keep,
            reload=bool(settings.reload),
            roots=sys.path[: settings.npath],
        ),
        _swap_handlers,
    )


@ffi.def_extern(onerror=_on_error)
def ngx_webtorch_py_start() -> None:
    if _process:
        _process.start()


@ffi.def_extern(onerror=_on_error)
def ngx_webtorch_py_exit() -> None:
    if _process:
        _process.exit()


@ffi.def_extern(error=0, onerror=_on_error)
def ngx_webtorch_py_refresh_models() -> int:
    return int(not all([shared.refresh() for shared in [*live]]))


# --- loading ---


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_load(index: int, name: Any, schema: Any, error: Any, size: int) -> int:
    text = ffi.string(name).decode()
    before = set(models)
    try:
        handler = _handlers.find(text)
        _write_schema(schema, handler)
    except BaseException as failure:
        models.discard(models.keys() - before)
        return _not_loaded(text, failure, error, size)

    runner: TensorRunner | RequestRunner
    if isinstance(handler, TensorFunction):
        runner = TensorRunner(text, handler)
    else:
        runner = RequestRunner(text, handler)
    _runners.append(runner)
    _run[index] = runner.run
    return 0


def _not_loaded(name: str, failure: BaseException, error: Any, size: int) -> int:
    """Tell why a handler or a policy cannot be used."""
    if not isinstance(failure, SignatureError | _handlers.HandlerNotFoundError | PolicyError):
        _log_exception(f'"{name}" does not load:', failure)
    message = _one_line(failure).encode()[: size - 1] + b"\0"
    ffi.memmove(error, message, len(message))
    return -1


def _swap_handlers() -> None:
    """Import all handlers anew and let them take the place of the old ones, or none of them.

    Raises:
        SignatureError: if C would have to know of the change.
        Exception: whatever importing raised.

    """
    with models.anew():
        found = [_handlers.find(runner.name) for runner in _runners]
        for runner, handler in zip(_runners, found, strict=True):
            if not runner.handler.serves_like(handler):
                raise SignatureError(
                    f'"{runner.name}" has another signature or other options: reload nginx'
                )
    for runner, handler in zip(_runners, found, strict=True):
        runner.handler = handler
    for shared in shared_states():
        shared.supersede()


def _one_line(error: BaseException) -> str:
    """Write an exception and where in the user's code it came from."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    package = str(Path(__file__).parents[1])
    user = [f for f in frames if not f.filename.startswith((package, "<frozen", sys.base_prefix))]
    return f"{text} ({user[-1].filename}, line {user[-1].lineno})" if user else text


def _write_schema(schema: Any, handler: Handler) -> None:
    schema.methods = sum(_METHODS[method] for method in handler.methods)
    if isinstance(handler, TensorFunction):
        found = handler.schema
        schema.batched = found.batched
        schema.ninputs = len(found.inputs)
        schema.noutputs = len(found.outputs)
        schema.input_strings = sum(spec.has_strings for spec in found.inputs)
        schema.output_strings = sum(spec.has_strings for spec in found.outputs)
        schema.naxes = len(found.axes)
        schema.nbound = found.bound
        for index, name in enumerate(found.axes):
            schema.axes[index] = name.encode()
        for index, spec in enumerate(found.inputs):
            _write_spec(schema.inputs[index], spec.name, spec.dtype, _numbered(found, spec))
        for index, spec in enumerate(found.outputs):
            _write_spec(schema.outputs[index], spec.name, spec.dtype, _numbered(found, spec))
    else:
        schema.nvars = len(handler.variables)
        for index, name in enumerate(handler.variables):
            schema.vars[index] = name.encode()
    schema.kind = handler.kind
    schema.waits = handler.kind != Kind.INFER and any(s.strict for s in shared_states())


def _numbered(schema: Schema, spec: TensorSpec) -> list[int]:
    """Write a shape as C has it, with a negative number for a variable axis."""
    return [-1 - schema.axes.index(size) if isinstance(size, str) else size for size in spec.shape]


def _size(dtype: Any) -> int:
    """Return the bytes of an element in C's rows."""
    return _PAIR * torch.int64.itemsize if dtype in STRING_TYPES else dtype.itemsize


def _write_spec(target: Any, name: str, dtype: Any, shape: Sequence[int]) -> None:
    target.name = name.encode()
    target.dtype = _DTYPES[dtype]
    target.ndim = len(shape)
    target.row_size = _size(dtype)
    for axis, size in enumerate(shape):
        target.shape[axis] = size
        if size >= 0:
            target.row_size *= size


# --- running ---


@ffi.def_extern()
def ngx_webtorch_py_thread(threads: int) -> None:
    torch.set_num_threads(threads)


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_run(handler: int, slot: int, generation: int, rows: int, batch: Any) -> int:
    _run[handler](slot, generation, rows, batch)
    return 0


class Failures:
    """Tells of a handler's failures, but not of all: thousands a second would fill the disk.

    Of those in a second, one of each kind is told: those of a type that were raised by a line.
    """

    INTERVAL = 1.0
    """Seconds from one that is told to the next one of its kind."""
    MAX_KINDS = 4

    def __init__(self, name: str) -> None:
        self._name = name
        self._kinds: set[tuple[type[BaseException], object, int]] = set()
        self._end = -math.inf
        self._untold = 0

    def answer(self, job: Any, error: BaseException) -> None:
        """Answer a request with an error; only what is meant for the client is told to it."""
        if isinstance(error, HTTPError):
            message = error.message.encode(errors="replace")
            lib.ngx_webtorch_fail(job, error.status, message, len(message))
            return
        self._tell(error)
        lib.ngx_webtorch_fail(job, 500, b"", 0)

    def _tell(self, error: BaseException) -> None:
        now = time.monotonic()
        if now >= self._end:
            self._kinds.clear()
            self._end = now + self.INTERVAL
        kind = _kind(error)
        if kind in self._kinds or len(self._kinds) == self.MAX_KINDS:
            self._untold += 1
            return
        self._kinds.add(kind)
        more = f", and {self._untold} more before that" if self._untold else ""
        _log_exception(f'handler "{self._name}" failed{more}:', error)
        self._untold = 0


def _kind(error: BaseException) -> tuple[type[BaseException], object, int]:
    """Return what failures have in common that are told of once: type, function and line."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    return (
        type(error),
        frame and frame.tb_frame.f_code,
        frame.tb_lineno if frame else 0,
    )


class Slot:
    """The input buffers of one of C's batches, and the tensors over them.

    C allocates the buffers; from their first batch on they are freed here, with the last tensor
    over them, so that a handler may keep its inputs. Views are made once for each number of rows:
    that costs more than a model of two layers does.
    """

    MAX_VIEWS = 256

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
        """Tell C the sizes of axes that only outputs have."""

    def _make_views(self, key: Any) -> list[Tensor]:
        if len(self._views) == self.MAX_VIEWS:
            self._views.clear()
        views = self._views[key] = self._views_of(key)
        return views

    def _views_of(self, rows: Any) -> list[Tensor]:
        rows_or_row = slice(rows) if self._batched else 0
        return [base[rows_or_row] for base in self._bases]

    def is_kept(self) -> bool:
        """Tell whether a tensor over a buffer is left that was not made here."""
        views = len(self._views)
        for storage, references in self._references:
            if use_count(storage) != references + views:
                return True
        return False

    def is_written(self) -> bool:
        """Tell whether a handler wrote to its inputs since this was asked last."""
        before, self._version = self._version, self._versions()
        return before != self._version

    def _versions(self) -> int:
        return sum(base._version for base in self._bases)


class VariableSlot(Slot):
    """A slot whose rows are of other sizes in each batch; its bases are flat."""

    def __init__(self, generation: int, schema: Schema, bases: list[Tensor], batch: Any) -> None:
        super().__init__(generation, schema.batched, bases, batch.outputs)
        self._sizes = batch.sizes
        self._bound = schema.bound
        self._shapes = [
            _numbered(schema, spec) + [_PAIR] * spec.has_strings for spec in schema.inputs
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
            views.append(base[: shape.numel()].view(shape))
        return views

    def report(self, outputs: Sequence[Any]) -> None:
        """Tell C the sizes of axes that only outputs have."""
        for number, output, axis in self._reported:
            self._sizes[number] = _strings.shape(outputs[output])[axis]


def _is_shared(output: Tensor) -> bool:
    """Tell whether another tensor has the same memory."""
    # the first of two is the tensor's, the other that of the Python object, which stays
    storage = output.untyped_storage()._cdata
    return use_count(storage) > 2


class TensorRunner:
    """Runs the batches of a tensor function.

    A call follows on the network code of many requests and finds the caches cold, which makes it
    several times slower than in a loop: each line that runs for every batch counts.
    """

    def __init__(self, name: str, handler: TensorFunction) -> None:
        self.name = name
        self.handler = handler
        self._failures = Failures(name)
        self._shared_from = self._rows_sent_uncopied()
        self._is_variable = bool(handler.schema.axes)
        self._takes_strings = any(spec.has_strings for spec in handler.schema.inputs)
        self._returns_strings = any(spec.has_strings for spec in handler.schema.outputs)
        self._slots: dict[int, Slot] = {}
        # C reads the outputs of a batch until it uses its slot again
        self._outputs: dict[int, Sequence[Tensor]] = {}
        self._texts: dict[int, list[bytes]] = {}

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run a batch, one call for all of its requests unless that fails."""
        if number >= _ONLY_SLOT:
            number -= _ONLY_SLOT
            self._drop_others(number)

        slot = self._slots.get(number)
        if slot is None or slot.generation != generation:
            slot = self._slots[number] = self._adopt(generation, batch)

        inputs: Sequence[Any] = slot.inputs(rows)
        if self._takes_strings:
            inputs = self._decode(inputs, batch)
        progress.begin()
        try:
            outputs: Sequence[Any] = self.handler.run(inputs, rows)
        except BaseException as error:
            changed = slot.is_written() or progress.is_made()
            if self._takes_strings:
                # the lists may have been changed
                inputs = self._decode(slot.inputs(rows), batch)
            outputs = self._run_each(batch, inputs, error, changed)
        del inputs

        if self._is_variable and outputs:
            slot.report(outputs)
        if self._returns_strings:
            outputs, self._texts[number] = self._encode(outputs)

        if rows >= self._shared_from:
            # three references: of the outputs, of the loop and of the call
            batch.shared = sys.getrefcount(outputs) > 2 or any(
                sys.getrefcount(output) > 3 or _is_shared(output) for output in outputs
            )

        self._outputs[number] = outputs
        for index, output in enumerate(outputs):
            slot.outputs[index] = output.data_ptr()

        if slot.is_kept():
            batch.retained = 1
            del self._slots[number]

    def _rows_sent_uncopied(self) -> int:
        """Return how many rows a batch has at least that may be sent from where it is."""
        outputs = self.handler.schema.outputs
        if any(isinstance(size, str) for spec in outputs for size in spec.shape):
            return 1
        size = sum(math.prod(spec.sizes()) * _size(spec.dtype) for spec in outputs)
        return lib.WEBTORCH_COPY_SIZE // size + 1 if size else sys.maxsize

    def _drop_others(self, number: int) -> None:
        """Give back what is kept for all slots but one."""
        self._outputs.clear()
        self._texts.clear()
        self._slots = {number: self._slots[number]} if number in self._slots else {}
        lib.ngx_webtorch_trim()

    def _adopt(self, generation: int, batch: Any) -> Slot:
        schema = self.handler.schema
        bases = []
        for index, spec in enumerate(schema.inputs):
            memory = ffi.gc(ffi.cast("char *", batch.inputs[index]), lib.ngx_webtorch_free)
            buffer = ffi.buffer(memory, batch.allocated[index])
            dtype = spec.dtype if isinstance(spec.dtype, torch.dtype) else torch.int64
            flat = torch.frombuffer(buffer, dtype=dtype)
            if not schema.axes:
                flat = flat.view(batch.capacity, *spec.sizes(), *[_PAIR] * spec.has_strings)
            bases.append(flat)
        if schema.axes:
            return VariableSlot(generation, schema, bases, batch)
        return Slot(generation, schema.batched, bases, batch.outputs)

    def _decode(self, inputs: Sequence[Tensor], batch: Any) -> list[Any]:
        """Make strings of the inputs that are offsets and lengths in the batch's text."""
        text = bytes(ffi.buffer(batch.text, batch.text_len)) if batch.text_len else b""
        return [
            _strings.decode(value, text, spec.dtype) if isinstance(spec.dtype, type) else value
            for spec, value in zip(self.handler.schema.inputs, inputs, strict=True)
        ]

    def _encode(self, outputs: Sequence[Any]) -> tuple[list[Tensor], list[bytes]]:
        """Make addresses and lengths of the outputs that are strings, and the texts they are in."""
        encoded = []
        texts = []
        for output in outputs:
            if isinstance(output, Tensor):
                encoded.append(output)
                continue
            entries, text = _strings.encode(output, _strings.shape(output))
            entries[..., 0] += int(ffi.cast("uintptr_t", ffi.from_buffer(text)))
            encoded.append(entries)
            texts.append(text)
        return encoded, texts

    def _run_each(
        self, batch: Any, inputs: Sequence[Any], error: BaseException, changed: bool
    ) -> Sequence[Any]:
        """Serve the requests that the failure is not of, if it left things as they were."""
        jobs = batch.jobs[0 : batch.njobs]
        if batch.njobs == 1 or changed:
            for job in jobs:
                self._failures.answer(ffi.addressof(job), error)
            return []

        spans = [Span(job.first, job.rows) for job in jobs]
        outputs, failures = self.handler.run_each(inputs, spans, error)
        for index, failure in failures.items():
            self._failures.answer(ffi.addressof(jobs[index]), failure)
        return outputs


class RequestRunner:
    """Runs the batches of a custom handler: a call for each request."""

    def __init__(self, name: str, handler: RequestFunction) -> None:
        self.name = name
        self.handler = handler
        self._failures = Failures(name)

    def run(self, number: int, generation: int, rows: int, batch: Any) -> None:
        """Run the requests of a batch one after the other."""
        for index in range(batch.njobs):
            job = batch.jobs + index
            try:
                response = self.handler.run(_take_request(job, self.handler.variables))
                _reply(job, response)
            except BaseException as error:
                self._failures.answer(job, error)


def _take_request(job: Any, variables: Sequence[str]) -> Request:
    """Make a request of a job's block of memory, which lives as long as its body is seen."""
    source = job.request
    job.request = ffi.NULL
    block = ffi.gc(ffi.cast("char *", source), lib.ngx_webtorch_free)
    body = _body(source, block)
    return Request(
        method=_text(source.method),
        path=_text(source.path),
        args=_text(source.args),
        headers=RequestHeaders(
            [
                (_text(header.name), _text(header.value))
                for header in source.headers[0 : source.nheaders]
            ]
        ),
        body=body,
        variables={
            name: _text(value) if value.data else None
            for name, value in zip(variables, source.vars[0 : source.nvars], strict=True)
        },
    )


def _body(source: Any, block: Any) -> memoryview:
    """See a body where it is: in the request's block, or in memory that nginx may read still."""
    if source.shared:
        shared = source.shared
        data = ffi.gc(source.body.data, lambda _: lib.ngx_webtorch_release(shared))
        return memoryview(ffi.buffer(data, source.body.len)).toreadonly()
    start = int(ffi.cast("uintptr_t", source.body.data)) - int(ffi.cast("uintptr_t", source))
    whole = memoryview(ffi.buffer(block, source.size)).toreadonly()
    return whole[start : start + source.body.len]


def _text(string: Any) -> str:
    """Decode a string of a request as UTF-8, other bytes as surrogates (PEP 383)."""
    return bytes(ffi.buffer(string.data, string.len)).decode(errors="surrogateescape")


def _reply(job: Any, response: Response) -> None:
    """Hand a response over to C, which copies it."""
    reply = ffi.new("webtorch_reply_t *")
    reply.status = response.status
    reply.tensor.ndim = -1
    keep: list[Any] = []  # what the reply points to, until it is copied

    def point(target: Any, data: Any) -> None:
        memory = ffi.from_buffer(data)
        keep.append(memory)
        target.data = memory
        target.len = len(memory)

    if isinstance(response.body, Tensor):
        tensor = response.body.detach().cpu().contiguous()
        if tensor.dtype not in _DTYPES:
            raise TypeError(f"a tensor of {tensor.dtype} cannot be sent, convert it")
        _write_spec(reply.tensor, "output", tensor.dtype, tensor.shape)
        reply.body.data = ffi.cast("char *", tensor.data_ptr())
        reply.body.len = tensor.nbytes
        keep.append(tensor)
        content_type = response.content_type or ""
    elif isinstance(response.body, Path):
        point(reply.file, os.fsencode(response.body))
        content_type = response.content_type or ""
    else:
        body, content_type = response.encoded()
        point(reply.body, body)

    point(reply.content_type, content_type.encode())

    headers = ffi.new("webtorch_header_t[]", len(response.headers))
    for header, (name, value) in zip(headers, response.headers, strict=True):
        point(header.name, name.encode())
        point(header.value, value.encode())
    reply.headers = headers
    reply.nheaders = len(response.headers)

    if lib.ngx_webtorch_reply(job, reply) != 0:
        raise MemoryError


# --- balancers ---


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_policy(index: int, name: Any, error: Any, size: int) -> int:
    text = ffi.string(name).decode()
    try:
        runner = _policies[index] = PolicyRunner(text)
    except BaseException as failure:
        return _not_loaded(text, failure, error, size)
    return round(runner.interval * 1000)


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_learn(index: int, number: int) -> int:
    runner = _policies[index]
    try:
        runner.run(number)
    except PolicyError as failure:
        _log(lib.WEBTORCH_LOG_ERROR, f'policy "{runner.name}" failed: {failure}')
        return -1
    except BaseException as failure:
        _log_exception(f'policy "{runner.name}" failed:', failure)
        return -1
    return 0


if not logging.getLogger().handlers:
    logging.getLogger().addHandler(NginxLog())
