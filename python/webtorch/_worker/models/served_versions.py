"""Versions of models that requests of this worker may choose; it touches cffi."""

import contextlib
import functools
import itertools
import logging
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from webtorch._models import model_state, model_versions
from webtorch._models.model import Model, models
from webtorch._models.model_versions import DEFAULT, VersionError
from webtorch._native import lib
from webtorch._zone.checkpoint import Checkpoints
from webtorch._zone.shared_state import SharedState

log = logging.getLogger("webtorch")

GRACE = 300.0
"""Seconds for which calls that have chosen a version find it after it was unloaded."""

MAX_VISITED = 10_000
"""Objects that are searched for the models of a function."""

_PLAIN = str, bytes, int, float, complex, type(None), Tensor
"""Types of values that hold no models."""

_FOREIGN = {*sys.stdlib_module_names, "numpy", "torch", "webtorch"}


@dataclass(frozen=True)
class ServedFunction:
    """A function that requests name with a version, in the inference protocol."""

    name: str
    """`module:function`."""
    function: Any


class Versions:
    """Loads versions, and gives C their numbers."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while versions are loaded and unloaded, and while code is imported again."""
        self.functions: Callable[[], Iterable[ServedFunction]] = tuple
        """Returns the functions that requests name with a version."""
        self._numbers: dict[str, int] = {}
        self._next = itertools.count(1)
        self._named: set[str] = set()
        self._dropped: list[tuple[float, int]] = []

    def require(self, spec: str) -> None:
        """Load what a directive names: `name@version`, or `name@` for a model with any version.

        Raises:
            VersionError: There is no such model or version, or its files do not fit.
            ValueError: The module of the model cannot be copied.
            MemoryError: The zone has no room for it.

        """
        name, _, version = spec.rpartition("@")
        with self.lock:
            self._named.add(spec)
            known = models.versions(name)
            if not known:
                raise VersionError(
                    f'"model={spec}": the code makes no model "{name}", '
                    f"it makes {', '.join(_names()) or 'none'}"
                )
            if version and version not in known:
                self.add(name, version)

    def require_of(self, name: str, function: Any, version: str) -> None:
        """Load a version of all models that a function uses and that have it.

        Args:
            name: `module:function`, for the error.
            function: The function.
            version: Version that a directive names.

        Raises:
            VersionError: None has it.
            ValueError: The module of a model cannot be copied.
            MemoryError: The zone has no room for it.

        """
        with self.lock:
            used = sorted(models_of(function))
            failures = []
            for model in used:
                try:
                    self.add(model, version)
                except VersionError as error:
                    failures.append(str(error))
                else:
                    self._named.add(f"{model}@{version}")
            if len(failures) == len(used):
                reasons = "; ".join(failures) or "it uses no model"
                raise VersionError(f'no model of "{name}" has a version "{version}": {reasons}')

    def require_again(self) -> None:
        """Load all that directives name, for code that was imported again; see `require`."""
        for spec in [*self._named]:
            self.require(spec)

    def is_named(self, key: str) -> bool:
        """Return whether a directive names a version without variables."""
        return "@".join(model_versions.split(key)) in self._named

    def add(self, name: str, version: str) -> Model:
        """Load a version of a model that the code makes, from the zone or from its files.

        Raises:
            VersionError: There is none.
            ValueError: The module of the model cannot be copied.
            MemoryError: The zone has no room for it.

        """
        with self.lock:
            known = models.versions(name)
            if version in known:
                return known[version]
            template = known.get(DEFAULT) or next(iter(known.values()))
            return template.add_version(version)

    def load_stored(self, unloaded: Iterable[str] = ()) -> None:
        """Load the versions that have files, but some; log those that cannot be used."""
        if isinstance(model_state.source, Checkpoints):
            self._load(set(model_state.source.names()).difference(unloaded))

    def follow(self, loaded: Iterable[str], unloaded: Iterable[str]) -> None:
        """Load and unload versions, unless they are so already."""
        with self.lock:
            self._load(loaded)
            for key in unloaded:
                model = models.get(key)
                if model and not model.is_of_code and not self.is_named(key):
                    del models[key]
                    model.count_unloaded()
                    if isinstance(model.state, SharedState):
                        model.state.retire()
            self.publish()

    def _load(self, keys: Iterable[str]) -> None:
        with self.lock:
            for key in sorted(keys):
                name, version = model_versions.split(key)
                if not models.versions(name) or key in models:
                    continue
                try:
                    self.add(name, version)
                except Exception as error:
                    log.error('version "%s" of model "%s" is not loaded: %s', version, name, error)

    def publish(self) -> None:
        """Let requests choose the versions that are loaded now, and no others."""
        with self.lock:
            wanted = self._wanted(self.functions())
            for spec, chosen in wanted.items():
                number = self._numbers.get(spec) or next(self._next)
                model_versions.table[number] = chosen
                if spec not in self._numbers:
                    if lib.ngx_webtorch_version_set_update(spec.encode(), number) != 0:
                        del model_versions.table[number]
                        log.error("too many versions of models: %s cannot be chosen", spec[1:])
                        continue
                    self._numbers[spec] = number
            for spec in self._numbers.keys() - wanted.keys():
                lib.ngx_webtorch_version_set_update(spec.encode(), 0)
                self._dropped.append((time.monotonic() + GRACE, self._numbers.pop(spec)))
            self.forget()

    def _wanted(self, functions: Iterable[ServedFunction]) -> dict[str, Mapping[str, Model]]:
        """Return models by their names for each name that C finds."""
        grouped = {name: models.versions(name) for name in _names()}
        if not self._named and all(len(versions) < 2 for versions in grouped.values()):
            return {}
        wanted: dict[str, Mapping[str, Model]] = {}
        for name, versions in grouped.items():
            for version, model in versions.items():
                wanted[f"={name}@{version}"] = {name: model}
        for each in functions:
            for name in models_of(each.function):
                for version, model in grouped.get(name, {}).items():
                    if version != DEFAULT:
                        spec = f"/{each.name}@{version}"
                        wanted[spec] = {**wanted.get(spec, {}), name: model}
        return wanted

    def forget(self) -> None:
        """Release versions that were unloaded long ago."""
        if not self._dropped:
            return
        now = time.monotonic()
        with self.lock:
            for due, number in [*self._dropped]:
                if due < now:
                    self._dropped.remove((due, number))
                    model_versions.table.pop(number, None)


