"""Measures checkpoints of two hosts in object storage; see bench/README.md.

Usage: .venv/bin/python bench/cluster_storage.py [--only NAME] [--repeat 3] [--seconds 30]

The store is moto's server in this process. `--seconds` is how long it is away.
"""

import contextlib
import io
import json
import logging
import os
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from compiled import compiled, load
from server import PORT, ROOT, Server
from stall import Probe
from table import Row, Settings, main

sys.path.insert(0, str(ROOT / "tests/support"))

import storage as stores

CONNECTIONS = 16
RATE = 200.0
"""Requests each second while the stall is measured: the worker is idle in between."""

DEADLINE = 120.0
BODY = b"[[0.25,0.75]]"

LOCATIONS = """
location = /output { webtorch_handler cluster_app:output; }
location = /train { webtorch_handler cluster_app:train; }
location = /about { webtorch_handler storage_app:about; }
location = /status { webtorch_status; }
"""
ZONE = """
webtorch_zone models:64m;
webtorch_checkpoint {url} endpoint={endpoint} interval=1s keep=1000;
webtorch_cluster bench id=host-{index} coordinator=127.0.1.1:7610 address=127.0.1.{index}
                 secret=off interval=300ms;
"""


class Store(stores.Storage):
    """A bucket that keeps what is overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.client.put_bucket_versioning(
            Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"}
        )

    def versions(self) -> Counter[str]:
        """Return how often each name was written."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket)
        return Counter(each["Key"] for page in pages for each in page.get("Versions", ()))


def server(store: Store, index: int, probe: Probe | None = None) -> Server:
    """Return a host."""
    return Server(
        LOCATIONS,
        "/output",
        workers=2,
        http=ZONE.format(url=store.url, endpoint=store.endpoint, index=index + 1),
        main=stores.MAIN,
        environment={**stores.KEYS, **(probe.environment() if probe else {})},
        port=PORT + index,
    )


@contextmanager
def started(probe: Probe | None = None) -> Iterator[tuple[Store, list[Server]]]:
    """Start two hosts whose model has been averaged."""
    with ExitStack() as stack:
        store = Store()
        stack.callback(store.close)
        hosts = [
            stack.enter_context(server(store, index, None if index else probe))
            for index in range(2)
        ]
        train(hosts, 1)
        yield store, hosts


def about(host: Server) -> dict[str, Any]:
    """Return the steps of a host's model, and how many of its own are not counted yet."""
    with urllib.request.urlopen(host.url("/about"), timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Poll until a condition holds."""
    end = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.02)


def train(hosts: list[Server], steps: int) -> int:
    """Have each host make steps; return those of the model when all hosts have all of them."""
    for host in hosts:
        for _ in range(steps):
            host.post("/train", BODY)
    return settle(hosts)


def settle(hosts: list[Server]) -> int:
    """Wait until all steps of all hosts are in the model of each; return their number."""
    found: list[dict[str, Any]] = []

    def is_settled() -> bool:
        found[:] = [about(host) for host in hosts]
        is_equal = len({each["steps"] for each in found}) == 1
        return is_equal and not any(each["uncounted"] for each in found)

    wait_until(is_settled, "rounds")
    return int(found[0]["steps"])


def stored(store: Store) -> list[str]:
    """Return the names of the model's files, the youngest last."""
    return [name for name in store.names("shared/") if "/" not in name]


def names(_: Settings) -> Row:
    """How often each of 100 names is written that two hosts write at the same time."""
    store = Store()
    barrier = threading.Barrier(2)
    written: list[str] = []

    def write(host: str) -> None:
        bucket = store.open()
        for number in range(100):
            barrier.wait(DEADLINE)
            if bucket.put_new(f"shared/{number}", io.BytesIO(host.encode())):
                written.append(f"models/shared/{number}")

    with contextlib.closing(store):
        threads = [threading.Thread(target=write, args=(host,)) for host in ("web-0", "web-1")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        versions = store.versions()
    is_met = Counter(written) == versions and set(versions.values()) == {1}
    value = max(versions.values())
    details = {"names": len(versions), "reported": len(written)}
    return Row("writes of a name by two hosts at once", "1", value, is_met, "", details)


def away(settings: Settings) -> Row:
    """The longest stall of the event loop while the store is away, less that while it is there."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="webtorch-stall-"))
        Path(folder).chmod(0o755)
        probe = Probe(folder)
        programs = stack.enter_context(compiled("ask"))
        store, hosts = stack.enter_context(started(probe))
        stopped = threading.Event()

        def train_on() -> None:
            while not stopped.wait(0.1):
                for host in hosts:
                    host.post("/train", BODY)

        def stall(seconds: float) -> float:
            probe.reset()
            arguments = (hosts[0].port, "/output", "http", CONNECTIONS, seconds, BODY.decode())
            load(programs, "ask", *arguments, RATE)
            return probe.read()[1]

        trainer = threading.Thread(target=train_on)
        trainer.start()
        stalls: dict[str, list[float]] = {"there": [], "away": []}
        try:
            for _ in range(settings.repeat):
                stalls["there"].append(stall(settings.seconds))
                store.go_away()
                stalls["away"].append(stall(settings.seconds))
                store.return_back()
        finally:
            stopped.set()
            trainer.join()
        steps = train(hosts, 1)
        wait_until(lambda: steps_of(store) == steps, "a file of the last steps")
        status = hosts[0].url("/status?format=prometheus")
        with urllib.request.urlopen(status, timeout=30) as answer:
            text = answer.read().decode()
    failed = re.search(r'^webtorch_storage_checkpoints_total\{result="failed"\} (\S+)$', text, re.M)
    value = median(stalls["away"]) - median(stalls["there"])
    details = {**stalls, "failed": float(failed[1]) if failed else None, "steps": steps}
    name = "longest stall of the event loop, store away, beyond that with it"
    return Row(name, "≤ 2 ms", value, value <= 2, "ms", details)


def steps_of(store: Store) -> int:
    """Return the steps of the youngest file; 0: there is none."""
    names = stored(store)
    if not names:
        return 0
    data = store.read("shared/" + names[-1])
    size = int.from_bytes(data[:8], "little")
    return int(json.loads(data[8 : 8 + size])["__metadata__"]["step"])


def empty(settings: Settings) -> Row:
    """The steps that two hosts begin with when all of their memory is lost, beyond those stored."""
    differences, seconds = [], []
    for _ in range(settings.repeat):
        with started() as (store, hosts):
            steps = train(hosts, 5)
            wait_until(lambda s=store, n=steps: steps_of(s) == n, "a file")  # type: ignore[misc]
            for host in hosts:
                host.kill()
            begin = time.monotonic()
            for host in hosts:
                host.launch()
            seconds.append(time.monotonic() - begin)
            differences += [about(host)["steps"] - steps for host in hosts]
    value = max(map(abs, differences))
    details = {"seconds": seconds}
    return Row("steps that hosts with empty disks lack", "0", value, value == 0, "", details)


if __name__ == "__main__":
    os.environ.update(stores.KEYS)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    main(__doc__, "cluster-storage", {"names": names, "away": away, "empty": empty})
