"""Measures rounds of three hosts, and how they end faults.

Usage: .venv/bin/python bench/cluster.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]

The hosts are network namespaces of tests/hosts.py, which needs root. What runs at each is
bench/cluster_host.py: rounds, membership and groups as in a worker, without nginx. `--seconds` is
how long faults happen at random, a sixtieth of it.
"""

import itertools
import json
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from server import ROOT
from table import Row, Settings, main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))

from hosts import Hosts, address

DEADLINE = 120.0
MILLION = 1_000_000
SMALL, BIG = 1_100_000, 25_000_000
LINKS = {"1 Gbit/s, 5 ms": (1e9, 0.005), "100 Mbit/s, 40 ms": (1e8, 0.04)}

Event = dict[str, Any]


class Host:
    """A host's process, and what it said."""

    def __init__(self, cluster: "Cluster", index: int) -> None:
        self.index = index
        self.id = f"web-{index}"
        self.state = cluster.folder / f"{self.id}.{time.monotonic_ns()}"
        self.events: list[Event] = []
        self.memory = ""
        settings = {
            "name": "bench",
            "id": self.id,
            "coordinator": cluster.coordinator,
            "address": address(index),
            "secrets": ["5a" * 32],
            "interval": cluster.interval,
            "timeout": cluster.timeout,
            "compress": cluster.compress,
            "rolling": cluster.rolling,
        }
        found = {
            "settings": settings,
            "count": cluster.count,
            "rate": cluster.rate,
            "adding": cluster.adding,
            "state": str(self.state),
        }
        command = [sys.executable, str(ROOT / "bench/cluster_host.py"), json.dumps(found)]
        self.process = subprocess.Popen(
            cluster.network.command(index, command, cluster.names(index)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=cluster.log,
            text=True,
        )
        self._cluster = cluster
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def made(self) -> int:
        return int.from_bytes(self.state.read_bytes(), "little") if self.state.exists() else 0

    @property
    def last(self) -> Event | None:
        return next((event for event in reversed(self.events) if event["kind"] == "round"), None)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def replace(self, value: float) -> None:
        """Put other weights into place."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"replace {value}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["kind"] == "started":
                self.memory = event["memory"]
            self.events.append(event)
            self._cluster.happened.put(event)


class Cluster:
    """Hosts that do rounds."""

    def __init__(
        self,
        network: Hosts,
        count: int = 1000,
        compress: str = "none",
        interval: float = 0.5,
        timeout: float = 5,
        rate: float = 50,
        coordinator: str = address(0),
        names: Callable[[int], Path | None] = lambda _: None,
        adding: bool = True,
        rolling: dict[str, float] | None = None,
    ) -> None:
        self.network = network
        self.count = count
        self.compress = compress
        self.interval = interval
        self.timeout = timeout
        self.rate = rate
        self.coordinator = [coordinator, 7610]
        self.names = names
        self.adding = adding
        self.rolling = rolling
        self.folder = Path(tempfile.mkdtemp())
        self.log = (self.folder / "log").open("w")
        self.happened: queue.Queue[Event] = queue.Queue()
        self.hosts: list[Host] = []
        self.killed: list[Host] = []

    def start(self, index: int) -> Host:
        host = Host(self, index)
        self.hosts.append(host)
        return host

    def start_all(self) -> None:
        for index in range(self.network.count):
            self.start(index)
        self.wait(lambda: self.together(self.network.count), "the first round")

    def kill(self, host: Host) -> None:
        host.kill()
        self.hosts.remove(host)
        self.killed.append(host)

    def together(self, count: int, after: float = 0, hosts: list[Host] | None = None) -> bool:
        """Whether all hosts have done a round of so many since a time."""
        return all(
            (last := host.last) is not None and last["at"] > after and len(last["members"]) == count
            for host in hosts or self.hosts
        )

    def wait(self, condition: Callable[[], bool], what: str) -> float:
        """Wait for a condition; return when it held."""
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end:
                events = {host.id: host.events[-3:] for host in self.hosts}
                raise AssertionError(f"waited in vain for {what}: {events}")
            try:
                self.happened.get(timeout=0.1)
            except queue.Empty:
                continue
        return time.monotonic()

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
        self.log.close()
        shutil.rmtree(self.folder)


@contextmanager
def cluster(hosts: int = 3, **settings: Any) -> Iterator[Cluster]:
    network = Hosts(hosts)
    network.links(1e9, 0.005)
    found = Cluster(network, **settings)
    try:
        yield found
    finally:
        found.close()
        network.close()


# --- rounds ---


def rounds(count: int, link: str, compress: str, repeat: int) -> dict[str, list[float]]:
    """Return what each of some rounds took, of the slowest host, and the bytes of one host."""
    found: dict[str, list[float]] = {"seconds": [], "mean_seconds": [], "cpu": [], "sent": []}
    pause = 0.5 if count < MILLION * 10 else 2.0
    with cluster(count=count, compress=compress, interval=pause, timeout=30, rate=0) as hosts:
        hosts.network.links(*LINKS[link])
        hosts.start_all()

        def measured() -> list[list[Event]]:
            known: dict[str, list[Event]] = {}
            for host in hosts.hosts:
                for event in host.events:
                    if event["kind"] == "round" and event["steps"] and not event["is_new"]:
                        known.setdefault(event["digest"], []).append(event)
            return [events for events in known.values() if len(events) == len(hosts.hosts)]

        hosts.wait(lambda: len(measured()) > repeat, "rounds")
        for events in measured()[1:]:
            for key, values in found.items():
                values.append(max(event[key] for event in events))
    return found


def round_row(count: int, link: str, compress: str, target: float) -> Callable[[Settings], Row]:
    def measure(settings: Settings) -> Row:
        repeat = settings.repeat * (3 if count == SMALL else 1)
        found = rounds(count, link, compress, repeat)
        value = median(found["seconds"])
        name = f"round, {count / MILLION:g} M, {link}, {compress}"
        return Row(name, f"≤ {target}", value, value <= target, "s", found)

    return measure


def cost_row(what: str, count: int, compress: str, target: float) -> Callable[[Settings], Row]:
    def measure(settings: Settings) -> Row:
        found = rounds(count, "1 Gbit/s, 5 ms", compress, settings.repeat)
        unit, scale = ("s", 1.0) if what == "cpu" else ("million bytes", 1e-6)
        value = median(found[what]) * scale
        name = f"{what} per host and round, {count / MILLION:g} M, {compress}"
        return Row(name, f"≤ {target}", value, value <= target, unit, found)

    return measure


# --- faults ---


def killed_between(settings: Settings) -> Row:
    name = "kill -9 of a host between rounds: others average again"
    return _killed(name, 1.5, settings.repeat, in_exchange=False)


def killed_in_exchange(settings: Settings) -> Row:
    name = "kill -9 of a host in an exchange: others average again"
    return _killed(name, 2, settings.repeat, in_exchange=True)


def _killed(name: str, target: float, repeat: int, in_exchange: bool) -> Row:
    """Kill a host several times; the value is the longest time of them."""
    found: dict[str, list[float]] = {"again": [], "noticed": [], "next_round": []}
    for _ in range(repeat):
        for key, value in _kill(in_exchange).items():
            found[key].append(value)
    value = max(found["again"])
    return Row(name, f"≤ {target}", value, value <= target, "s", found)


def _kill(in_exchange: bool) -> dict[str, float]:
    """Kill a host; return after how many seconds others average again, and what that is of.

    `noticed` is when the last of them had its first error, 0 if none had; `next_round` is how
    long the first round of two took.
    """
    count = 4 * MILLION if in_exchange else SMALL
    with cluster(count=count, rate=20) as hosts:
        hosts.start_all()
        victim = hosts.hosts[2]
        if in_exchange:
            # about half a second of a round at this rate
            hosts.network.links(2e8, 0.005)
        last = victim.last
        assert last is not None
        hosts.wait(lambda: victim.last is not last, "a round")
        now = victim.last
        assert now is not None
        time.sleep(0.25 if not in_exchange else max(0.0, 0.5 - now["seconds"] % 0.5 + 0.2))
        start = time.monotonic()
        hosts.kill(victim)
        rest = list(hosts.hosts)
        hosts.wait(lambda: hosts.together(2, start), "a round of two")
        errors = [
            next((each["at"] for each in host.events if _is_error(each, start)), start)
            for host in rest
        ]
        return {
            "again": max(_first(host, start, 2)["at"] for host in rest) - start,
            "noticed": max(errors) - start,
            "next_round": max(_first(host, start, 2)["seconds"] for host in rest),
        }


def _is_error(event: Event, after: float) -> bool:
    return event["kind"] == "error" and event["at"] > after


def _first(host: Host, after: float, members: int) -> Event:
    """Return what a host said of its first round of so many after a time."""
    return next(
        event
        for event in host.events
        if event["kind"] == "round" and event["at"] > after and len(event["members"]) == members
    )


def cut_off(_: Settings) -> Row:
    """Cut a host off for 10 s; it trains on, and its steps are counted once."""
    timeout = 3.0
    with cluster(rate=50, timeout=timeout) as hosts:
        hosts.start_all()
        others = hosts.hosts[:2]
        start = time.monotonic()
        hosts.network.cut(2)
        hosts.wait(lambda: hosts.together(2, start, others), "a round of two")
        again = max(_first(host, start, 2)["at"] for host in others) - start
        time.sleep(max(0.0, start + 10 - time.monotonic()))
        hosts.network.heal(2)
        healed = time.monotonic()
        hosts.wait(lambda: hosts.together(3, healed), "a round of three")
        back = max(_first(host, healed, 3)["at"] for host in hosts.hosts) - healed
        account = settle(hosts)
        met = again <= timeout + 1.5 and back <= 2 and account["exact"]
        return Row(
            "host cut off for 10 s: others again; back after the heal; counted once",
            "≤ timeout + 1.5; ≤ 2",
            again,
            met,
            "s",
            {"timeout": timeout, "others_again": again, "back": back, **account},
        )


def coordinator_away(_: Settings) -> Row:
    """End the membership service for 5 s: nobody stops, and all steps are counted."""
    with cluster(rate=50, timeout=3, coordinator=address(0)) as hosts:
        hosts.start_all()
        first = hosts.hosts[0]
        before = [host.made for host in hosts.hosts]
        start = time.monotonic()
        hosts.network.cut(0)
        time.sleep(5)
        made = [host.made - was for host, was in zip(hosts.hosts, before, strict=True)]
        hosts.network.heal(0)
        healed = time.monotonic()
        hosts.wait(lambda: hosts.together(3, healed), "a round of three")
        back = max(_first(host, healed, 3)["at"] for host in hosts.hosts) - healed
        account = settle(hosts)
        met = back <= 3 and account["exact"] and min(made) > 0
        details = {"steps_while_away": made, "id": first.id, "lasted": healed - start, **account}
        return Row("coordinator cut off for 5 s: rounds again", "≤ 3", back, met, "s", details)


def joined(_: Settings) -> Row:
    """Start a host beside two that train: it takes their anchor, and they go on."""
    with cluster(count=SMALL, rate=20, interval=0.5) as hosts:
        for index in (0, 1):
            hosts.start(index)
        hosts.wait(lambda: hosts.together(2), "the first round")
        start = time.monotonic()
        joining = hosts.start(2)
        hosts.wait(lambda: joining.last is not None, "its first round")
        started = next(event["at"] for event in joining.events if event["kind"] == "started")
        value = _first(joining, start, 3)["at"] - started
        between = [
            event["at"]
            for event in hosts.hosts[0].events
            if event["kind"] == "round" and event["at"] > start
        ]
        pause = max(after - before for before, after in itertools.pairwise([start, *between]))
        account = settle(hosts)
        name = "join with 1.1 M at 1 Gbit/s, from the process's start to the first round"
        details = {"longest_pause_of_others": pause, **account}
        return Row(name, "≤ 5", value, value <= 5 and account["exact"], "s", details)


def coordinator_moved(_: Settings) -> Row:
    """Kill the coordinator's host, and let its name lead to another one."""
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "hosts")
        names.write_text(f"{address(0)} coordinator.bench\n")
        with cluster(coordinator="coordinator.bench", names=lambda _: names) as hosts:
            hosts.start_all()
            hosts.kill(hosts.hosts[0])
            time.sleep(5)
            start = time.monotonic()
            names.write_text(f"{address(1)} coordinator.bench\n")
            hosts.wait(lambda: hosts.together(2, start), "a round of two")
            value = max(_first(host, start, 2)["at"] for host in hosts.hosts) - start
            account = settle(hosts)
            met = value <= 3 and account["exact"]
            name = "coordinator's host killed, its name moved 5 s later: rounds again"
            return Row(name, "≤ 3", value, met, "s", account)


