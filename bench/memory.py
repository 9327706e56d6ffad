"""The memory of a worker under 500 clients whose compressed bodies are as large as is allowed.

    .venv/bin/python bench/memory.py [--only gzip]

The value is the highest resident memory of the worker less that at rest, with default settings. In
each row 500 clients send at once, and again each time they are answered. Every answer must be 200,
or 503 with Retry-After, and some of each must come; another location must answer meanwhile. In the
last row 9000 connections send one small request each, which all must be answered with 200.
"""

import asyncio
import gzip
import http.client
import io
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

import table
from server import PORT, Server

CLIENTS, CONNECTIONS = 500, 9000
TARGET = 512  # megabytes
LIMIT = 1 << 20
"""Bytes: nginx's default of client_max_body_size."""

LOCATIONS = """
        location = /pair { webtorch_handler memory_app:pair; }
        location = /size { webtorch_handler memory_app:size; }
        location = /total { webtorch_handler memory_app:total; }
        location = /root { webtorch_handler memory_app:root; }
"""


def post(path: str, body: bytes, *headers: str) -> bytes:
    """Write a request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def compressed(path: str, body: bytes, kind: str) -> bytes:
    """Write a request with a compressed body."""
    return post(path, gzip.compress(body), "Content-Encoding: gzip", f"Content-Type: {kind}")


def archive() -> bytes:
    """Write an npz file of zeros that inflates to as much as is allowed."""
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros((1, (LIMIT - 1024) // 8)))
    return file.getvalue()


NUMBERS = b"[[" + b",".join([b"2"] * (LIMIT // 2 - 2)) + b"]]"
NOISE = random.Random(0).randbytes(LIMIT - 1024)
JSON, BYTES = "application/json", "application/octet-stream"

REQUESTS: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: compressed("/size", bytes(LIMIT), BYTES),
    "noise": lambda: compressed("/size", NOISE, BYTES),
    "json": lambda: compressed("/total", NUMBERS, JSON),
    "answers": lambda: compressed("/root", NUMBERS, JSON),
    "npz": lambda: post("/total", archive(), "Content-Type: application/x-npz"),
}


@dataclass
class Load:
    """What clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    elsewhere: list[float] = field(default_factory=list)
    """Seconds that each answer of another location took."""


async def exchange(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], message: bytes
) -> str:
    """Send a request; return the status of its answer."""
    reader, writer = connection
    writer.write(message)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
    await reader.readexactly(length)
    status = head[9:12].decode()
    return status if status != "503" or b"retry-after:" in head else "503 without Retry-After"


async def client(message: bytes, end: float, load: Load) -> None:
    """Send requests until the end; a refused one is sent again after a moment."""
    connection = await asyncio.open_connection("127.0.0.1", PORT)
    while True:
        try:
            status = await exchange(connection, message)
        except (OSError, EOFError) as error:
            load.statuses[type(error).__name__] += 1
            return
        load.statuses[status] += 1
        if time.monotonic() > end:
            break
        if status == "503":
            await asyncio.sleep(0.1)
    connection[1].close()


def bystander(seconds: float) -> list[float]:
    """Ask another location all the time; return how long each answer took, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    end = time.monotonic() + seconds
    times = []
    while time.monotonic() < end:
        begin = time.monotonic()
        connection.request("GET", "/ok")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok")
        times.append(time.monotonic() - begin)
        time.sleep(0.01)
    return times


async def clients(message: bytes, seconds: float) -> Load:
    """Load the server."""
    load = Load()
    end = time.monotonic() + seconds
    # in a process of its own, as that of the clients is busy
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        elsewhere = asyncio.get_running_loop().run_in_executor(pool, bystander, seconds)
        await asyncio.gather(*[client(message, end, load) for _ in range(CLIENTS)])
        load.elsewhere = await elsewhere
    return load


async def connections(message: bytes) -> Load:
    """Open all connections, then send one request on each."""
    load = Load()
    opened = [await asyncio.open_connection("127.0.0.1", PORT) for _ in range(CONNECTIONS)]
    load.statuses.update(await asyncio.gather(*[exchange(each, message) for each in opened]))
    for _, writer in opened:
        writer.close()
    return load


class Memory:
    """The resident memory of a process, in megabytes."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        # from here on the highest value is that since now
        (self._process / "clear_refs").write_text("5")
        self._rest = self._read("VmRSS")

    def above_rest(self) -> float:
        """Return how much it was at most, less than what it was at first."""
        return self._read("VmHWM") - self._rest

    def _read(self, name: str) -> float:
        status = (self._process / "status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def measure(key: str, settings: table.Settings) -> table.Row:
    """Measure a kind of body."""
    message = REQUESTS[key]()
    with Server(LOCATIONS, "/pair") as server:
        (worker,) = server.children()
        for path in ("/size", "/total", "/root"):
            server.post(path, b"[[1,2]]")
        memory = Memory(worker)
        load = asyncio.run(clients(message, settings.seconds))
        value = memory.above_rest()
    target = f"≤ {TARGET}" if key != "answers" else "-"
    met = "200" in load.statuses and set(load.statuses) <= {"200", "503"}
    met = met and (value <= TARGET or target == "-")
    times = {"median": median(load.elsewhere), "longest": max(load.elsewhere)}
    details = {"statuses": dict(load.statuses), "elsewhere, s": times}
    counts = ", ".join(f"{number} x {status}" for status, number in load.statuses.items())
    name = f"{CLIENTS} clients, {key}: {counts}"
    return table.Row(name, target, value, met, "MB", details)


def measure_connections(settings: table.Settings) -> table.Row:
    """Measure many connections with a small request each."""
    with Server(LOCATIONS, "/pair", connections=2 * CONNECTIONS) as server:
        (worker,) = server.children()
        memory = Memory(worker)
        load = asyncio.run(connections(post("/pair", b"[[1,2]]")))
        value = memory.above_rest()
    name = f"{CONNECTIONS} connections: {dict(load.statuses)}"
    return table.Row(name, "all 200", value, set(load.statuses) == {"200"}, "MB")


if __name__ == "__main__":
    rows: dict[str, table.Measure] = {
        key: lambda settings, key=key: measure(key, settings)  # type: ignore[misc]
        for key in REQUESTS
    }
    table.main(__doc__, "memory", rows | {"connections": measure_connections})
