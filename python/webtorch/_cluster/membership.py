"""Who takes part, as torchft's lighthouse says."""

import hashlib
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from webtorch._cluster.coordinator import (
    join_address,
    join_timeout,
    library,
    reachable,
    resolve,
)
from webtorch._cluster.interfaces import (
    ClusterError,
    Member,
    OutsiderError,
    Settings,
    TakenIdError,
    UnreachableError,
    View,
)
from webtorch._cluster.seal import Ring, fields

MAX_SKEW: Final = 150.0
"""Seconds that a host's clock may differ from that of the membership service. An entry that was
recorded is of no use for longer, and the time that a host waits for others."""

MAX_ABOUT: Final = 16 << 10

_BEAT = 0.25
_LOOK = 1.0
_LOOK_AGAIN = 5.0
_IDLE_BEATS = 600.0
"""Seconds after which a thread that does not ask any more is not spoken for; more than a round."""

_module: Any = None
_lock = threading.Lock()


def _torchft() -> Any:
    """Load the extension module once; 3 ms, and it imports nothing else."""
    global _module
    with _lock:
        if _module is None:
            spec = importlib.util.spec_from_file_location("_torchft", library())
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            _module = module
        return _module


class Lighthouse:
    """A `Membership` of the service at the coordinator.

    One thread looks for the service, another one sends heartbeats four times a second; a request
    that is not answered is left to a thread of its own.

    Args:
        settings: The cluster's.
        ring: Its keys.
        instance: Random, the same in all processes of this host: it separates hosts with one id.
        since: When the host began, seconds since 1970, by which the older one of these is found;
            None: now.

    """

    def __init__(
        self, settings: Settings, ring: Ring, instance: str, since: float | None = None
    ) -> None:
        self._settings = settings
        self._ring = ring
        self._instance = instance
        self._replica = f"{settings.id}/{instance}"
        self._since = time.time() if since is None else since
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._client: Any = None
        self._peer: str | None = None
        self._about: Mapping[str, object] | None = None
        self._used = time.monotonic()
        self._heard = time.monotonic()
        self._threads: list[threading.Thread] = []
        self.problem: str | None = None
        """Why there is no service, in words; None if there is one."""

    def beat(self, about: Mapping[str, object]) -> None:
        """Say that this host lives, and what it says of itself; see `Membership`.

        Raises:
            ValueError: It is too long.

        """
        size = len(json.dumps(about))
        if size > MAX_ABOUT:
            raise ValueError(f"{size} bytes about a host, at most {MAX_ABOUT} are sent")
        self._about = dict(about)
        self._used = time.monotonic()
        if not self._threads and not self._closed.is_set():
            for target in (self._find_service, self._send_beats):
                thread = threading.Thread(target=target, name="membership", daemon=True)
                self._threads.append(thread)
                thread.start()

    def members(self) -> View:
        """Wait until all hosts that live have asked, and return who they are.

        Raises:
            UnreachableError: The service does not answer.
            OutsiderError: The service's clock and this host's differ by more than `MAX_SKEW`.
            TakenIdError: An older host has the same id.

        """
        if self._about is None:
            self.beat({})
        request = _Request()
        client = self._wait_for_client()
        self._used = time.monotonic()
        threading.Thread(
            target=self._ask, args=(client, request), name="membership", daemon=True
        ).start()
        while not request.done.wait(_BEAT):
            self._used = time.monotonic()
            if self._closed.is_set():
                raise UnreachableError("this host has left")
            if self._used - self._heard > self._settings.timeout:
                self._lose(client, "the membership service does not answer")
                raise UnreachableError("the membership service does not answer")
        if request.error is not None:
            self._lose(client, _text(request.error))
            raise UnreachableError(_text(request.error)) from request.error
        return self._view(request.answer)

    def leave(self) -> None:
        """End the heartbeats: the service forgets this host within a second."""
        self.close()

    def close(self) -> None:
        """End the threads. It may be called more than once."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            # one that resolves a name may take long, and changes nothing any more
            thread.join(1)
        self._client = None

    def _wait_for_client(self) -> Any:
        with self._changed:
            self._changed.wait_for(
                lambda: self._client is not None or self._closed.is_set(), self._settings.timeout
            )
            if self._closed.is_set():
                raise UnreachableError("this host has left")
            if self._client is None:
                raise UnreachableError(self.problem or "the membership service was not found")
            return self._client

    def _ask(self, client: Any, request: "_Request") -> None:
        settings = self._settings
        entry = self._entry()
        try:
            request.answer = client.quorum(
                self._replica,
                # longer than the service waits: otherwise no thread would receive its response
                timedelta(seconds=join_timeout(settings) + settings.timeout),
                data={"entry": entry, "mac": self._ring.sign(entry.encode())},
            )
            self._heard = time.monotonic()
        except Exception as error:
            request.error = error
        request.done.set()

    def _entry(self) -> str:
        settings = self._settings
        return json.dumps(
            {
                "id": settings.id,
                "instance": self._instance,
                "since": self._since,
                "address": settings.address,
                "port": settings.port,
                "time": time.time(),
                "about": self._about,
            }
        )

    def _view(self, answer: Any) -> View:
        created = answer.created.seconds + answer.created.nanos / 1e9
        # an entry is as old as its request, which has waited for those of others
        times = created - MAX_SKEW - join_timeout(self._settings), created + MAX_SKEW
        found = [
            _read(self._ring, each.replica_id, each.data, times) for each in answer.participants
        ]
        entries = [each for each in found if isinstance(each, _Entry)]
        refused = {each.replica: each.reason for each in found if isinstance(each, _Refusal)}
        owners, doubles = _owners(entries)
        settings = self._settings
        if not any(entry.replica == self._replica for entry in entries):
            reason = refused.get(self._replica, "it is missing")
            raise OutsiderError(f"the entry of this host is not valid: {reason}", settings.id)
        if self._replica in doubles:
            raise TakenIdError(settings.id, _place(owners[settings.id].member))
        seen = [answer.quorum_id, created]
        seen += [(each.replica_id, str(each.data)) for each in answer.participants]
        return View(
            generation=int(answer.quorum_id),
            members=tuple(owners[host].member for host in sorted(owners)),
            digest=hashlib.sha256(fields(*(str(value) for value in seen))).hexdigest()[:32],
            service=self._peer or "",
            rejected={_host(each): reason for each, reason in (refused | doubles).items()},
        )

    def _lose(self, client: Any, problem: str) -> None:
        """Note that a client is of no use now; the service is looked for again."""
        with self._changed:
            if self._client is client:
                self._client = None
                self.problem = problem
            self._changed.notify_all()

    def _send_beats(self) -> None:
        settings = self._settings
        while not self._closed.wait(_BEAT):
            client = self._client
            # between two rounds as well, however far they are from each other
            idle = max(_IDLE_BEATS, settings.interval + join_timeout(settings))
            if client is None or time.monotonic() - self._used > idle:
                continue
            try:
                client.heartbeat(self._replica, timedelta(seconds=1))
                self._heard = time.monotonic()
            except Exception as error:
                if time.monotonic() - self._heard > settings.timeout:
                    self._lose(client, _text(error))

    def _find_service(self) -> None:
        """Look for the service: each second, or each five while there is one.

        If the name has several addresses, all hosts come to the lowest that answers.
        """
        while not self._closed.is_set():
            try:
                self._look()
            except (ClusterError, OSError, RuntimeError, ImportError) as error:
                self.problem = f"coordinator {self._settings.coordinator[0]}: {_text(error)}"
            with self._changed:
                if not self._closed.is_set():
                    self._changed.wait(_LOOK if self._client is None else _LOOK_AGAIN)

    def _look(self) -> None:
        name, port = self._settings.coordinator
        addresses = reachable(resolve(name, port), self._settings.address)
        error: Exception = OSError("it has no address")
        for address in addresses:
            if self._client is not None and self._peer == address:
                return
            try:
                # the client writes a line to stderr, so it is made when somebody listens
                socket.create_connection((address, port), _LOOK).close()
                client = _torchft().LighthouseClient(
                    f"http://{join_address(address, port)}", timedelta(seconds=2)
                )
            except (OSError, RuntimeError) as problem:
                error = problem
                continue
            with self._changed:
                self._client, self._peer, self.problem = client, address, None
                self._heard = time.monotonic()
                self._changed.notify_all()
            return
        raise error


class _Request:
    """A request to the service, which its thread fills in."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: Any = None
        self.error: Exception | None = None


