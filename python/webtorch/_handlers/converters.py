"""Conversion of texts and JSON to the types of annotations, by msgspec and pydantic."""

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any

import msgspec
import msgspec.inspect
import numpy as np
from torch import Tensor

from webtorch._handlers.defaults import completion
from webtorch._handlers.request import invalid_json
from webtorch._handlers.response import Response
from webtorch._schema.schema import SignatureError

SCALAR = "scalar"
"""The kind of a type that one text is converted to."""

SEVERAL = "several"
"""The kind of a type that several texts are converted to."""

BODY = "body"
"""The kind of a type that JSON is converted to."""

MAX_TEXT = 300
"""Characters of a problem; the client's own text may be in it."""

MAX_DESCRIBED = 1000
"""Errors of a body that are described; pydantic describes all or none."""

_SCALARS = (
    msgspec.inspect.BoolType,
    msgspec.inspect.IntType,
    msgspec.inspect.FloatType,
    msgspec.inspect.StrType,
    msgspec.inspect.DateTimeType,
    msgspec.inspect.DateType,
    msgspec.inspect.TimeType,
    msgspec.inspect.TimeDeltaType,
    msgspec.inspect.UUIDType,
    msgspec.inspect.DecimalType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
    msgspec.inspect.NoneType,
)
_SEQUENCES = (
    msgspec.inspect.ListType,
    msgspec.inspect.SetType,
    msgspec.inspect.FrozenSetType,
    msgspec.inspect.VarTupleType,
)
_OBJECTS = (
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.NamedTupleType,
)

_WORDS = {"on": True, "yes": True, "off": False, "no": False}

