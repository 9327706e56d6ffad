"""The thread that does rounds with other hosts, in one worker."""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import torch

from webtorch._cluster.coordinator import is_loopback, resolve
from webtorch._cluster.interfaces import ClusterError, Settings
from webtorch._cluster.rollout_judge import Figures
from webtorch._cluster.rounds import Rounds
from webtorch._cluster.store import State
from webtorch._worker.cluster import own_address
from webtorch._worker.cluster.host import RETRY, Host
from webtorch._worker.cluster.metrics import Metrics
from webtorch._zone.orders import Orders
from webtorch._zone.rounds_store import RoundsStore
from webtorch._zone.shared_state import SharedState

log = logging.getLogger("webtorch")

POLL = 0.2
"""Seconds between polls for whether the worker that does rounds still runs."""

LAST_ROUNDS = 5
"""Rounds that a host which shuts down takes part in, at most."""

LAST_SECONDS = 10.0
"""Seconds after which such a host begins no other round: workers that exit are not waited for."""

RELOCATE = 10.0
"""Seconds from one look for another address of this host to the next, while rounds fail."""


class Election(Protocol):
    """Elects the one of all workers that does rounds."""

    def elect_rounds(self) -> bool:
        """Return whether it is this worker, by the calling thread."""

    def resign_rounds(self) -> None:
        """Let another worker be elected."""

    def join(self, joined: bool) -> None:
        """Note whether the models of this host are those of its cluster."""

    def is_last(self) -> bool:
        """Note that this worker has made its last step; return whether all workers have."""

    def is_leaving(self) -> bool:
        """Return whether this worker shuts down."""


