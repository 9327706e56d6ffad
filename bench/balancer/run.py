"""Compares webtorch_balancer with nginx's own methods.

Servers differ, fail, keep models warm, or are bad at some kinds of request.

usage: run.py [--only NAME] [--methods ...] [--seconds 20] [--plot FILE.svg]

Requests come at random times whether earlier ones are answered or not, and their latency is from
when they should have been sent. All methods get the same ones. The plot needs matplotlib.
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "build/modules/ngx_http_webtorch_module.so"
SERVERS = Path(__file__).with_name("servers.py")

METHODS = {
    "round robin": "",
    "least_conn": "least_conn;",
    "random two": "random two least_conn;",
    "webtorch": "webtorch_balancer {key};",
}


@dataclass
class Scenario:
    """Servers, load, and what happens at which part of the time."""

    about: str
    servers: list[dict[str, Any]]
    rate: float  # requests a second
    kinds: dict[str, float] = field(default_factory=lambda: {"a": 1.0})  # with their weights
    key: str = ""
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


def alike(count: int, **settings: Any) -> list[dict[str, Any]]:
    return [{"seconds": 0.04, **settings} for _ in range(count)]


SCENARIOS = {
    "speeds": Scenario(
        "five servers, one of which is twice and one four times as slow",
        [*alike(3), {"seconds": 0.08}, {"seconds": 0.16}],
        rate=260,
    ),
    "errors": Scenario(
        "one of five servers answers 500 at once, from a third to two thirds of the time",
        alike(5),
        rate=280,
        events=[(1 / 3, {"server": 2, "mode": "errors"}), (2 / 3, {"server": 2, "mode": "up"})],
    ),
    "hang": Scenario(
        "one of five servers hangs for a third of the time",
        alike(5),
        rate=280,
        events=[(1 / 3, {"server": 2, "mode": "hangs"}), (2 / 3, {"server": 2, "mode": "up"})],
    ),
    "brownout": Scenario(
        "one of five servers takes ten times as long for a third of the time",
        alike(5),
        rate=280,
        events=[(1 / 3, {"server": 2, "seconds": 0.4}), (2 / 3, {"server": 2, "seconds": 0.04})],
    ),
    "models": Scenario(
        "thirty models, of which a server keeps ten; another one takes eight times as long",
        alike(5, kept=10, miss=8.0),
        rate=150,
        kinds={str(number): 1 / (1 + number) ** 0.6 for number in range(30)},
        key="key=$arg_kind",
    ),
    "kinds": Scenario(
        "a third of the requests are five times slower on three of five servers",
        [*alike(2), *alike(3, factors={"heavy": 5.0})],
        rate=200,
        kinds={"light": 0.67, "heavy": 0.33},
        key="key=$arg_kind",
    ),
}

CONFIGURATION = """
{load}
worker_processes 1;
daemon off;
pid {prefix}/pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    log_format server '$msec $request_time $upstream_addr';
    access_log {log};
    client_body_temp_path {prefix}/b; proxy_temp_path {prefix}/p; fastcgi_temp_path {prefix}/f;
    uwsgi_temp_path {prefix}/u; scgi_temp_path {prefix}/s;
    upstream u {{ zone u 512k; {method} {servers} keepalive 256; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location = /up {{ return 204; }}
        location / {{
            proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_connect_timeout 1s; proxy_read_timeout 3s;
        }}
    }}
}}
"""


def free_ports(count: int) -> int:
    """Find a range of ports that nothing listens on."""
    while True:
        first = random.randrange(20000, 50000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process as long as the block."""
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    """Return whether a worker serves: not only that the port is open."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/up"):
        return True
    return False


@contextlib.contextmanager
def nginx(method: str, first: int, count: int, port: int, log: str) -> Iterator[None]:
    """Run an nginx with a method, until it answers; the log has the server of each request."""
    servers = " ".join(f"server 127.0.0.1:{first + number};" for number in range(count))
    load = f"load_module {MODULE};" if "webtorch" in method else ""
    with tempfile.TemporaryDirectory() as prefix:
        conf = Path(prefix) / "nginx.conf"
        conf.write_text(
            CONFIGURATION.format(
                load=load, prefix=prefix, method=method, servers=servers, port=port, log=log
            )
        )
        Path(prefix).chmod(0o755)
        with running(["/usr/sbin/nginx", "-p", prefix, "-c", str(conf)]):
            end = time.monotonic() + 30
            while not answers(port):
                if time.monotonic() > end:
                    sys.exit("nginx does not start")
                time.sleep(0.05)
            yield


def trace(scenario: Scenario, seconds: float) -> list[tuple[float, str, float]]:
    """Return when requests come, of which kind and size."""
    numbers = random.Random(1)
    kinds, weights = list(scenario.kinds), list(scenario.kinds.values())
    requests, now = [], 0.0
    while (now := now + numbers.expovariate(scenario.rate)) < seconds:
        kind = numbers.choices(kinds, weights)[0]
        requests.append((now, kind, numbers.lognormvariate(-0.32, 0.8)))
    return requests


async def send(port: int, kind: str, size: float, due: float) -> tuple[float, int]:
    """Send a request; return its latency in seconds and its status, 0: none."""
    status = 0
    with contextlib.suppress(OSError, ValueError, IndexError, TimeoutError):
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            path = f"/?kind={kind}&size={size:.4f}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: u\r\nConnection: close\r\n\r\n".encode())
            status = int((await reader.read()).split(b" ", 2)[1])
            writer.close()
    return asyncio.get_running_loop().time() - due, status


async def load(
    scenario: Scenario, port: int, seconds: float, control: Any
) -> list[tuple[float, float, int]]:
    """Send all requests of a scenario; return when each came, its latency and status."""
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.5
    for part, event in scenario.events:

        def change(event: dict[str, Any] = event) -> None:
            control.write(json.dumps(event) + "\n")
            control.flush()

        loop.call_at(begin + part * seconds, change)
    tasks = []
    for at, kind, size in trace(scenario, seconds):
        await asyncio.sleep(max(0.0, begin + at - loop.time()))
        tasks.append((at, asyncio.create_task(send(port, kind, size, begin + at))))
    return [(at, *await task) for at, task in tasks]


def measure(
    scenario: Scenario, method: str, seconds: float, log: str = "off"
) -> list[tuple[float, float, int]]:
    """Run a scenario with a method."""
    count = len(scenario.servers)
    first = free_ports(count + 1)
    command = [sys.executable, str(SERVERS), "--port", str(first)]
    command += ["--settings", json.dumps(scenario.servers)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(command, **pipes) as servers:
        assert servers.stdout is not None
        servers.stdout.readline()
        with nginx(method.format(key=scenario.key), first, count, first + count, log):
            return asyncio.run(load(scenario, first + count, seconds, servers.stdin))


def row(method: str, results: list[tuple[float, float, int]]) -> str:
    """Write a line of the table."""
    latencies = sorted(latency * 1000 for _, latency, _ in results)
    errors = sum(status != 200 for *_, status in results) / len(results) * 100

    def quantile(q: float) -> float:
        return latencies[min(len(latencies) - 1, int(q * len(latencies)))]

    return (
        f"| {method} | {statistics.mean(latencies):.0f} | {quantile(0.5):.0f} "
        f"| {quantile(0.99):.0f} | {quantile(0.999):.0f} | {errors:.2f} |"
    )


def plot(path: str, measured: dict[str, dict[str, list[tuple[float, float, int]]]]) -> None:
    """Draw the share of requests above each latency, errors as never answered."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, len(measured), figsize=(4 * len(measured), 4), squeeze=False)
    for axis, (name, methods) in zip(axes[0], measured.items(), strict=True):
        for method, results in methods.items():
            latencies = sorted(latency * 1000 for _, latency, status in results if status == 200)
            above = [1 - number / len(results) for number in range(len(latencies))]
            axis.loglog(latencies, above, label=method)
        axis.set(title=name, xlabel="latency, ms")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("share of requests that take longer")
    axes[0][-1].legend()
    plt.tight_layout()
    plt.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="a scenario")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--plot", help="a file to draw to, as balancer.svg")
    arguments = parser.parse_args()

    measured: dict[str, dict[str, list[tuple[float, float, int]]]] = {}
    for name in arguments.only or SCENARIOS:
        print(f"\n### {name}: {SCENARIOS[name].about}\n")
        print("| method | mean | p50 | p99 | p99.9 ms | errors % |\n|---|---|---|---|---|---|")
        measured[name] = {}
        for method in arguments.methods:
            results = measure(SCENARIOS[name], METHODS[method], arguments.seconds)
            measured[name][method] = results
            print(row(method, results), flush=True)
    if arguments.plot:
        plot(arguments.plot, measured)


if __name__ == "__main__":
    main()
