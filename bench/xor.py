"""Measures XOR inside nginx against `return 200` in the same run; see bench/README.md.

Usage: .venv/bin/python bench/xor.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]
"""

import contextlib
import json
import selectors
import socket
from dataclasses import asdict
from statistics import median

import wrk
from server import PORT, Server
from table import Measure, Row, Settings, at_least, between, compare, compare_to_loop, main

LOCATIONS = """
location = /auto { webtorch_handler xor_app:output; }
location = /inline { webtorch_handler xor_app:output mode=inline; }
location = /thread { webtorch_handler xor_app:output mode=thread; }
location = /train { webtorch_handler xor_app:train; }
location = /train_one { webtorch_handler xor_app:train max_batch=1; }
location = /train_one_thread { webtorch_handler xor_app:train max_batch=1 mode=thread; }
location = /train_one_inline { webtorch_handler xor_app:train max_batch=1 mode=inline; }
location = /slow { webtorch_handler xor_app:slow; }
location = /slow_thread { webtorch_handler xor_app:slow mode=thread; }
"""

REQUESTS_OF_THE_ORIGINAL = 1_000_000
CONNECTIONS = 1000
REQUESTS_PER_CONNECTION = 20


def start(workers: int = 1) -> Server:
    return Server(LOCATIONS, "/auto", workers)


def ratio_row(name: str, path: str, target: float, workers: int = 1) -> Measure:
    """Make the measurement of a ratio to the reference."""

    def measure(settings: Settings) -> Row:
        with start(workers) as server:
            return at_least(name, target, compare(server, path, settings))

    return measure


def train_one(settings: Settings) -> Row:
    """One step per request, against the same step in a bare loop on one core."""
    with start() as server:
        ratios = compare_to_loop(server, "/train_one", "bare_loop.py", settings)
    return at_least("train, max_batch=1, ratio to a bare loop", 0.85, ratios)


def latency(settings: Settings) -> Row:
    """Median latency of one connection beyond the reference's."""
    differences = []
    with start() as server:
        wrk.run(server.url("/auto"), 1, threads=1, connections=1)
        for _ in range(settings.repeat):
            ok = wrk.run(server.url("/ok"), settings.seconds, threads=1, connections=1).p50
            auto = wrk.run(server.url("/auto"), settings.seconds, threads=1, connections=1).p50
            differences.append(auto - ok)
    value = median(differences)
    name = "infer auto, one connection, p50 beyond return 200"
    return Row(name, "≤ 60 µs", value, value <= 60, "µs", {"differences": differences})


def beside_a_slow_model(settings: Settings) -> Row:
    """`return 200` while 8 clients keep a model of 5 ms busy on the same worker."""

    def rate_beside(path: str) -> float:
        busy = wrk.start(server.url(path), settings.seconds + 1.5, threads=1, connections=8)
        rate = wrk.run(server.url("/ok"), settings.seconds).per_second
        slow.append(wrk.finish(busy).per_second)
        return rate

    slow = list[float]()
    with start() as server:
        wrk.run(server.url("/slow"), 1, threads=1, connections=8)
        ratios = between(
            lambda: rate_beside("/slow"), lambda: rate_beside("/slow_thread"), settings
        )
    name = "return 200 beside a 5 ms model, auto to thread"
    return at_least(name, 0.9, {**ratios, "slow_requests_per_second": slow})


def original(settings: Settings) -> Row:
    """The original's benchmark: 200 connections train with Torch7 bodies."""
    requests = errors = timeouts = 0
    microseconds = 0
    with start() as server:
        while requests < REQUESTS_OF_THE_ORIGINAL:
            result = wrk.run(server.url("/train"), 10, script=wrk.TORCH7_ROW, connections=200)
            requests += result.requests
            errors += result.errors
            timeouts += result.timeout
            microseconds += result.microseconds
        points = [[0.5, 0.5], [-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]]
        answers = json.loads(server.post("/auto", json.dumps(points).encode()))
    learned = [answer < 0 for (answer,) in answers] == [True, True, False, False]
    details = {
        "requests": requests,
        "requests_per_second": requests / microseconds * 1e6,
        "timeouts": timeouts,
        "learned": learned,
        "answers": answers,
    }
    name = "the original's benchmark, 10^6 requests, errors and timeouts"
    bad = errors + timeouts
    return Row(name, "0", bad, bad == 0 and learned, details=details)


def many_connections(settings: Settings) -> Row:
    """1000 keep-alive connections: failures, and connections that were not served."""
    body = "[[0.25,0.75]]"
    request = (
        f"POST /auto HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    with start() as server:
        result = wrk.run(server.url("/auto"), settings.seconds, connections=CONNECTIONS)
        served = serve_each(request)
    unserved = sum(count < REQUESTS_PER_CONNECTION for count in served)
    bad = result.errors + result.timeout + unserved
    details = {
        "wrk": asdict(result),
        "connections": len(served),
        "answers_per_connection": [min(served), max(served)],
    }
    name = f"{CONNECTIONS} connections, errors, timeouts and unserved"
    return Row(name, "0", bad, bad == 0, details=details)


def serve_each(request: bytes, seconds: float = 60) -> list[int]:
    """Send requests over many connections; return how many answers each of them got."""
    answers = [0] * CONNECTIONS
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for number in range(CONNECTIONS):
            client = socket.create_connection(("127.0.0.1", PORT))
            stack.enter_context(client)
            selector.register(client, selectors.EVENT_READ, number)
            client.sendall(request)
        while selector.get_map():
            ready = selector.select(seconds)
            if not ready:
                break
            for key, _ in ready:
                client = key.fileobj  # type: ignore[assignment]
                # an answer is smaller than a segment: it comes whole
                if client.recv(65536).startswith(b"HTTP/1.1 200 "):
                    answers[key.data] += 1
                if answers[key.data] < REQUESTS_PER_CONNECTION:
                    client.sendall(request)
                else:
                    selector.unregister(client)
    return answers


def start_time(settings: Settings) -> Row:
    """From the start of nginx to its first answer."""
    seconds = []
    for _ in range(settings.repeat):
        with start() as server:
            seconds.append(server.start_seconds)
    value = median(seconds)
    return Row("start to first answer", "≤ 4 s", value, value <= 4, "s", {"seconds": seconds})


def memory(settings: Settings) -> Row:
    """Proportional set size of the master and two workers after traffic."""
    with start(2) as server:
        for path in ("/auto", "/thread", "/train"):
            wrk.run(server.url(path), settings.seconds)
        value = server.pss_megabytes()
    return Row("PSS of master and 2 workers", "≤ 350 MB", value, value <= 350, "MB")


ROWS: dict[str, Measure] = {
    "infer-auto": ratio_row("XOR infer, auto", "/auto", 0.90),
    "infer-inline": ratio_row("XOR infer, inline", "/inline", 0.90),
    "infer-thread": ratio_row("XOR infer, thread", "/thread", 0.70),
    "infer-auto-2": ratio_row("XOR infer, auto, 2 workers", "/auto", 0.70, workers=2),
    "train": ratio_row("XOR train, one step per batch", "/train", 0.50),
    "train-one": train_one,
    "latency": latency,
    "slow": beside_a_slow_model,
    "original": original,
    "connections": many_connections,
    "start": start_time,
    "memory": memory,
}


if __name__ == "__main__":
    main(__doc__, "xor", ROWS)
