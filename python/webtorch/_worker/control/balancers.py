"""What operators ask and order of balancers."""

from typing import Any

from webtorch._core.errors import HTTPError
from webtorch._worker.control import peers
from webtorch._worker.control.arguments import Body


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
