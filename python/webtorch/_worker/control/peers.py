"""Servers of balancers, which operators eject and return; it touches cffi."""

import logging
from typing import Any

from webtorch._native import ffi, lib

log = logging.getLogger("webtorch")

MAX_SERVERS = 256

STATES = {
    lib.WEBTORCH_PEER_UP: "up",
    lib.WEBTORCH_PEER_EJECTED: "ejected",
    lib.WEBTORCH_PEER_OUT: "ejected by an operator",
    lib.WEBTORCH_PEER_DOWN: "down",
}


class UnknownPeerError(Exception):
    """There is no upstream with a balancer, or no server, of that name."""


def describe() -> list[dict[str, Any]]:
    """Return the upstreams with a balancer, and their servers."""
    return [{"name": name, "servers": _servers(number)} for number, name in enumerate(_upstreams())]


def describe_upstream(name: str) -> dict[str, Any]:
    """Return an upstream and its servers.

    Raises:
        UnknownPeerError: There is none, or it has no balancer.

    """
    return {"name": name, "servers": _servers(_find(name))}


def order(name: str, server: str, *, out: bool) -> None:
    """Eject a server in all workers, or return it.

    Args:
        name: Name of the upstream.
        server: Address of the server, as nginx writes it in `$upstream_addr`.
        out: Whether it gets no requests any more.

    Raises:
        UnknownPeerError: There is no such upstream or server.

    """
    number = _find(name)
    address = server.encode()
    if lib.ngx_webtorch_balancer_order(number, address, len(address), out) != 0:
        known = [each["server"] for each in _servers(number)]
        raise UnknownPeerError(
            f'upstream "{name}" has no server "{server}", there are: {_join(known)}'
        )
    usable = [each for each in _servers(number) if each["state"] in ("up", "ejected")]
    if not usable:
        log.warning('all servers of upstream "%s" are out, its requests get 502', name)


def _find(name: str) -> int:
    known = _upstreams()
    if name not in known:
        raise UnknownPeerError(
            f'there is no upstream "{name}" with webtorch_balancer, there are: {_join(known)}'
        )
    return known.index(name)


def _upstreams() -> list[str]:
    count = lib.ngx_webtorch_balancer_names(ffi.NULL, 0)
    names = ffi.new("webtorch_str_t[]", max(count, 1))
    lib.ngx_webtorch_balancer_names(names, count)
    return [_text(bytes(ffi.buffer(each.data, each.len))) for each in names[0:count]]


def _servers(number: int) -> list[dict[str, Any]]:
    memory = ffi.new("webtorch_peer_t[]", MAX_SERVERS)
    count = lib.ngx_webtorch_balancer_peers(number, memory, MAX_SERVERS)
    return [
        {
            "server": _text(ffi.string(each.name)),
            "state": STATES[each.state],
            "backup": bool(each.backup),
            "in_flight": each.inflight,
            "error": round(each.error, 6),
            "picks": each.picks,
            "ejections": each.ejections,
        }
        for each in memory[0:count]
    ]


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _join(names: list[str]) -> str:
    return ", ".join(f'"{each}"' for each in names) or "none"
