"""How fast the links to other hosts are, and which host is too slow for rounds with them.

A round is as slow as the slowest of its links. After one that took long or has failed, each host
measures its links and says which hosts are slow to it; the one that is slow to most others leaves.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from webtorch._cluster import flat, formats
from webtorch._cluster.calls import Call, CallError, connect
from webtorch._cluster.interfaces import ClusterError, Compression, Member, Settings, View
from webtorch._cluster.seal import Ring
from webtorch._cluster.store import Store

log = logging.getLogger("webtorch")

PROBE = 512 << 10
"""Bytes of a probe, each way: enough for a connection to reach the rate of a slow link."""

RATIO = 3
"""A slow link has less than this part of the best rate of a host."""

LEAST = 2.0
"""Seconds of a round that is not slow in any case."""

PAUSE = 30.0
"""Seconds from one measurement without a slow host to the next one, while rounds take long."""

CONNECT = 0.5
"""Seconds for which others are waited for that may be cut off."""

_POLL = 0.02

_MAX_TRIP = 0.2
"""Seconds of a round trip that are not the link's rate, at most: a full queue is."""

_SLOWEST = 1.0
"""Bytes a second of a link that did not carry a probe within the timeout."""


class Slow(ClusterError):
    """The links of this host are slow to most others: it leaves the group as a guest."""


class Speeds:
    """What this host has measured. One thread uses it, others measure.

    Args:
        settings: The cluster's.
        ring: Its keys.

    """

    def __init__(self, settings: Settings, ring: Ring, pause: float = PAUSE) -> None:
        self._settings = settings
        self._ring = ring
        self.pause = pause
        self._lock = threading.Lock()
        self._rates: dict[str, float | None] = {}
        self._threads: list[threading.Thread] = []
        self._connected: set[str] = set()
        self._due = 0.0

    def measure(self, members: Sequence[Member], seconds: float = 0.0) -> None:
        """Measure the links to other hosts, unless that was done not long ago.

        Args:
            members: The hosts.
            seconds: How long to wait for the results of those that answer.

        """
        others = [each for each in members if each.id != self._settings.id]
        if not self._is_busy() and time.monotonic() >= self._due:
            self._due = time.monotonic() + self.pause
            with self._lock:
                self._rates = {}
            self._threads = [
                threading.Thread(target=self._measure, args=(each,), name="speeds", daemon=True)
                for each in others
            ]
            for thread in self._threads:
                thread.start()
        started = time.monotonic()
        while self._is_busy() and time.monotonic() - started < seconds:
            if not self._connected and time.monotonic() - started > CONNECT:
                # those that are left do not answer
                return
            time.sleep(_POLL)

    def _is_busy(self) -> bool:
        return any(each.is_alive() for each in self._threads)

    def rates(self) -> list[float | None]:
        """Return what was measured, once it is complete; None for a host that did not answer."""
        with self._lock:
            return [] if self._is_busy() else [*self._rates.values()]

    def forget(self) -> None:
        """Forget what was measured: rounds are fast, or this host is in none."""
        self._due = 0.0
        with self._lock:
            self._rates = {}

    def forget_if_here(self, ids: Collection[str]) -> None:
        """Forget it if all that were measured took part in a round that was fast.

        The heartbeats of a slow host are late at times, so it is missing now and then.
        """
        if self._rates.keys() <= frozenset(ids):
            self.forget()

    def drop(self, ids: Collection[str]) -> None:
        """Forget hosts that have become guests."""
        with self._lock:
            self._rates = {id: rate for id, rate in self._rates.items() if id not in ids}

    def slow(self, size: int) -> list[str]:
        """Return the ids of hosts that are slow to this one, with rounds of so many bytes."""
        with self._lock:
            rates = {id: rate for id, rate in self._rates.items() if rate is not None}
            best = max(rates.values(), default=0.0)
            return sorted(
                id
                for id, rate in rates.items()
                if size / rate > limit(self._settings) and rate < best / RATIO
            )

    def _measure(self, member: Member) -> None:
        found = rate(self._settings, self._ring, member, self._connected)
        with self._lock:
            self._rates[member.id] = found


