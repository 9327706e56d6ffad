"""The kinds of handlers: functions of tensors, which infer or train, and of requests."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from webtorch._core import pytorch
from webtorch._core.headers import check_headers
from webtorch._core.plain_tensors import dense, is_dense, is_plain, plain
from webtorch._device import calls, devices
from webtorch._device.pipeline import new_memory, pipeline_of
from webtorch._handlers import batches
from webtorch._handlers.arguments import Sources, bind
from webtorch._handlers.isolation import Run, Span, isolate
from webtorch._handlers.request import Request
from webtorch._models.training import training
from webtorch._schema import callables, strings
from webtorch._schema.schema import Schema, SignatureError, TensorSpec, fits

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
"""The methods of HTTP that handlers can serve, in the order of their bits in the C API."""

_NO_KEYWORDS: dict[str, Any] = {}

# `tuple | list` would make a new object for each call
_SEVERAL = (tuple, list)


class HandlerKind(IntEnum):
    """The kinds of handlers, numbered as in ngx_webtorch_api_numbers.h."""

    INFER = 0
    TRAIN = 1
    HANDLER = 2
    # 3 is WEBTORCH_POLICY, a balancer's
    STREAM = 4


class TensorFunction:
    """A function of tensors, under `@webtorch.infer` or `@webtorch.train`.

    Calling it calls the function, in the mode of its kind.

    Args:
        function: The function, whose annotations are its schema.
        device: The device that it runs on; empty: the one that the directive says.

    """

    kind: HandlerKind
    methods = ("POST", "PUT")

    def __init__(self, function: Callable[..., Any], device: str = "") -> None:
        _check_undecorated(function)
        self._function = function
        self._code = callables.function_of(function)
        self.device = device
        _look_like(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self._call(args, kwargs)

    def batched(self, *args: Any, **kwargs: Any) -> Any:
        """Compute rows in a batch of this worker, together with those of requests and others.

            @webtorch.handler
            async def classify(request: webtorch.Request) -> dict[str, Any]:
                x = decode(request.body)
                scores = await output.batched(x.unsqueeze(0))
                return {"best": int(scores.argmax())}

        In a coroutine the result is awaited; nothing waits meanwhile. In other threads the call
        waits. Where that would block the worker, the function is called itself: in the event loop
        of nginx, for example while a module is imported, within functions of tensors, and outside
        nginx.

        Args:
            args: The inputs of the function: tensors, NumPy arrays, numbers in lists, or strings in
                lists, all with the same number of rows. A dtype is converted if its kind stays.
            kwargs: The same by name.

        Returns:
            What the function returns for these rows: a tensor `[batch, ...]` or strings, or a tuple
            of several.

        Raises:
            TypeError: The inputs do not match the annotations.
            webtorch.QueueFullError: As many requests and calls wait as `queue=` allows, or they
                hold `queue_size=` bytes.
            webtorch.BatchTimeoutError: The rows were not computed within `timeout=`.
            Exception: The function raised it for these rows.

        """
        return batches.call(self, args, kwargs)

    def result(self, outputs: Sequence[Any]) -> Any:
        """Return outputs as the function does: one, a tuple, or a NamedTuple."""
        if len(outputs) == 1 and self._result_type is tuple:
            return outputs[0]
        return self._result_type(outputs)

    @property
    def name(self) -> str:
        """Module and name of the function, as `module:function`."""
        return f"{self._code.__module__}:{self._code.__qualname__}"

    def is_replaced_by(self, other: "TensorFunction") -> bool:
        """Return whether another function is this one of code that was imported again.

        Methods of several objects and partial functions may have one name, but the same code.
        """
        own, others = callables.code_of(self._function), callables.code_of(other._function)
        return self.name == other.name and own is not others

    def check_is_called(self) -> None:
        """Check that a call of the function returns tensors.

        Raises:
            SignatureError: It returns a coroutine or a generator.

        """
        code = callables.run_by(self._function)
        if inspect.isasyncgenfunction(code):
            kind = 'an asynchronous generator ("async def" with "yield") of tensors'
        elif inspect.isgeneratorfunction(code):
            kind = 'a generator ("yield") of tensors'
        elif inspect.iscoroutinefunction(code):
            kind = 'a coroutine ("async def") of tensors'
        else:
            return
        raise SignatureError(f"it is {kind}, which is not supported")

    @property
    def wire_schema(self) -> Schema:
        """The tensors that a client sends and receives.

        Raises:
            SignatureError: The annotations cannot be served.

        """
        return self.schema

    @functools.cached_property
    def _result_type(self) -> Callable[[Sequence[Any]], Any]:
        """What makes a result of several outputs."""
        annotation = typing.get_type_hints(self._code).get("return")
        return getattr(annotation, "_make", tuple) if isinstance(annotation, type) else tuple

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the function in the mode of its kind."""
        raise NotImplementedError

    @functools.cached_property
    def _returns_strings(self) -> bool:
        """Whether its only output is strings: a list that it returns is that output."""
        outputs = self.schema.outputs
        return len(outputs) == 1 and outputs[0].has_strings

    @functools.cached_property
    def schema(self) -> Schema:
        """The schema of its annotations.

        Raises:
            SignatureError: They do not describe tensors that can be served.

        """
        return Schema.of(self._function)

    def take_over(self, other: "TensorFunction") -> None:
        """Continue what a handler keeps that this one replaces."""

    def serves_like(self, other: "Handler") -> bool:
        """Return whether another handler can serve the same requests."""
        return (
            isinstance(other, TensorFunction)
            and self.kind == other.kind
            and self.device == other.device
            and self.schema == other.schema
        )

    def run(self, inputs: Sequence[Any], rows: int) -> Sequence[Any]:
        """Run the function on the rows of a batch.

        Args:
            inputs: Tensors, and nested lists of strings, in the order of the schema.
            rows: Number of rows of all inputs.

        Returns:
            The outputs in the order of the schema: contiguous tensors on the CPU, and nested lists
            of strings.

        Raises:
            TypeError: The function returned a value that does not match its annotation.
            Exception: The function raised it.

        """
        # before the call, which may change the shapes of its inputs
        sizes = self.schema.sizes_of(inputs) if self.schema.axes else None

        return self._check(self._call(inputs, _NO_KEYWORDS), rows, sizes)

    def _check(
        self, result: Any, rows: int, sizes: dict[str, int] | None, is_placed: bool = False
    ) -> Sequence[Any]:
        """Return what the function returned as outputs.

        Args:
            result: The function's value.
            rows: Number of rows.
            sizes: Sizes of variable axes by name; None without any.
            is_placed: Whether tensors stay where they are.

        Raises:
            TypeError: It does not match the annotations.

        """
        specs = self.schema.outputs
        returned = result
        if isinstance(result, Tensor) or (self._returns_strings and not isinstance(result, tuple)):
            result = (result,)
        if not isinstance(result, _SEVERAL) or len(result) != len(specs):
            raise TypeError(self._miscounted(returned, rows))

        batch = (rows,) if self.schema.batched else ()
        for index, spec in enumerate(specs):
            tensor = result[index]
            if (
                not isinstance(tensor, Tensor)
                or tensor.dtype is not spec.dtype
                or (
                    tensor.shape != batch + spec.shape
                    and (sizes is None or not fits(tensor.shape, batch + spec.shape, sizes))
                )
            ):
                if not (spec.has_strings and _are_strings(tensor, spec, batch, sizes)):
                    raise TypeError(self._mismatch(tensor, spec, rows, sizes or {}))
            elif not (is_dense(tensor) if is_placed else is_plain(tensor)):
                convert = dense if is_placed else plain
                result = [
                    convert(value) if isinstance(value, Tensor) else value for value in result
                ]
        outputs: Sequence[Any] = result
        return outputs

    def run_placed(self, inputs: Sequence[Any], rows: int) -> Sequence[Any]:
        """Run the function on a device: as `run`, but tensors are and stay there.

        Args:
            inputs: Tensors on the device, and nested lists of strings, in the order of the schema.
            rows: Number of rows of all inputs.

        Returns:
            The outputs in the order of the schema, tensors where the function has put them.

        Raises:
            TypeError: The function returned a value that does not match its annotation.
            Exception: The function raised it.

        """
        sizes = self.schema.sizes_of(inputs) if self.schema.axes else None

        return self._check(self._call(inputs, _NO_KEYWORDS), rows, sizes, is_placed=True)

    def compute(self, inputs: Sequence[Any], rows: int) -> Sequence[Any]:
        """Run the function outside batches: as `run`, and on its device if it has one."""
        name = devices.resolve(self.device)
        if name:
            pipeline = pipeline_of(devices.open_device(name))
            return pipeline.call(lambda placed: self.run_placed(placed, rows), inputs, new_memory)
        # the caller may be a function on a device
        before = calls.enter(None)
        try:
            return self.run(inputs, rows)
        finally:
            calls.enter(before)

    def run_each(
        self,
        inputs: Sequence[Any],
        spans: Sequence[Span],
        failure: BaseException,
        run: Run | None = None,
    ) -> tuple[Sequence[Any], dict[int, BaseException]]:
        """Find the requests that make a batch fail, and serve the others; see `isolate`.

        Args:
            inputs: The inputs of all rows.
            spans: The rows of each request.
            failure: The exception that the whole batch raised.
            run: Runs the function on some of the rows, by default `run`.

        """
        return isolate(run or self.run, self.schema.outputs, inputs, spans, failure)

    def _miscounted(self, found: Any, rows: int) -> str:
        """Return the error for a value that is not as many outputs as are annotated."""
        specs = self.schema.outputs
        is_several = isinstance(found, _SEVERAL)
        if len(specs) == 1 and not is_several:
            return self._mismatch(found, specs[0], rows, {})
        kind = "None" if found is None else f"one {type(found).__name__}"
        what = f"a {type(found).__name__} of {len(found)}" if is_several else kind
        if len(specs) == 1:
            return f"1 output is annotated, it returned {what}: return the output itself"
        named = getattr(self._result_type, "__self__", None)
        use = f"{named.__name__}(...)" if named else f"a tuple of {len(specs)}"
        return f"{len(specs)} outputs are annotated, it returned {what}: return {use}"

    def _mismatch(self, found: Any, spec: TensorSpec, rows: int, sizes: Mapping[str, int]) -> str:
        expected = f'"{spec.name}" is annotated as {spec.describe(self.schema.batched)}'
        if spec.has_strings and isinstance(found, list):
            lists = strings.describe(found, spec.dtype)
            return f"{expected}, it returned {lists} for {rows} rows"
        if not isinstance(found, Tensor):
            use = ": use torch.from_numpy()" if hasattr(found, "__array_interface__") else ""
            return f"{expected}, it returned {type(found)}{use}"
        dtype = str(found.dtype).removeprefix("torch.")
        where = "".join(f", {axis}={size}" for axis, size in sizes.items() if axis in spec.shape)
        return f"{expected}, it returned {dtype} {list(found.shape)} for {rows} rows{where}"


