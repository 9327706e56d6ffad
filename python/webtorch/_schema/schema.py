"""Schemas: the tensors of a function, read from its annotations."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import torch
from jaxtyping import AbstractArray
from torch import Tensor

from webtorch._schema import callables, missing, strings
from webtorch._schema.missing import NO_GAPS, Gaps, Masked

BATCH = "batch"
"""The name of the first axis of functions that take rows of many requests at once."""

DTYPES = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "uint64": torch.uint64,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
"""The dtypes that requests and answers can carry, by jaxtyping's names, in the order of their
numbers in ngx_webtorch_api_numbers.h."""

STRING_TYPES = (str, bytes)
"""The types of strings; their numbers in ngx_webtorch_api_numbers.h follow those of DTYPES."""

MAX_TENSORS = 32
"""Inputs of a function, and outputs."""

MAX_DIMS = 8
"""Axes of a tensor without the batch axis."""

MAX_AXES = 8
"""Variable axes of a function."""

MAX_NAME = 63
"""Bytes of the name of a tensor or an axis."""


class Axes(str):
    """The axes of strings in an annotation, for example `batch 2`."""


class StateMark:
    """Marks the annotation of a stream's state."""


if TYPE_CHECKING:
    from typing import Annotated as Strings
else:

    class Strings:
        """Annotates nested lists of strings, as jaxtyping's classes annotate tensors.

            @webtorch.infer
            def lengths(texts: Strings[list[str], "batch"]) -> Int64[Tensor, "batch"]:
                return torch.tensor([len(text) for text in texts])

        The first argument is the type that the function takes or returns: lists of `str` or of
        `bytes`, nested as deep as there are axes. The second argument is the axes.
        """

        def __class_getitem__(cls, arguments):
            """Return an annotation of a type and axes."""
            kind, axes = arguments
            return Annotated[kind, Axes(axes)]


class SignatureError(TypeError):
    """A function cannot be served with its annotations."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a signature, or strings in lists.

    Attributes:
        name: Name of the tensor.
        dtype: dtype of its elements; `str` or `bytes` for strings.
        shape: Sizes and names of variable axes, without the batch axis.
        gaps: What may be missing in an input.

    """

    name: str
    dtype: torch.dtype | type[str] | type[bytes]
    shape: tuple[int | str, ...]
    gaps: Gaps = NO_GAPS

    @property
    def has_strings(self) -> bool:
        """Whether the elements are strings."""
        return self.dtype in STRING_TYPES

    @property
    def has_mask(self) -> bool:
        """Whether the function gets a mask of missing elements."""
        return self.gaps.missing and not (
            isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point
        )

    def sizes(self) -> list[int]:
        """Return the shape of a tensor without variable axes."""
        return [int(size) for size in self.shape]

    def describe(self, batched: bool) -> str:
        """Return dtype and shape as text, for example `float32 [batch, 2]`."""
        axes = [BATCH] * batched + [str(size) for size in self.shape]
        dtype = getattr(self.dtype, "__name__", str(self.dtype)).removeprefix("torch.")
        return f"{dtype} [{', '.join(axes)}]"


