"""A flood in simulated time: clients, the site, and a detector that nginx's features are given to.

What is real is the detector, and the code that computes its features. Requests that come within 10
ms are scored together, as in a worker under load; scoring takes no time, as if the processor were
fast enough.
"""

import ctypes
import heapq
import itertools
import random
import subprocess
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from floods.report import Report
from floods.scenarios import QUEUE, WORKERS, Acts, Client, Scenario, Send, Wait, seconds_of
from server import ROOT
from webtorch.detect import FloodDetector
from webtorch.features import CLIENT, SITE

TICK = 0.01  # seconds in which requests are gathered
PATIENCE = 5.0  # seconds that a client waits

_SOURCES = ("statistics", "columns", "text")


def build(directory: Path) -> ctypes.CDLL:
    """Compile nginx's code for the features of clients."""
    features = ROOT / "ngx_webtorch/features"
    library = directory / "rows.so"
    subprocess.run(
        [
            *("cc", "-O2", "-shared", "-fPIC", "-o", str(library)),
            *(f"-I{ROOT}/ngx_webtorch/{each}" for each in ("api", "features", "tensor")),
            str(Path(__file__).with_name("rows.c")),
            *(str(features / f"ngx_webtorch_{each}.c") for each in _SOURCES),
            "-lm",
        ],
        check=True,
    )
    c = ctypes.CDLL(str(library))
    c.flood_client_create.restype = c.flood_site_create.restype = ctypes.c_void_p
    c.flood_arrive.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64),
        *(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32),
        *(ctypes.c_void_p, ctypes.c_void_p),
    ]
    c.flood_finish.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint32),
    ]
    return c


