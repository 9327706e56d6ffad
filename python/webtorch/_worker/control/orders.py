"""Orders that all workers follow, and the versions of models that they load and unload."""

from collections.abc import Callable
from dataclasses import replace

from webtorch._core.errors import HTTPError
from webtorch._models import model_versions
from webtorch._models.model import Model, models
from webtorch._models.model_versions import VersionError
from webtorch._worker.control.arguments import shared_state, unknown_model
from webtorch._worker.control.files import get_checkpoints, save_if_finite
from webtorch._worker.control.follower import Follower
from webtorch._worker.models.served_versions import versions
from webtorch._zone.orders import Ordered
from webtorch._zone.shared_state import SharedState

follower: Follower | None = None
"""The orders of this worker; None if there is no webtorch_checkpoint."""


def load_version(name: str, version: str, again: bool) -> None:
    """Let all workers load a version; one that is loaded takes its latest file if `again`."""
    key = model_versions.key_of(name, version)
    if not models.versions(name):
        raise unknown_model(name)
    get_checkpoints()
    if model := models.get(key):
        if again:
            _load_again(shared_state(model))
        return
    # an error is raised before other workers try it
    versions.add(name, version)
    added = {key}
    try:
        order(
            lambda ordered: replace(
                ordered, loaded=ordered.loaded | added, unloaded=ordered.unloaded - added
            )
        )
    except BaseException:
        # other workers do not have it
        versions.follow((), added)
        raise


def _load_again(shared: SharedState) -> None:
    """Replace the weights by those of the latest file; a checkpoint is written before."""
    checkpoints = get_checkpoints()
    loaded = checkpoints.load(shared)
    if loaded is None:
        raise VersionError(f'model "{shared.name}": {checkpoints.describe_missing(shared.name)}')
    is_later = save_if_finite(shared)
    shared.replace(loaded.tensors, loaded.steps, loaded.seen)
    if is_later:
        # a restart would load what was replaced
        checkpoints.save(shared, always=True)


def unload_version(model: Model) -> None:
    """Let all workers unload a version.

    Raises:
        HTTPError: It is needed.

    """
    if reason := reason_to_stay(model):
        raise HTTPError(409, f'version "{model.version}" of "{model.name}" {reason}')
    save_if_finite(shared_state(model))
    removed = {model.key}
    order(
        lambda ordered: replace(
            ordered, loaded=ordered.loaded - removed, unloaded=ordered.unloaded | removed
        )
    )


def reason_to_stay(model: Model) -> str | None:
    """Return why a version cannot be unloaded; None: it can."""
    if model.is_of_code:
        return "is made by the code"
    if versions.is_named(model.key):
        return 'is in a "model=" or "shadow=" of the configuration'
    return None


def order(change: Callable[[Ordered], Ordered]) -> None:
    """Write an order, and wait until all workers that serve have followed it."""
    if follower is None:
        raise HTTPError(409, "this needs webtorch_checkpoint")
    follower.order(change)
