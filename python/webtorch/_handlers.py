"""Handlers: the functions that nginx's locations name."""

import copy
import functools
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, overload

import torch
from torch import Tensor

from webtorch import _strings, _torch
from webtorch._messages import Request, Response
from webtorch._model import progress, training
from webtorch._schema import Schema, TensorSpec

MAX_VARIABLES = 16

# without the dollar; nginx's names of variables are in lower case
_VARIABLE = re.compile(r"[a-z0-9_]{1,63}")

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")

_NO_KEYWORDS: dict[str, Any] = {}

# `tuple | list` would make a new object for each call
_SEVERAL = (tuple, list)


class Kind(IntEnum):
    """What a handler does, numbered as in ngx_webtorch_api.h."""

    INFER = 0
    TRAIN = 1
    HANDLER = 2


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one request in a batch."""

    first: int
    rows: int


class TensorFunction:
    """A function of tensors, under `@webtorch.infer` or `@webtorch.train`.

    It can be called as the function itself, in the mode of its kind.
    """

    kind: Kind
    methods = ("POST", "PUT")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self._call(args, kwargs)

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the function in the mode of its kind."""
        raise NotImplementedError

    @functools.cached_property
    def _returns_strings(self) -> bool:
        """Whether its only output is strings, whose list is not one of outputs."""
        outputs = self.schema.outputs
        return len(outputs) == 1 and outputs[0].has_strings

    @functools.cached_property
    def schema(self) -> Schema:
        """The schema of its annotations; raises SignatureError."""
        return Schema.of(self._function)

    def serves_like(self, other: "Handler") -> bool:
        """Tell whether requests to one can go to the other."""
        return (
            isinstance(other, TensorFunction)
            and self.kind == other.kind
            and self.schema == other.schema
        )

    def run(self, inputs: Sequence[Any], rows: int) -> Sequence[Any]:
        """Run it on `rows` rows and return its outputs, tensors contiguous and on the CPU.

        Raises:
            TypeError: if it returned something else than its annotation says.
            Exception: whatever it raised.

        """
        # before the call, which may change the shapes of its inputs
        sizes = self.schema.sizes_of(inputs) if self.schema.axes else None

        result: Any = self._call(inputs, _NO_KEYWORDS)

        specs = self.schema.outputs
        if isinstance(result, Tensor) or (self._returns_strings and not isinstance(result, tuple)):
            result = (result,)
        if not isinstance(result, _SEVERAL) or len(result) != len(specs):
            raise TypeError(f"{len(specs)} tensors are annotated, it returned {type(result)}")

        batch = (rows,) if self.schema.batched else ()
        for index, spec in enumerate(specs):
            tensor = result[index]
            if (
                not isinstance(tensor, Tensor)
                or tensor.dtype is not spec.dtype
                or (
                    tensor.shape != batch + spec.shape
                    and (sizes is None or not _fits(tensor.shape, batch + spec.shape, sizes))
                )
            ):
                if not (spec.has_strings and _are_strings(tensor, spec, batch, sizes)):
                    raise TypeError(self._mismatch(tensor, spec, rows, sizes or {}))
            elif not (tensor.is_cpu and tensor.is_contiguous()):
                result = [
                    tensor.cpu().contiguous() if isinstance(tensor, Tensor) else tensor
                    for tensor in result
                ]
        outputs: Sequence[Any] = result
        return outputs

    def run_each(
        self, inputs: Sequence[Any], spans: Sequence[Span], failure: BaseException
    ) -> tuple[Sequence[Any], dict[int, BaseException]]:
        """Find out which requests made a batch fail, and serve the others.

        Halves of the batch are run, then halves of those that fail. After a failure that came
        after a training step nothing is run again: no sample is trained on twice. A batch has one
        size of an axis that only outputs have: where parts of it differ in one, those that did not
        fail are run again together.

        Returns:
            The outputs of all rows, zeros or empty strings for those that failed, and the failures
            by index. There are no outputs if all failed.

        """
        total = sum(span.rows for span in spans)
        outputs: list[Any] = []
        failures: dict[int, BaseException] = {}
        is_alike = True
        is_trained = False

        def halve(begin: int, end: int, failure: BaseException) -> None:
            if end - begin == 1:
                failures[begin] = failure
                return
            middle = (begin + end) // 2
            attempt(begin, middle)
            attempt(middle, end)

        def attempt(begin: int, end: int) -> None:
            first = spans[begin].first
            last = spans[end - 1].first + spans[end - 1].rows
            progress.begin()
            try:
                results = self.run(_rows_of(inputs, range(first, last)), last - first)
            except BaseException as error:
                if progress.is_made():
                    failures.update(dict.fromkeys(range(begin, end), error))
                else:
                    halve(begin, end, error)
                return
            nonlocal is_alike, is_trained
            is_trained = is_trained or progress.is_made()
            if not outputs:
                outputs.extend(self._blank(results, total))
            for output, result in zip(outputs, results, strict=True):
                if _strings.shape(output)[1:] == _strings.shape(result)[1:]:
                    output[first:last] = result
                else:
                    is_alike = False

        halve(0, len(spans), failure)
        if is_alike:
            return outputs, failures

        others = [index for index in range(len(spans)) if index not in failures]
        if is_trained:
            differ = TypeError("it returned tensors of several sizes for the parts of a batch")
            return [], failures | dict.fromkeys(others, differ)
        try:
            return self._run_together(inputs, [spans[index] for index in others], total), failures
        except BaseException as error:
            return [], failures | dict.fromkeys(others, error)

    def _run_together(
        self, inputs: Sequence[Any], spans: Sequence[Span], total: int
    ) -> Sequence[Any]:
        """Run some requests of a batch of `total` rows, zeros are the outputs of the others."""
        rows = [row for span in spans for row in range(span.first, span.first + span.rows)]
        results = self.run(_rows_of(inputs, rows), len(rows))
        outputs = self._blank(results, total)
        for output, result in zip(outputs, results, strict=True):
            for index, row in enumerate(rows):
                output[row] = result[index]
        return outputs

    def _blank(self, results: Sequence[Any], rows: int) -> list[Any]:
        """Make outputs of other rows, like those of a call but for their elements."""
        blank: list[Any] = []
        for spec, result in zip(self.schema.outputs, results, strict=True):
            if isinstance(result, Tensor):
                blank.append(result.new_zeros(rows, *result.shape[1:]))
            else:
                blank.append(_strings.full(spec.dtype, (rows, *_strings.shape(result)[1:])))
        return blank

    def _mismatch(self, found: Any, spec: TensorSpec, rows: int, sizes: Mapping[str, int]) -> str:
        expected = f'"{spec.name}" is annotated as {spec.describe(self.schema.batched)}'
        if spec.has_strings and isinstance(found, list):
            return f"{expected}, it returned other lists, {list(_strings.shape(found))}"
        if not isinstance(found, Tensor):
            return f"{expected}, it returned {type(found)}"
        dtype = str(found.dtype).removeprefix("torch.")
        where = "".join(f", {axis}={size}" for axis, size in sizes.items() if axis in spec.shape)
        return f"{expected}, it returned {dtype} {list(found.shape)} for {rows} rows{where}"


