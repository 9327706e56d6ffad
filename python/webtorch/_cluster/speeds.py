"""How fast the links to other hosts are, and which host is too slow for rounds with them.

A round is as slow as the slowest of its links. After one that took long or has failed, each host
measures its links and says which hosts are slow to it; the one that is slow to most others leaves.
"""

import contextlib
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from webtorch._cluster import flat, formats
from webtorch._cluster.interfaces import ClusterError, Compression, Member, Settings, View
from webtorch._cluster.seal import Ring
from webtorch._cluster.sealed_calls import CallError, SealedCall, connect
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

MAX_PAUSE = 600.0
"""Seconds of such a pause, at most: it doubles while links are not why rounds take long."""

AGAIN = 3.0
"""Seconds until links are measured again if a host did not answer."""

CONNECT = 0.5
"""Seconds for which others are waited for that may be cut off."""

ENOUGH = 1.5
"""Seconds after which a probe that goes on says how slow its link is, at least."""

_POLL = 0.02

_MAX_TRIP = 0.2
"""Seconds of a round trip that are not the link's rate, at most: a full queue is."""

_SLOWEST = 1.0
"""Bytes a second of a link that did not carry a probe within the timeout."""


class SlowLinksError(ClusterError):
    """The links of this host are slow to most others: it leaves the group as a guest."""


class Speeds:
    """What this host has measured. One thread uses it, others measure.

    Args:
        settings: The cluster's.
        ring: Its keys.

    """

    def __init__(self, settings: Settings, ring: Ring) -> None:
        self._settings = settings
        self._ring = ring
        self._lock = threading.Lock()
        self._links: dict[str, _Link] = {}
        self._started = -math.inf
        self._pause = PAUSE

    def measure(
        self, members: Sequence[Member], seconds: float = 0.0, connect: float = CONNECT
    ) -> None:
        """Measure the links to other hosts, unless that was done not long ago.

        Args:
            members: The hosts.
            seconds: How long to wait for the results of those that answer.
            connect: How long to wait for any that answers.

        """
        if self._is_due():
            if self._is_known():
                self._pause = min(2 * self._pause, MAX_PAUSE)
            self._started = time.monotonic()
            others = [each for each in members if each.id != self._settings.id]
            links = {each.id: _Link(self._settings, self._ring, each) for each in others}
            with self._lock:
                self._links = links
            for link in links.values():
                link.start()
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < seconds:
            left = [link for link in self._all() if link.is_alive()]
            if all(link.lasts() > ENOUGH for link in left):
                return
            if waited > connect and not any(link.lasts() for link in left):
                # those that are left do not answer
                return
            time.sleep(_POLL)

    @contextlib.contextmanager
    def beside(self, members: Sequence[Member]) -> Iterator[None]:
        """Measure the links beside a round that takes long, for the case that it fails.

        A host may learn of that a timeout later than others, which wait for it then. After one
        that does not fail the links are measured without its traffic.
        """
        before = self._started
        timer = threading.Timer(limit(self._settings), self._measure_beside, (members,))
        timer.name, timer.daemon = "speeds", True
        try:
            timer.start()
        except RuntimeError as error:
            log.info("links are not measured: %s", error)
            yield
            return
        is_complete = False
        try:
            yield
            is_complete = True
        finally:
            timer.cancel()
            timer.join()
            if is_complete and self._started != before:
                self._started = before
                with self._lock:
                    self._links = {}

    def _measure_beside(self, members: Sequence[Member]) -> None:
        try:
            self.measure(members)
        except RuntimeError as error:
            # no thread can be started: it is tried again after the round
            log.info("links are not measured: %s", error)

    def rates(self) -> list[float | None]:
        """Return what was measured, once it is complete; None for a host that did not answer."""
        links = self._all()
        return [] if any(link.is_alive() for link in links) else [link.rate for link in links]

    def forget(self) -> None:
        """Forget what was measured: rounds are fast, or this host is in none."""
        self._started = -math.inf
        self._pause = PAUSE
        with self._lock:
            self._links = {}

    def forget_if_here(self, ids: Collection[str]) -> None:
        """Forget it if all that were measured took part in a round that was fast.

        The heartbeats of a slow host are late at times, so it is missing now and then.
        """
        if self._links.keys() <= frozenset(ids):
            self.forget()

    def drop(self, ids: Collection[str]) -> None:
        """Forget hosts that have become guests."""
        with self._lock:
            self._links = {id: link for id, link in self._links.items() if id not in ids}

    def slow(self, size: int) -> list[str]:
        """Return the ids of hosts that are slow to this one, with rounds of so many bytes."""
        links = self._all()
        best = max((link.rate for link in links if link.rate is not None), default=0.0)
        return sorted(
            link.id
            for link in links
            if size / link.most() > limit(self._settings) and link.most() < best / RATIO
        )

    def patience(self, size: int) -> float:
        """Return for how many seconds a round may wait for a host that is slower than others.

        It may not be the link, but for example the host's processor: then a measurement has been
        in vain, and the next rounds are not ended for another one.
        """
        if self._is_due() or self.slow(size) or not self._is_known():
            return limit(self._settings)
        return math.inf

    def _all(self) -> list["_Link"]:
        with self._lock:
            return [*self._links.values()]

    def _is_known(self) -> bool:
        """Return whether all links were measured."""
        rates = self.rates()
        return bool(rates) and all(rates)

    def _is_due(self) -> bool:
        if any(link.is_alive() for link in self._all()):
            return False
        pause = self._pause if all(self.rates()) else AGAIN
        return time.monotonic() - self._started >= pause


