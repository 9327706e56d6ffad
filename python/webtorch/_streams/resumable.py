"""Streams that survive their worker: C keeps the states, in the memory that workers share."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from webtorch._handlers.functions import Handler, HandlerKind, TensorFunction
from webtorch._handlers.request import Request
from webtorch._schema.schema import MAX_TENSORS, Schema, SignatureError, TensorSpec
from webtorch._streams.streams import Signature, StreamFunction, copied

ALIGN = 64
"""The offset of a state in C's memory is a multiple of it, in bytes."""


class ResumableFunction(TensorFunction):
    """A stream function whose tensor states are inputs and outputs of each call.

    C takes them from its memory and stores those of calls that returned, so that nothing of a
    stream is in this process.

    Args:
        function: The function.

    Raises:
        SignatureError: A state is not a tensor, or there are too many tensors.

    """

    kind = HandlerKind.STREAM
    methods = StreamFunction.methods  # type: ignore[assignment]

    def __init__(self, function: StreamFunction) -> None:
        super().__init__(function._function)
        self.function = function
        signature = function.signature
        objects = [spec.name for spec in signature.states if spec.dtype is object]
        if objects:
            raise SignatureError(
                f'the state "{objects[0]}" is a list of objects of Python: "resume=" keeps tensors '
                "alone, as other workers must be able to read them"
            )
        schema = self.schema
        if max(len(schema.inputs), len(schema.outputs)) > MAX_TENSORS:
            raise SignatureError(f"it has more than {MAX_TENSORS} tensors and states")

    @property
    def signature(self) -> Signature:
        """The annotations of the function."""
        return self.function.signature

    @functools.cached_property
    def schema(self) -> Schema:
        """The tensors on the wire, `done`, and the states."""
        signature = self.signature
        schema = signature.schema
        return dataclasses.replace(
            schema,
            inputs=(*schema.inputs[:-1], *signature.states),
            outputs=(*schema.outputs, *signature.states),
        )

    @property
    def has_open(self) -> bool:
        """Whether a function is called for a new stream."""
        return self.function.has_open

    @property
    def has_close(self) -> bool:
        """Whether a function is called at the end of a stream."""
        return self.function.has_close

    def serves_like(self, other: Handler) -> bool:
        """Return whether another handler can serve the same requests and streams."""
        return isinstance(other, ResumableFunction) and self.function.serves_like(other.function)

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return self.function._call(args, kwargs)

    def run(self, inputs: Sequence[Any], rows: int) -> Sequence[Any]:
        """Run the function on a chunk of several streams.

        Args:
            inputs: Tensors, lists of strings, `Masked` and None, in the order of the schema; the
                states are last.
            rows: Number of rows of all inputs.

        Returns:
            The outputs in the order of the schema; the new states are last.

        Raises:
            TypeError: The function returned a value that does not match its annotation.
            Exception: The function raised it.

        """
        signature = self.signature
        sizes = self.schema.sizes_of(inputs) if self.schema.axes else None
        # the call may change them, and may be repeated for some of the rows
        own = [copied(value) for value in inputs]
        first = len(own) - len(signature.states)
        result = self._call(
            [own[index] if index >= 0 else own[first - 1 - index] for index in signature.arguments],
            {},
        )
        places = (*signature.wire, *signature.returned)
        if len(places) > 1:
            if not isinstance(result, tuple | list) or len(result) != len(places):
                raise TypeError(
                    f"{len(places)} outputs and states are annotated, it returned {type(result)}"
                )
            result = tuple(_plain(result[index]) for index in places)
        return self._check(result, rows, sizes)

    def begin(self, memory: Tensor, request: Request) -> None:
        """Store the state of a new stream.

        Args:
            memory: All states, uint8 `[bytes]`.
            request: The request that begins it.

        Raises:
            HTTPError: The stream is refused.
            TypeError: `open` returned a value that does not match its annotation.
            Exception: `open` raised it.

        """
        rows = self.function.first_states(request)
        for view, row in zip(_views(memory, self.signature.states), rows, strict=True):
            view.copy_(row[0])

    def end(self, memory: Tensor, other: int = 0) -> None:
        """Call `close` with the state in memory, uint8 `[bytes]`.

        Raises:
            Exception: `close` raised it.

        """
        states = [view.clone() for view in _views(memory, self.signature.states)]
        self.function.call_close(states)


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _views(memory: Tensor, states: Sequence[TensorSpec]) -> list[Tensor]:
    """Return the states as tensors over memory, uint8 `[bytes]`."""
    views = []
    at = 0
    for spec in states:
        dtype: Any = spec.dtype
        size = torch.Size(spec.sizes()).numel() * dtype.itemsize
        views.append(memory[at : at + size].view(dtype).view(spec.sizes()))
        at += -(-size // ALIGN) * ALIGN
    return views
