"""Calls of training functions: one at a time, and the steps that each thread has made."""

import threading
from typing import Protocol

from webtorch._zone.interfaces import Zone
from webtorch._zone.shared_state import SharedState


class Trained(Protocol):
    """A model as its training sees it."""

    @property
    def strict(self) -> SharedState | None:
        """Its state, if it is trained in strict order over all workers."""

    def gather(self) -> None:
        """Copy the values that a call has reassigned to where all workers read them."""

    def put_back(self) -> None:
        """Discard what a call has reassigned."""


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
        self._held: list[Trained] = []
        self._used: list[Trained] = []  # what they have assigned is not gathered yet
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
            try:
                if self._used or self._zone:
                    self._end(kind is not None)
            finally:
                self._lock.release()
        else:
            self._lock.release()

    def held_by_this_thread(self) -> bool:
        """Return whether this thread is within a call."""
        return self._thread == threading.get_ident()

    def use(self, model: Trained) -> None:
        """Note that this call uses a model; in strict order, lock out others and take a copy."""
        if model not in self._used:
            self._used.append(model)
        shared = model.strict
        if shared and model not in self._held:
            if self._zone is None:
                shared.zone.lock()
                self._zone = shared.zone
            shared.blocks.snapshot()
            self._held.append(model)

    def commit(self, model: Trained) -> None:
        """Complete a step: gather what the model has assigned, and drop the copy of it."""
        model.gather()
        if model in self._used:
            self._used.remove(model)
        if model.strict and model in self._held:
            model.strict.blocks.commit()
            self._held.remove(model)

    def _end(self, failed: bool) -> None:
        """Complete a call, or undo what it has changed since its last step; unlock the zone."""
        try:
            if not failed:
                for model in [*self._used]:
                    self.commit(model)
        finally:
            for model in self._held:
                if model.strict:
                    model.put_back()
                    model.strict.blocks.restore()
            self._held.clear()
            self._used.clear()
            if self._zone:
                self._zone.unlock()
                self._zone = None


training = Training()
