"""Measures what metrics cost a request, and what an answer of webtorch_status does.

Usage: .venv/bin/python bench/metrics.py [--only NAME] [--repeat 5] [--seconds 3] [--json PATH]

Instructions are counted by valgrind, as virtual machines often have no counters for them.
"""

import http.client
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import timeit
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from prometheus_client.openmetrics import parser

import wrk
from server import PORT, Server
from stall import Probe, worst
from table import Row, Settings, main

LOCATION = "location = /auto { webtorch_handler xor_app:output; }"
STATUS = "location = /status { webtorch_status; }"

# it has no types
parse: Callable[[str], Iterable[Any]] = parser.text_string_to_metric_families

# --- what it costs ---


def instructions(setting: str, seconds: float) -> float:
    """Return the instructions of the only worker for each request, outside the kernel."""
    with tempfile.TemporaryDirectory(prefix="webtorch-callgrind-") as directory:
        tool = ("valgrind", "-q", "--tool=callgrind", f"--vgdb-prefix={directory}/vgdb")
        with Server(
            LOCATION,
            "/auto",
            http=f"webtorch_metrics {setting};",
            # hashes decide how long names are looked for
            environment={"PYTHONHASHSEED": "0"},
            # valgrind takes commands for the process that it has started alone
            main="master_process off;",
            tool=(*tool, "--instr-atstart=no", f"--callgrind-out-file={directory}/out.%p"),
        ) as server:
            worker = server.master

            def control(*arguments: str) -> None:
                command = ["vgdb", f"--vgdb-prefix={directory}/vgdb", f"--pid={worker}", *arguments]
                subprocess.run(command, check=True, capture_output=True)

            def load(seconds: float) -> int:
                result = wrk.run(server.url("/auto"), seconds, threads=1)
                assert result.errors == 0
                return result.requests

            load(2)
            control("instrumentation", "on")
            load(2)
            control("zero")
            requests = load(seconds)
            control("dump")
            dumps = Path(directory).glob(f"out.{worker}*")
            dump = max(dumps, key=lambda path: path.stat().st_mtime)
            found = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.M)
            assert found
            return int(found[1]) / requests


def cost(settings: Settings) -> Row:
    """Instructions of a request with metrics, to those without."""
    # fewer rows in a call make more instructions for a request, never less
    counts: dict[str, list[float]] = {"off": [], "on": []}
    for _ in range(settings.repeat):
        for name, found in counts.items():
            found.append(instructions(name, 2 * settings.seconds))
    value = min(counts["on"]) / min(counts["off"])
    return Row(
        "infer auto, instructions of a request, metrics on to off",
        "≤ 1.02",
        value,
        value <= 1.02,
        "",
        counts,
    )


def pairs(settings: Settings) -> Row:
    """Rates with metrics to those without, in alternating pairs."""
    ratios = []
    for number in range(4 * settings.repeat):
        rates = {}
        for setting in ("on", "off") if number % 2 else ("off", "on"):
            with Server(LOCATION, "/auto", http=f"webtorch_metrics {setting};") as server:
                wrk.run(server.url("/auto"), 1)
                rates[setting] = wrk.run(server.url("/auto"), settings.seconds).per_second
        ratios.append(rates["on"] / rates["off"])
    value = median(ratios)
    return Row(
        "infer auto, requests per second, metrics on to off",
        "≥ 0.98",
        value,
        value >= 0.98,
        "",
        {"ratios": ratios},
    )


STAGE = """
with stage("bench") as s:
    s.leaves(x)
"""


def stage(settings: Settings) -> Row:
    """A stage that does not sample."""
    setup = "import torch; from webtorch import stage; x = torch.zeros(8, 4)"
    runs = timeit.repeat(STAGE, setup, number=20_000, repeat=10 * settings.repeat)
    value = min(runs) / 20_000 * 1e6
    value *= 1000
    return Row("a stage that does not sample", "< 1000 ns", value, value < 1000, "ns", {})


# --- what is answered ---

HANDLERS = 50


