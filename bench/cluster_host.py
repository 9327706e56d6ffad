"""A host of bench/cluster.py: rounds of a model in memory, without nginx.

Usage: cluster_host.py JSON, an object with "settings" of `webtorch._cluster.interfaces.Settings`,
"count" of parameters, "rate" of steps each second (0: one step before each round), "adding"
(whether differences are added, not averaged, so that the weights are the number of steps), and
"state", a file to which the steps that were made are written.

It writes a line of JSON to stdout for each round and each error, and ends with stdin. A line there,
"replace VALUE", puts other weights into place. Each host answers 50 requests a second, and those
fail as long as the weights are negative.
"""

import dataclasses
import json
import math
import mmap
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))

import torch

from cluster_threads import Adding, Memory
from webtorch._cluster.coordinator import Coordinator
from webtorch._cluster.group import GlooGroup, connect
from webtorch._cluster.guest_rounds import Visits
from webtorch._cluster.guests import Guests
from webtorch._cluster.interfaces import ClusterError, Rolling, Settings, UnreachableError, View
from webtorch._cluster.membership import Lighthouse
from webtorch._cluster.reception import Reception
from webtorch._cluster.rollout_judge import Figures
from webtorch._cluster.rounds import Round, Rounds
from webtorch._cluster.seal import Ring
from webtorch._cluster.speeds import (
    CONNECT,
    SlowLinksError,
    Speeds,
    limit,
    size_of_round,
    without_slow,
)


class Counted(Memory):
    """Memory that another thread trains, and whose steps another process can read."""

    def __init__(self, name: str, count: int, rest: bool, state: Path) -> None:
        self._lock = threading.RLock()
        state.write_bytes(bytes(8))
        with state.open("r+b") as file:
            self._made = mmap.mmap(file.fileno(), 8)
        super().__init__(name, {"weight": torch.zeros(count)}, rest=rest)

    def train(self, steps: int = 1, change: float = 1.0) -> None:
        with self._lock:
            super().train(steps, change)
            self._made[:] = self.steps.to_bytes(8, "little")

    def take_snapshot(self) -> int:
        with self._lock:
            return super().take_snapshot()

    def apply(self) -> int:
        with self._lock:
            return super().apply()

    def replace(self, value: float, steps: int) -> None:
        with self._lock:
            super().replace(value, steps)

    def answer(self) -> None:
        """Answer a request; it fails if the model is broken."""
        is_error = self.weights["weight"][0].item() < 0
        self.counted = Figures(self.counted.answers + 1, self.counted.errors + is_error)