@dataclass(frozen=True)
class Schema:
    """The tensors that a function takes and returns.

    Attributes:
        inputs: The inputs by position.
        outputs: The outputs by position.
        batched: Whether a call takes the rows of many requests.
        axes: Names of the variable axes, those of inputs first.
        bound: Number of the axes of inputs in `axes`.

    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    axes: tuple[str, ...] = ()
    bound: int = 0

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Schema":
        """Read a function's annotations.

        Raises:
            SignatureError: They do not describe tensors that can be served.

        """
        try:
            hints = callables.hints(function)
        except Exception as error:
            raise SignatureError(f"its annotations cannot be read: {error}") from error

        parameters = callables.signature(function).parameters
        annotations = _input_annotations(parameters, hints)
        if "return" not in hints:
            raise SignatureError("it has no return annotation")

        inputs = [
            _input(name, annotation, parameters[name].default)
            for name, annotation in annotations.items()
        ]
        outputs = [_spec(*output) for output in _output_annotations(hints["return"])]

        if not inputs:
            raise SignatureError("it takes no tensors; use @webtorch.handler for such a function")
        if len(inputs) > MAX_TENSORS or len(outputs) > MAX_TENSORS:
            raise SignatureError(
                f"it has more than {MAX_TENSORS} inputs or outputs: make numbers of one dtype one "
                'tensor, as in Float32[Tensor, "batch 100"]'
            )
        if len({batched for _, batched in inputs + outputs}) > 1:
            raise SignatureError(
                f'either all of its tensors have "{BATCH}" as their first axis, or none has'
            )

        bound = _variable_axes(spec for spec, _ in inputs)
        axes = _variable_axes(spec for spec, _ in inputs + outputs)
        if len(axes) > MAX_AXES:
            raise SignatureError(f"it has more than {MAX_AXES} variable axes")
        _check_gaps([spec for spec, _ in inputs], [spec for spec, _ in outputs])

        return cls(
            inputs=tuple(spec for spec, _ in inputs),
            outputs=tuple(spec for spec, _ in outputs),
            batched=inputs[0][1],
            axes=axes,
            bound=len(bound),
        )

    @functools.cached_property
    def masks(self) -> tuple[tuple[int, int], ...]:
        """The inputs with a mask: their index, and that of the mask in `buffers`."""
        masked = [index for index, spec in enumerate(self.inputs) if spec.has_mask]
        return tuple((index, len(self.inputs) + mask) for mask, index in enumerate(masked))

    @functools.cached_property
    def buffers(self) -> tuple[TensorSpec, ...]:
        """The inputs as C has them, followed by their masks."""
        masks = (self.inputs[index] for index, _ in self.masks)
        return self.inputs + tuple(replace(spec, dtype=torch.bool, gaps=NO_GAPS) for spec in masks)

    @functools.cached_property
    def optional(self) -> tuple[int, ...]:
        """The indexes of inputs for which the function may get None."""
        return tuple(index for index, spec in enumerate(self.inputs) if spec.gaps.gives_none)

    @functools.cached_property
    def _places(self) -> tuple[tuple[str, int, int], ...]:
        """The first place of each variable axis in the inputs: name, input, dimension.

        An axis of optional inputs has its places in all of them.
        """
        places = []
        for axis in self.axes[: self.bound]:
            found = [
                (axis, index, self.batched + spec.shape.index(axis))
                for index, spec in enumerate(self.inputs)
                if axis in spec.shape
            ]
            always = [place for place in found if place[1] not in self.optional]
            places += always[:1] or found
        return tuple(places)

    def sizes_of(self, inputs: Sequence[Any]) -> dict[str, int]:
        """Return the sizes of the inputs' variable axes by name."""
        if not self.optional and not self.masks:
            return {axis: strings.shape(inputs[index])[dim] for axis, index, dim in self._places}
        values = [value.values if isinstance(value, Masked) else value for value in inputs]
        return {
            axis: strings.shape(values[index])[dim]
            for axis, index, dim in self._places
            if values[index] is not None
        }

    def place_of(self, axis: str) -> tuple[int, int]:
        """Return the first output that has a variable axis, and the axis' place in its shape."""
        return next(
            (index, self.batched + spec.shape.index(axis))
            for index, spec in enumerate(self.outputs)
            if axis in spec.shape
        )