def scrape(settings: Settings) -> Row:
    """The time of an answer with 50 handlers and 8 workers, and the longest stall that it makes."""
    locations = LOCATION + STATUS
    for number in range(HANDLERS):
        locations += f"location = /h{number} {{ webtorch_handler many_app:output{number}; }}"
    with tempfile.TemporaryDirectory(prefix="webtorch-stall-") as directory:
        Path(directory).chmod(0o755)
        probe = Probe(directory)
        with Server(
            locations, "/auto", workers=8, environment=probe.environment(), events=""
        ) as server:
            while len(server.children()) != 8:
                # the child that has imported the handlers for the check, or workers to come
                time.sleep(0.01)
            for number in range(HANDLERS):
                for _ in range(4):
                    server.post(f"/h{number}", b"[[0.25,0.75]]")
            client = http.client.HTTPConnection("127.0.0.1", PORT)
            times = []
            sizes = set()

            def get(path: str) -> None:
                start = time.perf_counter()
                client.request("GET", path)
                sizes.add(len(client.getresponse().read()))
                times.append(time.perf_counter() - start)

            rest = [worst(probe, lambda: get("/ok"))[1] for _ in range(20)]
            times.clear()
            for _ in range(100):
                get("/status?format=openmetrics")
            whole = median(times) * 1000
            stalls = [
                worst(probe, lambda: get("/status?format=openmetrics"))[1] - median(rest)
                for _ in range(20)
            ]
    value = median(stalls)
    return Row(
        "a scrape of 50 handlers, 8 workers: stall of the event loop, and the whole",
        "≤ 2 ms, 10 ms",
        value,
        value <= 2 and whole <= 10,
        "ms",
        {"whole": whole, "stalls": stalls, "bytes": max(sizes)},
    )


# --- what is counted ---

WORKERS = 4
CONNECTIONS = 64
REQUESTS = 200_000
SUFFIXES = ("_total", "_count", "_sum", "_bucket")


def samples(server: Server) -> dict[tuple[str, str], float]:
    """Return the counters, as an answer in OpenMetrics' format has them."""
    client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    client.request("GET", "/status?format=openmetrics")
    text = client.getresponse().read().decode()
    client.close()
    return {
        (sample.name, str(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name.endswith(SUFFIXES)
    }


def totals(server: Server) -> float:
    """Return the requests of the handler that were counted."""
    return sum(
        number
        for (name, labels), number in samples(server).items()
        if name == "webtorch_requests_total" and "xor_app" in labels
    )


def disturb(server: Server, stop: threading.Event, events: list[str]) -> None:
    """Kill workers and reload, in turn."""
    while not stop.wait(2):
        if len(events) % 2:
            server.reload()
            events.append("reload")
        else:
            os.kill(server.children()[0], signal.SIGKILL)
            events.append("kill")


def count(settings: Settings) -> Row:
    """Requests that were counted, beside what clients have counted, with kills and reloads."""
    events: list[str] = []
    back: list[str] = []
    scrapes = 0
    with Server(LOCATION + STATUS, "/auto", workers=WORKERS) as server:
        begin = totals(server)
        stop = threading.Event()
        thread = threading.Thread(target=disturb, args=(server, stop, events))
        thread.start()
        answered = runs = 0
        before: dict[tuple[str, str], float] = {}
        while answered < REQUESTS:
            process = wrk.start(server.url("/auto"), 10, connections=CONNECTIONS)
            while process.poll() is None:
                now = samples(server)
                back += [str(key) for key, number in before.items() if now.get(key, -1) < number]
                before = now
                scrapes += 1
                time.sleep(0.1)
            answered += wrk.finish(process).requests
            runs += 1
        stop.set()
        thread.join()
        time.sleep(1)
        counted = totals(server) - begin
    value = counted - answered
    # at a kill, and when wrk ends, each connection has a request
    allowed = CONNECTIONS * (events.count("kill") + runs)
    return Row(
        f"requests counted beyond the {answered} that were answered",
        f"≤ {allowed}",
        abs(value),
        abs(value) <= allowed and not back,
        "",
        {"events": events, "scrapes": scrapes, "counters that went back": back},
    )


if __name__ == "__main__":
    main(
        __doc__,
        "metrics",
        {"cost": cost, "pairs": pairs, "stage": stage, "scrape": scrape, "count": count},
    )
