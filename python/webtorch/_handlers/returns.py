"""What handlers return as models of pydantic: the annotation says which fields are answered."""

import typing
from collections.abc import Callable
from typing import Any

from webtorch._handlers import converters
from webtorch._handlers.response import Response, has_status


def restriction(annotation: Any) -> Callable[[Any], Any] | None:
    """Return a function that makes a returned value one of the annotated models.

    Fields that the models do not have are left out, those of a subclass among them. A value of
    another class is read by its attributes or keys. A `webtorch.Response` is left as it is, and a
    status and headers beside the value are.

    Args:
        annotation: What the function is annotated to return.

    Returns:
        The function, which raises pydantic.ValidationError if the value does not fit; None if there
        is not a model in the annotation.

    """
    items = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and len(items) > 1 and items[1] is int:
        annotation = items[0]
    if not converters.needs_pydantic(annotation):
        return None
    import pydantic

    try:
        adapter = pydantic.TypeAdapter(annotation)
    except pydantic.PydanticSchemaGenerationError:  # a union with webtorch.Response, for example
        return None

    def restrict(value: Any) -> Any:
        # the encoder of a model writes its own fields alone
        if type(value) is annotation or isinstance(value, Response):
            return value
        if type(value) is tuple and has_status(value):
            return (restrict(value[0]), *value[1:])
        found = adapter.validate_python(value, from_attributes=True)
        return adapter.dump_python(found, mode="json", by_alias=True, warnings=False)

    return restrict
