"""Measures functions on devices: a simulated one, and a GPU if there is one; see bench/README.md.

Usage: .venv/bin/python bench/devices.py [--only NAME] [--seconds 5] [--repeat 3] [--json PATH]
"""

import concurrent.futures
import http.client
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch
from torch import nn

import webtorch
from server import PORT, ROOT, Server
from stall import Probe
from table import Measure, Row, Settings, at_least, between, main

LOCATIONS = """
location = /ready { webtorch_handler xor_app:output; }
location = /double { webtorch_handler devices_app:double max_batch=1; }
location = /choose { webtorch_handler devices_app:choose mode=inline; }
"""

WARP = """
location = /ready { webtorch_handler xor_app:output; }
location = /draw { webtorch_handler warp_app:draw max_batch=1; }
"""

RAW = {"Content-Type": "application/json", "Accept": "application/octet-stream"}
VIEW = b'{"view": [[-0.75, 0.12, 0.02, 0, 0, 0]], "limit": [500]}'


def load(path: str, body: bytes, seconds: float, clients: int = 8) -> float:
    """Send requests on several connections; return answers per second."""
    end = time.perf_counter() + seconds

    def send() -> int:
        client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
        count = 0
        while time.perf_counter() < end:
            client.request("POST", path, body, RAW)
            answer = client.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            count += 1
        client.close()
        return count

    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        total = sum(each.result() for each in [pool.submit(send) for _ in range(clients)])
    return total / (time.perf_counter() - begin)


def stall(settings: Settings) -> Row:
    """Measure the longest turn of the event loop while calls of 50 ms run on the device."""
    with tempfile.TemporaryDirectory(prefix="webtorch-devices-") as directory:
        Path(directory).chmod(0o755)
        probe = Probe(directory)
        with Server(LOCATIONS, "/ready", environment=probe.environment()) as server:
            server.post("/choose?slow", b"{}")
            load("/double", b"[[1, 2]]", 1)
            turns = []
            for _ in range(settings.repeat):
                probe.reset()
                load("/double", b"[[1, 2]]", settings.seconds)
                turns.append(probe.read())
    value = median(own for _, own in turns)
    details = {"longest_and_without_preemption": turns}
    return Row("event loop, calls of 50 ms", "≤ 2 ms", value, value <= 2, "ms", details)


def overlap(settings: Settings) -> Row:
    """Measure which share of 10 ms in, 20 ms of computing and 10 ms out is hidden."""
    with Server(LOCATIONS, "/ready") as server:

        def measure(name: str) -> float:
            server.post(f"/choose?{name}", b"{}")
            return 1 / load("/double", b"[[1, 2]]", settings.seconds)

        measure("copied")
        times = [(measure("computed"), measure("copied")) for _ in range(settings.repeat)]
    hidden = [1 - (copied - computed) / 0.02 for computed, copied in times]
    value = median(hidden)
    details = {"shares": hidden, "seconds_of_a_batch_without_and_with_copies": times}
    return Row("copies hidden by computing", "≥ 0.80", value, value >= 0.8, details=details)


def warp(settings: Settings) -> Row:
    """Compare tiles that a handler draws with the bare loop of the kernel."""
    sys.path.append(str(ROOT / "examples/gpgpu"))
    from gpgpu import draw

    view = torch.tensor([[-0.75, 0.12, 0.02, 0, 0, 0]], dtype=torch.float64)
    limit = torch.tensor([500], dtype=torch.int32)

    def loop() -> float:
        return rate(lambda: draw(view, limit), settings.seconds)

    with Server(WARP, "/ready"):
        load("/draw", VIEW, 1)
        found = between(lambda: load("/draw", VIEW, settings.seconds, 2), loop, settings)
    return at_least("tiles of Warp to the bare kernel", 0.9, found)


def rate(call: Callable[[], object], seconds: float) -> float:
    """Call something in a loop; return calls per second."""
    count = 0
    begin = now = time.perf_counter()
    while now < begin + seconds:
        call()
        count += 1
        now = time.perf_counter()
    return count / (now - begin)


# --- on a GPU ---


def graphs(settings: Settings) -> Row:
    """Compare a small network as a graph with the same one without, rows of 8."""
    layers = [layer for _ in range(8) for layer in (nn.Linear(64, 64), nn.ReLU())]
    eager = webtorch.Model("eager", nn.Sequential(*layers), device="cuda")
    graph = webtorch.Model("graph", nn.Sequential(*layers), device="cuda", graphs=[8])
    x = torch.randn(8, 64, device="cuda")

    def measure(model: webtorch.Model) -> float:
        with torch.no_grad():
            return rate(lambda: (model(x), torch.cuda.synchronize()), settings.seconds)

    measure(graph)
    return at_least(
        "small MLP, graphs to eager",
        2.0,
        between(lambda: measure(graph), lambda: measure(eager), settings),
    )


def pinned(settings: Settings) -> Row:
    """Compare copies of 16 MB from pinned memory with those from other memory."""
    memory = torch.empty(4 * 1024 * 1024)
    other = memory.pin_memory()

    def measure(source: torch.Tensor) -> float:
        def copy() -> None:
            source.to("cuda", non_blocking=True)
            torch.cuda.synchronize()

        return rate(copy, settings.seconds)

    return at_least(
        "copies, pinned to pageable",
        1.0,
        between(lambda: measure(other), lambda: measure(memory), settings),
    )


ROWS: Mapping[str, Measure] = {"stall": stall, "overlap": overlap, "warp": warp}
ON_GPU: Mapping[str, Measure] = {"graphs": graphs, "pinned": pinned}

if __name__ == "__main__":
    main(__doc__, "devices", {**ROWS, **(ON_GPU if torch.cuda.is_available() else {})})