def _are_strings(
    found: Any, spec: TensorSpec, batch: tuple[int, ...], sizes: dict[str, int] | None
) -> bool:
    """Return whether strings that a function returned match their annotation."""
    expected = batch + spec.shape
    shape = strings.shape(found)
    return (
        fits(shape, expected, {} if sizes is None else sizes)
        and isinstance(spec.dtype, type)
        and strings.matches(found, spec.dtype, shape)
    )


class InferFunction(TensorFunction):
    """A function under `@webtorch.infer`: it runs without gradients.

    It does not use torch.inference_mode: entering and leaving that takes longer than it saves in a
    small network, and results that a handler keeps may be trained on later.
    """

    kind = HandlerKind.INFER

    def __init__(
        self, function: Callable[..., Any], device: str = "", native: object = None
    ) -> None:
        super().__init__(function, device)
        self.native = native

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        before = torch.is_grad_enabled()
        pytorch.set_grad_enabled(False)
        try:
            return self._function(*args, **kwargs)
        finally:
            pytorch.set_grad_enabled(before)


class TrainFunction(TensorFunction):
    """A function under `@webtorch.train`: it runs with gradients, one call at a time."""

    kind = HandlerKind.TRAIN

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        before = torch.is_grad_enabled()
        with training:
            pytorch.set_grad_enabled(True)
            try:
                return self._function(*args, **kwargs)
            finally:
                pytorch.set_grad_enabled(before)


