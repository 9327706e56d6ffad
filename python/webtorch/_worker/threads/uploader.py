"""The thread that writes models to object storage, in one worker of the host."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from webtorch._metrics.cells import MetricKind, Wanted, own_cells
from webtorch._metrics.counts import Counts
from webtorch._zone.shared_state import SharedState
from webtorch._zone.stored import StoredCheckpoints
from webtorch.metrics import Counter

log = logging.getLogger("webtorch")

POLL = 0.5
"""Seconds between polls for whether the worker that writes still runs."""

MAX_RETRY = 30.0
"""Seconds until a store that is away is tried again, at most; the first time POLL."""

LAST_SECONDS = 20.0
"""Seconds that a worker which exits waits for its last files."""


class Election(Protocol):
    """Elects the one of all workers that writes to object storage."""

    def elect_uploader(self) -> bool:
        """Return whether it is this worker, by the calling thread."""

    def resign_uploader(self) -> None:
        """Let another worker be elected."""

    def is_leaving(self) -> bool:
        """Return whether this worker shuts down."""


class Uploader(threading.Thread):
    """Writes the models at an interval, in one worker; the others wait to take its place.

    No batch and no round waits for it: a model is copied to a file, which is then sent.

    Args:
        stored: The files.
        election: Elects the worker.
        states: Returns the shared states of the models.
        interval: Seconds between two files of a model.

    """

    def __init__(
        self,
        stored: StoredCheckpoints,
        election: Election,
        states: Callable[[], Iterable[SharedState]],
        interval: float,
    ) -> None:
        super().__init__(name="webtorch storage", daemon=True)
        self._stored = stored
        self._election = election
        self._states = states
        self._interval = interval
        self._stopping = threading.Event()
        self._failed: set[str] = set()
        self._away: set[str] = set()

    def stop(self) -> None:
        """Write for the last time, if this is the elected worker and the store is there."""
        self._stopping.set()
        self.join(LAST_SECONDS)

    def run(self) -> None:
        """Write whenever this worker is the elected one."""
        # workers share no cells before handlers are loaded
        self._counters = {
            result: Counter(
                own_cells(
                    Wanted(
                        MetricKind.COUNTER,
                        "webtorch_storage_checkpoints_total",
                        f'result="{result}"',
                        "Checkpoints that were written to object storage, or could not be.",
                    )
                )
            )
            for result in ("written", "failed")
        }
        pause = min(POLL, self._interval / 4)
        while not self._stopping.wait(pause):
            # workers of a new configuration may have other models
            if not self._election.is_leaving() and self._election.elect_uploader():
                self._serve()
        if self._election.elect_uploader():
            self._save_all(last=True)
            self._resign()

    def _serve(self) -> None:
        """Write until the worker shuts down."""
        due = time.monotonic()
        retry = POLL
        retry_at = math.inf
        while not self._election.is_leaving():
            now = time.monotonic()
            if now >= min(due, retry_at):
                is_due = now >= due
                if is_due:
                    due = now + self._interval
                self._save_all(only=None if is_due else frozenset(self._away))
                retry_at = time.monotonic() + retry if self._away else math.inf
                retry = min(2 * retry, MAX_RETRY) if self._away else POLL
            if self._stopping.wait(min(POLL, max(0.0, min(due, retry_at) - time.monotonic()))):
                break
        self._resign()

    def _resign(self) -> None:
        # the next worker knows better
        for name in self._failed:
            Counts(name).fail(Counts.UNSTORED, False)
        self._election.resign_uploader()

    def _save_all(self, only: frozenset[str] | None = None, last: bool = False) -> None:
        """Write all models, or only some; for the last time those that the store has not failed."""
        states = [*self._states()]
        names = {shared.name for shared in states}
        # others were unloaded, or other code has come
        for name in self._failed - names:
            Counts(name).fail(Counts.UNSTORED, False)
        self._failed &= names
        self._away &= names
        for shared in states:
            is_left_out = last and shared.name in self._away
            if not is_left_out and (only is None or shared.name in only):
                self._save(shared, last)

    def _save(self, shared: SharedState, last: bool) -> None:
        name = shared.name
        try:
            is_written = self._stored.save(shared, last)
        except Exception as error:
            self._counters["failed"].inc()
            if name not in self._failed:
                log.error('model "%s" could not be written to storage: %s', name, error)
            self._failed.add(name)
            Counts(name).fail(Counts.UNSTORED, True)
            # others are of the model, for example weights that are not finite
            if isinstance(error, OSError):
                self._away.add(name)
            else:
                self._away.discard(name)
            return
        self._away.discard(name)
        if name in self._failed:
            self._failed.remove(name)
            Counts(name).fail(Counts.UNSTORED, False)
            log.warning('model "%s" is written to storage again', name)
        if is_written:
            self._counters["written"].inc()
            Counts(name).save()
