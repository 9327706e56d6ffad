"""Schemas of handlers as C reads them: webtorch_schema_t and webtorch_spec_t.

The structures are given by C; nothing here imports cffi.
"""

from collections.abc import Sequence
from typing import Any

import torch

from webtorch._handlers.functions import (
    METHODS,
    Handler,
    HandlerKind,
    TensorFunction,
    served_methods,
)
from webtorch._models.model import models
from webtorch._schema.missing import Gaps
from webtorch._schema.schema import DTYPES, STRING_TYPES, Schema, TensorSpec
from webtorch._streams.generations import GenerateFunction
from webtorch._streams.resumable import ResumableFunction
from webtorch._streams.streams import StreamFunction

PAIR = 2
"""int64 numbers of a string in C's rows: offset and length."""

# as in ngx_webtorch_api_numbers.h
_OPTIONAL, _MISSING, _DEFAULT = 1, 2, 4
_STREAM_OPEN, _STREAM_CLOSE, _STREAM_DONE, _STREAM_ITEMS, _STREAM_GENERATE = 1, 2, 4, 8, 16

# kinds whose calls may train; of a stream those of "open" and "close"
_TRAINING = (HandlerKind.TRAIN, HandlerKind.HANDLER, HandlerKind.STREAM)

_METHODS = {method: 1 << index for index, method in enumerate(METHODS)}
_DTYPES: dict[Any, int] = {
    dtype: index for index, dtype in enumerate([*DTYPES.values(), *STRING_TYPES])
}


def write_schema(target: Any, handler: Handler, device: str = "") -> None:
    """Describe a handler.

    Args:
        target: A webtorch_schema_t, all of it zero but what C sets before.
        handler: The handler.
        device: The device that it runs on, `cuda:1`; empty: the CPU.

    Raises:
        SignatureError: Its annotations do not describe tensors that can be served.

    """
    target.methods = sum(_METHODS[method] for method in served_methods(handler))
    if isinstance(handler, TensorFunction):
        _write_tensors(target, handler.schema)
        target.native = getattr(handler, "native", None) is not None
        if isinstance(handler, StreamFunction | ResumableFunction):
            target.stream |= _stream_flags(handler)
        if isinstance(handler, ResumableFunction):
            target.nstates = len(handler.signature.states)
    else:
        write_values(target, handler.variables)
        target.threads = handler.threads or 0
        target.coroutine = handler.is_coroutine
        if handler.is_generator:
            target.stream = _STREAM_ITEMS | _STREAM_CLOSE
    target.kind = handler.kind
    target.device = device.encode()
    target.waits = handler.kind in _TRAINING and any(s.strict for s in models.shared_states())


def _stream_flags(handler: StreamFunction | ResumableFunction) -> int:
    return (
        _STREAM_OPEN * handler.has_open
        | _STREAM_CLOSE * handler.has_close
        | _STREAM_DONE * handler.signature.has_done
        | _STREAM_GENERATE * isinstance(handler, GenerateFunction)
    )


def write_values(target: Any, variables: Sequence[str]) -> None:
    """Describe the values that C evaluates for requests: variables, then the captures."""
    values = [*variables, *(name.lower() for name in read_captures(target))]
    target.nvars = len(values)
    for index, name in enumerate(values):
        target.vars[index] = name.encode()


def read_captures(source: Any) -> list[str]:
    """Return the named captures of a handler's location, from a webtorch_schema_t."""
    return [
        b"".join(source.captures[index]).partition(b"\0")[0].decode(errors="surrogateescape")
        for index in range(source.ncaptures)
    ]


def _write_tensors(target: Any, schema: Schema) -> None:
    target.batched = schema.batched
    target.ninputs = len(schema.inputs)
    target.noutputs = len(schema.outputs)
    target.input_strings = sum(spec.has_strings for spec in schema.inputs)
    target.output_strings = sum(spec.has_strings for spec in schema.outputs)
    target.naxes = len(schema.axes)
    target.nbound = schema.bound
    for index, name in enumerate(schema.axes):
        target.axes[index] = name.encode()
    for index, spec in enumerate(schema.buffers):
        write_spec(target.inputs[index], spec.name, spec.dtype, numbered_shape(schema, spec))
    for index, spec in enumerate(schema.inputs):
        _write_gaps(target.gaps[index], spec.gaps)
    for index, mask in schema.masks:
        target.gaps[index].mask = mask
    target.nmasks = len(schema.masks)
    target.noptional = len(schema.optional)
    for index, spec in enumerate(schema.outputs):
        write_spec(target.outputs[index], spec.name, spec.dtype, numbered_shape(schema, spec))


def _write_gaps(target: Any, gaps: Gaps) -> None:
    target.flags = _OPTIONAL * gaps.optional | _MISSING * gaps.missing
    if gaps.default is not None:
        target.flags |= _DEFAULT
        target.len = len(gaps.default)
        target.value[0 : len(gaps.default)] = gaps.default


def write_spec(target: Any, name: str, dtype: Any, shape: Sequence[int]) -> None:
    """Describe a tensor.

    Args:
        target: A webtorch_spec_t.
        name: Name of the tensor.
        dtype: dtype of its elements, of those that `is_sent` knows.
        shape: Sizes, below 0 for variable axes.

    """
    target.name = name.encode()
    target.dtype = _DTYPES[dtype]
    target.ndim = len(shape)
    target.row_size = element_size(dtype)
    for axis, size in enumerate(shape):
        target.shape[axis] = size
        if size >= 0:
            target.row_size *= size


def is_sent(dtype: torch.dtype) -> bool:
    """Return whether answers can carry tensors of a dtype."""
    return dtype in _DTYPES


def numbered_shape(schema: Schema, spec: TensorSpec) -> list[int]:
    """Return a shape as C has it: a variable axis is -1 minus its index in the schema's axes."""
    return [-1 - schema.axes.index(size) if isinstance(size, str) else size for size in spec.shape]


def element_size(dtype: Any) -> int:
    """Return the bytes of an element in C's rows."""
    return PAIR * torch.int64.itemsize if dtype in STRING_TYPES else dtype.itemsize