class RequestFunction:
    """A function of a request, under `@webtorch.handler`.

    Calling it calls the function.

    Args:
        function: The function.
        methods: Methods of HTTP that it serves.
        variables: Names of the nginx variables that its requests have.
        threads: Number of calls that run at once in a worker; None: as the directive says.
        content_type: Media type of what it yields; None: that of the first item.

    """

    kind = HandlerKind.HANDLER

    def __init__(
        self,
        function: Callable[..., Any],
        methods: Sequence[str],
        variables: Sequence[str],
        threads: int | None,
        content_type: str | None = None,
    ) -> None:
        _check_undecorated(function)
        self._function = function
        self.methods = tuple(methods)
        self.variables = tuple(variables)
        self.threads = threads
        self.content_type = content_type
        code = callables.run_by(function)
        is_asynchronous_generator = inspect.isasyncgenfunction(code)
        self.is_generator = is_asynchronous_generator or inspect.isgeneratorfunction(code)
        self.is_coroutine = is_asynchronous_generator or inspect.iscoroutinefunction(code)
        if content_type is not None:
            if not self.is_generator:
                raise ValueError("content_type is for generators: return a webtorch.Response")
            check_headers((), content_type)
        if self.is_coroutine and threads is not None:
            raise ValueError('a coroutine ("async def") has no threads, it runs in asyncio\'s loop')
        _look_like(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self._function(*args, **kwargs)

    def serves_like(self, other: "Handler") -> bool:
        """Return whether another handler can serve the same requests."""
        return (
            isinstance(other, RequestFunction)
            and self.methods == other.methods
            and self.variables == other.variables
            and self.threads == other.threads
            and self.content_type == other.content_type
            and self.is_coroutine == other.is_coroutine
            and self.is_generator == other.is_generator
        )

    def bind(self, captures: Sequence[str] = ()) -> Callable[[Request], Any]:
        """Return what calls the function for a request, with the arguments that it takes.

        Args:
            captures: Named captures of the location.

        Raises:
            SignatureError: Nothing fills an argument, or its annotation or its default cannot be
                used.

        """
        return bind(self._function, Sources(captures, self.variables, self.methods))

    def run(self, call: Callable[[Request], Any], request: Request) -> Any:
        """Call for a request; only training functions that are called record gradients.

        Args:
            call: What `bind` returned.
            request: The request.

        Raises:
            Exception: The function raised it.

        """
        before = torch.is_grad_enabled()
        pytorch.set_grad_enabled(False)
        try:
            return call(request)
        finally:
            pytorch.set_grad_enabled(before)


Handler = TensorFunction | RequestFunction


def _check_undecorated(function: Callable[..., Any]) -> None:
    if isinstance(function, Handler):
        raise TypeError(
            f"{getattr(function, '__name__', 'it')} is under a decorator of webtorch already: "
            "a function has one, which is the first"
        )


def _look_like(handler: "Handler", function: Callable[..., Any]) -> None:
    """Give a handler the name and the documentation of its function."""
    named = function
    while isinstance(named, functools.partial):
        named = named.func
    # the attributes of an object that is called are not those of a handler
    attributes = functools.WRAPPER_UPDATES if inspect.isroutine(named) else ()
    functools.update_wrapper(handler, named, updated=attributes)
    handler.__wrapped__ = function  # type: ignore[union-attr]


def served_methods(handler: "Handler") -> list[str]:
    """Return the methods of HTTP that a handler serves: its own, and HEAD beside GET.

    A stream has no HEAD: its response begins when it is opened.
    """
    served = set(handler.methods)
    if isinstance(handler, RequestFunction) and "GET" in served:
        served.add("HEAD")
    return [method for method in METHODS if method in served]
