"""Mixed load for a long time with kills, reloads, new logs, full disks and steps of the clock.

Usage: .venv/bin/python bench/soak.py --seconds 1800 [--json PATH], as root: it mounts a small disk.
"""

import contextlib
import json
import os
import random
import re
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import clients
from server import PORT, ROOT, Backend, Server
from table import Measure, Row, Settings, main

BACKENDS = (3904, 3905)
WORKERS = 2
CONNECTIONS = 8
DISK_MEGABYTES = 16

LOCATIONS = """
add_header X-Worker $pid always;
webtorch_log phases_app:outcome;
location = /train { webtorch_handler state_app:train max_batch=1; }
location = /train_strict { webtorch_handler state_app:train_strict max_batch=1; }
location = /output { webtorch_handler state_app:output; }
location = /about { webtorch_handler state_app:about; }
location = /proxy { proxy_pass http://backends/; }
location = /guarded { webtorch_access phases_app:request; proxy_pass http://backends/; }
"""
PATHS = ("/train", "/train_strict", "/output", "/about", "/proxy", "/guarded")

HTTP = """
upstream backends {{ zone backends 512k; webtorch_balancer; {servers} }}
webtorch_zone models:1m;
webtorch_checkpoint {disk}/models interval=2s;
"""

# what is logged when a worker is killed
KILLED = re.compile(r"worker process \d+ exited (on signal 9|while webtorch handler)")


@dataclass
class Load:
    """Clients of one location, in a process of their own."""

    acknowledged: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: clients.Outcome) -> None:
        """Count what happened."""
        self.acknowledged += outcome.acknowledged
        self.failures.update(outcome.failures)


@dataclass(frozen=True)
class Resources:
    """What all processes of nginx use, idle, after a reload."""

    descriptors: Counter[str]
    anonymous_megabytes: float
    shared_megabytes: float

    @classmethod
    def measure(cls, server: Server) -> "Resources":
        """Replace all workers, so that they have the same age, and wait until they are idle."""
        before = set(server.children())
        server.reload()
        wait_until(lambda: not set(server.children()) & before, "workers to be replaced")
        wait_until(lambda: len(server.children()) == WORKERS, "new workers")
        for path in PATHS:
            clients.run(PORT, path, CONNECTIONS, 2)
        pids = [server.master, *server.children()]
        memory = Counter[str]()
        for pid in pids:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in ("Pss_Anon", "Pss_Shmem"):
                    memory[name] += int(value.split()[0])
        descriptors = Counter(kind for pid in pids for kind in open_files(pid))
        return cls(descriptors, memory["Pss_Anon"] / 1024, memory["Pss_Shmem"] / 1024)


def open_files(pid: int) -> Iterator[str]:
    """Yield what each descriptor of a process is: a path, or a kind as `socket`."""
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            yield re.sub(r":\[\d+\]$", "", os.readlink(entry.path))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited for {what}")
        time.sleep(0.1)


class Faults:
    """The faults, one of which happens at a time.

    Args:
        server: that suffers them.
        disk: where its checkpoints are.
        clock: the file with the seconds that are added to its clock.

    """

    def __init__(self, server: Server, disk: Path, clock: Path) -> None:
        self._server = server
        self._disk = disk
        self._clock = clock
        self.counts: Counter[str] = Counter()

    def run(self, done: threading.Event) -> None:
        """Let one happen every few seconds until `done` is set."""
        faults = (self.kill, self.kill, self.reload, self.rotate, self.fill_disk, self.step_clock)
        while not done.wait(random.uniform(1, 5)):
            fault = random.choice(faults)
            self.counts[fault.__name__] += 1
            fault()

    def kill(self) -> None:
        """Kill a worker."""
        if workers := self._server.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(workers), signal.SIGKILL)

    def reload(self) -> None:
        """Reload the configuration."""
        self._server.reload()

    def rotate(self) -> None:
        """Let nginx open its log again, under a new name."""
        log = self._server.prefix / "error.log"
        log.rename(self._server.prefix / f"error.log.{self.counts['rotate']}")
        os.kill(self._server.master, signal.SIGUSR1)

    def fill_disk(self) -> None:
        """Leave no room for checkpoints for some seconds."""
        filler = self._disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            for _ in range(DISK_MEGABYTES):
                file.write(bytes(1 << 20))
        time.sleep(5)
        filler.unlink()

    def step_clock(self) -> None:
        """Set the clock forth or back by a second to a day, or right again."""
        step = random.choice((-86400, -3600, -1, 0, 0, 1, 3600, 86400))
        set_clock(self._clock, step)


def set_clock(path: Path, seconds: int) -> None:
    """Set what is added to the clock; the file stays the same, as it is mapped."""
    with path.open("r+b" if path.exists() else "wb", buffering=0) as file:
        file.write(struct.pack("q", seconds))


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """Mount an empty file system in memory."""
    path.mkdir()
    options = f"size={DISK_MEGABYTES}m,mode=777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def send(path: str, seconds: float) -> Load:
    """Send requests to a location, again and again."""
    load = Load()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            load.add(clients.run(PORT, path, CONNECTIONS, min(left, 5)))
        except (OSError, TimeoutError) as error:
            load.failures[f"{type(error).__name__}: {error}"] += 1
    return load


