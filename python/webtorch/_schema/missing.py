"""Gaps in tables: tensors that may be absent, elements that may be missing."""

import types
import typing
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import torch

if TYPE_CHECKING:
    from torch import Tensor

MAX_DEFAULT = 256
"""Bytes of a default."""

T = TypeVar("T")


class _Mark:
    """Marks annotations of tensors with missing elements."""

    def __repr__(self) -> str:
        return "missing"


MISSING = _Mark()

Missing = Annotated[T, MISSING]
"""Annotates a tensor whose elements may be missing: null in JSON and Arrow, an empty field in CSV.

    @webtorch.infer
    def fare(
        age: webtorch.Missing[Float32[Tensor, "batch"]],
        deck: webtorch.Missing[Int64[Tensor, "batch"]],
    ) -> Float32[Tensor, "batch"]: ...

Missing floats are NaN. Of integers, booleans and strings the function gets a `Masked`.
"""


class Masked(NamedTuple):
    """Values of which some are missing."""

    values: Any
    """A tensor, or nested lists of strings; missing ones are 0, False or empty."""
    mask: "Tensor"
    """True for missing values, bool, of the same shape."""


class DefaultError(ValueError):
    """A default is not a value of its tensor."""


@dataclass(frozen=True)
class Gaps:
    """What may be missing in an input.

    Attributes:
        optional: Whether the input may be absent, so that the function gets None.
        missing: Whether its elements may be missing.
        default: Bytes of the default, of an element or of a row, that rows have if it is absent.

    """

    optional: bool = False
    missing: bool = False
    default: bytes | None = None

    @property
    def gives_none(self) -> bool:
        """Whether the function gets None if the input is absent."""
        return self.optional and self.default is None


NO_GAPS = Gaps()


def split(annotation: Any) -> tuple[Any, Gaps]:
    """Split an annotation into that of a tensor and its gaps, without a default."""
    optional = missing = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        optional = len(kinds) == 1 and len(typing.get_args(annotation)) == 2
        if optional:
            annotation = kinds[0]
    if typing.get_origin(annotation) is Annotated and MISSING in annotation.__metadata__:
        missing = True
        extras = [extra for extra in annotation.__metadata__ if extra is not MISSING]
        annotation = annotation.__origin__
        for extra in extras:
            annotation = Annotated[annotation, extra]
    return annotation, Gaps(optional, missing)


def default(value: Any, dtype: Any, shape: tuple[int | str, ...]) -> bytes | None:
    """Return the bytes of a parameter's default; None if it has none, or None.

    Args:
        value: The default.
        dtype: dtype of the tensor; `str` or `bytes` for strings.
        shape: Shape of a row, with names of variable axes.

    Raises:
        DefaultError: It is not a value of the dtype, or has too many bytes.

    """
    if value is Parameter.empty or value is None:
        return None
    if isinstance(dtype, type):
        if not isinstance(value, dtype):
            raise DefaultError(f"is not {dtype.__name__}, but {type(value).__name__}")
        string: Any = value
        found: bytes = string.encode() if isinstance(string, str) else string
    else:
        found = _number(value, dtype, shape)
    if len(found) > MAX_DEFAULT:
        raise DefaultError(f"has more than {MAX_DEFAULT} bytes")
    return found


def _number(value: Any, dtype: torch.dtype, shape: tuple[int | str, ...]) -> bytes:
    try:
        tensor = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DefaultError(f"is not a number, but {type(value).__name__}") from error
    if tensor.dim() and tuple(tensor.shape) != shape:
        raise DefaultError(f"is neither a number nor of the shape of a row, {list(shape)}")
    if not torch.can_cast(tensor.dtype, dtype):
        raise DefaultError(f"is {tensor.dtype}, which is not converted to {dtype}")
    converted = tensor.to(dtype)
    if not dtype.is_floating_point and not torch.equal(converted.to(tensor.dtype), tensor):
        raise DefaultError(f"is out of range of {dtype}")
    return converted.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