def _check_gaps(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Refuse axes whose size is not known if an input is absent."""
    always = _variable_axes(
        spec for spec in inputs if not spec.gaps.optional and spec.gaps.default is None
    )
    for spec in inputs:
        for axis in _variable_axes([spec]):
            if spec.gaps.default is not None and axis not in always:
                raise SignatureError(
                    f'"{spec.name}" has a default, but if it is absent, no other tensor has its '
                    f'axis "{axis}"'
                )
    for axis in _variable_axes(outputs):
        if axis in _variable_axes(inputs) and axis not in always:
            raise SignatureError(
                f'the axis "{axis}" of its outputs is only in inputs that may be absent'
            )


def fits(found: Sequence[int], expected: Sequence[int | str], sizes: dict[str, int]) -> bool:
    """Compare a shape with sizes and names of axes; names without a size yet are added to sizes."""
    if found == expected:
        return True
    return len(found) == len(expected) and all(
        size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
        for size, axis in zip(found, expected, strict=True)
    )


def _variable_axes(specs: Iterable[TensorSpec]) -> tuple[str, ...]:
    """Return the names of variable axes in the order of their first places."""
    names = (axis for spec in specs for axis in spec.shape if isinstance(axis, str))
    return tuple(dict.fromkeys(names))


def _input_annotations(
    parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
) -> dict[str, Any]:
    for name, parameter in parameters.items():
        if name == "self" and name not in hints:
            raise SignatureError(callables.METHOD)
        is_rest = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if is_rest and name not in hints:
            raise SignatureError(
                f'nothing is known of its arguments "{parameter}": annotate each of them, and let '
                "a decorator use functools.wraps()"
            )
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.POSITIONAL_ONLY):
            hint = ""
            if parameter.kind is parameter.KEYWORD_ONLY:
                hint = (
                    ", as those are not that follow one which a partial function was given by name"
                )
            raise SignatureError(f'its parameter "{name}" is not a positional one{hint}')
        if name not in hints:
            raise SignatureError(f'its parameter "{name}" has no annotation')
    return {name: hints[name] for name in parameters}


def _output_annotations(annotation: Any) -> list[tuple[str, Any]]:
    """Return names and annotations of the outputs: a NamedTuple's fields, else by position."""
    if isinstance(annotation, type) and hasattr(annotation, "_fields"):
        return list(typing.get_type_hints(annotation, include_extras=True).items())
    if typing.get_origin(annotation) is tuple:
        items = typing.get_args(annotation)
        return [(f"output_{index}", item) for index, item in enumerate(items)]
    return [("output", annotation)]


def _input(name: str, annotation: Any, value: Any) -> tuple[TensorSpec, bool]:
    """Parse the annotation and the default of an input, which may have gaps."""
    annotation, gaps = missing.split(annotation)
    spec, batched = _spec(name, annotation)
    if value is None and not gaps.optional:
        raise SignatureError(
            f'the default of "{name}" is None, its annotation must allow that: add "| None"'
        )
    try:
        default = missing.default(value, spec.dtype, spec.shape)
    except missing.DefaultError as error:
        raise SignatureError(f'the default of "{name}" {error}') from error
    return replace(spec, gaps=replace(gaps, default=default)), batched


def _spec(name: str, annotation: Any) -> tuple[TensorSpec, bool]:
    """Parse an annotation; the second value is whether it has a batch axis."""
    example = 'as in Float32[Tensor, "batch 2"]'

    if len(name.encode()) > MAX_NAME:
        raise SignatureError(f'the name "{name}" is longer than {MAX_NAME} bytes')
    if typing.get_origin(annotation) is Annotated:
        return _string_spec(name, annotation)
    if not (isinstance(annotation, type) and issubclass(annotation, AbstractArray)):
        raise SignatureError(
            f'"{name}" is not annotated with a dtype and a shape{_instead(annotation)}'
        )
    if not issubclass(annotation.array_type, Tensor):
        raise SignatureError(f'"{name}" is not annotated as a torch.Tensor, {example}')
    # jaxtyping lists the names of all libraries: "bool" and "bool_" are one
    dtypes = {dtype.rstrip("_") for dtype in annotation.dtypes}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        raise SignatureError(f'the dtype of "{name}" must be one of {", ".join(DTYPES)}, {example}')

    batched, shape = _shape(name, annotation.dim_str)
    return TensorSpec(name, DTYPES[dtypes.pop()], shape), batched


def _instead(annotation: Any) -> str:
    """Return how to annotate what was probably meant."""
    kind = annotation
    while typing.get_origin(kind) is list and typing.get_args(kind):
        (kind,) = typing.get_args(kind)
    if kind in STRING_TYPES:
        return f': strings are annotated as webtorch.Strings[list[{kind.__name__}], "{BATCH}"]'
    kind = typing.get_origin(kind) or kind
    if kind is dict or typing.is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return ": several tensors are arguments of their own, or a NamedTuple that is returned"
    if kind in (bool, int, float):
        return (
            f': numbers are tensors, as in Float32[Tensor, "{BATCH}"], which may have a default; '
            "a function of requests is under @webtorch.handler"
        )
    return f', as in Float32[Tensor, "{BATCH} 2"]'


def _string_spec(name: str, annotation: Any) -> tuple[TensorSpec, bool]:
    """Parse an annotation of strings; the second value is whether it has a batch axis."""
    axes = next((extra for extra in annotation.__metadata__ if isinstance(extra, Axes)), None)
    if axes is None and any(isinstance(extra, StateMark) for extra in annotation.__metadata__):
        raise SignatureError(f'"{name}" is a state, which functions under @webtorch.stream have')
    if axes is None:
        raise SignatureError(
            f'"{name}" has no axes for its strings, as in Strings[list[str], "batch"]'
        )
    batched, shape = _shape(name, axes)
    kind = annotation.__origin__
    depth = 0
    while typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
        depth += 1
    if kind not in STRING_TYPES or depth != batched + len(shape):
        raise SignatureError(
            f'the strings of "{name}" are not in lists as deep as it has axes, as in '
            'Strings[list[list[str]], "batch 2"]'
        )
    return TensorSpec(name, kind, shape), batched


def _shape(name: str, text: str) -> tuple[bool, tuple[int | str, ...]]:
    """Parse axes; the first value is whether there is a batch axis."""
    axes = text.split()
    batched = axes[:1] == [BATCH]
    shape = tuple(_axis(name, axis) for axis in axes[batched:])
    if len(shape) > MAX_DIMS:
        raise SignatureError(f'"{name}" has more than {MAX_DIMS} axes')
    return batched, shape


def _axis(name: str, axis: str) -> int | str:
    """Parse an axis: `3` and `channels=3` are sizes, `seq` is a variable axis."""
    if axis == BATCH:
        raise SignatureError(f'the axis "{BATCH}" of "{name}" is not its first one')
    size = axis.rpartition("=")[2]
    if size.isdecimal() and int(size) > 0:
        return int(size)
    # jaxtyping's axes without a name or a place of their own: "_", "*rest", "...", "#one", "n+1"
    if not axis.isidentifier() or axis.startswith("_"):
        raise SignatureError(
            f'axis "{axis}" of "{name}" is neither a size, as 3 or channels=3, nor a name, as seq'
        )
    if len(axis.encode()) > MAX_NAME:
        raise SignatureError(f'the name of the axis "{axis}" is longer than {MAX_NAME} bytes')
    return axis
