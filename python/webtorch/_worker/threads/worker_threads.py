"""The threads of a worker beside its handlers: they save models, follow orders, reload code."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webtorch._cluster.interfaces import Settings as ClusterSettings
from webtorch._core import process
from webtorch._models import model_state
from webtorch._models.model import models
from webtorch._worker.control import orders
from webtorch._worker.control.follower import Follower
from webtorch._worker.models.served_versions import versions
from webtorch._worker.process import seeds
from webtorch._worker.process.interpreter_exit import finish
from webtorch._worker.threads.reload import Reloader
from webtorch._worker.threads.saver import Saver
from webtorch._worker.threads.uploader import Uploader
from webtorch._zone.bucket import Bucket
from webtorch._zone.checkpoint import Checkpoints
from webtorch._zone.orders import Orders
from webtorch._zone.rounds_store import RoundsKind
from webtorch._zone.stored import StoredCheckpoints, Youngest
from webtorch._zone.zone import NginxZone


@dataclass(frozen=True)
class StorageSettings:
    """Object storage for checkpoints."""

    url: str
    """`s3://bucket/path`."""
    endpoint: str | None
    """URL of the store; None: that of AWS."""
    interval: float
    """Seconds between two files of a model."""
    keep: int
    """Number of files of a model that are kept."""


@dataclass(frozen=True)
class WorkerSettings:
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
    store: StorageSettings | None
    """Object storage for checkpoints; None if there is none."""
    reload: bool
    """Whether code that changes on disk is reloaded."""
    roots: list[str]
    """The directories of the user's modules."""
    cluster: ClusterSettings | None
    """The cluster; None if the host is alone."""
    threads: int
    """Threads of an operator of PyTorch."""
    owner: bool
    """Whether the functions that workers offload to one of them run here."""


class WorkerThreads:
    """A worker, or a process that checks handlers.

    It is made before handlers are loaded.

    Args:
        settings: Settings of nginx's configuration.
        reload_handlers: Imports all handlers again.

    """

    def __init__(
        self, settings: WorkerSettings, reload_handlers: Callable[[Iterable[str]], None]
    ) -> None:
        process.checks = settings.check
        process.owns = settings.owner
        threads: list[Any] = []
        model_state.checks = settings.check
        model_state.announces = settings.worker == 0 and not settings.check
        if settings.zone:
            model_state.zone = zone = NginxZone()
            if settings.checkpoints:
                model_state.source = checkpoints = Checkpoints(settings.checkpoints, settings.keep)
                threads.append(Saver(checkpoints, zone, models.shared_states, settings.interval))
                follower = orders.follower = Follower(
                    Orders(settings.checkpoints),
                    versions,
                    models.shared_states,
                    zone,
                )
                threads.append(follower)
            if settings.cluster:
                # after the last checkpoint, which does not wait for other hosts
                threads += _cluster_threads(settings.cluster, zone, settings.threads)
            if settings.store:
                if importlib.util.find_spec("botocore") is None:
                    model_state.storage_problem = (
                        f"webtorch_checkpoint {settings.store.url} needs a package that is "
                        "missing: pip install webtorch[s3]"
                    )
                elif not settings.check:
                    # after the last round; a check does not ask the store
                    threads.append(_uploader(settings.store, settings.cluster, zone))
        if settings.reload:
            # bytecode of a file that is written twice in a second would be taken for current
            sys.dont_write_bytecode = True
            threads.append(Reloader(settings.roots, self._reload))
        self._reload_handlers = reload_handlers
        self._worker = settings.worker, settings.generation
        self._reloads = 0
        self._threads = [] if settings.check else threads

    def start(self) -> None:
        """Start the threads: handlers are loaded."""
        seeds.mix(*self._worker)
        versions.load_stored(self._unloaded())
        versions.publish()
        if orders.follower:
            orders.follower.follow()
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

    def _unloaded(self) -> frozenset[str]:
        follower = orders.follower
        return follower.unloaded() if follower else frozenset()

    def _reload(self) -> None:
        try:
            self._reload_handlers(self._unloaded())
        finally:
            # modules may have set seeds again
            self._reloads += 1
            seeds.mix(*self._worker, self._reloads)


def _uploader(store: StorageSettings, cluster: ClusterSettings | None, zone: NginxZone) -> Uploader:
    """Return the thread that writes to object storage, from which models begin, too."""
    host = cluster.id if cluster else ""
    bucket = Bucket(store.url, store.endpoint)
    stored = StoredCheckpoints(bucket, store.keep, store.interval, host)
    checkpoints = model_state.source if isinstance(model_state.source, Checkpoints) else None
    model_state.start = Youngest(stored, checkpoints)
    return Uploader(stored, zone, models.shared_states, store.interval)


def _cluster_threads(settings: ClusterSettings, zone: NginxZone, threads: int) -> list[Any]:
    """Return the thread that does rounds with other hosts, if the packages for it are there."""
    model_state.rounds = RoundsKind(momentum=settings.outer.name == "nesterov")
    try:
        # other workers need none of what it imports
        cluster = importlib.import_module("webtorch._worker.cluster.thread")
        model_counts = importlib.import_module("webtorch._worker.cluster.model_counts")
        importlib.import_module("webtorch._cluster.coordinator").library()
    except ImportError as error:
        model_state.rounds_problem = (
            f"webtorch_cluster needs packages that are missing, pip install webtorch[cluster]: "
            f"{error}"
        )
        return []
    written = orders.follower.orders if orders.follower else None
    states = models.shared_states
    return [cluster.Cluster(settings, zone, states, threads, written, model_counts.count)]
