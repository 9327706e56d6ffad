"""Defaults of dataclasses that msgspec makes.

msgspec leaves a default to the attribute of the class, so `vars()` of the instance does not have
it, and neither has JSON of it.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

_CONTAINERS = (list, tuple, set, frozenset)


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of a class.

    Attributes:
        names: All names, in their order.
        defaults: Values of those with a default that msgspec leaves out.
        nested: Names of those that may have dataclasses in them.

    """

    names: Sequence[str]
    defaults: dict[str, Any]
    nested: Collection[str]


def completion(info: Any) -> Callable[[Any], Any] | None:
    """Return a function that sets the defaults in a value that msgspec has made, and returns it.

    Args:
        info: What `msgspec.inspect` says of the type.

    Returns:
        The function; None if there is no such default.

    """
    classes = {each.cls: each for each in _classes(info, set())}
    incomplete = {kind for kind in classes if _defaults(kind)}
    if not incomplete:
        return None
    found = {kind: _fields(kind, each, incomplete) for kind, each in classes.items()}

    def complete(value: Any) -> Any:
        kind = type(value)
        if fields := found.get(kind):
            if fields.defaults:
                _set_defaults(vars(value), fields)
            for name in fields.nested:
                complete(getattr(value, name))
        elif kind in _CONTAINERS or isinstance(value, tuple):
            for each in value:
                complete(each)
        elif kind is dict:
            for each in value.values():
                complete(each)
        return value

    return complete


def _classes(info: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the descriptions of classes with fields that a type has in it."""
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.DataclassType | msgspec.inspect.StructType):
        yield info
    for part in _parts(info):
        yield from _classes(part, seen)


def _parts(info: Any) -> list[Any]:
    """Return the descriptions of the types that a type is made of."""
    parts = [getattr(info, name) for name in _ONE if hasattr(info, name)]
    for name in _SEVERAL:
        parts += getattr(info, name, ())
    return parts + [each.type for each in getattr(info, "fields", ())]


_ONE = ("type", "item_type", "key_type", "value_type")
_SEVERAL = ("types", "item_types")


def _defaults(kind: type) -> dict[str, Any]:
    """Return the defaults that instances do not have."""
    if not dataclasses.is_dataclass(kind) or not kind.__dictoffset__:
        return {}
    fields = dataclasses.fields(kind)
    return {each.name: each.default for each in fields if each.default is not dataclasses.MISSING}


def _fields(kind: type, info: Any, incomplete: set[type]) -> _Fields:
    nested = [
        each.name
        for each in info.fields
        if any(inner.cls in incomplete for inner in _classes(each.type, set()))
    ]
    return _Fields([each.name for each in info.fields], _defaults(kind), nested)


def _set_defaults(own: dict[str, Any], fields: _Fields) -> None:
    """Add defaults to the attributes of an instance, in the order of the fields."""
    if fields.defaults.keys() <= own.keys():
        return
    complete = fields.defaults | own
    ordered = {name: complete[name] for name in fields.names if name in complete}
    own.clear()
    own.update(ordered | complete)
