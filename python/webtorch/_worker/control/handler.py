"""The function of webtorch_control: what operators order by HTTP."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from webtorch._cluster.rollout import Order, Rollout
from webtorch._cluster.store import State
from webtorch._core.errors import HTTPError
from webtorch._handlers.functions import TensorFunction, handler
from webtorch._handlers.request import Request
from webtorch._models import model_state, model_versions
from webtorch._models.model import Model, models
from webtorch._models.model_versions import DEFAULT, VersionError
from webtorch._streams.streams import StreamFunction
from webtorch._worker.control import peers
from webtorch._worker.control.draining import drain, get_drain, undrain
from webtorch._worker.control.follower import Follower
from webtorch._worker.control.guards import export_guard, get_guard, list_guards, mark, reset_guard
from webtorch._worker.loading import loader
from webtorch._worker.models.served_versions import models_of, versions
from webtorch._zone.checkpoint import (
    Checkpoints,
    DamagedError,
    Found,
    Loaded,
    NotFiniteError,
    read,
    read_metadata,
    refuse_not_finite,
)
from webtorch._zone.interfaces import all_steps
from webtorch._zone.orders import DamagedOrdersError, Ordered
from webtorch._zone.shared_state import SharedState

log = logging.getLogger("webtorch")

VARIABLES = ["remote_addr", "remote_user", "server_name"]

Body = Mapping[str, Any]

Route = tuple[re.Match[str], str, Callable[..., Any], Mapping[str, type]]
"""What is found in a path: match, method, action, and types of the members of the body."""

follower: Follower | None = None
"""The orders of this worker; None if there is no webtorch_checkpoint."""


@handler(methods=["GET", "HEAD", "POST"], variables=VARIABLES, threads=1)
def control(request: Request) -> Any:
    """Do what a request orders."""
    _refuse_other_origins(request)
    asked = "GET" if request.method == "HEAD" else request.method
    routes = _routes(request.path)
    for match, method, action, keys in routes:
        if asked == method:
            found = [unquote(each) for each in match.groups()]
            return _run(request, action, found, _body(request, keys) if method == "POST" else {})
    if routes:
        methods = ", ".join(method for _, method, _, _ in routes)
        raise HTTPError(405, f"the method is {methods}", headers={"Allow": methods})
    raise HTTPError(404, "there is nothing at this address, see the table of webtorch_control")


def _routes(path: str) -> list[Route]:
    """Return the routes of a path, one for each method.

    The address of the location is not known. Of several ends of a path that are routes the longest
    one is meant: `/balancers/models` is the upstream `models`, and not all models.
    """
    found = [
        (match, method, action, keys)
        for pattern, method, action, keys in _ROUTES
        if (match := pattern.search(path))
    ]
    begin = min((match.start() for match, *_ in found), default=0)
    return [each for each in found if each[0].start() == begin]


def _run(request: Request, action: Callable[..., Any], names: list[str], body: Body) -> Any:
    try:
        result = _logged(request, action, names, body)
    except peers.UnknownPeerError as error:
        raise HTTPError(
            404,
            str(error),
            code="unknown_server",
        ) from error
    except VersionError as error:
        raise HTTPError(404, str(error), code="unknown_version") from error
    except (DamagedError, NotFiniteError, DamagedOrdersError) as error:
        raise HTTPError(409, str(error)) from error
    except MemoryError as error:
        raise HTTPError(503, str(error) or "no memory", code="no_room") from error
    return result


def _logged(request: Request, action: Callable[..., Any], names: list[str], body: Body) -> Any:
    """Call an action; log it if it changes something, also one that fails half done."""
    outcome = ""
    try:
        return action(*names, body)
    except BaseException as error:
        outcome = f" failed: {error!r}"
        raise
    finally:
        if action in _CHANGES:
            user = request.variables.get("remote_user")
            # in JSON a name from a client cannot begin a line of its own
            log.warning(
                "control: %s of %s %s, by %s%s%s",
                action.__name__,
                json.dumps("/".join(names)),
                dict(body),
                request.variables.get("remote_addr"),
                f", user {json.dumps(user)}" if user else "",
                outcome,
            )


def _refuse_other_origins(request: Request) -> None:
    """Refuse pages of other sites, which a browser would send with the operator's credentials."""
    origin = request.headers.get("Origin")
    if not origin:
        return
    host = request.headers.get("Host")
    if _host(origin) != host or not (request.variables["remote_user"] or _is_own(request, host)):
        raise HTTPError(403, "pages of other sites may not use this", code="wrong_origin")


