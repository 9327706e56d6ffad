"""What a worker does by itself, beside its handlers: it saves models, and looks for new code."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from webtorch import _state
from webtorch._model import models
from webtorch._worker.reload import Watcher
from webtorch._zone.checkpoint import Checkpoints, Saver
from webtorch._zone.shared_state import SharedState
from webtorch._zone.zone import NginxZone


@dataclass(frozen=True)
class Settings:
    """Of nginx's configuration."""

    check: bool
    """Whether the process only tries handlers, and serves nothing."""
    zone: bool
    checkpoints: Path | None
    interval: float
    """Seconds between checkpoints."""
    keep: int
    reload: bool
    roots: list[str]
    """The directories of the user's modules."""


class Process:
    """A worker, or a process that checks handlers.

    Args:
        settings: of nginx's configuration.
        swap_handlers: imports them anew.

    """

    def __init__(self, settings: Settings, swap_handlers: Callable[[], None]) -> None:
        threads: list[Saver | Watcher] = []
        if settings.zone:
            _state.zone = zone = NginxZone()
            if settings.checkpoints:
                _state.source = checkpoints = Checkpoints(settings.checkpoints, settings.keep)
                threads.append(Saver(checkpoints, zone, shared_states, settings.interval))
        if settings.reload:
            # a file that is written twice in a second would be taken for its bytecode
            sys.dont_write_bytecode = True
            threads.append(Watcher(settings.roots, swap_handlers))
        self._threads = [] if settings.check else threads

    def start(self) -> None:
        """Begin: handlers are loaded."""
        for shared in shared_states():
            shared.supersede()
        for thread in self._threads:
            thread.start()

    def exit(self) -> None:
        """End."""
        for thread in self._threads:
            if thread.is_alive():
                thread.stop()


def shared_states() -> list[SharedState]:
    """Return the states of the models that workers share."""
    found = [model.state for model in [*models.values()]]
    return [shared for shared in found if isinstance(shared, SharedState)]
