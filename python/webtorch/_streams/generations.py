"""Generations: functions that are called again and again for the outputs to one request."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from webtorch._handlers.functions import Handler, InferFunction
from webtorch._schema.schema import Schema, SignatureError, TensorSpec
from webtorch._streams.streams import Signature, StreamFunction, _hints, _state_of, check_first

T = TypeVar("T")

_ROW = TensorSpec("state row", torch.int64, ())
"""The input that C adds to those of `open`: the row that the states are written to."""

_INPUT = "input_of_no_step"
"""Name of an input that a function which generates does not have."""


class GenerateFunction(StreamFunction):
    """A function under `@webtorch.generate`: it runs without gradients.

    Calling it calls the function, with the states as arguments.

    Args:
        function: The function, whose annotations are its schema.

    """

    def open(self, function: Callable[..., T]) -> Callable[..., T]:
        """Make a function of a request's tensors the one that begins a generation.

            @write.open
            def begin(prompt: Int64[Tensor, "length"]) -> tuple[Tensor, Tensor]:
                return torch.zeros(512), prompt[-1]

        Its annotations are the schema of requests. It returns the states of the new generation
        without the batch axis, a tuple of several, and may refuse it with `webtorch.HTTPError`. If
        the first axis of its tensors is "batch", it is called once for several requests, and
        returns their states with that axis.
        """
        self.opener = OpenFunction(self, function)
        return function

    def close(self, function: Callable[..., T]) -> Callable[..., T]:
        """Refuse the function, as the end of a generation is that of its request.

        Raises:
            TypeError: Always.

        """
        raise TypeError("a generation has no function of its end")

    @functools.cached_property
    def signature(self) -> Signature:
        """The annotations of the function.

        Raises:
            SignatureError: They, or those of `open`, cannot be served.

        """
        if not hasattr(self, "opener"):
            raise SignatureError(
                f'it has no function under "@{self._function.__name__}.open", whose arguments are '
                "the tensors of a request"
            )
        hints = _hints(self._function)
        parameters = inspect.signature(self._function).parameters
        for name in parameters:
            if _state_of(hints.get(name)) is None:
                raise SignatureError(
                    f'"{name}" is not a webtorch.State: the tensors of a request are arguments of '
                    "its open function"
                )
        signature = Signature.of(_with_input(self._function, hints))
        schema = dataclasses.replace(signature.schema, inputs=signature.schema.inputs[1:])
        signature = dataclasses.replace(signature, schema=schema, arguments=signature.arguments[1:])
        self.opener.check(signature.states)
        return signature

    @property
    def wire_schema(self) -> Schema:
        """The tensors of a request, and of each step.

        Raises:
            SignatureError: The annotations, or those of `open`, cannot be served.

        """
        outputs = super().wire_schema.outputs
        schema = self.opener.schema
        return dataclasses.replace(schema, inputs=schema.inputs[:-1], outputs=outputs)

    def batched(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse the call, as its rows have no states.

        Raises:
            TypeError: Always.

        """
        raise TypeError(f'"{self.name}" generates, which only requests begin')

    def served_as(self, name: str) -> "GenerateFunction":
        """Return the function, or a copy with states of its own if it has another name, too."""
        found = super().served_as(name)
        assert isinstance(found, GenerateFunction)
        opener = getattr(found, "opener", None)
        if opener is not None and opener.generate is not found:
            found.opener = OpenFunction(found, opener._function)
        return found

    def store(self, places: Tensor, values: Any, is_batched: bool) -> None:
        """Store the states of new generations.

        Args:
            places: The row of each, `[batch]`.
            values: What `open` returned.
            is_batched: Whether that has a batch axis.

        Raises:
            TypeError: It does not match the annotations of states.

        """
        self.write_states(places, self.check_states(values, len(places), is_batched))

    def serves_like(self, other: Handler) -> bool:
        """Return whether another handler can serve the same requests and generations."""
        return (
            isinstance(other, GenerateFunction)
            and super().serves_like(other)
            and self.opener.schema == other.opener.schema
        )


class OpenFunction(InferFunction):
    """The function that begins a generation: its outputs are the states, which are not sent.

    Args:
        generate: The function that it is for.
        function: The function itself, whose annotations are the schema of requests.

    """

    def __init__(self, generate: GenerateFunction, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.generate = generate

    @functools.cached_property
    def schema(self) -> Schema:
        """The tensors of a request, and the row of states as an input that C adds.

        Raises:
            SignatureError: The annotations cannot be served.

        """
        try:
            schema = Schema.of(_with_result(self._function, Bool[Tensor, ""]))
        except SignatureError as error:
            try:
                schema = Schema.of(_with_result(self._function, Bool[Tensor, "batch"]))
            except SignatureError:
                raise SignatureError(f"its open function: {error}") from error
        return dataclasses.replace(schema, inputs=(*schema.inputs, _ROW))

    def check(self, states: Sequence[TensorSpec]) -> None:
        """Compare what it is annotated to return with the states.

        Raises:
            SignatureError: They do not match.

        """
        check_first(self._function, states, self.schema.batched)

    def run(self, inputs: Sequence[Any], rows: int) -> Sequence[Any]:
        """Begin generations.

        Args:
            inputs: Tensors, lists of strings, `Masked` and None, in the order of the schema.
            rows: Their number.

        Returns:
            A tensor that says that they have begun.

        Raises:
            HTTPError: The generation is refused.
            TypeError: The function returned a value that does not match the annotation of a state.
            Exception: The function raised it.

        """
        *wire, places = inputs
        is_batched = self.schema.batched
        self.generate.store(places.reshape(-1), self._call(wire, {}), is_batched)
        return (torch.ones((rows,) if is_batched else (), dtype=torch.bool),)


def _with_input(function: Callable[..., Any], hints: dict[str, Any]) -> Callable[..., Any]:
    """Return a stand-in for a function with one more argument, a tensor, in front."""

    def stand_in() -> None: ...

    signature = inspect.signature(function)
    others = signature.parameters.values()
    kind = next(iter(others)).kind if others else inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = inspect.Parameter(_INPUT, kind)
    stand_in.__annotations__ = {_INPUT: Float32[Tensor, "batch"]} | hints
    stand_in.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first, *others]
    )
    return stand_in


def _with_result(function: Callable[..., Any], result: Any) -> Callable[..., Any]:
    """Return a stand-in for a function with another result."""

    def stand_in() -> None: ...

    stand_in.__annotations__ = _hints(function) | {"return": result}
    stand_in.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return stand_in


def generate(function: Callable[..., Any]) -> GenerateFunction:
    """Make a function of states a handler that generates: it runs without gradients.

        class Step(NamedTuple):
            token: Int64[Tensor, "batch"]
            h: webtorch.State[Float32[Tensor, "batch 512"]]
            last: webtorch.State[Int64[Tensor, "batch"]]
            done: Bool[Tensor, "batch"]

        @webtorch.generate
        def write(
            h: webtorch.State[Float32[Tensor, "batch 512"]],
            last: webtorch.State[Int64[Tensor, "batch"]],
        ) -> Step: ...

        @write.open
        def begin(prompt: Int64[Tensor, "length"]) -> tuple[Tensor, Tensor]: ...

    Each call advances all generations that are open; new ones join between two calls. An output
    `Bool[Tensor, "batch"]` named `done` ends generations, and so does `max_steps=` of the
    directive.

    Args:
        function: The function, whose annotations are its schema.

    """
    return GenerateFunction(function)
