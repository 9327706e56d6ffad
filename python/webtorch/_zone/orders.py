"""What operators have ordered for models, in a file beside the checkpoints.

It outlives workers, reloads and restarts. Workers poll it.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

FILE = ".orders.json"
LOCK = ".lock"
_SETS = ("loaded", "unloaded", "frozen")


@dataclass(frozen=True)
class Ordered:
    """All orders that are in force."""

    number: int = 0
    """Number of the last order, from 1."""
    loaded: frozenset[str] = frozenset()
    """Versions that were loaded, as `name@version`."""
    unloaded: frozenset[str] = frozenset()
    """Versions that have files and are not loaded."""
    frozen: frozenset[str] = frozenset()
    """Models that are not trained."""


class DamagedOrdersError(Exception):
    """The file of the orders is not one: they are not known."""


class Orders:
    """The file.

    Args:
        root: The directory of checkpoints, which exists.

    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / FILE

    def read(self) -> Ordered:
        """Return the orders; without a file there are none.

        Raises:
            OSError: The file cannot be read.
            DamagedOrdersError: It is damaged.

        """
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return Ordered()
        try:
            found = json.loads(text)
            sets = (frozenset(found[key]) for key in _SETS)
            return Ordered(int(found["number"]), *sets)
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedOrdersError(
                f"{self._path} is damaged: {error!r}; correct it, or remove it to drop all orders"
            ) from error

    def stamp(self) -> object:
        """Return what differs when the file has changed."""
        with contextlib.suppress(OSError):
            status = self._path.stat()
            return status.st_ino, status.st_mtime_ns
        return None

    def change(self, change: Callable[[Ordered], Ordered]) -> Ordered:
        """Change the orders, in one process at a time; return them.

        Raises:
            OSError: The file cannot be read or written.
            DamagedOrdersError: It is damaged.

        """
        with locked(self._root):
            before = self.read()
            ordered = replace(change(before), number=before.number + 1)
            sets = {key: sorted(getattr(ordered, key)) for key in _SETS}
            text = json.dumps({"number": ordered.number, **sets})
            draft = self._root / f"{FILE}.tmp"
            with draft.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        return ordered


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Lock out other threads and processes that write to the directory of checkpoints."""
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