def _is_own(request: Request, host: str | None) -> bool:
    """Return whether a name is not one that a site has let resolve to this server's address."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name == request.variables["server_name"]:
        return True
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # for example "http://["
        return None


def _body(request: Request, keys: Mapping[str, type]) -> Body:
    body = request.json() if len(request.body) else {}
    if not isinstance(body, dict):
        raise HTTPError(422, "the body must be an object", code="invalid_argument")
    for key, value in body.items():
        if key not in keys:
            known = ", ".join(f'"{each}"' for each in keys) or "none"
            raise HTTPError(
                422, f'"{key}" is unknown, members are: {known}', code="invalid_argument"
            )
        if type(value) is not keys[key]:
            kind = {str: "a string", int: "an integer", bool: "true or false", list: "a list"}
            raise HTTPError(
                422, f'"{key}" must be {kind.get(keys[key], "an object")}', code="invalid_argument"
            )
    return body


# --- models ---


def list_models(body: Body) -> Any:
    """Return all models."""
    return [_describe(model) for model in _sorted([*models.values()])]


def get_model(name: str, body: Body) -> Any:
    """Return the versions of a model, and their checkpoints."""
    found = models.versions(name)
    if not found:
        raise _unknown_model(name)
    return [
        {**_describe(model), "checkpoints": [*map(_describe_file, _files(model))]}
        for model in _sorted([*found.values()])
    ]


def checkpoint(name: str, body: Body) -> Any:
    """Write a checkpoint now."""
    shared = _shared(_model(name, body))
    _checkpoints().save(shared, always=not _has_own(shared))
    return get_model(name, {})


def rollback(name: str, body: Body) -> Any:
    """Give a version the weights of one of its files."""
    model = _model(name, body)
    shared = _shared(model)
    checkpoints = _checkpoints()
    loaded = _read(_chosen_file(model, body), shared)
    shared.replace(loaded.tensors, loaded.steps, None)
    checkpoints.save(shared, always=True)
    return get_model(name, {})


def promote(name: str, body: Body) -> Any:
    """Give a version the weights of another one."""
    if "version" not in body:
        raise HTTPError(422, '"version" is missing', code="invalid_argument")
    source = _shared(_model(name, body))
    target = _shared(_model(name, {"version": body.get("to", DEFAULT)}))
    if source is target:
        raise HTTPError(422, '"version" and "to" are the same', code="invalid_argument")
    tensors, steps = source.copy()
    refuse_not_finite(source, tensors)
    # so that it can be rolled back
    _save_if_finite(target, always=not _has_own(target))
    target.replace(tensors, steps, None)
    _checkpoints().save(target, always=True)
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
    _load(name, _version(body), again="version" in body)
    return get_model(name, {})


def unload(name: str, body: Body) -> Any:
    """Unload a version."""
    _unload(_model(name, body))
    return get_model(name, {})


# --- the repository extension ---


def index(body: Body) -> Any:
    """Return the versions of functions and their states."""
    found = []
    for name, function in _functions().items():
        # requests of streams name no version
        used = set() if isinstance(function, StreamFunction) else models_of(function)
        loaded = {model.version for each in used for model in models.versions(each).values()}
        stored = {
            version
            for model, version in map(model_versions.split, _checkpoints_names())
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
        _load(model, version, again)
    return {}


def repository_unload(name: str, body: Body) -> Any:
    """Unload a version of the models of a function, or all that can be unloaded."""
    for model, version in _of_function(name, body, stored=False):
        _unload(models.versions(model)[version])
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
        version = _version(parameters)
        keys = _checkpoints_names() if stored else [*models]
        found = [
            (model, version) for model in used if model_versions.key_of(model, version) in keys
        ]
        if not found:
            raise VersionError(f'no model of function "{name}" has a version "{version}"')
        return sorted(found)
    pairs = map(model_versions.split, _checkpoints_names() if stored else [*models])
    found = [
        (model, version)
        for model, version in pairs
        if model in used and (stored or not _reason_to_stay(models.versions(model)[version]))
    ]
    return sorted(found)


# --- balancers ---


def list_balancers(body: Body) -> Any:
    """Return all upstreams with a balancer."""
    return peers.describe()


def get_balancer(name: str, body: Body) -> Any:
    """Return the servers of an upstream."""
    return peers.describe_upstream(name)


def eject_server(name: str, body: Body) -> Any:
    """Eject a server until it is returned."""
    return _order_server(name, body, True)


def return_server(name: str, body: Body) -> Any:
    """Return a server that an operator or failures have ejected."""
    return _order_server(name, body, False)


def _order_server(name: str, body: Body, out: bool) -> Any:
    if "server" not in body:
        raise HTTPError(422, '"server" is missing', code="invalid_argument")
    peers.order(name, body["server"], out=out)
    return peers.describe_upstream(name)


# --- what they share ---


def _load(name: str, version: str, again: bool) -> None:
    key = model_versions.key_of(name, version)
    if not models.versions(name):
        raise _unknown_model(name)
    _checkpoints()
    if model := models.get(key):
        if again:
            _load_again(_shared(model))
        return
    # an error is raised before other workers try it
    versions.add(name, version)
    added = {key}
    try:
        _order(
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
    checkpoints = _checkpoints()
    loaded = checkpoints.load(shared)
    if loaded is None:
        raise VersionError(f'model "{shared.name}": {checkpoints.describe_missing(shared.name)}')
    is_later = _save_if_finite(shared)
    shared.replace(loaded.tensors, loaded.steps, loaded.seen)
    if is_later:
        # a restart would load what was replaced
        checkpoints.save(shared, always=True)


def _unload(model: Model) -> None:
    if reason := _reason_to_stay(model):
        raise HTTPError(409, f'version "{model.version}" of "{model.name}" {reason}')
    _save_if_finite(_shared(model))
    removed = {model.key}
    _order(
        lambda ordered: replace(
            ordered, loaded=ordered.loaded - removed, unloaded=ordered.unloaded | removed
        )
    )


def _reason_to_stay(model: Model) -> str | None:
    if model.is_of_code:
        return "is made by the code"
    if versions.is_named(model.key):
        return 'is in a "model=" or "shadow=" of the configuration'
    return None


def _set_frozen(name: str, body: Body, frozen: bool) -> Any:
    shared = _shared(_model(name, body))
    if follower:
        key = {shared.name}
        _order(
            lambda ordered: replace(
                ordered, frozen=ordered.frozen | key if frozen else ordered.frozen - key
            )
        )
    else:
        shared.set_frozen(frozen)
    return get_model(name, {})


def _order_rollout(name: str, body: Body, order: Order) -> Any:
    shared = _shared(_model(name, body))
    # the latest blocks, which this worker may not use yet
    with shared.pinned() as blocks:
        store = shared.rounds_store(blocks)
        if store is None or store.state.rollout is None or not store.state.rollout.is_open:
            raise HTTPError(409, f'no weights of model "{shared.name}" are rolled out')
        store.order_rollout(order)
    return get_model(name, {})


def _order(change: Callable[[Ordered], Ordered]) -> None:
    """Write an order, and wait until all workers that serve have followed it."""
    if follower is None:
        raise HTTPError(409, "this needs webtorch_checkpoint")
    follower.order(change)


def _version(body: Body) -> str:
    version = body.get("version", DEFAULT)
    try:
        model_versions.check(version)
    except ValueError as error:
        raise HTTPError(422, str(error), code="invalid_argument") from error
    return str(version)


def _model(name: str, body: Body) -> Model:
    found = models.versions(name)
    if not found:
        raise _unknown_model(name)
    version = _version(body)
    if version not in found:
        raise VersionError(f'version "{version}" of model "{name}" is not loaded')
    return found[version]


def _unknown_model(name: str) -> HTTPError:
    return HTTPError(
        404,
        f'there is no model "{name}"',
        code="unknown_model",
    )


def _shared(model: Model) -> SharedState:
    if not isinstance(model.state, SharedState):
        raise HTTPError(409, f'each worker has its own "{model.name}": this needs webtorch_zone')
    return model.state


def _checkpoints() -> Checkpoints:
    if not isinstance(model_state.source, Checkpoints):
        raise HTTPError(409, "this needs webtorch_checkpoint")
    return model_state.source


def _checkpoints_names() -> list[str]:
    return model_state.source.names() if isinstance(model_state.source, Checkpoints) else []


def _files(model: Model) -> list[Found]:
    source = model_state.source
    return source.files(model.key) if isinstance(source, Checkpoints) else []


def _save_if_finite(shared: SharedState, always: bool = False) -> bool:
    """Write a checkpoint as `Checkpoints.save`, of weights that are worth it; log others."""
    try:
        return _checkpoints().save(shared, always)
    except NotFiniteError as error:
        log.warning("there is no checkpoint of what is replaced or unloaded: %s", error)
        return False


def _has_own(shared: SharedState) -> bool:
    """Return whether checkpoints were written."""
    return any(file.sequence for file in _checkpoints().files(shared.name))


def _chosen_file(model: Model, body: Body) -> Found:
    """Return the file that a roll back names, by default the one before the latest.

    Raises:
        HTTPError: There is none, or two members name it.

    """
    if "file" in body and "step" in body:
        raise HTTPError(422, '"file" and "step" exclude each other', code="invalid_argument")
    files = _files(model)
    if "file" in body:
        found = [file for file in files if file.path.name == body["file"]]
    elif "step" in body:
        found = [file for file in files if _step(file) == body["step"]]
    else:
        found = files[1:]
    if not found:
        raise _unknown_file(model.key)
    return found[0]


def _read(file: Found, shared: SharedState) -> Loaded:
    try:
        return read(file.path, shared)
    except FileNotFoundError:  # later checkpoints have taken its place
        raise _unknown_file(shared.name) from None


def _unknown_file(key: str) -> HTTPError:
    return HTTPError(404, f'model "{key}" has no such checkpoint', code="unknown_file")


def _step(file: Found) -> int | None:
    try:
        # another program may have written a number
        step = str(read_metadata(file.path)[0].get("step", ""))
    except (OSError, DamagedError):
        return None
    return int(step) if step.isdecimal() else None


def _describe_file(file: Found) -> dict[str, Any]:
    return {"file": file.path.name, "step": _step(file), "time": file.time}


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


_CHANGES = {
    checkpoint,
    rollback,
    promote,
    promote_rollout,
    rollback_rollout,
    freeze,
    unfreeze,
    load,
    unload,
    repository_load,
    repository_unload,
    eject_server,
    return_server,
    drain,
    undrain,
    mark,
    reset_guard,
}

_VERSION = {"version": str}
_PARAMETERS = {"parameters": dict}
_SERVER = {"server": str}

_ROUTES: list[tuple[re.Pattern[str], str, Callable[..., Any], Mapping[str, type]]] = [
    (re.compile(path + "/?$"), method, action, keys)
    for path, method, action, keys in (
        (r"/v2/repository/index", "POST", index, {"ready": bool}),
        (r"/v2/repository/models/([^/]+)/load", "POST", repository_load, _PARAMETERS),
        (r"/v2/repository/models/([^/]+)/unload", "POST", repository_unload, _PARAMETERS),
        (r"/drain", "POST", drain, {}),
        (r"/drain", "GET", get_drain, {}),
        (r"/undrain", "POST", undrain, {}),
        (r"/models", "GET", list_models, {}),
        (r"/models/([^/]+)/checkpoint", "POST", checkpoint, _VERSION),
        (r"/models/([^/]+)/rollback", "POST", rollback, {**_VERSION, "step": int, "file": str}),
        (r"/models/([^/]+)/promote", "POST", promote, {**_VERSION, "to": str}),
        (r"/models/([^/]+)/rollout/promote", "POST", promote_rollout, _VERSION),
        (r"/models/([^/]+)/rollout/rollback", "POST", rollback_rollout, _VERSION),
        (r"/models/([^/]+)/freeze", "POST", freeze, _VERSION),
        (r"/models/([^/]+)/unfreeze", "POST", unfreeze, _VERSION),
        (r"/models/([^/]+)/load", "POST", load, _VERSION),
        (r"/models/([^/]+)/unload", "POST", unload, _VERSION),
        (r"/models/([^/]+)", "GET", get_model, {}),
        (r"/guards", "GET", list_guards, {}),
        (r"/guards/([^/]+)/export", "GET", export_guard, {}),
        (r"/guards/([^/]+)/mark", "POST", mark, {"ids": list, "verdict": str}),
        (r"/guards/([^/]+)/reset", "POST", reset_guard, {"what": str}),
        (r"/guards/([^/]+)", "GET", get_guard, {}),
        (r"/balancers", "GET", list_balancers, {}),
        (r"/balancers/([^/]+)/eject", "POST", eject_server, _SERVER),
        (r"/balancers/([^/]+)/return", "POST", return_server, _SERVER),
        (r"/balancers/([^/]+)", "GET", get_balancer, {}),
    )
]
