"""Which other hosts cannot be reached, so that all hosts can leave one of them out.

Of a cut between two hosts that both see the coordinator, no other host knows, and no group of both
can be made. So a host probes the others after an error, and says whom it cannot reach.
"""

import errno
import logging
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Sequence

from webtorch._cluster.interfaces import STORE_PORT, Member, Settings

log = logging.getLogger("webtorch")

PAUSE = 1.0
"""Seconds between two probes of a host that cannot be reached."""

_MIN_TIMEOUT = 1.0

_THERE = frozenset({0, errno.ECONNREFUSED})
"""A host answers, also if nothing listens on the port just now."""


class Probes:
    """Probes other hosts in a thread, from an error until all can be reached again.

    Args:
        settings: The cluster's.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._wanted: dict[str, Member] = {}
        self._unreachable: frozenset[str] = frozenset()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def unreachable(self) -> list[str]:
        """Ids of hosts that did not answer, sorted."""
        return sorted(self._unreachable)

    def begin(self, members: Iterable[Member]) -> None:
        """Probe hosts; it does not wait."""
        with self._lock:
            self._wanted |= {each.id: each for each in members if each.id != self._settings.id}
            if self._thread is None and self._wanted and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
                self._thread.start()

    def keep(self, ids: Iterable[str]) -> None:
        """Forget hosts that are not among those that live."""
        with self._lock:
            known = frozenset(ids)
            self._wanted = {id: each for id, each in self._wanted.items() if id in known}
            self._unreachable &= known

    def close(self) -> None:
        """End the thread. It may be called more than once."""
        self._closed.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout_of(self._settings) + PAUSE)

    def _run(self) -> None:
        try:
            self._probe()
        except OSError as error:
            # for example no file descriptors: nothing is known, until the next error of a round
            log.error("other hosts cannot be probed: %s", error)
            with self._lock:
                self._wanted = {}
                self._unreachable = frozenset()
                self._thread = None

    def _probe(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                members = [*self._wanted.values()]
                if not members:
                    self._thread = None
                    return
            found = find_unreachable(members, self._settings)
            with self._lock:
                # those that are left are probed again, and others that were added meanwhile
                self._unreachable = found & self._wanted.keys()
                reached = {each.id for each in members} - found
                self._wanted = {id: each for id, each in self._wanted.items() if id not in reached}
                is_over = not self._wanted
            if not is_over:
                self._closed.wait(PAUSE)


def timeout_of(settings: Settings) -> float:
    """Return the seconds for which a probe waits for an answer."""
    return max(_MIN_TIMEOUT, settings.timeout / 2)


def find_unreachable(members: Sequence[Member], settings: Settings) -> frozenset[str]:
    """Return the ids of hosts that do not answer to a connection from this host, in either way."""
    deadline = time.monotonic() + timeout_of(settings)
    missing = {each.id for each in members}
    with selectors.DefaultSelector() as selector:
        sockets = []
        try:
            for member in members:
                found = _begin(member, settings.address)
                if isinstance(found, socket.socket):
                    sockets.append(found)
                    selector.register(found, selectors.EVENT_WRITE, member.id)
                elif found in _THERE:
                    missing.discard(member.id)
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    selector.unregister(connection)
                    if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _THERE:
                        missing.discard(key.data)
        finally:
            for each in sockets:
                each.close()
    return frozenset(missing)


def _begin(member: Member, source: str) -> socket.socket | int:
    """Begin to connect to a host; return the error if that is known at once, 0 if it is done."""
    family = socket.AF_INET6 if ":" in member.address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.bind((source, 0))
        error = connection.connect_ex((member.address, member.port + STORE_PORT))
    except OSError as failure:
        error = failure.errno or errno.EIO
    if error == errno.EINPROGRESS:
        return connection
    connection.close()
    return error
