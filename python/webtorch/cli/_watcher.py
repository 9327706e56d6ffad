"""Changes of files."""

import time
from collections.abc import Iterable
from pathlib import Path

from webtorch._core.files import Signature, signature

POLL = 0.1
"""Seconds between polls."""


class Watcher:
    """Polls files.

    A file that is not there is watched, too: to appear is a change.
    """

    def __init__(self) -> None:
        self._files: set[Path] = set()
        self._seen: dict[Path, Signature] = {}

    def watch(self, files: Iterable[Path], since: int) -> None:
        """Watch further files; those that are watched already are compared with what they were.

        Args:
            files: The files.
            since: When they began to be read, in nanoseconds since 1970: what was written later is
                a change.

        """
        for file in set(files) - self._files:
            self._files.add(file)
            found = signature(file)
            if found and found[0] < since:
                self._seen[file] = found

    def changed(self) -> list[Path]:
        """Return the files that have changed since they were seen, and are there."""
        found = []
        for file in self._files:
            # an editor may remove a file before it writes it
            now = signature(file)
            if now and now != self._seen.get(file):
                self._seen[file] = now
                found.append(file)
        return sorted(found)

    def wait(self) -> list[Path]:
        """Wait for a change; return the changed files."""
        while not (found := self.changed()):
            time.sleep(POLL)
        return found