def _text(error: Exception) -> str:
    """Return the first line of an error, without gRPC's details."""
    return str(error).split(", details:")[0].splitlines()[0] if str(error) else repr(error)


@dataclass(frozen=True)
class _Entry:
    """A host that has asked, and may be a member."""

    replica: str
    """Its id and its instance."""
    member: Member
    since: float
    """When the host began, seconds since 1970."""


@dataclass(frozen=True)
class _Refusal:
    """One that is no member."""

    replica: str
    reason: str


def _read(ring: Ring, replica: str, data: object, times: tuple[float, float]) -> _Entry | _Refusal:
    """Return a host from its entry, or why it is no member.

    Args:
        ring: Keys, one of which has signed it.
        replica: The name that it is found by.
        data: The entry.
        times: The first and the last time that it may have; of the answer, so that all hosts
            reject the same.

    """
    if not isinstance(data, dict):
        return _Refusal(replica, "it has no entry")
    text, mac = data.get("entry"), data.get("mac")
    if not isinstance(text, str) or not isinstance(mac, str):
        return _Refusal(replica, "it has no entry")
    if not ring.verify(text.encode(), mac):
        return _Refusal(replica, "its secret is another one")
    entry = json.loads(text)
    if f"{entry['id']}/{entry.get('instance')}" != replica:
        return _Refusal(replica, "its entry is that of another host")
    skew = max(times[0] - entry["time"], entry["time"] - times[1])
    if skew > 0:
        skew += MAX_SKEW
        return _Refusal(replica, f"its clock differs by {skew:.0f} s from that of the coordinator")
    member = Member(entry["id"], entry["address"], entry["port"], entry["about"])
    return _Entry(replica, member, entry["since"])


def _owners(entries: Sequence[_Entry]) -> tuple[dict[str, _Entry], dict[str, str]]:
    """Return the oldest host of each id, and why the others of that id are no members."""
    owners: dict[str, _Entry] = {}
    doubles = {}
    for entry in sorted(entries, key=lambda each: (each.since, each.replica)):
        owner = owners.setdefault(entry.member.id, entry)
        if owner is not entry:
            doubles[entry.replica] = f"{_place(entry.member)} has the id of {_place(owner.member)}"
    return owners, doubles


def _place(member: Member) -> str:
    return join_address(member.address, member.port)


def _host(replica: str) -> str:
    """Return the id of a host that has asked with its instance."""
    return replica.rpartition("/")[0] or replica