class _Link(threading.Thread):
    """Measures the link to a host."""

    def __init__(self, settings: Settings, ring: Ring, member: Member) -> None:
        super().__init__(name="speeds", daemon=True)
        self.id = member.id
        self.rate: float | None = None
        """Bytes a second; None: it is not known."""
        self._settings = settings
        self._ring = ring
        self._member = member
        self._since: float | None = None

    def run(self) -> None:
        """Measure it."""
        self.rate = rate(self._settings, self._ring, self._member, self._begin)
        self._since = None

    def _begin(self) -> None:
        self._since = time.monotonic()

    def lasts(self) -> float:
        """Return for how many seconds a probe has gone on; 0: there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def most(self) -> float:
        """Return the bytes a second that the link has at most, as far as that is known."""
        seconds = self.lasts()
        if self.rate is not None:
            return self.rate
        # what is sent there and back is on its way one after the other
        return 2 * PROBE / seconds if seconds > ENOUGH else math.inf


def limit(settings: Settings) -> float:
    """Return the seconds that a round may take until a link is slow."""
    return max(LEAST, 2 * settings.interval)


def size_of_round(stores: Mapping[str, Store], compress: Compression) -> int:
    """Return the bytes that a host sends in a round, and receives."""
    tensors = [store.tensors(store.state.slot) for store in stores.values()]
    counts = [flat.count(each, flat.floating(each)) for each in tensors]
    return sum(2 * formats.size(count, compress) for count in counts)


def rate(
    settings: Settings, ring: Ring, member: Member, begin: Callable[[], None] = lambda: None
) -> float | None:
    """Return the bytes a second to a host and back, the lower of them; None: it is not known.

    Args:
        settings: The cluster's.
        ring: Its keys.
        member: The host.
        begin: Is called when the host has answered.

    """
    started = time.monotonic()
    try:
        call = connect(settings, ring, member.address, member.port)
    except (ClusterError, OSError) as error:
        log.debug('the link to "%s" cannot be measured: %s', member.id, error)
        return None
    trip = (time.monotonic() - started) / 2
    begin()
    try:
        return probe(call, trip)
    except CallError:
        return _SLOWEST
    except ClusterError:
        return None
    finally:
        call.close()


def probe(call: SealedCall, trip: float) -> float:
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


def answer_probe(call: SealedCall, size: int) -> None:
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
        SlowLinksError: This host is one of them.

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
        raise SlowLinksError("its links are slow to most other hosts")
    members = tuple(member for member in view.members if member.id not in slow)
    return View(view.generation, members, view.digest, view.service, view.rejected), slow


def is_fast(rates: Sequence[float | None], size: int, settings: Settings) -> bool:
    """Return whether a guest may try the group again: with most of its links, by a margin."""
    fast = [rate for rate in rates if rate and 2 * size / rate < limit(settings)]
    return 2 * len(fast) > len(rates)
