"""The function of webtorch_control: what operators order by HTTP."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from webtorch._core.errors import HTTPError
from webtorch._handlers.decorators import handler
from webtorch._handlers.request import Request
from webtorch._models.model_versions import VersionError
from webtorch._worker.control import peers
from webtorch._worker.control.arguments import Body
from webtorch._worker.control.balancers import (
    eject_server,
    get_balancer,
    list_balancers,
    return_server,
)
from webtorch._worker.control.draining import drain, get_drain, undrain
from webtorch._worker.control.guards import export_guard, get_guard, list_guards, mark, reset_guard
from webtorch._worker.control.model_actions import (
    checkpoint,
    freeze,
    get_model,
    list_models,
    load,
    promote,
    promote_rollout,
    rollback,
    rollback_rollout,
    unfreeze,
    unload,
)
from webtorch._worker.control.repository import index, repository_load, repository_unload
from webtorch._zone.checkpoint import DamagedError, NotFiniteError
from webtorch._zone.orders import DamagedOrdersError

log = logging.getLogger("webtorch")

VARIABLES = ["remote_addr", "remote_user", "server_name"]

Route = tuple[re.Match[str], str, Callable[..., Any], Mapping[str, type]]
"""What is found in a path: match, method, action, and types of the members of the body."""


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
        raise HTTPError(404, str(error), code="unknown_server") from error
    except VersionError as error:
        raise HTTPError(404, str(error), code="unknown_version") from error
    except (DamagedError, NotFiniteError, DamagedOrdersError) as error:
        raise HTTPError(409, str(error)) from error
    except MemoryError as error:
        raise HTTPError(503, str(error) or "no memory", code="no_room") from error
    except OSError as error:
        # the operator is the one to act: the text has the path, and why
        raise HTTPError(503, str(error), code="storage_failed") from error
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
                "control: %s%s%s, by %s%s%s",
                _NAMES.get(action, action.__name__),
                f" of {json.dumps('/'.join(names))}" if names else "",
                f" {json.dumps(body)}" if body else "",
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

_NAMES = {
    eject_server: "eject",
    return_server: "return",
    reset_guard: "reset",
    promote_rollout: "rollout/promote",
    rollback_rollout: "rollout/rollback",
    repository_load: "load",
    repository_unload: "unload",
}
"""Names of actions in the log that differ from those of their functions: as in the address."""

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
