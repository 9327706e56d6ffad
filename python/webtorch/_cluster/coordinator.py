"""The membership service of a cluster, at the host that the coordinator's name leads to."""

import contextlib
import importlib.util
import ipaddress
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from webtorch._cluster.interfaces import Settings

HEARTBEAT_TIMEOUT: Final = 1.0
"""Seconds without a heartbeat after which the service does not wait for a host any more."""

_START_TIMEOUT = 10.0
_POLL = 0.5


def join_timeout(settings: Settings) -> float:
    """Return for how many seconds the service waits for hosts that live but have not asked.

    Longer than a round that fails: hosts that come out of one later than others would else find
    a view without them, and groups of some of the hosts would take turns.
    """
    return 2 * settings.timeout + settings.interval


def library() -> Path:
    """Return torchft's extension module.

    It is loaded by its path, as the package torchft imports its transports, NCCL's and
    OpenTelemetry's exporters, of which nothing is used here.

    Raises:
        ImportError: It is not installed.

    """
    spec = importlib.util.find_spec("torchft")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("_torchft.*.so")):
            return path
    raise ImportError("webtorch_cluster needs the package torchft: pip install webtorch[cluster]")


def resolve(name: str, port: int) -> list[str]:
    """Return the addresses of a name, without doubles, in the system's order.

    Raises:
        OSError: It has none.

    """
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        # for example of an empty label
        raise OSError(f"{name!r} is not a name of a host: {error}") from error
    return list(dict.fromkeys(normal_address(str(entry[4][0])) for entry in found))


def normal_address(text: str) -> str:
    """Return an address in one way of writing, so that it can be compared; empty if it is."""
    return str(ipaddress.ip_address(text)) if text else ""


def reachable(addresses: Sequence[str], own: str) -> list[str]:
    """Return the addresses of a name, the lowest first: all hosts use the first that answers.

    Loopback addresses are replaced by that of this host, unless that is one, too:
    Debian's /etc/hosts has such an address for the name of the machine itself.
    """
    if not is_loopback(own):
        addresses = [own if is_loopback(each) else each for each in addresses]
    found = {ipaddress.ip_address(each): each for each in addresses}
    return [found[each] for each in sorted(found, key=lambda each: (each.version, each))]


def is_loopback(address: str) -> bool:
    """Return whether an address is one of the machine itself."""
    return ipaddress.ip_address(address).is_loopback


def join_address(address: str, port: int) -> str:
    """Return `address:port`, with brackets around IPv6."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Coordinator:
    """Runs the membership service while the coordinator's name leads to this host.

    Between `start` and `stop` a thread looks the name up each half second; a service that has
    exited is started again. It has no state, so it may end at any time.

    Args:
        settings: The cluster's.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self.is_wanted = False
        """Whether the name leads to this host."""
        self.addresses: Sequence[str] = ()
        """Those of the name, when it was resolved last."""
        self.problem: str | None = None
        """Why the service is not running though it should be, or why that is not known."""

    @property
    def is_running(self) -> bool:
        """Whether the service runs here and answers."""
        process = self._process
        return self._is_ready and process is not None and process.poll() is None

    def start(self) -> None:
        """Start the thread that resolves the name; does not wait."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._watch, name="coordinator", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the service, if it runs, and the thread. It may be called more than once."""
        self._stopping.set()
        if self._thread is not None:
            # one that resolves a name may take long, and begins nothing any more
            self._thread.join(1)
            self._thread = None
        self._end()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look()
            except (OSError, ImportError) as error:
                self.problem = str(error)
            self._stopping.wait(_POLL)

    def _look(self) -> None:
        settings = self._settings
        # a name that cannot be resolved just now says nothing: the service stays where it is
        self.addresses = reachable(resolve(*settings.coordinator), settings.address)
        self.is_wanted = settings.address in self.addresses
        if self._stopping.is_set():
            return
        if not self.is_wanted:
            self._end()
            self.problem = None
        elif not self.is_running:
            self._end()
            self.problem = self._begin()

    def _begin(self) -> str | None:
        """Start the process; return what is wrong."""
        settings = self._settings
        command = (
            _interpreter(),
            "-I",
            str(Path(__file__).with_name("service.py")),
            str(library()),
            join_address(settings.address, settings.coordinator[1]),
            str(round(join_timeout(settings) * 1000)),
            str(round(HEARTBEAT_TIMEOUT * 1000)),
        )
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # two threads for each client would do nothing on most machines
            env={**os.environ, "TOKIO_WORKER_THREADS": "2"},
        )
        self._process = process
        line = _first_line(process, self._stopping)
        if line == "ready":
            self._is_ready = True
            return None
        self._end()
        return line or f"{command[0]} exited with the status {process.returncode}"

    def _end(self) -> None:
        process, self._process = self._process, None
        self._is_ready = False
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_line(process: "subprocess.Popen[bytes]", stopping: threading.Event) -> str:
    """Return the first line of a process; an empty one if none came."""
    assert process.stdout is not None
    for _ in range(round(_START_TIMEOUT / _POLL)):
        ready, _, _ = select.select([process.stdout], [], [], _POLL)
        if ready:
            return process.stdout.readline().decode(errors="replace").strip()
        if stopping.is_set():
            break
    return ""


def _interpreter() -> str:
    """Return a command of Python; `sys.executable` is nginx's in some workers."""
    name = Path(sys.executable or "").name
    if name.startswith("python"):
        return sys.executable
    beside = Path(sys.prefix, "bin", "python3")
    return str(beside) if beside.exists() else "python3"