# texts of msgspec may have the client's own text in them, whatever its length: these expressions
# take time that is linear in it
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_EXPECTED = re.compile(r"[Ee]xpected `(?P<expected>[^`]*)`, got `(?P<found>[^`]*)`")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an argument, or a field of the body.

    Attributes:
        name: Name of the argument, or path of the field.
        text: What is wrong with it.
        place: How errors call its source.

    """

    name: str
    text: str
    place: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """Converts to the type of an annotation.

    Attributes:
        kind: What the type is made of.
        from_text: Converts a text, a list of texts, or a dict of them.
        from_json: Converts JSON.
        takes_empty: Whether an empty text is a value.
        several: Names of the fields that take several texts.

    """

    kind: str
    from_text: Callable[[Any], Any]
    from_json: Callable[[Any], Any]
    takes_empty: bool = False
    several: frozenset[str] = frozenset()

    def explain(
        self, error: BaseException, place: str, name: str, prefix: str = ""
    ) -> Iterator[Problem]:
        """Return what an error of a conversion says.

        Args:
            error: The error that `from_text` or `from_json` raised.
            place: How errors call the source.
            name: Name of the argument; empty for the body.
            prefix: Goes before the path of a field.

        """
        if _is_of_pydantic(type(error)):
            found: Any = error
            if (count := found.error_count()) > MAX_DESCRIBED:
                yield _problem(name, f"it has {count} errors", place)
                return
            for each in found.errors(include_url=False, include_input=False, include_context=False):
                path = ".".join(map(str, each["loc"]))
                yield _problem(name or prefix + path, each["msg"], place)
            return
        text, path, is_key = _split_place(str(error))
        # the index of an element, and a member of a dict, whose name msgspec does not report
        path = re.sub(r"\[(\d+)\]", r".\1", path).replace("[...]", ".*")
        path = path.removeprefix("$").removeprefix(".")
        if is_key:
            text = f"a key of the object: {text[:1].lower()}{text[1:]}"
        if missing := _MISSING.fullmatch(text):
            path = f"{path}.{missing['name']}".removeprefix(".")
            text = "it is missing"
        elif expected := _EXPECTED.search(text):
            told = f"expected {expected['expected']}, found {expected['found']}"
            text = text[: expected.start()] + told
        yield _problem(name or (prefix + path).removesuffix("."), text, place)


def _split_place(message: str) -> tuple[str, str, bool]:
    """Split an error of msgspec, "TEXT - at `key` in `$.a`".

    Returns:
        The text, the path, and whether it is the place of a key.

    """
    text, at, path = message.rpartition(" - at `")
    if not at or not path.endswith("`"):
        return message, "$", False
    path = path.removesuffix("`")
    return text, path.removeprefix("key` in `"), path.startswith("key` in `")


def _problem(name: str, text: str, place: str) -> Problem:
    if not name:
        name, place = "body", "request"
    return Problem(name[:MAX_TEXT], text[:MAX_TEXT], place)


def of(annotation: Any, name: str) -> Conversion:
    """Return the conversion to an annotation.

    Args:
        annotation: The annotation of a parameter.
        name: Name of the parameter.

    Raises:
        SignatureError: Nothing can be converted to it.

    """
    if _is_tensor(annotation):
        raise SignatureError(
            f'its parameter "{name}" is a tensor, which handlers find in the request: use '
            "@webtorch.infer for a function of tensors"
        )
    if needs_pydantic(annotation):
        return _by_pydantic(annotation, name)
    try:
        info = _strip(msgspec.inspect.type_info(annotation))
        decoder = msgspec.json.Decoder(annotation)
    except (TypeError, NameError, RecursionError) as error:
        raise SignatureError(
            f'the annotation of its parameter "{name}" cannot be converted to: {error}'
        ) from None
    if unknown := _unknown(info):
        raise SignatureError(
            f'nothing can be converted to {_name(unknown)}, of its parameter "{name}": make it a '
            "dataclass, a TypedDict, a msgspec.Struct or a pydantic model"
        )
    kind = _kind(info)
    if kind is None:
        raise SignatureError(
            f'its parameter "{name}" cannot be {describe(annotation)}: take webtorch.Request, '
            "and its body or json()"
        )
    from_text, from_json = _from_text(annotation, info), decoder.decode
    if complete := completion(info):
        from_text, from_json = _then(from_text, complete), _then(from_json, complete)
    return Conversion(
        kind,
        from_text,
        from_json,
        takes_empty=_takes(info, msgspec.inspect.StrType),
        several=frozenset(_several_fields(info)),
    )


def _then(convert: Callable[[Any], Any], change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(found: Any) -> Any:
        return change(convert(found))

    return call


def describe(annotation: Any) -> str:
    """Return an annotation as text."""
    return inspect.formatannotation(annotation)


def members(body: memoryview) -> dict[str, msgspec.Raw] | Problem:
    """Return the members of a JSON object, not decoded yet.

    Raises:
        HTTPError: The body is not JSON.

    """
    try:
        return _members.decode(body)
    except msgspec.ValidationError:
        return Problem("body", "expected object", "request")
    except (ValueError, RecursionError) as error:
        raise invalid_json(error) from None


_members: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(
    dict[str, msgspec.Raw]
)


def malformed(error: BaseException) -> str | None:
    """Return why a text is not JSON at all; None: the error is that of a value in it."""
    if isinstance(error, RecursionError):
        return str(error)
    if _is_of_pydantic(type(error)):
        found: Any = error
        # a body may have many errors, each of which takes time to describe
        if found.error_count() != 1 or found.errors()[0]["type"] != "json_invalid":
            return None
        message: str = found.errors()[0]["msg"]
        return message.removeprefix("Invalid JSON: ")
    is_of_text = isinstance(error, UnicodeDecodeError | msgspec.DecodeError)
    return str(error) if is_of_text and not isinstance(error, msgspec.ValidationError) else None


# --- texts ---


def _from_text(annotation: Any, info: Any) -> Callable[[Any], Any]:
    if annotation is str:
        return _same
    has_bool = _takes(info, msgspec.inspect.BoolType)

    def convert(found: Any) -> Any:
        if has_bool and isinstance(found, str):
            found = _WORDS.get(found.lower(), found)
        return msgspec.convert(found, annotation, strict=False)

    return convert


def _same(text: str) -> str:
    return text


# --- pydantic ---


def needs_pydantic(annotation: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Return whether a type of pydantic is in an annotation, or a mark of it."""
    is_hashable = _is_hashable(annotation)
    if is_hashable and annotation in seen:
        return False
    if isinstance(annotation, type) and _is_pydantic(annotation):
        return True
    if typing.get_origin(annotation) is Annotated:
        marks = annotation.__metadata__
        if any(_is_of_pydantic(type(mark)) for mark in marks):
            return True
    if _is_of_pydantic(annotation) and not isinstance(annotation, types.GenericAlias):
        return True
    seen = seen | {annotation} if is_hashable else seen
    inner = [*typing.get_args(annotation)]
    if isinstance(annotation, type) and (
        hasattr(annotation, "__dataclass_fields__") or hasattr(annotation, "__total__")
    ):
        try:
            inner += typing.get_type_hints(annotation, include_extras=True).values()
        except Exception:
            return False
    return any(needs_pydantic(each, seen) for each in inner)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_pydantic(kind: type) -> bool:
    return any(map(_is_of_pydantic, kind.__mro__)) or hasattr(kind, "__pydantic_validator__")


def _is_of_pydantic(thing: Any) -> bool:
    """Return whether pydantic, or a package that it is made of, defines a class or a type."""
    package = str(getattr(thing, "__module__", "")).partition(".")[0]
    return package in ("pydantic", "pydantic_core", "annotated_types")


def _by_pydantic(annotation: Any, name: str) -> Conversion:
    try:
        import pydantic

        adapter: Any = pydantic.TypeAdapter(annotation)
    except ImportError as error:
        raise SignatureError(
            f'the annotation of its parameter "{name}" needs a package: {error} '
            "(pip install webtorch[pydantic])"
        ) from None
    except Exception as error:
        raise SignatureError(
            f'the annotation of its parameter "{name}" cannot be converted to: '
            f"{str(error).partition(chr(10))[0]}"
        ) from None
    validate_json = adapter.validator.validate_json

    def from_json(text: Any) -> Any:
        return validate_json(bytes(text))

    schema = _schema_of(adapter)
    kind = _kind_of_schema(schema)
    if kind == SEVERAL and any(
        hasattr(each, "__pydantic_validator__") for each in _flat(annotation)
    ):
        kind = BODY  # a RootModel of a list
    several = {
        field
        for field, inner in schema.get("properties", {}).items()
        if "array" in _types_of_schema(inner)
    }
    return Conversion(
        kind,
        adapter.validator.validate_python,
        from_json,
        takes_empty="string" in _types_of_schema(schema),
        several=frozenset(several),
    )


