"""Handlers: the functions that nginx's locations name."""

import functools
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, overload

import torch
from torch import Tensor

from webtorch import _torch
from webtorch.messages import Request, Response
from webtorch.model import progress, training
from webtorch.schema import Schema, TensorSpec

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

    def run(self, inputs: Sequence[Tensor], rows: int) -> Sequence[Tensor]:
        """Run it on `rows` rows and return its outputs, contiguous and on the CPU.

        Raises:
            TypeError: if it returned something else than its annotation says.
            Exception: whatever it raised.

        """
        result: Any = self._call(inputs, _NO_KEYWORDS)

        specs = self.schema.outputs
        if isinstance(result, Tensor):
            result = (result,)
        if not isinstance(result, _SEVERAL) or len(result) != len(specs):
            raise TypeError(f"{len(specs)} tensors are annotated, it returned {type(result)}")

        batch = (rows,) if self.schema.batched else ()
        for index, spec in enumerate(specs):
            tensor = result[index]
            if (
                not isinstance(tensor, Tensor)
                or tensor.dtype is not spec.dtype
                or tensor.shape != batch + spec.shape
            ):
                raise TypeError(self._mismatch(tensor, spec, rows))
            if not (tensor.is_cpu and tensor.is_contiguous()):
                result = [tensor.cpu().contiguous() for tensor in result]
        outputs: Sequence[Tensor] = result
        return outputs

    def run_each(
        self, inputs: Sequence[Tensor], spans: Sequence[Span], failure: BaseException
    ) -> tuple[Sequence[Tensor], dict[int, BaseException]]:
        """Find out which requests made a batch fail, and serve the others.

        Halves of the batch are run, then halves of those that fail. After a failure that came
        after a training step nothing is run again: no sample is trained on twice.

        Returns:
            The outputs of all rows, zeros for those that failed, and the failures by index.

        """
        total = sum(span.rows for span in spans)
        outputs = [
            torch.zeros(
                (total, *spec.shape) if self.schema.batched else spec.shape, dtype=spec.dtype
            )
            for spec in self.schema.outputs
        ]
        failures: dict[int, BaseException] = {}

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
                results = self.run([tensor[first:last] for tensor in inputs], last - first)
            except BaseException as error:
                if progress.is_made():
                    failures.update(dict.fromkeys(range(begin, end), error))
                else:
                    halve(begin, end, error)
                return
            for output, result in zip(outputs, results, strict=True):
                output[first:last] = result

        halve(0, len(spans), failure)
        return outputs, failures

    def _mismatch(self, found: Any, spec: TensorSpec, rows: int) -> str:
        expected = f'"{spec.name}" is annotated as {spec.describe(self.schema.batched)}'
        if not isinstance(found, Tensor):
            return f"{expected}, it returned {type(found)}"
        dtype = str(found.dtype).removeprefix("torch.")
        return f"{expected}, it returned {dtype} {list(found.shape)} for {rows} rows"


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