def alerts(server: Server) -> list[str]:
    """Return lines of the logs that must not be there."""
    found = []
    for log in server.prefix.glob("error.log*"):
        for line in log.read_text().splitlines():
            if re.search(r"\[(alert|emerg)\]", line) and not KILLED.search(line):
                found.append(line)
    return found


@dataclass
class Run:
    """What a run has shown."""

    alerts: list[str]
    faults: Counter[str]
    loads: dict[str, Load]
    steps: dict[str, int]
    before: Resources
    after: Resources


def soak(seconds: float) -> Run:
    """Load and disturb a server."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="webtorch-soak-")))
        scratch.chmod(0o755)
        stack.enter_context(small_disk(scratch / "disk"))
        clock, shim = scratch / "clock", scratch / "clock.so"
        set_clock(clock, 0)
        source = ROOT / "bench/clock.c"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
        pool = stack.enter_context(ProcessPoolExecutor(len(PATHS)))
        stack.enter_context(Backend(*BACKENDS))
        servers = " ".join(f"server 127.0.0.1:{port};" for port in BACKENDS)
        http = HTTP.format(servers=servers, disk=scratch / "disk")
        environment = {"LD_PRELOAD": str(shim), "WEBTORCH_CLOCK": str(clock)}
        server = stack.enter_context(
            Server(LOCATIONS, "/output", WORKERS, http, environment=environment)
        )

        before = Resources.measure(server)
        trained = about(server)
        faults = Faults(server, scratch / "disk", clock)
        done = threading.Event()
        thread = threading.Thread(target=faults.run, args=(done,))
        thread.start()
        try:
            loads = dict(zip(PATHS, pool.map(send, PATHS, [seconds] * len(PATHS)), strict=True))
        finally:
            done.set()
            thread.join()
        set_clock(clock, 0)
        steps = {name: count - trained[name] for name, count in about(server).items()}
        after = Resources.measure(server)
        return Run(alerts(server), faults.counts, loads, steps, before, after)


def about(server: Server) -> dict[str, int]:
    """Return the steps of each model."""
    models = json.loads(server.post("/about", b"{}"))
    return {name: model["steps"] for name, model in models.items()}


RUNS: list[Run] = []


def run_once(settings: Settings) -> Run:
    """Run what all rows are about, when the first one asks for it."""
    if not RUNS:
        RUNS.append(soak(settings.seconds))
    return RUNS[0]


def alerts_row(settings: Settings) -> Row:
    """Lines [alert] and [emerg] but for those about killed workers."""
    run = run_once(settings)
    details = {"lines": run.alerts[:20], "faults": dict(run.faults)}
    return Row("alerts but for the kills", "0", len(run.alerts), not run.alerts, details=details)


def lost_row(settings: Settings) -> Row:
    """Steps of which the client has an answer and the model does not know."""
    run = run_once(settings)
    acknowledged = {
        "free": run.loads["/train"].acknowledged,
        "strict": run.loads["/train_strict"].acknowledged,
    }
    lost = sum(max(0, count - run.steps[name]) for name, count in acknowledged.items())
    details = {"acknowledged": acknowledged, "steps": run.steps}
    return Row("steps lost of those acknowledged", "0", lost, lost == 0, details=details)


def failures_row(settings: Settings) -> Row:
    """Requests that failed, which only kills may cause, for each killed worker's connections."""
    run = run_once(settings)
    failed = sum(load.failures.total() for load in run.loads.values())
    allowed = run.faults["kill"] * len(PATHS) * CONNECTIONS
    details = {
        path: {"answered": load.acknowledged, "failures": dict(load.failures.most_common(5))}
        for path, load in run.loads.items()
    }
    target = f"≤ {allowed} (a kill's connections)"
    return Row("failed requests", target, failed, failed <= allowed, details=details)


def descriptors_row(settings: Settings) -> Row:
    """Open files and sockets at the end that were not there at the beginning."""
    run = run_once(settings)
    more = run.after.descriptors - run.before.descriptors
    details = {"more": dict(more), "before": run.before.descriptors.total()}
    return Row("more descriptors", "0", more.total(), not more, details=details)


def growth_row(name: str, limit: float, unit: str, value: Callable[[Resources], float]) -> Measure:
    """Make the row of how much more is used at the end than at the beginning."""

    def measure(settings: Settings) -> Row:
        run = run_once(settings)
        before, after = value(run.before), value(run.after)
        details = {"before": before, "after": after}
        target = f"≤ {limit:.0f}"
        return Row(name, target, after - before, after - before <= limit, unit, details)

    return measure


ROWS: dict[str, Measure] = {
    "alerts": alerts_row,
    "lost": lost_row,
    "failures": failures_row,
    "descriptors": descriptors_row,
    "memory": growth_row("more memory", 20, "MB", lambda used: used.anonymous_megabytes),
    "shared": growth_row("more shared memory", 1, "MB", lambda used: used.shared_megabytes),
}


if __name__ == "__main__":
    main(__doc__, "soak", ROWS)
