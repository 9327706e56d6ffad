"""The threads of a worker beside its handlers: they save models and reload code."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from webtorch import _process, _state
from webtorch._model import models
from webtorch._worker import seeds
from webtorch._worker.finish import finish
from webtorch._worker.reload import Watcher
from webtorch._worker.saver import Saver
from webtorch._zone.checkpoint import Checkpoints
from webtorch._zone.zone import NginxZone


@dataclass(frozen=True)
class Settings:
    """Settings of nginx's configuration."""

    check: bool
    """Whether the process only checks handlers, and serves nothing."""
    worker: int
    """Number of the worker, from 0; one that replaces a crashed worker has the same."""
    generation: int
    """Number of the configuration."""
    zone: bool
    """Whether models are shared by workers."""
    checkpoints: Path | None
    """The directory of checkpoints; None if there are none."""
    interval: float
    """Seconds between checkpoints."""
    keep: int
    """Number of checkpoints of a model that are kept."""
    reload: bool
    """Whether code that changes on disk is reloaded."""
    roots: list[str]
    """The directories of the user's modules."""


class Process:
    """A worker, or a process that checks handlers.

    It is made before handlers are loaded.

    Args:
        settings: Settings of nginx's configuration.
        reload_handlers: Imports all handlers again.

    """

    def __init__(self, settings: Settings, reload_handlers: Callable[[], None]) -> None:
        _process.checks = settings.check
        threads: list[Saver | Watcher] = []
        _state.checks = settings.check
        _state.announces = settings.worker == 0 and not settings.check
        if settings.zone:
            _state.zone = zone = NginxZone()
            if settings.checkpoints:
                _state.source = checkpoints = Checkpoints(settings.checkpoints, settings.keep)
                threads.append(Saver(checkpoints, zone, models.shared_states, settings.interval))
        if settings.reload:
            # bytecode of a file that is written twice in a second would be taken for current
            sys.dont_write_bytecode = True
            threads.append(Watcher(settings.roots, self._reload))
        self._reload_handlers = reload_handlers
        self._worker = settings.worker, settings.generation
        self._reloads = 0
        self._threads = [] if settings.check else threads

    def start(self) -> None:
        """Start the threads: handlers are loaded."""
        seeds.mix(*self._worker)
        for shared in models.shared_states():
            shared.supersede()
        for thread in self._threads:
            thread.start()

    def exit(self) -> None:
        """Stop the threads, and end as the interpreter does, whose finalization is not run."""
        for thread in self._threads:
            if thread.is_alive():
                thread.stop()
        finish()

    def _reload(self) -> None:
        try:
            self._reload_handlers()
        finally:
            # modules may have set seeds again
            self._reloads += 1
            seeds.mix(*self._worker, self._reloads)
