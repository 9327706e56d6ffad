"""Measures functions that one worker runs for four; see bench/README.md.

Usage: .venv/bin/python bench/owner.py [--only NAME] [--seconds 5] [--repeat 3] [--json PATH]
"""

import http.client
import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

import wrk
from server import PORT, Server
from table import Measure, Row, Settings, main

WORKERS = 4
CLIENTS = 16
MEGABYTES = 128
ZONE = "webtorch_zone bench:256m;"
BODY = b"[[0.25, 0.75]]"
JSON = {"Content-Type": "application/json"}

LOCATIONS = """
webtorch_device {device};
location = /output {{ webtorch_handler owner_app:output; }}
location = /where {{ webtorch_handler owner_app:where; }}
"""


def start(device: str, directory: str, megabytes: int = 1) -> Server:
    """Return a server of four workers with a device, which may be a simulated one."""
    environment = {"BENCH_MEGABYTES": str(megabytes), "BENCH_STARTS": directory}
    if device.startswith("cuda"):
        environment["WEBTORCH_SIMULATED_DEVICE"] = "1"
    # nginx passes its own variables on to workers that it names alone
    main = "".join(f"env {name};" for name in environment)
    locations = LOCATIONS.format(device=device)
    return Server(
        locations, "/output", WORKERS, ZONE, environment=environment, main=main, connections=512
    )


def writable() -> tempfile.TemporaryDirectory[str]:
    """Make a directory that workers can write to."""
    directory = tempfile.TemporaryDirectory(prefix="webtorch-owner-")
    Path(directory.name).chmod(0o777)
    return directory


# --- memory ---


def pss(device: str, megabytes: int) -> float:
    """Return the proportional set size of all processes when all workers have served."""
    with writable() as directory, start(device, directory, megabytes) as server:
        pids: set[int] = set()
        end = time.monotonic() + 60
        while len(pids) < (1 if "owner" in device else WORKERS) and time.monotonic() < end:
            threads = [threading.Thread(target=lambda: pids.add(ask())) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return server.pss_megabytes()


def ask() -> int:
    """Return the process that has answered a request for the large model."""
    client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    client.request("POST", "/where", BODY, JSON)
    pid: int = json.loads(client.getresponse().read())[0][0]
    client.close()
    return pid


def copies(settings: Settings) -> Row:
    """Count the copies of the weights on a simulated device, beside the one in the zone."""
    found = {
        device: (pss(device, MEGABYTES) - pss(device, 1)) / (MEGABYTES - 1) - 1
        for device in ("cuda owner", "cuda", "cpu owner")
    }
    value = found["cuda owner"]
    details = {f"copies, {device}": copies for device, copies in found.items()}
    return Row(
        "owner, copies of the weights on the device", "≤ 1.1", value, value <= 1.1, "", details
    )


# --- an owner that is killed ---


class Load(threading.Thread):
    """A client that sends requests one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = False
        self.outcomes: Counter[str] = Counter()
        self.waits: list[tuple[float, float]] = []
        """Begin and end of answered requests, as of `time.monotonic()`."""

    def run(self) -> None:
        """Send requests until the end."""
        client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
        while not self.ends:
            begin = time.monotonic()
            try:
                client.request("POST", "/output", BODY, JSON)
                answer = client.getresponse()
                text = answer.read()
            except (http.client.HTTPException, OSError):
                # the owner had it on a connection of its own
                self.outcomes["closed by the owner"] += 1
                client.close()
                continue
            if answer.status == 200:
                self.outcomes["answered"] += 1
                self.waits.append((begin, time.monotonic()))
            else:
                self.outcomes[f"{answer.status} {json.loads(text)['code']}"] += 1
        client.close()


def kill(settings: Settings) -> Row:
    """Kill the owner under load; the value is the longest wait beyond the start of the next one."""
    beyond = []
    outcomes: Counter[str] = Counter()
    starts = []
    with writable() as directory, start("cpu owner", directory) as server:
        loads = [Load() for _ in range(CLIENTS)]
        for load in loads:
            load.start()
        try:
            for _ in range(settings.repeat):
                time.sleep(settings.seconds)
                killed = time.monotonic()
                owner = newest(directory)[1]
                os.kill(owner, signal.SIGKILL)
                while newest(directory)[1] == owner:
                    time.sleep(0.01)
                ready = newest(directory)[0]
                time.sleep(settings.seconds)
                # of those that waited for it
                waits = [
                    end - begin
                    for load in loads
                    for begin, end in [*load.waits]
                    if begin < ready < end
                ]
                starts.append(ready - killed)
                beyond.append(max(waits, default=0.0) - (ready - killed))
        finally:
            for load in loads:
                load.ends = True
            for load in loads:
                load.join()
        for load in loads:
            outcomes += load.outcomes
        del server
    in_its_hands = outcomes["503 owner_lost"] + outcomes["closed by the owner"]
    others = sum(outcomes.values()) - outcomes["answered"] - in_its_hands
    value = max(beyond)
    details = {"outcomes": dict(outcomes), "lost_but_not_in_its_hands": others, "start_s": starts}
    return Row(
        "owner killed, wait beyond its start",
        "≤ 0.5 s",
        value,
        value <= 0.5 and not others,
        "s",
        details,
    )


def newest(directory: str) -> tuple[float, int]:
    """Return when the last owner had imported the application, and its process."""
    found = [
        (float(text), int(path.name))
        for path in Path(directory).iterdir()
        if (text := path.read_text())
    ]
    return max(found)


def cost(settings: Settings) -> Row:
    """Compare the XOR network run by an owner with one that each of four workers runs."""
    rates: dict[str, list[float]] = {"cpu owner": [], "cpu": []}
    with writable() as directory:
        for _ in range(settings.repeat):
            for device, found in rates.items():
                with start(device, directory) as server:
                    wrk.run(server.url("/output"), 1)
                    found.append(wrk.run(server.url("/output"), settings.seconds).per_second)
    value = median(rates["cpu owner"]) / median(rates["cpu"])
    return Row("owner, XOR to a call in each worker", "shown", value, True, "", dict(rates))


ROWS: dict[str, Measure] = {"copies": copies, "kill": kill, "cost": cost}

if __name__ == "__main__":
    main(__doc__, "owner", ROWS)
