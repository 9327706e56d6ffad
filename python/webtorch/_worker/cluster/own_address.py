"""The addresses of this host."""

import socket

from webtorch._cluster.coordinator import is_loopback


def is_local(name: str) -> bool:
    """Return whether a name is meant to be that of a loopback address."""
    try:
        return is_loopback(name)
    except ValueError:
        return name == "localhost"


def route(address: str, port: int) -> str:
    """Return the address of this host on the route to another one; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as found:
        found.connect((address, port))
        return str(found.getsockname()[0])