class Runner:
    """The loop of a host's rounds."""

    def __init__(self, found: dict[str, Any]) -> None:
        settings = found["settings"]
        settings["coordinator"] = tuple(settings["coordinator"])
        settings["secrets"] = tuple(bytes.fromhex(text) for text in settings["secrets"])
        if settings["rolling"]:
            settings["rolling"] = Rolling(**settings["rolling"])
        self.settings = Settings(**settings)
        self.rate = found["rate"]
        self.name = secrets.token_hex(4)
        rest = self.settings.compress != "none"
        self.memory = Counted(self.name, found["count"], rest, Path(found["state"]))
        self.ring = Ring(self.settings.name, self.settings.secrets)
        self.instance = Path(found["state"]).name
        self.membership = Lighthouse(self.settings, self.ring, self.instance)
        kind = Adding if found["adding"] else Rounds
        self.stores: Mapping[str, Counted] = {"model": self.memory}
        guests = Guests()
        self.rounds = kind(self.settings, lambda: self.stores, guests)
        self.reception = Reception(self.settings, self.ring, guests)
        self.speeds = Speeds(self.settings, self.ring)
        self.visits: Visits | None = None
        self.group: GlooGroup | None = None
        self.view = View(0, ())
        self.mean_seconds = 0.0

    @contextmanager
    def _pinned(self) -> Iterator[Mapping[str, Counted]]:
        yield self.stores

    def run(self) -> None:
        Coordinator(self.settings).start()
        self.reception.start(self._pinned)
        self.tell("started", memory=f"{self.settings.id}/{self.name}")
        if self.rate:
            threading.Thread(target=self._train, daemon=True).start()
        threading.Thread(target=self._answer, daemon=True).start()
        while True:
            due = time.monotonic() + self.settings.interval
            try:
                if self.visits:
                    self._visit(self.visits)
                elif not self._round():
                    continue
            except SlowLinksError:
                self._close_group()
                self.reception.admit(())
                self.membership.close()
                self.membership = Lighthouse(self.settings, self.ring, self.instance)
                self.visits = Visits(
                    self.settings, lambda: self.stores, self.ring, self.view.members
                )
                self.tell("guest")
                continue
            except ClusterError as error:
                self.tell("error", text=str(error), what=type(error).__name__)
                if self.visits or isinstance(error, UnreachableError):
                    time.sleep(0.2)
                continue
            time.sleep(max(0, due - time.monotonic()))

    def tell(self, kind: str, **more: object) -> None:
        print(json.dumps({"kind": kind, "at": time.monotonic(), **more}), flush=True)

    def _train(self) -> None:
        while True:
            self.memory.train()
            time.sleep(1 / self.rate)

    def _answer(self) -> None:
        while True:
            self.memory.answer()
            time.sleep(0.02)

    def _timed(self, mean: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def timed(*args: Any, **options: Any) -> torch.Tensor:
            start = time.monotonic()
            try:
                return mean(*args, **options)
            finally:
                self.mean_seconds = time.monotonic() - start

        return timed

    def _visit(self, visits: Visits) -> None:
        start = time.monotonic()
        self._tell_round("visit", visits.turn(), seconds=time.monotonic() - start)
        if visits.may_return():
            visits.close()
            self.visits = None
            self.tell("member")

    def _close_group(self) -> None:
        if self.group is not None:
            self.group.close()
            self.group = None

    def _round(self) -> bool:
        """Do a round; return whether all hosts had the same anchors."""
        if not self.rate:
            self.memory.train()
        group = self.group.key if self.group else ""
        size = size_of_round(self.stores, self.settings.compress)
        self.membership.beat(
            {
                "group": group,
                "uncounted": self.memory.uncounted,
                "slow": self.speeds.slow(size),
                "guest": self.settings.guest,
            }
        )
        self.view = self.membership.members()
        self.view, slow = without_slow(self.view, self.settings.id)
        self.speeds.drop(slow)
        if self.group is None or not self.group.fits(self.view):
            self._close_group()
            self.group = connect(self.settings, self.view, self.ring)
            self.group.mean = self._timed(self.group.mean)  # type: ignore[method-assign]
            is_new = True
        else:
            is_new = False
        is_many = len(self.view.members) > 2
        self.group.patience = self.speeds.patience(size) if is_many else math.inf
        beside = self.speeds.beside(self.view.members) if is_many else nullcontext()
        sent, cpu, start = self.group.sent, time.process_time(), time.monotonic()
        try:
            with beside:
                done = self.rounds.run(self.group)
        except ClusterError:
            self._close_group()
            if is_many:
                self._measure(time.monotonic() - start)
            raise
        seconds = time.monotonic() - start
        self.reception.admit(self.view.members)
        self._tell_round(
            "round",
            done,
            seconds=seconds,
            mean_seconds=self.mean_seconds,
            cpu=time.process_time() - cpu,
            sent=self.group.sent - sent,
            members=self.view.ids,
            is_new=is_new,
        )
        if seconds <= limit(self.settings):
            if done.models:
                self.speeds.forget_if_here(self.view.ids)
        elif is_many:
            self._measure()
        return done.settled

    def _measure(self, lasted: float = 0.0) -> None:
        timeout = self.settings.timeout
        connect = CONNECT if lasted >= timeout else timeout / 2
        self.speeds.measure(self.view.members, 0.75 * timeout, connect)

    def _tell_round(self, kind: str, done: Round, **more: object) -> None:
        memory = self.memory
        with memory._lock:
            anchor = memory.state.anchor
            value = memory.weights["weight"]
            rollout = memory.state.rollout
            if done.settled and not memory.state.joined:
                memory.write(dataclasses.replace(memory.state, joined=True))
            self.tell(
                kind,
                **more,
                steps=done.steps,
                mismatches=done.mismatches,
                anchor=anchor.key,
                digest=anchor.digest,
                counted=anchor.steps,
                shares={host: share.steps for host, share in anchor.shares.items()},
                made=memory.steps,
                uncounted=memory.uncounted,
                weight=[value.min().item(), value.max().item()],
                anchor_weight=memory.tensors(memory.state.slot)["weight"][0].item(),
                rollout=rollout.stage if rollout else "",
                reason=rollout.reason if rollout else "",
            )


def main() -> None:
    torch.set_num_threads(1)
    runner = Runner(json.loads(sys.argv[1]))
    threading.Thread(target=runner.run, daemon=True).start()
    for line in sys.stdin:
        runner.memory.replace(float(line.split()[1]), 0)
    os._exit(0)


if __name__ == "__main__":
    main()
