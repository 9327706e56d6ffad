"""What operators see of the rounds with other hosts."""

import time
from collections.abc import Collection, Mapping

from webtorch._cluster.lineage import id_of
from webtorch._cluster.rounds import Round
from webtorch._cluster.store import State
from webtorch._metrics.cells import SECONDS, Cells, MetricKind, Wanted, own_cells
from webtorch._zone.rounds_store import RoundsStore
from webtorch.metrics import Counter, Gauge, Histogram

_RESULTS = ("done", "idle", "failed", "alone", "guest")

_STOPPED = "webtorch_cluster_rollout_stopped"

FORGET = 3600.0
"""Seconds for which a host that has gone is shown."""

_HOST = {
    "webtorch_cluster_host_up": "Whether a host takes part.",
    "webtorch_cluster_host_guest": "Whether a host is a guest.",
    "webtorch_cluster_host_age_seconds": "Time since a host took part.",
    "webtorch_cluster_host_wait_seconds": "Time that the last round waited for a host.",
    "webtorch_cluster_host_steps": "Steps of a host in the weights.",
}


class Metrics:
    """Metrics of the worker that does rounds; gauges of the others are not set."""

    def __init__(self) -> None:
        self._gauges: dict[tuple[str, str], Cells] = {}
        self._rounds = {
            result: _counter("webtorch_cluster_rounds_total", "Rounds.", f'result="{result}"')
            for result in _RESULTS
        }
        self._bytes = {
            direction: _counter(
                "webtorch_cluster_bytes_total",
                "Bytes to and from other hosts.",
                f'direction="{direction}"',
            )
            for direction in ("sent", "received")
        }
        self._steps = _counter(
            "webtorch_cluster_steps_total", "Steps of all hosts that rounds counted."
        )
        self._lost = _counter(
            "webtorch_cluster_steps_lost_total", "Steps of this host that are not contributed."
        )
        self._mismatches = _counter(
            "webtorch_cluster_mismatches_total",
            "Anchors that should have been the same at all hosts.",
        )
        self._seconds = Histogram(
            own_cells(
                Wanted(
                    MetricKind.HISTOGRAM,
                    "webtorch_cluster_round_seconds",
                    "",
                    "Time of a round.",
                    SECONDS,
                )
            ),
            SECONDS,
        )
        self._began = time.time()
        self._seen: dict[str, float] = {}
        self._stopped: dict[str, str] = {}

    def count_round(self, done: Round, seconds: float) -> None:
        """Count a round that is complete."""
        self._rounds["done" if done.models else "idle"].inc()
        if done.models:
            self._seconds.observe(seconds)
        self._count_steps(done)
        self._mismatches.inc(done.mismatches)

    def count_visit(self, done: Round) -> None:
        """Count a turn of this host as a guest."""
        self._rounds["guest"].inc()
        self._count_steps(done)

    def _count_steps(self, done: Round) -> None:
        self._steps.inc(max(0, done.steps))
        self._lost.inc(max(0, done.lost))

    def count_failure(self) -> None:
        """Count a round that ended in an error."""
        self._rounds["failed"].inc()

    def count_alone(self) -> None:
        """Count a turn without a round, as this host is alone."""
        self._rounds["alone"].inc()

    def count_bytes(self, sent: int, received: int) -> None:
        """Count what a round has sent and received."""
        self._bytes["sent"].inc(sent)
        self._bytes["received"].inc(received)

    def show_members(self, members: int, generation: int, is_guest: bool = False) -> None:
        """Show how many hosts take part, and whether this one is a guest of them."""
        self._set("webtorch_cluster_guest", "Whether this host is a guest.", float(is_guest))
        self._set("webtorch_cluster_members", "Hosts that take part.", members)
        self._set("webtorch_cluster_generation", "Number of their group.", generation)

    def show_hosts(
        self,
        ids: Collection[str],
        waits: Mapping[str, float],
        stores: Mapping[str, RoundsStore],
        guests: Collection[str] = (),
    ) -> None:
        """Show each host: whether it takes part, its link, and its share of the steps.

        Args:
            ids: Those that take part.
            waits: `Group.waits` of the last round.
            stores: The models.
            guests: Hosts whose contributions members add to their own.

        """
        now = time.monotonic()
        self._seen |= dict.fromkeys([*ids, *guests], now)
        steps = _steps_of_hosts(stores)
        for host, seen in [*self._seen.items()]:
            labels = f'host="{host}"'
            if now - seen > FORGET:
                del self._seen[host]
                for name in _HOST:
                    self._gauges[name, labels].ints[0] = 0
                continue
            link = waits.get(host, 0.0)
            values = (host in ids, host in guests, now - seen, link, steps.get(host, 0))
            for (name, text), value in zip(_HOST.items(), values, strict=True):
                self._set(name, text, float(value), labels)

    def show_models(self, stores: Mapping[str, RoundsStore]) -> None:
        """Show what is not counted yet, and since when: also while there are no rounds."""
        for name, store in stores.items():
            value = name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
            uncounted = max(0, store.made() - store.state.mark)
            self._set(
                "webtorch_cluster_steps_uncounted",
                "Steps of this host that are in no round yet.",
                uncounted,
                f'model="{value}"',
            )
            self._show_rollout(store.state, value)

        if stores:
            # of another worker of this host, too
            last = max(store.state.time for store in stores.values()) or self._began
            self._set(
                "webtorch_cluster_last_round_seconds",
                "Time since the last round that counted steps.",
                max(0.0, time.time() - last),
            )

    def _show_rollout(self, state: State, model: str) -> None:
        """Show the epoch, and what is rolled out: a host that has stopped it and why, too."""
        label = f'model="{model}"'
        rollout = state.rollout
        is_open = rollout is not None and rollout.is_open and rollout.size > 1
        self._set(
            "webtorch_cluster_epoch", "Number of the weights' epoch.", state.anchor.epoch, label
        )
        self._set(
            "webtorch_cluster_rollout",
            "Whether hosts do not have weights yet that are rolled out.",
            float(is_open),
            label,
        )
        stopped = ""
        if rollout is not None and rollout.stage == "stopped":
            kind = rollout.reason.partition(":")[0]
            stopped = f'{label},host="{rollout.host}",reason="{kind}"'
        before = self._stopped.pop(model, "")
        if before and before != stopped:
            self._gauges[_STOPPED, before].ints[0] = 0
        if stopped:
            self._stopped[model] = stopped
            self._set(_STOPPED, "1: a rollout has stopped, at this host.", 1.0, stopped)

    def hide(self) -> None:
        """Show no gauges: another worker does."""
        for cells in self._gauges.values():
            cells.ints[0] = 0

    def _set(self, name: str, text: str, value: float, labels: str = "") -> None:
        key = name, labels
        if key not in self._gauges:
            wanted = Wanted(MetricKind.MAX, name, labels, text)
            self._gauges[key] = own_cells(wanted)
        Gauge(self._gauges[key]).set(value)


def _steps_of_hosts(stores: Mapping[str, RoundsStore]) -> dict[str, int]:
    """Return the steps of all memories of each host that the anchors contain."""
    found: dict[str, int] = {}
    for store in stores.values():
        for memory, share in store.state.anchor.shares.items():
            host = id_of(memory)
            found[host] = found.get(host, 0) + share.steps
    return found


def _counter(name: str, text: str, labels: str = "") -> Counter:
    return Counter(own_cells(Wanted(MetricKind.COUNTER, name, labels, text)))
