"""Rows that code of users adds to batches of a function of tensors."""

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from webtorch._core.errors import HTTPError
from webtorch._core.plain_tensors import is_plain, plain
from webtorch._schema import strings
from webtorch._schema.schema import Schema, TensorSpec, fits

# as nginx answers requests that find a queue full
_RETRY_AFTER = {"Retry-After": "1"}


class QueueFullError(HTTPError):
    """A function's queue takes no more rows; it is answered with 503 if it is not caught."""

    def __init__(self, message: str) -> None:
        super().__init__(
            HTTPStatus.SERVICE_UNAVAILABLE, message, code="queue_full", headers=_RETRY_AFTER
        )


class BatchTimeoutError(HTTPError, TimeoutError):
    """Rows were not computed within the function's `timeout=`; answered with 504 if not caught."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.GATEWAY_TIMEOUT, message, code="timeout")


class Batched(Protocol):
    """A function of tensors as batches see it."""

    @property
    def schema(self) -> Schema:
        """The schema of its annotations."""

    def compute(self, inputs: Sequence[Any], rows: int) -> Sequence[Any]:
        """Run the function outside batches."""

    def result(self, outputs: Sequence[Any]) -> Any:
        """Return outputs as the function does."""


class Batches(Protocol):
    """The batches of a worker."""

    def call(self, function: Batched, inputs: Sequence[Any], rows: int) -> Any:
        """Compute rows in a batch, and wait for it."""

    def start(
        self,
        function: Batched,
        inputs: Sequence[Any],
        rows: int,
        loop: asyncio.AbstractEventLoop,
    ) -> "asyncio.Future[Any]":
        """Compute rows in a batch; the loop is that of the calling thread."""


batches: Batches | None = None
"""The batches of this worker; None outside nginx, and while a configuration is checked."""


def call(function: Batched, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Compute rows in a batch; return the result, or a future if the thread runs a loop."""
    schema = function.schema
    if schema.masks or schema.optional:
        raise TypeError("batched() takes no function whose inputs may be None or have gaps")
    inputs, rows = convert(schema, args, kwargs)
    loop = asyncio._get_running_loop()
    if batches is not None and rows:
        if loop is None:
            return batches.call(function, inputs, rows)
        return batches.start(function, inputs, rows, loop)
    if loop is None:
        return function.result(function.compute(inputs, rows))
    return compute(function, inputs, rows, loop)


def compute(
    function: Batched, inputs: Sequence[Any], rows: int, loop: asyncio.AbstractEventLoop
) -> "asyncio.Future[Any]":
    """Call the function itself; return a future that has its result or its exception."""
    future = loop.create_future()
    try:
        future.set_result(function.result(function.compute(inputs, rows)))
    except Exception as error:
        set_error(future, error)
    return future


def set_error(future: "asyncio.Future[Any]", error: BaseException) -> None:
    """Let a future raise an error; it cannot raise StopIteration itself."""
    is_stop = isinstance(error, StopIteration)
    future.set_exception(RuntimeError(repr(error)) if is_stop else error)


def convert(
    schema: Schema, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], int]:
    """Return arguments as contiguous tensors and lists of strings, and the number of rows.

    Raises:
        TypeError: They do not match the annotations.

    """
    specs = schema.inputs
    if (
        len(args) == len(specs) == 1
        and not kwargs
        and schema.batched
        and _is_exact(specs[0], args[0])
    ):
        return [args[0]], len(args[0])
    if kwargs:
        args = _bind(specs, args, kwargs)
    if len(args) != len(specs):
        raise TypeError(f"{len(specs)} inputs are annotated, {len(args)} were given")
    rows = None
    sizes: dict[str, int] = {}
    inputs = []
    for spec, arg in zip(specs, args, strict=True):
        if spec.has_strings:
            value = arg.tolist() if isinstance(arg, np.ndarray) else arg
            shape = strings.shape(value)
        else:
            value = arg
            if not (isinstance(arg, Tensor) and arg.dtype is spec.dtype and is_plain(arg)):
                value = _tensor(spec, arg)
            shape = value.shape
        if schema.batched:
            if rows is None and shape:
                rows = shape[0]
            is_fit = bool(shape) and shape[0] == rows and fits(shape[1:], spec.shape, sizes)
        else:
            is_fit = fits(shape, spec.shape, sizes)
        # as in requests; Python itself would take them
        is_fit = is_fit and 0 not in sizes.values()
        if is_fit and spec.has_strings and isinstance(spec.dtype, type):
            is_fit = strings.matches(value, spec.dtype, shape)
        if not is_fit:
            raise TypeError(
                f'"{spec.name}" is annotated as {spec.describe(schema.batched)}, '
                f"{list(shape)} was given"
            )
        inputs.append(value)
    return inputs, 1 if rows is None else rows


def _is_exact(spec: TensorSpec, value: Any) -> bool:
    """Return whether a value is a tensor as an input is annotated that has no variable axes."""
    return (
        isinstance(value, Tensor)
        and value.dtype is spec.dtype
        and value.dim() > 0
        and value.shape[1:] == spec.shape
        and is_plain(value)
    )


def _bind(
    specs: Sequence[TensorSpec], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Sequence[Any]:
    names = [spec.name for spec in specs[len(args) :]]
    if set(names) != set(kwargs):
        raise TypeError(f"inputs are {[spec.name for spec in specs]}, given are also {[*kwargs]}")
    return [*args, *(kwargs[name] for name in names)]


def _tensor(spec: TensorSpec, value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.tensor(value)
    if tensor.dtype is not spec.dtype:
        assert isinstance(spec.dtype, torch.dtype)
        # the kind is kept, as by NumPy's same_kind; an empty list has no kind
        if tensor.numel() and not torch.can_cast(tensor.dtype, spec.dtype):
            raise TypeError(f'"{spec.name}" is {spec.dtype}, {tensor.dtype} was given')
        tensor = tensor.to(spec.dtype)
    return tensor if is_plain(tensor) else plain(tensor)
