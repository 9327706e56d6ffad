"""This host as a guest of its cluster: when its links are slow, or always."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from webtorch._cluster.guest_rounds import LOST, TRY_AGAIN, Visits
from webtorch._cluster.interfaces import ClusterError, Member, Settings
from webtorch._cluster.seal import Ring
from webtorch._worker.cluster.metrics import Metrics
from webtorch._zone.rounds_store import RoundsStore

log = logging.getLogger("webtorch")

Pinned = Callable[[], contextlib.AbstractContextManager[Mapping[str, RoundsStore]]]
"""Returns the stores of all models, whose blocks are pinned meanwhile."""

MAX_PAUSE = 600.0
"""Seconds until a guest tries the group again, at most: it doubles if it leaves soon again."""

SOON = 600.0

MAX_RETRY = 5.0
"""Seconds from a turn that has failed to the next one, at most."""


class Guest:
    """Whether this host is a guest, and its turns while it is.

    Args:
        settings: Those of the cluster.
        ring: Its keys.
        metrics: What operators see.
        is_last: Whether it only contributes what was learned, as all workers exit.
        is_over: Returns whether a turn is to end.

    """

    def __init__(
        self,
        settings: Settings,
        ring: Ring,
        metrics: Metrics,
        is_last: bool = False,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._is_last = is_last
        self._is_over = is_over
        self._ring = ring
        self._metrics = metrics
        self._visits: Visits | None = None
        self._stores: Mapping[str, RoundsStore] = {}
        self._pause = TRY_AGAIN
        self._returned = -SOON
        self._failures = 0
        self._problem = ""
        self._answered = time.monotonic()
        self._is_lost = False
        self._is_asked = False

    @property
    def is_there(self) -> bool:
        """Whether this host is a guest now."""
        return self._visits is not None

    @property
    def is_failing(self) -> bool:
        """Whether no member has answered in the last turn."""
        return self._failures > 0

    def resume(self, pinned: Pinned) -> None:
        """Become a guest if this host is one always, or was one in the process before."""
        if self._is_asked or self._visits:
            return
        with pinned() as stores:
            # while there is no model it is asked again
            self._is_asked = bool(stores)
            if self._settings.guest == "always":
                self.begin((), 'it has "guest=always"')
            elif self._settings.guest == "off":
                self._mark(stores, False)
            elif any(store.state.guest for store in stores.values()):
                self.begin((), "it was one before")

    def begin(self, members: Sequence[Member], reason: str) -> None:
        """Become a guest of these members; without any the coordinator's host is asked."""
        is_soon = time.monotonic() - self._returned < SOON
        self._pause = min(2 * self._pause, MAX_PAUSE) if is_soon else TRY_AGAIN
        self._visits = Visits(
            self._settings,
            lambda: self._stores,
            self._ring,
            members,
            self._pause,
            takes_anchors=not self._is_last,
            is_over=self._is_over,
        )
        self._failures = 0
        self._answered = time.monotonic()
        self._is_lost = False
        log.warning('cluster "%s": this host is a guest now: %s', self._settings.name, reason)

    def work(self, pinned: Pinned) -> float:
        """Do a turn; return the seconds to the next one."""
        visits = self._visits
        assert visits is not None
        before = visits.sent, visits.received
        with pinned() as stores:
            self._stores = stores
            try:
                self._mark(stores, True)
                done = visits.turn()
            except ClusterError as error:
                # a turn that nginx has ended is no failure
                if not self._is_over():
                    self._fail(error)
            else:
                self._note_answer()
                self._metrics.count_visit(done)
                if not any(store.state.fresh for store in stores.values()):
                    note_joined(stores)
            visits.note_members(visits.ids, 0)
            self._metrics.count_bytes(visits.sent - before[0], visits.received - before[1])
            self._metrics.show_members(len(visits.ids), 0, is_guest=True)
            self._metrics.show_hosts(visits.ids, {}, stores, [self._settings.id])
            if visits.may_return():
                self._end(stores)
                return 0.0
        if not self._failures:
            return self._settings.interval
        return float(min(self._settings.interval * 2 ** min(self._failures, 20), MAX_RETRY))

    def close(self) -> None:
        """End the connections; another process of this host goes on as a guest."""
        if self._visits:
            self._visits.close()
            self._visits = None

    def _end(self, stores: Mapping[str, RoundsStore]) -> None:
        self.close()
        self._returned = time.monotonic()
        self._mark(stores, False)
        log.warning('cluster "%s": this host takes part in rounds again', self._settings.name)

    def _mark(self, stores: Mapping[str, RoundsStore], is_guest: bool) -> None:
        for store in stores.values():
            if store.state.guest != is_guest:
                store.write(dataclasses.replace(store.state, guest=is_guest))

    def _note_answer(self) -> None:
        self._failures = 0
        self._problem = ""
        self._answered = time.monotonic()
        if self._is_lost:
            self._is_lost = False
            log.warning('cluster "%s": a member answers this guest again', self._settings.name)

    def _fail(self, error: ClusterError) -> None:
        self._failures += 1
        seconds = time.monotonic() - self._answered
        if seconds > LOST * self._settings.timeout and not self._is_lost:
            self._is_lost = True
            log.error(
                'cluster "%s": no member has answered this guest for %.0f s: %s',
                self._settings.name,
                seconds,
                error,
            )
        self._metrics.count_failure()
        if str(error) != self._problem:
            self._problem = str(error)
            log.info('cluster "%s": a turn of a guest has failed: %s', self._settings.name, error)


def note_joined(stores: Mapping[str, RoundsStore]) -> None:
    """Note that the models are those of the cluster."""
    for store in stores.values():
        if not store.state.joined:
            store.write(dataclasses.replace(store.state, joined=True))
