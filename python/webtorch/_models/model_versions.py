"""Versions of models: which of them the calls of a request use."""

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from webtorch._core.errors import HTTPError

DEFAULT = "1"
"""The version of a model that is made without one; it has no suffix in the zone and on disk."""

_VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}")

selected: ContextVar[int] = ContextVar("webtorch_version_set", default=0)
"""The number in `table` of the versions that the current call uses; 0: those that the code has."""

table: dict[int, Mapping[str, Any]] = {}
"""Models by their names, for each number that requests of this worker may have chosen."""


class VersionError(ValueError):
    """A model has no such version."""


def key_of(name: str, version: str) -> str:
    """Return the name of a version of a model in the zone and on disk, `xor@2`."""
    return name if version == DEFAULT else f"{name}@{version}"


def split(key: str) -> tuple[str, str]:
    """Return the name and the version of what `key_of` has returned."""
    name, _, version = key.partition("@")
    return name, version or DEFAULT


def check(version: str) -> None:
    """Refuse what cannot be a version.

    Raises:
        ValueError: It has other characters than letters, digits, ".", "_" and "-", or is empty or
            longer than 64.

    """
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ValueError(
            f'version {version!r} is not a string of 1 to 64 letters, digits, ".", "_" and "-"'
        )


def using(number: int, call: Callable[..., Any], *args: Any) -> Any:
    """Call a function with versions that a request has chosen, which tasks that it makes have, too.

    Args:
        number: A number in `table`.
        call: The function.
        args: Its arguments.

    """
    token = selected.set(number)
    try:
        return call(*args)
    finally:
        selected.reset(token)


def chosen(model: Any) -> Any:
    """Return the version of a model that the current call uses.

    Raises:
        HTTPError: It was unloaded long before the call began.

    """
    number = selected.get()
    if not number:
        return model
    models = table.get(number)
    if models is None:
        raise HTTPError(404, "this version is not loaded any more", code="unknown_version")
    return models.get(model.name, model)
