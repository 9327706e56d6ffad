"""The repository extension of the inference protocol."""

from typing import Any

from webtorch._core.errors import HTTPError
from webtorch._handlers.functions import TensorFunction
from webtorch._models import model_versions
from webtorch._models.model import models
from webtorch._models.model_versions import DEFAULT, VersionError
from webtorch._streams.streams import StreamFunction
from webtorch._worker.control.arguments import Body, version_of
from webtorch._worker.control.files import stored_names
from webtorch._worker.control.orders import load_version, reason_to_stay, unload_version
from webtorch._worker.loading import loader
from webtorch._worker.models.served_versions import models_of


def index(body: Body) -> Any:
    """Return the versions of functions and their states."""
    found = []
    for name, function in _functions().items():
        # requests of streams name no version
        used = set() if isinstance(function, StreamFunction) else models_of(function)
        loaded = {model.version for each in used for model in models.versions(each).values()}
        stored = {
            version
            for model, version in map(model_versions.split, stored_names())
            if model in used and version not in loaded
        }
        ready = [(version, "READY", "") for version in sorted({DEFAULT, *loaded})]
        others = [(version, "UNAVAILABLE", "unloaded") for version in sorted(stored)]
        for version, state, reason in ready if body.get("ready") else ready + others:
            found.append({"name": name, "version": version, "state": state, "reason": reason})
    return found


def repository_load(name: str, body: Body) -> Any:
    """Load a version of the models of a function, or all versions that have files."""
    again = "version" in body.get("parameters", {})
    for model, version in _of_function(name, body, stored=True):
        load_version(model, version, again)
    return {}


def repository_unload(name: str, body: Body) -> Any:
    """Unload a version of the models of a function, or all that can be unloaded."""
    for model, version in _of_function(name, body, stored=False):
        unload_version(models.versions(model)[version])
    return {}


def _of_function(name: str, body: Body, stored: bool) -> list[tuple[str, str]]:
    """Return the models of a function and their versions that a request is about."""
    function = _functions().get(name) or _functions(full=True).get(name)
    if function is None:
        raise HTTPError(404, f'there is no function "{name}"', code="not_found")
    used = models_of(function)
    parameters = body.get("parameters", {})
    version = parameters.get("version")
    if unknown := parameters.keys() - {"version", "unload_dependents"}:
        raise HTTPError(
            422, f"unknown parameters {sorted(unknown)}: there is version", code="invalid_argument"
        )
    if version is not None:
        version = version_of(parameters)
        keys = stored_names() if stored else [*models]
        found = [
            (model, version) for model in used if model_versions.key_of(model, version) in keys
        ]
        if not found:
            raise VersionError(f'no model of function "{name}" has a version "{version}"')
        return sorted(found)
    pairs = map(model_versions.split, stored_names() if stored else [*models])
    found = [
        (model, version)
        for model, version in pairs
        if model in used and (stored or not reason_to_stay(models.versions(model)[version]))
    ]
    return sorted(found)


def _functions(full: bool = False) -> dict[str, TensorFunction]:
    """Return the functions of the inference protocol by their names, or by their full names."""
    found = {each.name: each.function for each in loader.tensor_functions(shadows=False)}
    if full:
        return found
    short = [name.partition(":")[2] for name in found]
    return {
        name if short.count(own) > 1 else own: function
        for (name, function), own in zip(found.items(), short, strict=True)
    }