def _rows_of(inputs: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """Take rows of tensors, and of strings in lists that may be changed."""
    index = slice(rows.start, rows.stop) if isinstance(rows, range) else rows
    return [
        value[index] if isinstance(value, Tensor) else [copy.deepcopy(value[row]) for row in rows]
        for value in inputs
    ]


def _are_strings(
    found: Any, spec: TensorSpec, batch: tuple[int, ...], sizes: dict[str, int] | None
) -> bool:
    """Check strings that a function returned."""
    expected = batch + spec.shape
    shape = _strings.shape(found)
    return (
        _fits(shape, expected, {} if sizes is None else sizes)
        and isinstance(spec.dtype, type)
        and _strings.are(found, spec.dtype, shape)
    )


def _fits(found: Sequence[int], expected: Sequence[int | str], sizes: dict[str, int]) -> bool:
    """Compare a shape with sizes and names of axes; names that have no size yet get theirs."""
    return len(found) == len(expected) and all(
        size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
        for size, axis in zip(found, expected, strict=True)
    )


class InferFunction(TensorFunction):
    """Runs without gradients.

    Not in torch.inference_mode: entering and leaving that takes longer than it saves in a small
    network, and what a handler keeps of its results may be trained on later.
    """

    kind = Kind.INFER

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        before = torch.is_grad_enabled()
        _torch.set_grad_enabled(False)
        try:
            return self._function(*args, **kwargs)
        finally:
            _torch.set_grad_enabled(before)


class TrainFunction(TensorFunction):
    """Runs with gradients, one call at a time."""

    kind = Kind.TRAIN

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        before = torch.is_grad_enabled()
        with training:
            _torch.set_grad_enabled(True)
            try:
                return self._function(*args, **kwargs)
            finally:
                _torch.set_grad_enabled(before)


class RequestFunction:
    """A function of a request, under `@webtorch.handler`.

    It can be called as the function itself.
    """

    kind = Kind.HANDLER

    def __init__(
        self, function: Callable[[Request], Any], methods: Sequence[str], variables: Sequence[str]
    ) -> None:
        self._function = function
        self.methods = tuple(methods)
        self.variables = tuple(variables)
        functools.update_wrapper(self, function)

    def __call__(self, request: Request) -> Any:
        """Call the function itself."""
        return self._function(request)

    def serves_like(self, other: "Handler") -> bool:
        """Tell whether requests to one can go to the other."""
        return (
            isinstance(other, RequestFunction)
            and self.methods == other.methods
            and self.variables == other.variables
        )

    def run(self, request: Request) -> Response:
        """Answer a request, without gradients but in the training functions that it calls.

        Raises:
            TypeError: if it returned what is no response.
            Exception: whatever it raised.

        """
        with torch.no_grad():
            return Response.of(self._function(request))


Handler = TensorFunction | RequestFunction


def infer(function: Callable[..., Any]) -> TensorFunction:
    """Serve a function of tensors: it runs without gradients, on rows of many requests.

    A first axis named `batch` takes the rows of many requests at once; without it a call is one
    request. Tensors that are kept after the call stay valid.
    """
    return InferFunction(function)


def train(function: Callable[..., Any]) -> TensorFunction:
    """Serve a function of tensors that trains: it runs with gradients, one call at a time.

    It is called once for a batch of requests; with `max_batch=1` once for each, in order.
    """
    return TrainFunction(function)


@overload
def handler(function: Callable[[Request], Any]) -> RequestFunction: ...


@overload
def handler(
    *, methods: Sequence[str] = METHODS, variables: Sequence[str] = ()
) -> Callable[[Callable[[Request], Any]], RequestFunction]: ...


def handler(
    function: Callable[[Request], Any] | None = None,
    *,
    methods: Sequence[str] = METHODS,
    variables: Sequence[str] = (),
) -> RequestFunction | Callable[[Callable[[Request], Any]], RequestFunction]:
    """Serve a function of a `webtorch.Request`.

    It returns a `webtorch.Response`, bytes, a str, a dict, which is sent as JSON, a tensor, or the
    pathlib.Path of a file.

    Args:
        function: the function, where the decorator stands without parentheses.
        methods: those that it serves; others are answered with 405.
        variables: names of nginx's variables, as `remote_addr`, that its requests have.

    Raises:
        ValueError: for a method that is none of METHODS, or more than 16 variables or a name that
            is none.

    """
    if unknown := set(methods) - set(METHODS):
        raise ValueError(f"unknown methods {sorted(unknown)}, known are {', '.join(METHODS)}")
    if wrong := [name for name in variables if not _VARIABLE.fullmatch(name)]:
        raise ValueError(f"{wrong} are no names of variables, as remote_addr is")
    if len(variables) > MAX_VARIABLES:
        raise ValueError(f"a handler has at most {MAX_VARIABLES} variables")
    if function is None:
        return lambda decorated: RequestFunction(decorated, methods, variables)
    return RequestFunction(function, methods, variables)


class HandlerNotFoundError(LookupError):
    """There is no handler of that name."""


def find(name: str) -> Handler:
    """Import a handler by `module:function`.

    Raises:
        HandlerNotFoundError: if the module has no such function, or it is not decorated.
        Exception: whatever importing the module raised.

    """
    module_name, _, function_name = name.partition(":")
    module = importlib.import_module(module_name)
    found = getattr(module, function_name, None)
    if found is None:
        raise HandlerNotFoundError(f'module "{module_name}" has no function "{function_name}"')
    if not isinstance(found, Handler):
        raise HandlerNotFoundError(
            f'"{function_name}" is not decorated with @webtorch.infer, @webtorch.train '
            "or @webtorch.handler"
        )
    return found