def _flat(annotation: Any) -> Iterator[Any]:
    """Yield the type, or those of a union."""
    if typing.get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        yield from typing.get_args(annotation)
    else:
        yield annotation


def _schema_of(adapter: Any) -> Mapping[str, Any]:
    try:
        schema: Mapping[str, Any] = adapter.json_schema()
    except Exception:  # a type that JSON Schema does not have
        return {"type": "object"}
    if reference := schema.get("$ref"):
        found: Mapping[str, Any] = schema["$defs"][reference.rpartition("/")[2]]
        return found
    return schema


def _types_of_schema(schema: Mapping[str, Any]) -> set[str]:
    if "anyOf" in schema:
        return set().union(*map(_types_of_schema, schema["anyOf"]))
    if "$ref" in schema:
        return {"object"}
    kind = schema.get("type", "string" if "enum" in schema or "const" in schema else "object")
    if kind == "array" and _types_of_schema(schema.get("items", {})) & {"object", "array"}:
        return {"object"}
    return {kind}


def _kind_of_schema(schema: Mapping[str, Any]) -> str:
    kinds = _types_of_schema(schema) - {"null"}
    if "object" in kinds:
        return BODY
    return SEVERAL if "array" in kinds else SCALAR


# --- msgspec's description of types ---


def _strip(info: Any) -> Any:
    return info.type if isinstance(info, msgspec.inspect.Metadata) else info


def _options(info: Any) -> list[Any]:
    """Return the types of a union but None, or the only one."""
    info = _strip(info)
    if not isinstance(info, msgspec.inspect.UnionType):
        return [info]
    options = [_strip(each) for each in info.types]
    return [each for each in options if not isinstance(each, msgspec.inspect.NoneType)]


def _kind(info: Any) -> str | None:
    """Return the kind of a type; None for those of which it is not clear what fills them."""
    options = _options(info)
    if all(isinstance(each, _SCALARS) for each in options):
        return SCALAR
    if any(
        isinstance(each, msgspec.inspect.AnyType | msgspec.inspect.BytesType) for each in options
    ):
        return None
    if all(
        isinstance(each, _SCALARS)
        or (isinstance(each, _SEQUENCES) and _kind(each.item_type) == SCALAR)
        for each in options
    ):
        return SEVERAL
    return BODY


def _takes(info: Any, kind: type) -> bool:
    return any(isinstance(each, kind) for each in _options(info))


def _several_fields(info: Any) -> Iterator[str]:
    for each in _options(info):
        if isinstance(each, _OBJECTS):
            for inner in each.fields:
                if _kind(inner.type) == SEVERAL:
                    yield getattr(inner, "encode_name", inner.name)


def _unknown(info: Any, seen: frozenset[int] = frozenset()) -> type | None:
    """Return a class in a type that msgspec does not know."""
    info = _strip(info)
    if isinstance(info, msgspec.inspect.CustomType):
        return info.cls
    if id(info) in seen:
        return None
    seen |= {id(info)}
    inner: list[Any] = []
    for attribute in ("item_type", "key_type", "value_type"):
        if hasattr(info, attribute):
            inner.append(getattr(info, attribute))
    for attribute in ("types", "item_types"):
        inner += getattr(info, attribute, ())
    if isinstance(info, _OBJECTS):
        inner += [each.type for each in info.fields]
    return next((found for each in inner if (found := _unknown(each, seen))), None)


# --- answers ---


def unanswerable(annotation: Any) -> str | None:
    """Return the name of a class in the annotation of a result that cannot be answered, if any."""
    origin = typing.get_origin(annotation)
    if origin is Annotated or _is_tensor(annotation) or needs_pydantic(annotation):
        return None
    if origin in (typing.Union, types.UnionType, tuple):
        return next(filter(None, map(unanswerable, typing.get_args(annotation))), None)
    try:
        unknown = _unknown(msgspec.inspect.type_info(annotation))
    except Exception:  # msgspec may still encode what it cannot decode
        return None
    if unknown is None or _is_answered(unknown):
        return None
    return _name(unknown)


def _is_answered(kind: Any) -> bool:
    known = (Response, Tensor, PurePath, np.generic, np.ndarray, Mapping, memoryview, str, int)
    return not isinstance(kind, type) or issubclass(kind, (*known, float)) or kind is object


def _is_tensor(annotation: Any) -> bool:
    jaxtyping = sys.modules.get("jaxtyping")
    arrays: Any = jaxtyping.AbstractArray if jaxtyping else ()
    return isinstance(annotation, type) and (
        issubclass(annotation, Tensor) or (bool(arrays) and issubclass(annotation, arrays))
    )


def _name(kind: Any) -> str:
    return getattr(kind, "__qualname__", str(kind))
