"""What the paths and bodies of requests name: models and their versions."""

from collections.abc import Mapping
from typing import Any

from webtorch._core.errors import HTTPError
from webtorch._models import model_versions
from webtorch._models.model import Model, models
from webtorch._models.model_versions import DEFAULT, VersionError
from webtorch._zone.shared_state import SharedState

Body = Mapping[str, Any]
"""The members of a request's body."""


def version_of(body: Body) -> str:
    """Return the version that a body names, by default the first.

    Raises:
        HTTPError: It is not one.

    """
    version = body.get("version", DEFAULT)
    try:
        model_versions.check(version)
    except ValueError as error:
        raise HTTPError(422, str(error), code="invalid_argument") from error
    return str(version)


def find_model(name: str, body: Body) -> Model:
    """Return the version of a model that a path and a body name.

    Raises:
        HTTPError: There is no model of this name.
        VersionError: The version is not loaded.

    """
    found = models.versions(name)
    if not found:
        raise unknown_model(name)
    version = version_of(body)
    if version not in found:
        raise VersionError(f'version "{version}" of model "{name}" is not loaded')
    return found[version]


def unknown_model(name: str) -> HTTPError:
    """Return the error of a name that no model has."""
    return HTTPError(404, f'there is no model "{name}"', code="unknown_model")


def shared_state(model: Model) -> SharedState:
    """Return the state that all workers share.

    Raises:
        HTTPError: Each worker has its own.

    """
    if not isinstance(model.state, SharedState):
        raise HTTPError(409, f'each worker has its own "{model.name}": this needs webtorch_zone')
    return model.state
