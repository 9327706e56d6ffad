"""Streams: functions of chunks whose state is kept for each client by the framework."""

import copy
import dataclasses
import functools
import inspect
import threading
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import torch
from torch import Tensor

from webtorch._handlers.functions import Handler, HandlerKind, InferFunction, TensorFunction
from webtorch._handlers.request import Request
from webtorch._schema import callables, missing
from webtorch._schema.missing import NO_GAPS, Masked
from webtorch._schema.schema import (
    BATCH,
    MAX_TENSORS,
    Schema,
    SignatureError,
    StateMark,
    TensorSpec,
)
from webtorch._streams.state_tables import ObjectTable, Table, TensorTable

T = TypeVar("T")

DONE = "done"
"""The name of the output that ends a stream."""

MAX_STATES = 16
"""States of a function."""

_PLACES = TensorSpec("state rows", torch.int64, (2,))
"""The input that C adds to those of the function: rows to read from and to write to."""


if TYPE_CHECKING:
    State = Annotated[T, "state"]
else:

    class State:
        """Annotates a state of a stream, as an argument and as an output.

            @webtorch.stream
            def total(
                x: Float32[Tensor, "batch 2"], s: webtorch.State[Float32[Tensor, "batch 2"]]
            ) -> tuple[Float32[Tensor, "batch 2"], webtorch.State[Float32[Tensor, "batch 2"]]]:
                return s + x, s + x

        The argument is a tensor with a batch axis, or `list[T]` for an object of each stream. For
        type checkers `State[X]` is `X`.
        """

        def __class_getitem__(cls, kind):
            """Return the annotation of a state."""
            return Annotated[kind, StateMark()]


def _state_of(annotation: Any) -> Any:
    """Return what a state is annotated as; None: it is not a state."""
    if typing.get_origin(annotation) is Annotated and any(
        isinstance(extra, StateMark) for extra in annotation.__metadata__
    ):
        # Annotated[Annotated[X, ...], mark] is one with all metadata
        extras = [x for x in annotation.__metadata__ if not isinstance(x, StateMark)]
        kind = annotation.__origin__
        for extra in extras:
            kind = Annotated[kind, extra]
        return kind
    return None


@dataclass(frozen=True)
class Signature:
    """The annotations of a stream function.

    Attributes:
        schema: The tensors that C knows: those on the wire, then the rows of states; the output
            `done` is the last one.
        states: A state's name, dtype and shape; dtype `object` for objects.
        arguments: For each argument its index among the inputs, or -1 minus that among the states.
        wire: Indices of the outputs of `schema` among what the function returns.
        returned: Indices of the states among what it returns.
        has_done: Whether the last output is `done`.

    """

    schema: Schema
    states: tuple[TensorSpec, ...]
    arguments: tuple[int, ...]
    wire: tuple[int, ...]
    returned: tuple[int, ...]
    has_done: bool

    @property
    def wire_schema(self) -> Schema:
        """The tensors that are sent, without `done`."""
        inputs, outputs = self.schema.inputs, self.schema.outputs
        outputs = outputs[: len(outputs) - self.has_done]
        return dataclasses.replace(self.schema, inputs=inputs[:-1], outputs=outputs)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Signature":
        """Read a function's annotations.

        Raises:
            SignatureError: They do not describe a stream that can be served.

        """
        hints = _hints(function)
        if "return" not in hints:
            raise SignatureError("it has no return annotation")
        parameters = callables.signature(function).parameters
        names = list(parameters)
        states = {name: _state_of(hints.get(name)) for name in names}
        for name, state in states.items():
            if state is not None and parameters[name].default is not inspect.Parameter.empty:
                raise SignatureError(
                    f'the state "{name}" has a default, a function under ".open" returns the first '
                    "value"
                )
        outputs = _outputs(hints["return"])
        wire = [index for index, (_, hint) in enumerate(outputs) if _state_of(hint) is None]
        returned = [index for index in range(len(outputs)) if index not in wire]
        done = [index for index in wire if outputs[index][0] == DONE]
        wire = [index for index in wire if index not in done] + done

        if len(wire) == len(done):
            raise SignatureError("it returns nothing that could be sent")
        schema = _wire_schema(
            function,
            hints,
            [name for name in names if states[name] is None],
            [outputs[index] for index in wire],
        )
        _check_wire(schema, bool(done))

        specs = _states(
            [(name, state) for name, state in states.items() if state is not None],
            [(outputs[index][0], _state_of(outputs[index][1])) for index in returned],
        )
        inputs = iter(range(len(names)))
        own = iter(range(-1, -1 - len(names), -1))
        return cls(
            schema=dataclasses.replace(schema, inputs=(*schema.inputs, _PLACES)),
            states=specs,
            arguments=tuple(next(inputs if states[name] is None else own) for name in names),
            wire=tuple(wire),
            returned=tuple(returned),
            has_done=bool(done),
        )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return callables.hints(function)
    except Exception as error:
        raise SignatureError(f"its annotations cannot be read: {error}") from error


