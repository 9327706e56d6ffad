"""The port at which a member answers guests and probes.

It is of the process that does rounds, as that has what guests want and keeps what they send. A
thread for each connection: nothing here is done in nginx's event loop.
"""

import contextlib
import hashlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from webtorch._cluster import flat, formats
from webtorch._cluster.digests import view_of
from webtorch._cluster.guests import Contribution, Guests
from webtorch._cluster.interfaces import GUEST_PORT, ClusterError, Member, OutsiderError, Settings
from webtorch._cluster.lineage import MAX_STEPS
from webtorch._cluster.seal import Ring
from webtorch._cluster.sealed_calls import CallError, SealedCall, accept
from webtorch._cluster.speeds import answer_probe
from webtorch._cluster.store import State, Store
from webtorch._cluster.teams import rules_of_guests

log = logging.getLogger("webtorch")

Pinned = Callable[[], contextlib.AbstractContextManager[Mapping[str, Store]]]
"""Returns the stores of all models, whose memory stays meanwhile."""

MAX_CALLS = 48
"""Connections at a time: two of each guest, and probes."""

IDLE = 60.0
"""Seconds without a request after which a connection is closed, at least."""

_POLL = 0.5


class Reception:
    """Answers guests and probes, from `start` until `close`.

    Args:
        settings: The cluster's.
        ring: Its keys.
        guests: Where contributions are kept.

    """

    def __init__(self, settings: Settings, ring: Ring, guests: Guests) -> None:
        self._settings = settings
        self._ring = ring
        self._guests = guests
        self._pinned: Pinned = _no_stores
        self._members: Sequence[Member] = ()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        # the oldest first; whether a valid message has come
        self._calls: dict[socket.socket, bool] = {}
        # a guest asks once in each interval
        self._idle = max(IDLE, 2 * settings.interval + settings.timeout)
        self._last_of: dict[str, float] = {}
        self._has_warned = False
        self._thread: threading.Thread | None = None

    def start(self, pinned: Pinned) -> None:
        """Begin to listen, unless that is done; it does not wait.

        Args:
            pinned: Returns the stores; from any thread.

        """
        if self._thread is None:
            self._pinned = pinned
            self._thread = threading.Thread(target=self._listen, name="reception", daemon=True)
            self._thread.start()

    def admit(self, members: Sequence[Member]) -> None:
        """Set the members of the group that guests may take part in; none: there is no group."""
        self._members = members

    def guests(self) -> list[str]:
        """Return the ids of guests that have asked in the last minute, or two intervals."""
        with self._lock:
            now = time.monotonic()
            self._last_of = {id: at for id, at in self._last_of.items() if now - at < self._idle}
            return sorted(self._last_of)

    def close(self) -> None:
        """End all connections and the threads. It may be called more than once."""
        self._closed.set()
        with self._lock:
            calls = [*self._calls]
        for each in calls:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(2 * _POLL)

    def _listen(self) -> None:
        """Listen as soon as the process before this one has left the port."""
        place = self._settings.address, self._settings.port + GUEST_PORT
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        since = time.monotonic()
        is_told = False
        while not self._closed.is_set():
            try:
                with socket.create_server(place, family=family) as listener:
                    if is_told:
                        log.warning("guests are answered at %s, port %d", *place)
                        is_told = False
                    listener.settimeout(_POLL)
                    self._accept(listener)
            except OSError as error:
                if not is_told and time.monotonic() - since > self._settings.timeout:
                    log.error(
                        "guests are not answered at %s, port %d, and no link is measured: %s",
                        *place,
                        error,
                    )
                    is_told = True
            self._closed.wait(_POLL)

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            if not self._has_room(connection):
                connection.close()
                continue
            thread = threading.Thread(
                target=self._serve, args=(connection,), name="guest", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                # none can be started now: the guest comes again
                self._forget(connection)
                log.info("a connection of a guest is closed: %s", error)

    def _has_room(self, connection: socket.socket) -> bool:
        """Return whether there is room for a connection: one that has said nothing gives way."""
        with self._lock:
            if self._closed.is_set():
                return False
            if len(self._calls) >= MAX_CALLS:
                silent = next(
                    (each for each, is_valid in self._calls.items() if not is_valid), None
                )
                if silent is None:
                    return False
                # its thread closes it
                del self._calls[silent]
                with contextlib.suppress(OSError):
                    silent.shutdown(socket.SHUT_RDWR)
            self._calls[connection] = False
            return True

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._calls.pop(connection, None)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            call = accept(self._settings, self._ring, connection)
            # only this shows that the hello was not one that somebody has recorded
            request = call.receive(time.monotonic() + self._settings.timeout)
            with self._lock:
                if connection in self._calls:
                    self._calls[connection] = True
            while not self._closed.is_set():
                connection.settimeout(self._settings.timeout)
                self._answer(call, request)
                connection.settimeout(self._idle)
                request = call.receive()
        except CallError:
            pass
        except OutsiderError as error:
            if not self._has_warned:
                self._has_warned = True
                log.warning("a connection to the port of guests is refused: %s", error)
        except ClusterError as error:
            log.info("a guest is refused: %s", error)
        except Exception as error:
            # it must not end others
            log.error("a guest could not be answered: %r", error)
        finally:
            self._forget(connection)

    def _answer(self, call: SealedCall, request: Mapping[str, Any]) -> None:
        if request.get("do") == "probe":
            answer_probe(call, request["size"])
            return
        members = self._members
        payload: Tensor | None = None
        with self._pinned() as stores:
            store = stores.get(str(request.get("model")))
            problem = _problem(request, members, store, rules_of_guests(self._settings))
            if store is None or problem:
                call.send({"error": problem})
                if request["size"]:
                    raise ClusterError(problem)
                return
            state = store.state
            if request["do"] == "anchor":
                state, payload = _copy(store)
            tensors = store.tensors(state.slot)
            floats = flat.count(tensors, flat.floating(tensors))
            integers = flat.count(tensors, flat.integer(tensors))
            del tensors
        # without the store from here on: it takes as long as the link is slow
        with self._lock:
            self._last_of[call.other] = time.monotonic()
        if request["do"] == "contribute":
            self._take(call, request, floats, integers)
        rollout = state.rollout
        found = {
            "anchor": state.anchor.write(),
            "is_on_trial": bool(rollout and rollout.is_open and rollout.of == state.anchor.of),
            "frozen": int(state.frozen),
            "orders": state.orders,
            "refused": self._guests.refused(request["model"], str(request.get("host"))),
            "members": [[each.id, each.address, each.port] for each in members],
        }
        call.send(found, b"" if payload is None else view_of(payload))

    def _take(
        self, call: SealedCall, request: Mapping[str, Any], floats: int, integers: int
    ) -> None:
        """Receive a contribution, and keep it if it may be counted."""
        size = formats.size(floats, "int8")
        number, steps, of = request.get("number"), request.get("steps"), request.get("of")
        host = str(request.get("host"))
        if (
            request["size"] != size + 8 * integers
            or type(number) is not int
            or type(steps) is not int
            or not (0 < number < MAX_STEPS and 0 < steps < MAX_STEPS)
            or not (isinstance(of, list) and [type(each) for each in of] == [int, str])
            or len(host) > 128
        ):
            raise ClusterError(f'a contribution of "{call.other}" is malformed')
        change = torch.empty(size, dtype=torch.uint8)
        counts = torch.empty(integers, dtype=torch.int64)
        call.receive_into(view_of(change))
        call.receive_into(view_of(counts.view(torch.uint8)))
        layout = request["layout"]
        found = Contribution(host, number, steps, (of[0], of[1]), layout, change, floats, counts)
        if not bool(found.values().isfinite().all()):
            raise ClusterError(f'a contribution of "{call.other}" is not finite')
        if not self._guests.hold(request["model"], found):
            raise ClusterError("there are too many guests")


def _no_stores() -> contextlib.AbstractContextManager[Mapping[str, Store]]:
    return contextlib.nullcontext({})


def _problem(
    request: Mapping[str, Any], members: Sequence[Member], store: Store | None, rules: str
) -> str:
    """Return why a request is not answered; empty: it is."""
    if request.get("do") not in ("ask", "contribute", "anchor"):
        return "the request is not known"
    if not members:
        return "this host is in no group"
    if store is None:
        return "the model is not there"
    if request.get("layout") != hashlib.sha256(store.layout).hexdigest():
        return "the model has another layout there"
    if request.get("rules") != rules:
        return f"the model has {rules} there"
    if store.state.fresh and not store.state.joined:
        return "this host has no anchor yet"
    return ""


def _copy(store: Store) -> tuple[State, Tensor]:
    """Return a state and the anchor of it, which another thread may replace meanwhile."""
    while True:
        state = store.state
        data = store.contents(state.slot).clone()
        now = store.state
        if (now.anchor.key, now.slot) == (state.anchor.key, state.slot):
            return state, data