def _names() -> list[str]:
    return sorted({model.name for model in [*models.values()]})


def models_of(function: Any) -> set[str]:
    """Return the names of the models that a function uses, see `models_in`."""
    return {model.name for model in models_in(function)}


def models_in(function: Any) -> list[Model]:
    """Return the models that a function uses, as far as its code shows.

    Global names, closures and functions that it calls are searched, and what objects and modules
    of the application hold, not values that are computed.
    """
    found: list[Model] = []
    # kept: an object that a property has made would be freed, and its id used again
    seen: dict[int, Any] = {}
    # nearest first: what is far away is cut off
    pending = deque([function])
    while pending:
        value = pending.popleft()
        if id(value) in seen:
            continue
        if len(seen) == MAX_VISITED:
            log.warning("more than %d objects are in reach of %r", MAX_VISITED, function)
            break
        seen[id(value)] = value
        # code of objects may run, such as that of lazy ones
        with contextlib.suppress(Exception):
            if isinstance(value, Model):
                found.append(value)
            else:
                # not isinstance(), which asks lazy objects for their class
                held = _held_by(value)
                pending.extend(each for each in held if not issubclass(type(each), _PLAIN))
    return found


def _held_by(value: Any) -> Iterable[Any]:
    if isinstance(value, types.FunctionType):
        return _used_by(value)
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, functools.partial):
        return value.func, *value.args, *value.keywords.values()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [*value]
    if isinstance(value, dict):
        return [*value.values()]
    if isinstance(value, (types.ModuleType, type)):
        return ()
    return [*getattr(value, "__dict__", {}).values()]


def _used_by(function: types.FunctionType) -> Iterable[Any]:
    """Yield the objects that the code of a function names."""
    if str(function.__module__).partition(".")[0] in _FOREIGN:
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is not assigned yet
            continue
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes.extend(each for each in code.co_consts if isinstance(each, types.CodeType))
        for name in code.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, types.ModuleType):
                yield from _of_module(value, code.co_names)
            elif value is not None:
                yield value


def _of_module(module: types.ModuleType, names: Iterable[str]) -> Iterable[Any]:
    """Yield what a module has under some names."""
    if module.__name__.partition(".")[0] in _FOREIGN:
        return
    for name in names:
        # modules may make attributes when they are used
        with contextlib.suppress(Exception):
            yield getattr(module, name, None)


versions = Versions()