def _outputs(annotation: Any) -> list[tuple[str, Any]]:
    """Return names and annotations of all that the function returns, states too."""
    if isinstance(annotation, type) and hasattr(annotation, "_fields"):
        return list(typing.get_type_hints(annotation, include_extras=True).items())
    if typing.get_origin(annotation) is tuple:
        return [("", item) for item in typing.get_args(annotation)]
    return [("", annotation)]


def _wire_schema(
    function: Callable[..., Any],
    hints: dict[str, Any],
    inputs: Sequence[str],
    outputs: Sequence[tuple[str, Any]],
) -> Schema:
    """Return the schema of the same function without states."""

    def wire() -> None: ...

    parameters = callables.signature(function).parameters
    result: Any
    if all(name for name, _ in outputs):
        fields = dict(outputs)
        result = type("Outputs", (), {"_fields": tuple(fields), "__annotations__": fields})
    elif len(outputs) == 1:
        result = outputs[0][1]
    else:
        result = types.GenericAlias(tuple, tuple(hint for _, hint in outputs))
    wire.__annotations__ = {
        **{name: hints[name] for name in inputs if name in hints},
        "return": result,
    }
    wire.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameters[name] for name in inputs]
    )
    return Schema.of(wire)


def _check_wire(schema: Schema, has_done: bool) -> None:
    if len(schema.inputs) >= MAX_TENSORS:
        raise SignatureError(f"it has more than {MAX_TENSORS - 1} inputs")
    if not schema.batched:
        raise SignatureError(
            f'the first axis of a stream\'s tensors is "{BATCH}": a row of each stream'
        )
    if len(schema.axes) > schema.bound:
        raise SignatureError(
            f'axis "{schema.axes[schema.bound]}" has no size in an input, which a stream needs'
        )
    done = schema.outputs[-1]
    if has_done and (done.dtype is not torch.bool or done.shape):
        raise SignatureError(f'"{DONE}" is not annotated as Bool[Tensor, "{BATCH}"]')


def _states(
    arguments: Sequence[tuple[str, Any]], returned: Sequence[tuple[str, Any]]
) -> tuple[TensorSpec, ...]:
    """Return the states, which are matched with those that are returned in their order."""
    if len(arguments) != len(returned):
        raise SignatureError(
            f"it takes {len(arguments)} states and returns {len(returned)}: they are matched in "
            "their order"
        )
    if len(arguments) > MAX_STATES:
        raise SignatureError(f"it has more than {MAX_STATES} states")
    specs = []
    for (name, annotation), (_, other) in zip(arguments, returned, strict=True):
        spec = _state_spec(name, annotation)
        found = _state_spec(name, other)
        if spec != found:
            raise SignatureError(
                f'state "{name}" is {_describe(spec)} as an argument, but is returned as '
                f"{_describe(found)}"
            )
        specs.append(spec)
    return tuple(specs)


