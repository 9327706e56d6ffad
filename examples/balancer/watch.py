"""Makes a brownout in nginx-conf/balancer.conf, and draws which servers get the requests.

    .venv/bin/python examples/balancer/watch.py [URL] [--plot build/balancer.svg]

Eight clients ask all the time. After a third of the requests the quickest server becomes slow, as
the balancer has to find out, and after another third it is quick again.
"""

import argparse
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import requests
from matplotlib import pyplot
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

CLIENTS, PARTS = 8, 20
NAMES = ("quick", "steady", "slow", "failing")
COLORS = ("tab:green", "tab:blue", "tab:orange", "tab:red")
PHASES = ("calm", "brownout", "calm again")

Seen = list[tuple[float, float, int]]
"""When each request ended and how long it took, in seconds, and its first server's number."""


def ask(url: str, count: int, begin: float) -> Seen:
    """Send requests with all clients."""
    seen: Seen = []
    number = itertools.count()
    lock = threading.Lock()

    def client(_: int) -> None:
        with requests.Session() as session:
            while next(number) < count:
                start = time.monotonic()
                answer = session.get(f"{url}/", params={"model": "a"}, timeout=60)
                answer.raise_for_status()
                end = time.monotonic()
                server = answer.headers["X-Servers"].partition(",")[0]
                with lock:
                    seen.append((end - begin, end - start, int(server.rpartition(":")[2])))

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(client, range(CLIENTS)))
    return seen


def watch(url: str, brownout: Path, count: int) -> list[Seen]:
    """Return what was seen before, in and after the brownout."""
    begin = time.monotonic()
    phases = []
    brownout.unlink(missing_ok=True)
    try:
        for phase in PHASES:
            if phase == "brownout":
                brownout.touch()
            else:
                brownout.unlink(missing_ok=True)
            phases.append(ask(url, count, begin))
    finally:
        brownout.unlink(missing_ok=True)
    return phases


def shares(seen: Seen, ports: list[int]) -> list[float]:
    """Return the share of each server."""
    found = Counter(port for _, _, port in seen)
    return [found[port] / len(seen) for port in ports]


def draw(phases: list[Seen], ports: list[int], path: Path) -> None:
    """Draw the shares over the requests, and how long these took."""
    size = len(phases[0]) // PARTS
    parts = [seen[at : at + size] for seen in phases for at in range(0, size * PARTS, size)]
    x = np.arange(len(parts)) * size
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(8, 5), sharex=True, layout="constrained", height_ratios=(3, 2)
    )
    columns = zip(*(shares(part, ports) for part in parts), strict=True)
    top.stackplot(x, *columns, labels=NAMES, colors=COLORS, step="post")
    top.set(ylabel="share of requests", ylim=(0, 1))
    top.legend(loc="upper left", bbox_to_anchor=(1, 1), title="first sent to")
    for percent, color in ((99, "tab:red"), (50, "tab:gray")):
        times = [1000 * np.percentile([each for _, each, _ in part], percent) for part in parts]
        bottom.step(x, times, where="post", color=color, label=f"{percent} % are faster")
    bottom.set(xlabel="requests", ylabel="time, ms", yscale="log")
    bottom.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    bottom.yaxis.set_major_formatter(ScalarFormatter())
    bottom.yaxis.set_minor_locator(NullLocator())
    bottom.legend(loc="upper left", bbox_to_anchor=(1, 1))
    for axes in (top, bottom):
        axes.axvspan(PARTS * size, 2 * PARTS * size, color="gray", alpha=0.2, label="brownout")
        axes.margins(x=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Watch the balancer, and draw what was seen."""
    parser = argparse.ArgumentParser(description="Watches the balancer in a brownout.")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:3000")
    parser.add_argument("--plot", type=Path, default=Path("build/balancer.svg"))
    parser.add_argument("--brownout", type=Path, default=Path("build/run/brownout"))
    parser.add_argument("--ports", type=int, nargs=4, default=[3001, 3002, 3003, 3004])
    parser.add_argument("--count", type=int, default=3000, help="requests of each third")
    options = parser.parse_args()
    phases = watch(options.url, options.brownout, options.count)
    print(f"{'':10}" + "".join(f"{name:>10}" for name in NAMES))
    for phase, seen in zip(PHASES, phases, strict=True):
        # what was learned by the second half
        found = shares(seen[len(seen) // 2 :], options.ports)
        print(f"{phase:10}" + "".join(f"{share:10.1%}" for share in found))
    draw(phases, options.ports, options.plot)
    print(f"written to {options.plot}")


if __name__ == "__main__":
    main()
