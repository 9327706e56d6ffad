"""The thread that saves the models of all workers, in one of them."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from webtorch._metrics.counts import Counts
from webtorch._zone.checkpoint import Checkpoints, read
from webtorch._zone.shared_state import SharedState

log = logging.getLogger("webtorch")

POLL = 1.0
"""Seconds between polls for new files, and for whether the worker that writes files still runs."""

MAX_DELAY = 60.0
"""Seconds until a file without room in the zone is tried again, at most; the first time POLL."""


class Election(Protocol):
    """Elects the one of all workers that writes files."""

    def elect(self) -> bool:
        """Return whether it is this worker, by the calling thread."""

    def resign(self) -> None:
        """Let another worker be elected."""

    def is_leaving(self) -> bool:
        """Return whether this worker shuts down."""


@dataclass(frozen=True)
class Refusal:
    """A file without room in the zone, which is tried again."""

    put: int
    """Its `Found.put`."""
    delay: float
    """Seconds from this try to the next one."""
    due: float
    """When that is, as of `time.monotonic()`."""


class Saver(threading.Thread):
    """Saves the models of all workers at an interval, in one worker, and loads new files.

    The other workers wait to take its place. Memory is written to the disk in chunks, without the
    GIL, so that no batch waits for it.

    Args:
        checkpoints: The files.
        election: Elects the worker.
        states: Returns the shared states of the models.
        interval: Seconds between checkpoints.

    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        election: Election,
        states: Callable[[], Iterable[SharedState]],
        interval: float,
    ) -> None:
        super().__init__(name="webtorch checkpoints", daemon=True)
        self._checkpoints = checkpoints
        self._election = election
        self._states = states
        self._interval = interval
        self._stopping = threading.Event()
        self._refused: dict[Path, Refusal] = {}
        self._ignored: dict[str, set[Path]] = {}
        self._unsaved: dict[str, str] = {}
        """Errors of the last checkpoints, by the names of their models."""
        self._is_last = False

    def stop(self) -> None:
        """Save once more, if this is the elected worker, and end the thread."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Save, and poll for new files, whenever this worker is the elected one."""
        # a worker that takes over from a crashed one is late already
        pause = min(POLL, self._interval / 4)
        while True:
            # workers of a new configuration may have other models
            if not self._election.is_leaving() and self._election.elect():
                self._serve()
            if self._stopping.wait(pause):
                break
        if self._election.elect():
            self._save_for_the_last_time()

    def _serve(self) -> None:
        """Write and load files until the worker shuts down."""
        due = time.monotonic()
        while not self._election.is_leaving():
            self._load_new_files()
            if time.monotonic() >= due:
                # the interval is between begins: a file has the state of its begin
                due = time.monotonic() + self._interval
                self._save_all()
            if self._stopping.wait(min(POLL, max(0, due - time.monotonic()))):
                break
        self._save_for_the_last_time()

    def _save_for_the_last_time(self) -> None:
        # what is lost is logged once more, also if it has failed for long
        is_logged = not self._is_last
        self._is_last = True
        self._save_all(is_logged)
        for name in self._unsaved:
            Counts(name).fail(Counts.UNSAVED, False)
        self._election.resign()

    def _save_all(self, is_logged: bool = False) -> None:
        """Save all models; log failures if they are new, or in any case."""
        states = [*self._states()]
        # others were unloaded, or other code has come
        for name in self._unsaved.keys() - {shared.name for shared in states}:
            del self._unsaved[name]
            Counts(name).fail(Counts.UNSAVED, False)
        for shared in states:
            self._save(shared, is_logged)

    def _save(self, shared: SharedState, is_logged: bool) -> None:
        name = shared.name
        failed = self._unsaved.get(name)
        try:
            self._checkpoints.save(shared)
        except Exception as error:
            self._unsaved[name] = str(error)
            Counts(name).fail(Counts.UNSAVED, True)
            if is_logged or failed != str(error):
                log.error('model "%s" could not be saved: %s', name, error)
            return
        if failed is not None:
            del self._unsaved[name]
            Counts(name).fail(Counts.UNSAVED, False)
            log.warning('model "%s" is saved again', name)

    def _load_new_files(self) -> None:
        """Load files that were put into the directories of models."""
        for shared in self._states():
            try:
                self._load_new_file(shared)
                self._warn_of_others(shared)
            except Exception as error:
                log.error('model "%s": its files cannot be read: %s', shared.name, error)

    def _warn_of_others(self, shared: SharedState) -> None:
        """Log once each file with weights in another format."""
        known = self._ignored.get(shared.name, set())
        found = self._ignored[shared.name] = {*self._checkpoints.others(shared.name)}
        for path in sorted(found):
            if path not in known:
                log.warning(
                    'model "%s": %s is not used, as it is not a safetensors file: '
                    '"webtorch checkpoints import" makes one of it',
                    shared.name,
                    path,
                )

    def _load_new_file(self, shared: SharedState) -> None:
        with shared.pinned() as blocks:
            known = blocks.counters.seen
            files = self._checkpoints.files(shared.name)
            new = [file for file in files if not file.sequence and file.put > known]
            if not new:
                return
            newest = max(new, key=lambda file: file.put)
            refused = self._refused.get(newest.path)
            if refused and refused.put != newest.put:
                refused = None
            if refused and time.monotonic() < refused.due:
                return
            # a file that makes the worker crash is not read again
            blocks.counters.seen = newest.put
        try:
            loaded = read(newest.path, shared)
            shared.replace(loaded.tensors, loaded.steps, newest.put)
        except MemoryError as error:
            if not refused:
                log.error('model "%s": %s is not used: %s', shared.name, newest.path, error)
            delay = min(2 * refused.delay, MAX_DELAY) if refused else POLL
            self._refused[newest.path] = Refusal(newest.put, delay, time.monotonic() + delay)
            with shared.pinned() as blocks:
                if blocks.counters.seen == newest.put:
                    blocks.counters.seen = known
        except Exception as error:
            log.error('model "%s": %s is not used: %s', shared.name, newest.path, error)
        else:
            self._refused.pop(newest.path, None)
            log.warning('model "%s" has the weights of %s now', shared.name, newest.path)