def limit(settings: Settings) -> float:
    """Return the seconds that a round may take until a link is slow."""
    return max(LEAST, 2 * settings.interval)


def size_of_round(stores: Mapping[str, Store], compress: Compression) -> int:
    """Return the bytes that a host sends in a round, and receives."""
    tensors = [store.tensors(store.state.slot) for store in stores.values()]
    counts = [flat.count(each, flat.floating(each)) for each in tensors]
    return sum(2 * formats.size(count, compress) for count in counts)


def rate(settings: Settings, ring: Ring, member: Member, connected: set[str]) -> float | None:
    """Return the bytes a second to a host and back, the lower of them; None: it is not known.

    Args:
        settings: The cluster's.
        ring: Its keys.
        member: The host.
        connected: Has its id while it is measured.

    """
    started = time.monotonic()
    try:
        call = connect(settings, ring, member.address, member.port)
    except (ClusterError, OSError) as error:
        log.debug('the link to "%s" cannot be measured: %s', member.id, error)
        return None
    trip = (time.monotonic() - started) / 2
    connected.add(member.id)
    try:
        return probe(call, trip)
    except CallError:
        return _SLOWEST
    except ClusterError:
        return None
    finally:
        connected.discard(member.id)
        call.close()


def probe(call: Call, trip: float) -> float:
    """Return the bytes a second of a connection, of both ways the lower.

    The first half of a probe is there for the connection to find its rate; of the second half a
    round trip is not counted, as it may be the pause between two bursts of a fast link.
    """
    trip = min(trip, _MAX_TRIP)
    call.send({"do": "probe"}, bytes(PROBE))
    answer = call.receive()
    there = answer.get("seconds")
    if not isinstance(there, float) or answer["size"] != PROBE:
        raise ClusterError("an answer to a probe is malformed")
    back = call.receive_into(memoryview(bytearray(PROBE)))
    seconds = max(there, back) - trip
    return PROBE / 2 / max(seconds, 1e-4)


def answer_probe(call: Call, size: int) -> None:
    """Answer a probe, of which the header has been received.

    Raises:
        ClusterError: It is not a probe.

    """
    if size != PROBE:
        raise ClusterError("a probe has another size")
    seconds = call.receive_into(memoryview(bytearray(PROBE)))
    call.send({"seconds": float(seconds)}, bytes(PROBE))


def without_slow(view: View, own: str) -> tuple[View, frozenset[str]]:
    """Return a view without the hosts that are slow to most others, and the ids of these.

    All hosts of a view come to the same answer. Two are left at least, and `guest=off` stays.

    Raises:
        Slow: This host is one of them.

    """
    ids = frozenset(view.ids)
    named: Counter[str] = Counter()
    for member in view.members:
        told = member.about.get("slow")
        ids_told = (
            {each for each in told if isinstance(each, str)} if isinstance(told, list) else ()
        )
        named.update((ids - {member.id}).intersection(ids_told))
    slow = frozenset(
        member.id
        for member in view.members
        if 2 * named[member.id] > len(ids) - 1 and member.about.get("guest") == "auto"
    )
    if not slow or len(ids) - len(slow) < 2:
        return view, frozenset()
    if own in slow:
        raise Slow("its links are slow to most other hosts")
    members = tuple(member for member in view.members if member.id not in slow)
    return View(view.generation, members, view.digest, view.service, view.rejected), slow


def is_fast(rates: Sequence[float | None], size: int, settings: Settings) -> bool:
    """Return whether a guest may try the group again: with most of its links, by a margin."""
    fast = [rate for rate in rates if rate and 2 * size / rate < limit(settings)]
    return 2 * len(fast) > len(rates)
