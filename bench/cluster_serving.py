"""Measures what rounds of a cluster cost the requests of a host that takes part in them.

Usage: .venv/bin/python bench/cluster_serving.py [--only NAME] [--repeat 3] [--seconds 5]

Three hosts of two workers are beside three that have no cluster. All have the same model and the
same training, and the cluster makes a round each second.
"""

import re
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import wrk
from compiled import compiled, load
from server import PORT, Server
from stall import Probe
from table import Row, Settings, between, main

CONNECTIONS = 16

LOCATIONS = """
location = /output { webtorch_handler cluster_app:output; }
location = /train { webtorch_handler cluster_app:train; }
location = /status { webtorch_status; }
"""
ZONE = "webtorch_zone models:64m;"
CLUSTER = """
webtorch_cluster bench id=host-{index} coordinator=127.0.1.1:7610 address=127.0.1.{index}
                 secret=off interval=1s;
"""

PAUSE = 0.1
"""Seconds between two steps of each host that is not measured."""

BODY = b"[[0.25,0.75]]"

Measurement = Callable[[Server], float]


def rounds(server: Server) -> float:
    """Return how many rounds a host has made."""
    with urllib.request.urlopen(server.url("/status?format=prometheus"), timeout=30) as answer:
        text = answer.read().decode()
    found = re.search(r'^webtorch_cluster_rounds_total\{result="done"\} (\S+)$', text, re.M)
    return float(found[1]) if found else 0


class Hosts:
    """Servers, the first of which is measured while the others train.

    Args:
        stack: What stops them.
        port: That of the first one.
        cluster: What makes them a cluster; empty: they are none.
        environment: Variables of the first one.

    """

    def __init__(
        self, stack: ExitStack, port: int, cluster: str, environment: Mapping[str, str]
    ) -> None:
        servers = [
            Server(
                LOCATIONS,
                "/output",
                workers=2,
                http=ZONE + cluster.format(index=index + 1),
                environment={} if index else environment,
                port=port + index,
            )
            for index in range(3)
        ]
        self.first, *self._others = [stack.enter_context(each) for each in servers]

    @contextmanager
    def training(self) -> Iterator[None]:
        """Train the others meanwhile."""
        stopped = threading.Event()

        def train(server: Server) -> None:
            while not stopped.wait(PAUSE):
                server.post("/train", BODY)

        threads = [threading.Thread(target=train, args=(each,)) for each in self._others]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            for thread in threads:
                thread.join()

    def measured(self, measure: Measurement) -> float:
        """Measure the first one while the others train."""
        with self.training():
            return measure(self.first)


@contextmanager
def started(first: Probe | None = None, second: Probe | None = None) -> Iterator[list[Hosts]]:
    """Start hosts that are a cluster and make rounds, and as many that are none."""
    with ExitStack() as stack:
        environments = [probe.environment() if probe else {} for probe in (first, second)]
        cluster = Hosts(stack, PORT, CLUSTER, environments[0])
        alone = Hosts(stack, PORT + 3, "", environments[1])
        with cluster.training():
            while rounds(cluster.first) < 3:
                cluster.first.post("/train", BODY)
        yield [cluster, alone]


def pairs(measure: Measurement, hosts: list[Hosts], settings: Settings) -> dict[str, list[float]]:
    """Return the ratios of what is measured with rounds, to that without."""
    cluster, alone = hosts
    made = rounds(cluster.first)
    found = between(lambda: cluster.measured(measure), lambda: alone.measured(measure), settings)
    return {"ratios": found["ratios"], "rounds": [rounds(cluster.first) - made]}


def train(settings: Settings) -> Row:
    """The rate of requests that train, to that without a cluster."""

    def rate(server: Server) -> float:
        return wrk.run(server.url("/train"), settings.seconds, threads=1).per_second

    with started() as hosts:
        found = pairs(rate, hosts, settings)
    value = median(found["ratios"])
    return Row("train requests, with rounds to without", "≥ 0.95", value, value >= 0.95, "", found)


def half_rate(host: Hosts) -> float:
    """Return half of the requests that a host can answer each second."""
    return wrk.run(host.first.url("/output"), 3, threads=1).per_second / 2


def ask(programs: Path, server: Server, seconds: float, rate: float) -> dict[str, Any]:
    """Send requests at a rate; return what the client has measured."""
    arguments = (server.port, "/output", "http", CONNECTIONS, seconds, BODY.decode())
    return load(programs, "ask", *arguments, rate)


def latency(settings: Settings) -> Row:
    """The 99th percentile of answers at half of the host's rate, to that without a cluster."""
    with started() as hosts, compiled("ask") as programs:
        rate = half_rate(hosts[1])

        def p99(server: Server) -> float:
            return float(ask(programs, server, settings.seconds, rate)["p99"])

        found = pairs(p99, hosts, settings)
    value = median(found["ratios"])
    details = {**found, "rate": rate}
    return Row("p99 of answers, with rounds to without", "≤ 1.1", value, value <= 1.1, "", details)


def stall(settings: Settings) -> Row:
    """The longest stall of the event loop while it answers, less that without a cluster."""
    with ExitStack() as stack:
        folders = [
            stack.enter_context(tempfile.TemporaryDirectory(prefix="webtorch-stall-"))
            for _ in range(2)
        ]
        for folder in folders:
            Path(folder).chmod(0o755)
        probes = [Probe(folder) for folder in folders]
        hosts = stack.enter_context(started(*probes))
        programs = stack.enter_context(compiled("ask"))
        rate = half_rate(hosts[1])
        stalls: list[list[float]] = [[], []]
        for _ in range(settings.repeat):
            for host, probe, found in zip(hosts, probes, stalls, strict=True):
                with host.training():
                    probe.reset()
                    ask(programs, host.first, settings.seconds, rate)
                    found.append(probe.read()[1])
    value = median(stalls[0]) - median(stalls[1])
    details = {"with_rounds": stalls[0], "without": stalls[1], "rate": rate}
    name = "longest stall of the event loop, beyond that without rounds"
    return Row(name, "≤ 2 ms", value, value <= 2, "ms", details)


if __name__ == "__main__":
    main(__doc__, "cluster-serving", {"stall": stall, "latency": latency, "train": train})