def _describe(spec: TensorSpec) -> str:
    return "a list of objects" if spec.dtype is object else spec.describe(True)


def _state_spec(name: str, annotation: Any) -> TensorSpec:
    """Read the annotation of a state; the dtype of objects is `object`."""
    if annotation is list or typing.get_origin(annotation) is list:
        return TensorSpec(name, object, ())  # type: ignore[arg-type]
    batched, spec = _row_spec(name, annotation)
    if not batched:
        raise SignatureError(f'the first axis of the state "{name}" is not "{BATCH}"')
    return spec


def _row_spec(name: str, annotation: Any) -> tuple[bool, TensorSpec]:
    """Read a tensor's annotation; the first value is whether it has a batch axis."""
    _, gaps = missing.split(annotation)
    if gaps != NO_GAPS:
        raise SignatureError(f'state "{name}" cannot be absent or have missing elements')

    def one() -> None: ...

    one.__annotations__ = {"x": annotation, "return": annotation}
    one.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )
    try:
        schema = Schema.of(one)
    except SignatureError as error:
        raise SignatureError(f'state "{name}": {error}') from error
    spec = dataclasses.replace(schema.inputs[0], name=name)
    if schema.axes or spec.has_strings:
        raise SignatureError(
            f'state "{name}" is neither a tensor whose sizes are fixed nor a list of objects, as '
            'in State[Float32[Tensor, "batch 2"]] and State[list[T]]'
        )
    return schema.batched, spec