def parted(_: Settings) -> Row:
    """Cut four hosts into two and two for 20 s, each side with a coordinator of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(index)) for index in range(4)]

        def lead(host: int, to: int) -> None:
            files[host].write_text(f"{address(to)} coordinator.bench\n")

        for host in range(4):
            lead(host, 0)
        settings = {"coordinator": "coordinator.bench", "names": lambda index: files[index]}
        with cluster(4, timeout=3, adding=False, **settings) as hosts:
            hosts.start_all()
            start = time.monotonic()
            for host in (0, 1):
                hosts.network.cut(host, [2, 3])
            lead(2, 2)
            lead(3, 2)
            sides = (hosts.hosts[:2], hosts.hosts[2:])
            for side in sides:
                hosts.wait(lambda side=side: hosts.together(2, start, side), "two sides")
            time.sleep(max(0.0, start + 20 - time.monotonic()))
            for host in (0, 1):
                lead(host, 2)
                hosts.network.heal(host)
            healed = time.monotonic()
            hosts.wait(lambda: hosts.together(4, healed) and agreed(hosts), "one lineage")
            value = time.monotonic() - healed
            account = settle(hosts, weights=False)
            name = "name moved while the old coordinator lives behind a cut of 20 s: one lineage"
            return Row(name, "≤ 5", value, value <= 5 and account["exact"], "s", account)


def rolled_out(_: Settings) -> Row:
    """Put other weights into place at a host; all hosts take them after the next round."""
    with cluster(count=BIG, rate=1, interval=1.0, timeout=10) as hosts:
        hosts.start_all()
        hosts.wait(lambda: agreed(hosts), "the same anchors")
        start = time.monotonic()
        hosts.hosts[1].replace(1e6)
        hosts.wait(lambda: all(_has(host, 1e6) for host in hosts.hosts), "the weights")
        taken = [_taken(host, 1e6) - start for host in hosts.hosts]
        name = "other weights at all three hosts, 25 M"
        return Row(name, "≤ 3", max(taken), max(taken) <= 3, "s", {"seconds": taken})


def rolled_out_broken(_: Settings) -> Row:
    """Put broken weights into place with rollout=hosts:1: the other hosts do not take them."""
    rolling = {"hosts": 1, "pause": 2.0}
    with cluster(rate=1, interval=0.5, rolling=rolling) as hosts:
        hosts.start_all()
        # requests to compare with
        time.sleep(2)
        start = time.monotonic()
        hosts.hosts[1].replace(-1e6)
        stopped = hosts.wait(
            lambda: all(host.last and host.last["rollout"] == "stopped" for host in hosts.hosts),
            "the end of the rollout",
        )
        time.sleep(3 * rolling["pause"])
        having = sum(_has(host, -1e6) for host in hosts.hosts)
        last = hosts.hosts[0].last
        details = {"stopped_after": stopped - start, "reason": last and last["reason"]}
        name = "broken weights with rollout=hosts:1: hosts that have taken them"
        return Row(name, "1", having, having == 1, "", details)


def _has(host: Host, value: float) -> bool:
    return host.last is not None and _is_near(host.last, value)


def _taken(host: Host, value: float) -> float:
    return next(e["at"] for e in host.events if e["kind"] == "round" and _is_near(e, value))


def _is_near(event: Event, value: float) -> bool:
    """Whether weights are what was put into place, and what was trained since then."""
    return all(abs(each - value) < 1000 for each in event["weight"])


def slow_link(_: Settings) -> Row:
    """Give a host a link of 5 Mbit/s and 200 ms: it becomes a guest, and comes back."""
    timeout = 5.0
    with cluster(count=SMALL, rate=20, timeout=timeout) as hosts:
        hosts.start_all()
        *others, slow = hosts.hosts
        start = time.monotonic()
        hosts.network.link(slow.index, 5e6, 0.2)
        hosts.wait(lambda: hosts.together(2, start, others), "a round of two")
        again = max(_first(host, start, 2)["at"] for host in others) - start
        end = time.monotonic() + 30
        while time.monotonic() < end:
            time.sleep(1)
        between = _pauses(_rounds_since(others[0], start + again))
        counted = [start + again, *_growths(others[0], slow.memory, start + again)]
        gap = max(_pauses(counted))
        hosts.network.link(slow.index, 1e9, 0.0025)
        healed = time.monotonic()
        account = settle(hosts)
        details = {
            "timeout": timeout,
            "median_between_rounds_of_others": median(between),
            "longest_between_rounds_of_others": max(between),
            "longest_until_guest_is_counted": gap,
            "guest_counted": len(counted) - 1,
            "back_after": max(_first(host, healed, 3)["at"] for host in hosts.hosts) - healed,
            **account,
        }
        is_full = median(between) < 2 * hosts.interval
        met = again <= 3 * timeout + 3 and is_full and gap <= 10 and account["exact"]
        name = "one host at 5 Mbit/s and 200 ms: others at full rate; guest counted"
        return Row(name, "≤ 3 x timeout + 3; each ≤ 10 s", again, met, "s", details)


def _rounds_since(host: Host, start: float) -> list[float]:
    return [each["at"] for each in host.events if each["kind"] == "round" and each["at"] >= start]


def _growths(host: Host, memory: str, start: float) -> list[float]:
    """Return when more steps of a memory were counted."""
    found, known = [], -1
    for event in host.events:
        if event["kind"] == "round":
            steps = event["shares"].get(memory, 0)
            if event["at"] >= start and steps > known >= 0:
                found.append(event["at"])
            known = max(known, steps)
    return found


def _pauses(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def agreed(hosts: Cluster) -> bool:
    """Whether all hosts have the same anchor."""
    return len({host.last["anchor"] for host in hosts.hosts if host.last}) == 1


def settle(hosts: Cluster, weights: bool = True) -> dict[str, Any]:
    """Wait for rounds of all; return the account of all steps that were ever made.

    `weights` says whether the weights are the steps, as differences are added.
    """
    start = time.monotonic()
    count = len(hosts.hosts)
    hosts.wait(lambda: hosts.together(count, start) and agreed(hosts), "the same anchors")
    rounds = [host.last for host in hosts.hosts]
    shares = rounds[0]["shares"] if rounds[0] else {}
    counted = rounds[0]["counted"] if rounds[0] else 0
    lost = {host.memory: host.made - shares.get(host.memory, 0) for host in hosts.killed}
    exact = (
        (not weights or all(each and _weights_are_steps(each) for each in rounds))
        and all(
            each and shares.get(host.memory, 0) + each["uncounted"] == each["made"]
            for host, each in zip(hosts.hosts, rounds, strict=True)
        )
        and all(steps >= 0 for steps in lost.values())
        and sum(shares.values()) == counted
    )
    return {
        "exact": exact,
        "made": sum(each["made"] for each in rounds if each)
        + sum(host.made for host in hosts.killed),
        "counted": counted,
        "uncounted": sum(each["uncounted"] for each in rounds if each),
        "lost_with_killed_memory": sum(lost.values()),
        "kills": len(hosts.killed),
        "mismatches": sum(
            event.get("mismatches", 0) for host in hosts.hosts for event in host.events
        ),
    }


def _weights_are_steps(event: Event) -> bool:
    """Whether the weights are the number of steps that are said to be in them."""
    counted = event["counted"]
    return (
        event["anchor_weight"] == counted and event["weight"] == [counted + event["uncounted"]] * 2
    )


def faults_at_random(settings: Settings) -> Row:
    """One fault each five seconds, of all kinds; then all steps are accounted for."""
    chance = random.Random(1)
    kinds: dict[str, int] = {}
    with cluster(rate=50, timeout=2, interval=0.3) as hosts:
        hosts.start_all()
        end = time.monotonic() + settings.seconds * 60
        while time.monotonic() < end:
            begin = time.monotonic()
            kind = chance.choice(["kill", "stop", "cut", "one way", "slow", "loss"])
            kinds[kind] = kinds.get(kind, 0) + 1
            host = chance.choice(hosts.hosts)
            _fault(hosts, host, kind, chance.uniform(0.5, 4))
            time.sleep(max(0.0, begin + 5 - time.monotonic()))
        account = settle(hosts)
        details = {"faults": kinds, "seconds": settings.seconds * 60, **account}
        difference = (
            account["made"]
            - account["counted"]
            - account["uncounted"]
            - account["lost_with_killed_memory"]
        )
        met = account["exact"] and difference == 0
        name = f"faults at random for {settings.seconds * 60:.0f} s: steps missing or twice"
        return Row(name, "0", abs(difference), met, "", details)


def _fault(hosts: Cluster, host: Host, kind: str, seconds: float) -> None:
    network = hosts.network
    if kind == "kill":
        hosts.kill(host)
        hosts.start(host.index)
        hosts.hosts.sort(key=lambda each: each.index)
        return
    if kind == "stop":
        host.signal(signal.SIGSTOP)
    elif kind == "slow":
        network.link(host.index, 1e6, 0.2)
    elif kind == "loss":
        network.link(host.index, 1e8, 0.02, 0.2)
    else:
        network.cut(host.index, one_way=kind == "one way")
    time.sleep(seconds)
    if kind == "stop":
        host.signal(signal.SIGCONT)
    elif kind in ("slow", "loss"):
        network.link(host.index, 1e9, 0.0025)
    else:
        network.heal(host.index)


FAST, SLOW = LINKS

ROWS = {
    "small-none": round_row(SMALL, FAST, "none", 0.2),
    "small-int8": round_row(SMALL, FAST, "int8", 0.15),
    "small-slow-none": round_row(SMALL, SLOW, "none", 1.0),
    "small-slow-int8": round_row(SMALL, SLOW, "int8", 0.7),
    "big-none": round_row(BIG, FAST, "none", 1.6),
    "big-int8": round_row(BIG, FAST, "int8", 1.2),
    "big-slow-none": round_row(BIG, SLOW, "none", 15),
    "big-slow-int8": round_row(BIG, SLOW, "int8", 4.5),
    "bytes-none": cost_row("sent", SMALL, "none", 6.2),
    "bytes-int8": cost_row("sent", SMALL, "int8", 1.7),
    "cpu-small": cost_row("cpu", SMALL, "none", 0.05),
    "cpu-big": cost_row("cpu", BIG, "none", 1.0),
    "kill": killed_between,
    "kill-in-exchange": killed_in_exchange,
    "cut": cut_off,
    "coordinator": coordinator_away,
    "join": joined,
    "moved": coordinator_moved,
    "parted": parted,
    "rollout": rolled_out,
    "rollout-broken": rolled_out_broken,
    "slow-link": slow_link,
    "faults": faults_at_random,
}

if __name__ == "__main__":
    main(__doc__, "cluster", ROWS)