class Cluster(threading.Thread):
    """Does rounds with other hosts, in one worker; the others wait to take its place.

    Training and inference do not wait for it: PyTorch's operators and gloo release the GIL, and a
    model is locked for a copy or an addition only, if it is trained in strict order.

    Args:
        settings: Those of the cluster; an empty address is that of the route to the coordinator.
        election: Elects the worker.
        states: Returns the shared states of the models.
        threads: Threads of an operator of PyTorch.
        orders: The orders of operators, which outlive the zone; None if there are none.
        count: Returns what was counted of a model, by its key; None: nothing is.

    """

    def __init__(
        self,
        settings: Settings,
        election: Election,
        states: Callable[[], Iterable[SharedState]],
        threads: int,
        orders: Orders | None = None,
        count: Callable[[str], Figures] | None = None,
    ) -> None:
        super().__init__(name="webtorch cluster", daemon=True)
        self._settings = settings
        self._election = election
        self._states = states
        self._threads = threads
        self._orders = orders
        self._count = count
        self._stopping = threading.Event()
        self._said = ""
        self._rests: dict[str, torch.Tensor] = {}
        self._located_at = 0.0

    def stop(self) -> None:
        """Contribute for the last time, if all workers of the host shut down, and end."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Do rounds whenever this worker is the elected one."""
        torch.set_num_threads(self._threads)
        # workers share no cells before handlers are loaded
        self._metrics = Metrics()
        while not self._stopping.wait(POLL):
            # workers of a new configuration may have other models
            if not self._election.is_leaving() and self._election.elect_rounds():
                self._serve(self._is_leaving, self._is_leaving)
        if self._election.is_last() and self._elect_for(self._settings.timeout):
            rounds = iter(range(LAST_ROUNDS))
            deadline = time.monotonic() + LAST_SECONDS
            self._serve(
                lambda: (
                    not self._has_uncounted()
                    or next(rounds, None) is None
                    or time.monotonic() > deadline
                ),
                lambda: time.monotonic() > deadline,
                is_last=True,
            )

    def _is_leaving(self) -> bool:
        return self._stopping.is_set() or self._election.is_leaving()

    def _elect_for(self, seconds: float) -> bool:
        """Wait to be elected: another worker may be about to exit."""
        deadline = time.monotonic() + seconds
        while not self._election.elect_rounds():
            if time.monotonic() > deadline:
                return False
            time.sleep(RETRY)
        return True

    def _serve(
        self, is_over: Callable[[], bool], is_late: Callable[[], bool], is_last: bool = False
    ) -> None:
        """Do rounds until it is over; another worker can be elected then. See `Host`."""
        host = None
        is_resumed = False
        try:
            while True:
                delay = self._settings.interval
                try:
                    if not is_resumed:
                        # what a worker that was killed has begun is completed in any case
                        with self._stores() as stores:
                            Rounds(self._settings, lambda: stores).resume()
                            self._election.join(_are_joined(stores))
                        is_resumed = True
                    if is_over():
                        break
                    if host is None:
                        host = Host(self._located(), self._metrics, is_last, is_late)
                    delay = host.work(self._stores)
                    if host.is_failing and self._has_moved(host):
                        # the next turn is at the other address
                        host.leave()
                        host = None
                except Exception as error:
                    self._metrics.count_failure()
                    # a thread that ends would leave the host without rounds, and another worker
                    # would do the same
                    text = str(error) if isinstance(error, ClusterError) else repr(error)
                    self._say(f"rounds with other hosts fail: {text}")
                    if self._stopping.is_set():
                        break
                self._show()
                if self._stopping.wait(delay):
                    if host is None or host.is_cut_off:
                        break
                    host.wait_for_others(delay)
        finally:
            try:
                if host:
                    host.leave()
                self._metrics.hide()
            except Exception as error:
                self._say(f"this host has not left: {error!r}")
            finally:
                self._election.resign_rounds()

    def _show(self) -> None:
        """Show what is not counted: alerts need it when there are no rounds.

        Other code may have brought a model that is not that of the cluster yet.
        """
        # an error of this kind is that of the next turn
        with contextlib.suppress(Exception), self._stores() as stores:
            self._election.join(_are_joined(stores))
            self._metrics.show_models(stores)

    def _located(self) -> Settings:
        """Return the settings with the address of this host.

        Raises:
            ClusterError: It cannot be found, or all can reach it.

        """
        settings = self._settings
        if settings.address:
            return settings
        name, port = settings.coordinator
        try:
            address = own_address.route(resolve(name, port)[0], port)
        except OSError as error:
            raise ClusterError(f'coordinator "{name}": {error}') from error
        if not settings.secrets and not is_loopback(address):
            raise ClusterError(f"without a secret the address of this host cannot be {address}")
        if settings.secrets and is_loopback(address) and not own_address.is_local(name):
            # for example 127.0.1.1 of /etc/hosts, at the host that has the name
            raise ClusterError(
                f'the name of the coordinator, "{name}", leads to a loopback address of this host, '
                'which others cannot reach: set "address=" in webtorch_cluster'
            )
        return dataclasses.replace(settings, address=address)

    def _has_moved(self, host: Host) -> bool:
        """Return whether the address of this host has changed, for example by another lease."""
        now = time.monotonic()
        if self._settings.address or now - self._located_at < RELOCATE:
            return False
        self._located_at = now
        try:
            address = self._located().address
        except ClusterError:
            # as long as nothing is known of another address
            return False
        if address == host.address:
            return False
        log.warning(
            'cluster "%s": the address of this host is %s now, it was %s',
            self._settings.name,
            address,
            host.address,
        )
        return True

    @contextlib.contextmanager
    def _stores(self) -> Iterator[Mapping[str, RoundsStore]]:
        """Return the stores of all models; their blocks are pinned meanwhile."""
        with contextlib.ExitStack() as stack:
            found = {}
            for shared in self._states():
                blocks = stack.enter_context(shared.pinned())
                store = shared.rounds_store(blocks)
                if store is not None:
                    store.rest = self._rest(shared.name, store.floats)
                    store.order = self._order if self._orders else None
                    store.count = self._count
                    found[shared.name] = store
            yield found

    def _order(self, name: str, frozen: bool) -> None:
        """Write an order of another host, so that it is in force after a restart, too."""
        assert self._orders is not None
        key = {name}
        self._orders.change(
            lambda ordered: dataclasses.replace(
                ordered, frozen=ordered.frozen | key if frozen else ordered.frozen - key
            )
        )

    def _rest(self, name: str, floats: int) -> torch.Tensor | None:
        """Return what rounding of a model's contributions has left; None if none are rounded."""
        if self._settings.compress == "none":
            return None
        rest = self._rests.get(name)
        if rest is None or rest.numel() != floats:
            rest = self._rests[name] = torch.zeros(floats)
        return rest

    def _has_uncounted(self) -> bool:
        with self._stores() as stores:
            return any(store.made() > store.state.mark for store in stores.values())

    def _say(self, text: str) -> None:
        """Log an error, once until there is another one."""
        if text != self._said:
            self._said = text
            log.error('cluster "%s": %s', self._settings.name, text)


def _are_joined(stores: Mapping[str, RoundsStore]) -> bool:
    """Return whether all models are those of the cluster, or of a checkpoint."""
    return all(_has_source(store.state) for store in stores.values())


def _has_source(state: State) -> bool:
    """Return whether a model is that of a checkpoint or of a round, not as the code has made it."""
    return state.joined or not state.fresh or state.anchor.steps > 0