class StreamFunction(InferFunction):
    """A function under `@webtorch.stream`: it runs without gradients.

    Calling it calls the function, with the states as arguments.

    Args:
        function: The function, whose annotations are its schema.

    """

    kind = HandlerKind.STREAM
    methods = ("GET", "POST", "PUT")  # type: ignore[assignment]

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._open: Callable[..., Any] | None = None
        self._close: Callable[..., Any] | None = None
        # streams of the event loop and of a thread may read and write at the same time
        self._lock = threading.Lock()
        self._name: str | None = None
        self._others: dict[str, StreamFunction] = {}

    def open(self, function: Callable[..., T]) -> Callable[..., T]:
        """Make a function of a `webtorch.Request` the one that begins a stream.

            @total.open
            def begin(request: webtorch.Request) -> Float32[Tensor, "2"]:
                return torch.zeros(2)

        It returns the state of the new stream without the batch axis, a tuple of several, and may
        refuse the stream with `webtorch.HTTPError`. Without it tensors are zeros and objects None.
        """
        self._open = function
        return function

    def close(self, function: Callable[..., T]) -> Callable[..., T]:
        """Make a function of a stream's last state the one that is called once at its end."""
        self._close = function
        return function

    @functools.cached_property
    def signature(self) -> Signature:
        """The annotations of the function.

        Raises:
            SignatureError: They, or those of `open` and `close`, cannot be served.

        """
        signature = Signature.of(self._function)
        if self._open:
            _check_open(self._open, signature.states)
        if self._close:
            _check_count(self._close, len(signature.states), "close")
        return signature

    @functools.cached_property
    def schema(self) -> Schema:
        """The tensors on the wire, and the rows of states as an input that C adds.

        Raises:
            SignatureError: The annotations cannot be served.

        """
        return self.signature.schema

    @property
    def wire_schema(self) -> Schema:
        """The tensors of a chunk, which is one row, and of its answer.

        Raises:
            SignatureError: The annotations cannot be served.

        """
        return dataclasses.replace(self.signature.wire_schema, batched=False)

    @property
    def has_open(self) -> bool:
        """Whether a function is called for a new stream."""
        return self._open is not None

    @property
    def has_close(self) -> bool:
        """Whether something is to be done at the end of a stream."""
        return self._close is not None or any(
            state.dtype is object for state in self.signature.states
        )

    @functools.cached_property
    def tables(self) -> list[Table]:
        """The states of all streams."""
        return [
            ObjectTable(spec) if spec.dtype is object else TensorTable(spec)
            for spec in self.signature.states
        ]

    def served_as(self, name: str) -> "StreamFunction":
        """Return the function, or a copy with states of its own if it has another name, too.

        C numbers the rows of each name.
        """
        if self._name in (None, name):
            self._name = name
            return self
        if name not in self._others:
            other = self._others[name] = copy.copy(self)
            other.__dict__.pop("tables", None)
            other._lock = threading.Lock()
        return self._others[name]

    def batched(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse the call, as rows that are no chunks have no states.

        Raises:
            TypeError: Always.

        """
        raise TypeError(f'"{self.name}" is a stream, whose chunks come from clients alone')

    def serves_like(self, other: Handler) -> bool:
        """Return whether another handler can serve the same requests and streams."""
        return (
            isinstance(other, StreamFunction)
            and super().serves_like(other)
            and self.signature == other.signature
            and self.has_open == other.has_open
            and self.has_close == other.has_close
        )

    def take_over(self, other: TensorFunction) -> None:
        """Continue the streams of a handler that this one replaces."""
        assert isinstance(other, StreamFunction)
        self._lock = other._lock
        self.tables = other.tables

    def run(self, inputs: Sequence[Any], rows: int) -> Sequence[Any]:
        """Run the function on a chunk of several streams, and store their states.

        The states of a call that raises stay as they were.

        Args:
            inputs: Tensors, lists of strings, `Masked` and None, in the order of the schema.
            rows: Number of rows of all inputs.

        Returns:
            The outputs in the order of the schema.

        Raises:
            TypeError: The function returned a value that does not match its annotation.
            Exception: The function raised it.

        """
        signature = self.signature
        sizes = self.schema.sizes_of(inputs) if self.schema.axes else None
        tables = self.tables
        read, write = inputs[-1].unbind(1)
        with self._lock:
            states = [table.read(read) for table in tables]

        # a copy, as the call may be repeated for some of the rows after it has changed them
        wire = [copied(value) for value in inputs[:-1]]
        result = self._call(
            [wire[index] if index >= 0 else states[-1 - index] for index in signature.arguments],
            {},
        )
        new: list[Any] = []
        if tables or len(signature.wire) > 1:
            result, new = self._split(result, rows)
        outputs = self._check(result, rows, sizes)

        self.write_states(write, new)
        return outputs

    def _split(self, result: Any, rows: int) -> tuple[Sequence[Any], list[Any]]:
        """Return the outputs on the wire and the new states."""
        signature = self.signature
        count = len(signature.wire) + len(signature.returned)
        if not isinstance(result, tuple | list) or len(result) != count:
            raise TypeError(f"{count} outputs and states are annotated, it returned {type(result)}")
        new = [
            table.check(result[index], rows)
            for table, index in zip(self.tables, signature.returned, strict=True)
        ]
        return tuple(result[index] for index in signature.wire), new

    def begin(self, place: int, request: Request) -> None:
        """Store the state of a new stream in a row.

        Raises:
            HTTPError: The stream is refused.
            TypeError: `open` returned a value that does not match its annotation.
            Exception: `open` raised it.

        """
        self.write_states(torch.tensor([place]), self.first_states(request))

    def first_states(self, request: Request) -> list[Any]:
        """Call `open`; return the states of the new stream as values of one row; see `begin`."""
        assert self._open
        with torch.no_grad():
            values = self._open(request)
        return self.check_states(values, 1, False) if self.tables else []

    def check_states(self, values: Any, rows: int, is_batched: bool) -> list[Any]:
        """Return what `open` returned as values of rows; there is a state.

        Args:
            values: A state, or a tuple of several.
            rows: Number of rows.
            is_batched: Whether the values have a batch axis; there is one row otherwise.

        Raises:
            TypeError: They do not match the annotations of the states.

        """
        tables = self.tables
        if len(tables) == 1:
            values = (values,)
        if not isinstance(values, tuple) or len(values) != len(tables):
            raise TypeError(f"open returns {len(tables)} states, it returned {type(values)}")
        return [
            table.check(value if is_batched else table.stack(value), rows)
            for table, value in zip(tables, values, strict=True)
        ]

    def write_states(self, places: Tensor, states: Sequence[Any]) -> None:
        """Store values of rows, which were checked."""
        with self._lock:
            for table, values in zip(self.tables, states, strict=True):
                table.write(places, values)

    def end(self, place: int, other: int = 0) -> None:
        """Call `close` with the state in a row, and release what the stream's rows hold.

        Raises:
            Exception: `close` raised it.

        """
        places = torch.tensor([place])
        with self._lock:
            states = [table.read(places)[0] for table in self.tables]
            for table in self.tables:
                for each in (place, other):
                    if each:
                        table.forget(each)
        self.call_close(states)

    def call_close(self, states: Sequence[Any]) -> None:
        """Call `close`, if there is one, with the last states of a stream."""
        if self._close:
            with torch.no_grad():
                self._close(*states)


def copied(value: Any) -> Any:
    """Return a copy of an input; lists of strings are made again for each call."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Masked):
        return Masked(copied(value.values), value.mask.clone())
    return value


def _check_count(function: Callable[..., Any], count: int, what: str) -> None:
    parameters = callables.signature(function).parameters.values()
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [each for each in parameters if each.kind in kinds]
    needed = sum(each.default is each.empty for each in positional)
    if inspect.iscoroutinefunction(callables.run_by(function)):
        raise SignatureError(f'its {what} function is "async def", which is not awaited: use "def"')
    if not needed <= count <= len(positional):
        values = "a request" if what == "open" else f"{count} states"
        raise SignatureError(f"its {what} function does not take {values}")


def _check_open(function: Callable[..., Any], states: Sequence[TensorSpec]) -> None:
    """Compare what `open` is annotated to return with the states, without their batch axis."""
    _check_count(function, 1, "open")
    if states or _hints(function).get("return") not in (None, types.NoneType):
        check_first(function, states, False)


def check_first(
    function: Callable[..., Any], states: Sequence[TensorSpec], is_batched: bool
) -> None:
    """Compare what `open` is annotated to return with the states.

    Args:
        function: The function.
        states: The states.
        is_batched: Whether it returns them with a batch axis.

    Raises:
        SignatureError: They do not match.

    """
    annotation = _hints(function).get("return")
    if annotation is None:
        raise SignatureError("its open function has no return annotation")
    hints = [annotation]
    if len(states) != 1:
        hints = list(typing.get_args(annotation))
        if typing.get_origin(annotation) is not tuple or len(hints) != len(states):
            raise SignatureError(f"its open function does not return a tuple of {len(states)}")
    for spec, hint in zip(states, hints, strict=True):
        if spec.dtype is object or hint is Tensor:
            continue
        has_batch, found = _row_spec(spec.name, hint)
        if has_batch != is_batched or found != spec:
            raise SignatureError(
                f"its open function returns {found.describe(has_batch)} for state "
                f'"{spec.name}", which is {spec.describe(is_batched)} there'
            )


def stream(function: Callable[..., Any]) -> StreamFunction:
    """Make a function of chunks a handler of streams: it runs without gradients.

        @webtorch.stream
        def total(
            x: Float32[Tensor, "batch 2"], s: webtorch.State[Float32[Tensor, "batch 2"]]
        ) -> tuple[Float32[Tensor, "batch 2"], webtorch.State[Float32[Tensor, "batch 2"]]]:
            return s + x, s + x

    A call gets one chunk of each of many streams, and their states, which are not on the wire. An
    output `Bool[Tensor, "batch"]` named `done` ends streams. Functions of `open` and `close` begin
    and end a stream.

    Args:
        function: The function, whose annotations are its schema.

    """
    return StreamFunction(function)
