"""The thread that follows the orders of operators, in each worker."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from webtorch._zone.orders import DamagedOrdersError, Ordered, Orders
from webtorch._zone.shared_state import SharedState

log = logging.getLogger("webtorch")

POLL = 0.1
"""Seconds between polls of the file."""

PATIENCE = 10.0
"""Seconds for all workers to follow an order."""

WAIT = 0.01
"""Seconds between polls for whether they have."""


class Loader(Protocol):
    """Loads and unloads versions."""

    def follow(self, loaded: Iterable[str], unloaded: Iterable[str]) -> None:
        """Load and unload versions, unless they are so already."""

    def forget(self) -> None:
        """Release versions that were unloaded long ago."""


class Workers(Protocol):
    """What workers know of each other."""

    def set_followed(self, number: int) -> None:
        """Record the number of the last order that this worker has followed."""

    def count_behind(self, number: int) -> int:
        """Return how many workers that serve have not followed an order."""


class Follower(threading.Thread):
    """Polls the orders, and follows them.

    Args:
        orders: The file of the orders.
        loader: Loads and unloads versions.
        states: Returns the shared states of the models.
        workers: Records which orders were followed.

    """

    def __init__(
        self,
        orders: Orders,
        loader: Loader,
        states: Callable[[], Iterable[SharedState]],
        workers: Workers,
    ) -> None:
        super().__init__(name="webtorch orders", daemon=True)
        self.orders = orders
        self._loader = loader
        self._states = states
        self._workers = workers
        self._lock = threading.Lock()
        self._stamp: object = None
        self._failed = False
        self._last = Ordered()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Poll until `stop` is called."""
        while not self._stopping.wait(POLL):
            if self.orders.stamp() != self._stamp:
                self.follow()
            self._loader.forget()

    def follow(self) -> None:
        """Follow the orders now, or log why not: what was followed before stays then."""
        with self._lock:
            # what is written after this is read again
            self._stamp = self.orders.stamp()
            try:
                self._follow()
            except Exception as error:
                # it is tried again with each poll
                self._stamp = None
                if not self._failed:
                    log.error("the orders of operators could not be followed", exc_info=error)
                self._failed = True
            else:
                self._failed = False

    def _follow(self) -> None:
        ordered = self._last = self.orders.read()
        self._loader.follow(ordered.loaded, ordered.unloaded)
        # a round may have frozen a model while versions were loaded
        frozen = self.orders.read().frozen
        for shared in self._states():
            shared.set_frozen(shared.name in frozen)
        self._workers.set_followed(ordered.number)

    def unloaded(self) -> frozenset[str]:
        """Return the versions that are unloaded; if that cannot be read, those of before."""
        try:
            return self.orders.read().unloaded
        except (OSError, DamagedOrdersError) as error:
            log.error("the orders of operators could not be read: %s", error)
            return self._last.unloaded

    def order(self, change: Callable[[Ordered], Ordered]) -> None:
        """Write an order, and wait until all workers that serve have followed it, or PATIENCE.

        Raises:
            OSError: The order cannot be written.
            DamagedOrdersError: The file of those before is damaged.

        """
        number = self.orders.change(change).number
        self.follow()
        end = time.monotonic() + PATIENCE
        while behind := self._workers.count_behind(number):
            if time.monotonic() > end:
                log.warning("%d workers have not followed an order yet", behind)
                break
            time.sleep(WAIT)