class Clock:
    """Simulated time, and what is to be done when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), call))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, call = heapq.heappop(self._events)
            call()


@dataclass(slots=True)
class Request:
    host: "Host"
    target: str
    at: float
    done: Callable[[int], None]
    answered: bool = False


class Site:
    """The upstream: sixteen workers, and a queue before them; fewer with a scale below 1."""

    def __init__(self, clock: Clock, rng: random.Random, scale: float) -> None:
        self._workers, self._room = round(WORKERS * scale), round(QUEUE * scale)
        self._clock, self._rng = clock, rng
        self._queue: deque[tuple[Request, Callable[[int], None]]] = deque()
        self._busy = 0

    def get(self, request: Request, done: Callable[[int], None]) -> None:
        if len(self._queue) >= self._room:
            done(503)
            return
        self._queue.append((request, done))
        self._take()

    def _take(self) -> None:
        while self._queue and self._busy < self._workers:
            request, done = self._queue.popleft()
            if request.answered:  # the client is gone
                continue
            self._busy += 1
            seconds = seconds_of(request.target, self._rng)
            self._clock.later(seconds, lambda done=done: self._done(done))  # type: ignore[misc]

    def _done(self, done: Callable[[int], None]) -> None:
        self._busy -= 1
        done(200)
        self._take()


@dataclass(slots=True)
class Host:
    """What nginx knows of an address."""

    key: int
    statistics: int


@dataclass
class Front:
    """Nginx with the detector, before the site."""

    clock: Clock
    site: Site
    c: ctypes.CDLL
    detector: FloodDetector
    hosts: dict[str, Host] = field(default_factory=dict)
    targets: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._statistics = self.c.flood_site_create()
        self._waiting: list[Request] = []
        self._rows = np.zeros((4096, len(CLIENT)), np.float32)
        self._site_rows = np.zeros((4096, len(SITE)), np.float32)

    def host(self, address: str) -> Host:
        if address not in self.hosts:
            key = zlib.crc32(address.encode()) << 31 ^ zlib.crc32(address.encode()[::-1])
            self.hosts[address] = Host(key, self.c.flood_client_create())
        return self.hosts[address]

    def get(self, host: Host, target: str, cookie: bool, done: Callable[[int], None]) -> None:
        request = Request(host, target, self.clock.now, done)
        row = len(self._waiting)
        url, kind, flags = self._target(target)
        self.c.flood_arrive(
            host.statistics,
            self._statistics,
            int(self.clock.now * 1000) + 1000,
            *(url, kind, flags | cookie << 2),
            self._rows[row].ctypes.data,
            self._site_rows[row].ctypes.data,
        )
        self._waiting.append(request)
        if row == 0:
            self.clock.later(TICK, self._score)
        elif row + 1 == len(self._rows):
            self._score()
        self.clock.later(PATIENCE, lambda: self._answer(request, 0))

    def _target(self, target: str) -> tuple[int, int, int]:
        path, _, query = target.partition("?")
        if target not in self.targets:
            found = [ctypes.c_uint32() for _ in range(3)]
            self.c.flood_target(path.encode(), query.encode(), *map(ctypes.byref, found))
            values = tuple(each.value for each in found)
            if query:
                return values  # type: ignore[return-value]
            self.targets[target] = values  # type: ignore[assignment]
        return self.targets[target]

    def _score(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        count = len(waiting)
        client = torch.from_numpy(self._rows[:count].copy())
        site = torch.from_numpy(self._site_rows[:count].copy())
        key = torch.tensor([[each.host.key] for each in waiting])
        with torch.inference_mode():
            scores = self.detector(client, key, site).flatten().tolist()
        for request, score in zip(waiting, scores, strict=True):
            if score >= 0.5:
                self._answer(request, 429)
            else:
                self.site.get(
                    request,
                    lambda status, request=request: self._answer(request, status),  # type: ignore[misc]
                )

    def _answer(self, request: Request, status: int) -> None:
        if request.answered:
            return
        request.answered = True
        took = self.clock.now - request.at
        self.c.flood_finish(
            request.host.statistics,
            self._statistics,
            *(status or 499, int(took * 1000), status == 429),
        )
        request.done(status)


class Runner:
    """Lets a client do what its generator says."""

    def __init__(self, front: Front, client: Client, rng: random.Random, report: Report) -> None:
        self._front, self._client, self._report = front, client, report
        self._acts: Acts = client.acts(rng)
        self._next: Callable[[], None] = lambda: self._go(None)
        self._pending = 0
        front.clock.later(0, self._next)

    def _go(self, value: float | None) -> None:
        try:
            act = next(self._acts) if value is None else self._acts.send(value)
        except StopIteration:
            return
        clock = self._front.clock
        if isinstance(act, Wait):
            clock.later(act.seconds, lambda: self._go(clock.now))
        elif isinstance(act, Send):
            self._get(act.target, lambda: None)
            self._go(clock.now)
        else:
            self._pending = len(act.targets)
            for seconds, target in act.targets:
                clock.later(seconds, lambda target=target: self._get(target, self._loaded))  # type: ignore[misc]

    def _loaded(self) -> None:
        self._pending -= 1
        if not self._pending:
            self._go(self._front.clock.now)

    def _get(self, target: str, then: Callable[[], None]) -> None:
        at = self._front.clock.now

        def done(status: int) -> None:
            self._report.add(self._client.attacks, at, self._front.clock.now - at, status)
            then()

        host = self._front.host(self._client.address)
        self._front.get(host, target, self._client.cookie, done)


@dataclass(frozen=True)
class Options:
    """Of all simulations: whether people stay, and the size of all as a share."""

    stay: bool = False
    scale: float = 1


def simulate(
    scenario: Scenario, calm: float, seed: int, c: ctypes.CDLL, options: Options
) -> Report:
    """Run a scenario; return what became of its requests."""
    rng = random.Random(seed)
    clock = Clock()
    times = scenario.times(calm)
    report = Report(times.begin, times.end)
    site = Site(clock, random.Random(rng.random()), options.scale)
    front = Front(clock, site, c, FloodDetector(clock=lambda: clock.now))
    for client in scenario.clients(calm, rng, options.stay, options.scale):
        Runner(front, client, random.Random(rng.random()), report)
    clock.run(times.end + PATIENCE)
    return report
