"""Calls of training functions: one at a time, and the steps that each thread has made."""

import threading

from webtorch._zone.interfaces import Zone
from webtorch._zone.shared_state import SharedState


class Progress:
    """Records which threads have made optimizer steps, of any model, since their call began.

    A call that fails after a step has changed a model. `begin` runs before every call: a set that
    is mostly empty costs less there than a thread-local variable.
    """

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def begin(self) -> None:
        """Forget the steps of this thread."""
        if self._threads:
            self._threads.discard(threading.get_ident())

    def mark(self) -> None:
        """Record a step of this thread."""
        self._threads.add(threading.get_ident())

    def has_stepped(self) -> bool:
        """Return whether this thread has made a step since `begin`."""
        return threading.get_ident() in self._threads


progress = Progress()


class Training:
    """A lock around calls of training functions in this process; calls may be nested.

    Two calls at once would mix their gradients, and one would change the weights between the
    other's forward and backward pass. With models that are trained in strict order the lock is one
    of all workers, from a call's first use of such a model on.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._zone: Zone | None = None  # None while its lock is not held
        self._held: list[SharedState] = []
        self._depth = 0
        self._thread = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1
        self._thread = threading.get_ident()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._thread = 0
            if self._zone:
                self._release(kind is not None)
        self._lock.release()

    def held_by_this_thread(self) -> bool:
        """Return whether this thread is within a call."""
        return self._thread == threading.get_ident()

    def acquire(self, shared: SharedState) -> None:
        """Lock out other workers from training in strict order, and take a copy of a model."""
        if shared not in self._held:
            if self._zone is None:
                shared.zone.lock()
                self._zone = shared.zone
            shared.block.snapshot()
            self._held.append(shared)

    def commit(self, shared: SharedState) -> None:
        """Drop the copy of a model: a step is made."""
        shared.block.commit()
        self._held.remove(shared)

    def _release(self, failed: bool) -> None:
        """Unlock the zone; what a failed call has changed since its last step is undone."""
        for shared in self._held:
            if failed:
                shared.block.restore()
            else:
                shared.block.commit()
        self._held.clear()
        if self._zone:
            self._zone.unlock()
            self._zone = None


training = Training()
