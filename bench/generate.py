"""Measures generations beside a bare loop in the same run; see bench/README.md.

Usage: .venv/bin/python bench/generate.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]
"""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from server import PORT, ROOT, Server
from table import Row, Settings, at_least, main

Counter = Callable[[bytes], int]
"""Counts the tokens in a part of an answer."""

CORE = 1
"""The core of the worker and of the bare loop; the client has the other ones."""

ROWS = 64

LOCATIONS = """
location = /output { webtorch_handler xor_app:output; }
location = /write { webtorch_handler generate_app:write max_steps=1000000; }
"""

LOOP = """
import sys, time, torch
sys.path.insert(0, "bench/apps")
import generate_app as app

torch.set_num_threads(1)
rows, seconds = int(sys.argv[1]), float(sys.argv[2])
with torch.no_grad():
    h, last = torch.zeros(rows, app.UNITS), torch.ones(rows, dtype=torch.int64)
    for _ in range(50):
        token, h, last = app.write(h, last)
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        token, h, last = app.write(h, last)
        steps += 1
print(rows * steps / (time.perf_counter() - begin))
"""


def loop(seconds: float) -> float:
    """Return the tokens a second of a loop with as many rows."""
    command = ["taskset", "-c", str(CORE), sys.executable, "-c", LOOP, str(ROWS), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def pin(server: Server) -> None:
    """Let the worker and its threads run on one core."""
    for pid in server.children():
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {CORE})


@contextmanager
def generations(accept: str) -> Iterator[list[socket.socket]]:
    """Begin as many generations as the loop has rows."""
    request = (
        "POST /write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\nContent-Length: 3\r\n\r\n[1]"
    ).encode()
    sockets = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(ROWS)]
    try:
        for each in sockets:
            each.sendall(request)
            each.setblocking(False)
        yield sockets
    finally:
        for each in sockets:
            each.close()


def read(sockets: list[socket.socket], seconds: float, count_tokens: Counter) -> float:
    """Return the tokens a second that come."""
    poll = select.epoll()
    by_descriptor = {each.fileno(): each for each in sockets}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    count = 0
    begin = time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        for descriptor, _ in poll.poll(1):
            data = by_descriptor[descriptor].recv(65536)
            if not data:
                raise RuntimeError("a generation has ended")
            count += count_tokens(data)
    poll.close()
    return count / (now - begin)


def measure(settings: Settings, accept: str, count_tokens: Counter, name: str) -> Row:
    """Compare generations with the loop, which is measured before and after."""
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - {CORE} or {CORE})
    served, bare = [], []
    with Server(LOCATIONS, "/output") as server:
        pin(server)
        for _ in range(settings.repeat):
            before = loop(settings.seconds)
            with generations(accept) as sockets:
                read(sockets, 1, count_tokens)
                pin(server)  # the thread that its calls have moved to
                served.append(read(sockets, settings.seconds, count_tokens))
            bare.append((before + loop(settings.seconds)) / 2)
    ratios = [a / b for a, b in zip(served, bare, strict=True)]
    return at_least(name, 0.8, {"ratios": ratios, "tokens_per_second": served, "loop": bare})


def lines(settings: Settings) -> Row:
    """Measure lines of JSON: a line and a chunk of HTTP for each token."""

    def count(data: bytes) -> int:
        # the other ends of lines are those of chunks
        return data.count(b"\n") - data.count(b"\r\n")

    return measure(settings, "application/x-ndjson", count, "generate, 64 at once, NDJSON")


def events(settings: Settings) -> Row:
    """Measure events."""

    def count(data: bytes) -> int:
        return data.count(b"data: ")

    return measure(settings, "text/event-stream", count, "generate, 64 at once, SSE")


if __name__ == "__main__":
    main(__doc__, "generate", {"lines": lines, "events": events})
