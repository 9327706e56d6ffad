"""What operators ask and order of models."""

from dataclasses import replace
from typing import Any

from webtorch._cluster.rollout import Order, Rollout
from webtorch._cluster.store import State
from webtorch._core.errors import HTTPError
from webtorch._models.model import Model, models
from webtorch._models.model_versions import DEFAULT
from webtorch._worker.control import orders
from webtorch._worker.control.arguments import (
    Body,
    find_model,
    shared_state,
    unknown_model,
    version_of,
)
from webtorch._worker.control.files import (
    describe_file,
    get_checkpoints,
    has_own,
    list_files,
    read_chosen,
    save_if_finite,
)
from webtorch._worker.control.orders import load_version, order, unload_version
from webtorch._zone.checkpoint import refuse_not_finite
from webtorch._zone.interfaces import all_steps
from webtorch._zone.shared_state import SharedState


def list_models(body: Body) -> Any:
    """Return all models."""
    return [_describe(model) for model in _sorted([*models.values()])]


def get_model(name: str, body: Body) -> Any:
    """Return the versions of a model, and their checkpoints."""
    found = models.versions(name)
    if not found:
        raise unknown_model(name)
    return [
        {**_describe(model), "checkpoints": [*map(describe_file, list_files(model))]}
        for model in _sorted([*found.values()])
    ]


def checkpoint(name: str, body: Body) -> Any:
    """Write a checkpoint now."""
    shared = shared_state(find_model(name, body))
    get_checkpoints().save(shared, always=not has_own(shared))
    return get_model(name, {})


def rollback(name: str, body: Body) -> Any:
    """Give a version the weights of one of its files."""
    model = find_model(name, body)
    shared = shared_state(model)
    checkpoints = get_checkpoints()
    loaded = read_chosen(model, body, shared)
    shared.replace(loaded.tensors, loaded.steps, None)
    checkpoints.save(shared, always=True)
    return get_model(name, {})


def promote(name: str, body: Body) -> Any:
    """Give a version the weights of another one."""
    if "version" not in body:
        raise HTTPError(422, '"version" is missing', code="invalid_argument")
    source = shared_state(find_model(name, body))
    target = shared_state(find_model(name, {"version": body.get("to", DEFAULT)}))
    if source is target:
        raise HTTPError(422, '"version" and "to" are the same', code="invalid_argument")
    tensors, steps = source.copy()
    refuse_not_finite(source, tensors)
    # so that it can be rolled back
    save_if_finite(target, always=not has_own(target))
    target.replace(tensors, steps, None)
    get_checkpoints().save(target, always=True)
    return get_model(name, {})


def freeze(name: str, body: Body) -> Any:
    """Stop the training of a version."""
    return _set_frozen(name, body, True)


def unfreeze(name: str, body: Body) -> Any:
    """Let a version be trained again."""
    return _set_frozen(name, body, False)


def promote_rollout(name: str, body: Body) -> Any:
    """Let all hosts of a cluster take the weights that are rolled out."""
    return _order_rollout(name, body, "promote")


def rollback_rollout(name: str, body: Body) -> Any:
    """Let the hosts that have weights which are rolled out take those of the others."""
    return _order_rollout(name, body, "rollback")


def load(name: str, body: Body) -> Any:
    """Load a version; one that is loaded and named takes the latest of its files again."""
    load_version(name, version_of(body), again="version" in body)
    return get_model(name, {})


def unload(name: str, body: Body) -> Any:
    """Unload a version."""
    unload_version(find_model(name, body))
    return get_model(name, {})


def _set_frozen(name: str, body: Body, frozen: bool) -> Any:
    shared = shared_state(find_model(name, body))
    if orders.follower:
        key = {shared.name}
        order(
            lambda ordered: replace(
                ordered, frozen=ordered.frozen | key if frozen else ordered.frozen - key
            )
        )
    else:
        shared.set_frozen(frozen)
    return get_model(name, {})


def _order_rollout(name: str, body: Body, order: Order) -> Any:
    shared = shared_state(find_model(name, body))
    # the latest blocks, which this worker may not use yet
    with shared.pinned() as blocks:
        store = shared.rounds_store(blocks)
        if store is None or store.state.rollout is None or not store.state.rollout.is_open:
            raise HTTPError(409, f'no weights of model "{shared.name}" are rolled out')
        store.order_rollout(order)
    return get_model(name, {})


def _describe(model: Model) -> dict[str, Any]:
    state = model.state
    found: dict[str, Any] = {"name": model.name, "version": model.version}
    if isinstance(state, SharedState):
        # this worker may not use the latest blocks yet
        with state.pinned() as blocks:
            counters = blocks.counters
            found |= {"steps": all_steps(counters), "saved": counters.saved}
            found["frozen"] = bool(counters.frozen)
            store = state.rounds_store(blocks)
            if store is not None and store.state.rollout is not None:
                found["rollout"] = _describe_rollout(store.state, store.state.rollout)
    else:
        found["steps"] = state.steps
    return found | {"trained": model.optimizer is not None, "of_code": model.is_of_code}


def _describe_rollout(state: State, rollout: Rollout) -> dict[str, Any]:
    return {
        "state": rollout.stage,
        "from": rollout.origin.partition("/")[0],
        "here": state.anchor.of == rollout.of,
        "host": rollout.host,
        "reason": rollout.reason,
    }


def _sorted(found: list[Model]) -> list[Model]:
    return sorted(found, key=lambda model: (model.name, model.version != DEFAULT, model.version))
