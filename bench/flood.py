"""A flood below any limit for each address, with webtorch.detect and with limit_req.

    .venv/bin/python bench/flood.py [--attackers 500] [--rate 1.8] [--seconds 30] [--seed 1]

200 people, each with an address of 127.1.0.0/16, read pages with their assets; then so many
addresses of 127.2.0.0/16 send requests with exponential gaps: for one page with a random query
("fixed"), or for pages as people do, but without assets ("mimic"). The site takes 40 ms for a page
and 5 ms for an asset, 16 at a time, with a queue of 400: about 400 pages a second. A request of a
person is served well if it is answered with 200 within a second. Rates are over the flood but for
its first second.
"""

import argparse
import asyncio
import math
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field

from server import ROOT, Server

PEOPLE, PAGES, ASSETS = 200, 60, 80
BEGIN = 8.0  # seconds before the flood
PATIENCE, WELL = 5.0, 1.0  # seconds

NGINX, SITE = 3905, 3906
AGENTS = [
    f"Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"
    for version in (115, 121, 128)
]

HTTP = f"""
webtorch_path {ROOT}/examples/flood;
limit_req_zone $binary_remote_addr zone=clients:10m rate=2r/s;
limit_req_status 429;
upstream site {{ server 127.0.0.1:{SITE} max_fails=0; keepalive 512; }}
proxy_http_version 1.1;
proxy_set_header Connection "";
server {{ listen 127.0.0.1:{NGINX} backlog=4096; location / {{ %s proxy_pass http://site; }} }}
"""
DEFENCES = {
    "detector": "webtorch_access flood:score status=429;",
    "limit_req": "limit_req zone=clients burst=20 nodelay;",
}


class Site(asyncio.Protocol):
    """The upstream: sixteen workers that sleep, and a queue before them."""

    WORKERS, QUEUE = 16, 400
    busy = 0
    queue: "list[tuple[Site, float]]" = []  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        seconds = 0.04 if b" /p/" in data[:16] else 0.005
        if len(Site.queue) >= Site.QUEUE:
            self._answer(b"503 Service Unavailable")
            return
        Site.queue.append((self, seconds * random.lognormvariate(-0.125, 0.5)))
        Site.take()

    @classmethod
    def take(cls) -> None:
        while cls.queue and cls.busy < cls.WORKERS:
            connection, seconds = cls.queue.pop(0)
            if not connection.transport.is_closing():
                cls.busy += 1
                asyncio.get_running_loop().call_later(seconds, connection._done)

    def _done(self) -> None:
        Site.busy -= 1
        self._answer(b"200 OK")
        Site.take()

    def _answer(self, status: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")


async def serve_site() -> None:
    server = await asyncio.get_running_loop().create_server(Site, "127.0.0.1", SITE, backlog=4096)
    await server.serve_forever()


@dataclass
class Client:
    """A host with an address of its own, and its idle connections."""

    address: str
    headers: str
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def get(self, target: str) -> int:
        """Return the status of the answer, 0 if there is none in time."""
        connection = self.idle.pop() if self.idle else None
        try:
            async with asyncio.timeout(PATIENCE):
                connection = connection or await asyncio.open_connection(
                    "127.0.0.1", NGINX, local_addr=(self.address, 0)
                )
                reader, writer = connection
                writer.write(f"GET {target} HTTP/1.1\r\nHost: s\r\n{self.headers}\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
                await reader.readexactly(length)
        except (OSError, EOFError, TimeoutError):
            if connection:
                connection[1].close()
            return 0
        if b"connection: close" in head:
            writer.close()
        else:
            self.idle.append(connection)
        return int(head[9:12])


@dataclass
class Run:
    """What was sent in the flood: of people when, how long it took and its status."""

    begin: float
    end: float
    people: list[tuple[float, float, int]] = field(default_factory=list)
    attack: list[tuple[float, int]] = field(default_factory=list)

    def report(self) -> dict[str, float]:
        flood = [each for each in self.people if self.begin + 1 <= each[0] < self.end]
        attack = [status for at, status in self.attack if at >= self.begin + 1]
        return {
            "served well": percent([status == 200 and took < WELL for _, took, status in flood]),
            "denied": percent([status in (403, 429) for _, _, status in flood]),
            "attack let through": percent([status == 200 for status in attack]),
        }


def percent(values: list[bool]) -> float:
    return 100 * sum(values) / max(1, len(values))


def page(rng: random.Random) -> int:
    return min(PAGES, int(rng.paretovariate(0.8))) - 1


async def person(run: Run, number: int, rng: random.Random, until: float) -> None:
    headers = f"User-Agent: {rng.choice(AGENTS)}\r\nCookie: sid={rng.getrandbits(64):x}\r\n"
    client = Client(f"127.1.0.{number + 1}", headers)

    async def get(target: str) -> None:
        at = time.monotonic()
        status = await client.get(target)
        run.people.append((at, time.monotonic() - at, status))

    async def later(seconds: float, target: str) -> None:
        await asyncio.sleep(seconds)
        await get(target)

    await asyncio.sleep(rng.uniform(0, BEGIN))
    while time.monotonic() < until:
        read = page(rng)
        await get(f"/p/{read}")
        await asyncio.sleep(rng.uniform(0.1, 0.4))
        assets = [(read * 7 + rng.randrange(10)) % ASSETS for _ in range(rng.randint(3, 8))]
        await asyncio.gather(*(later(rng.uniform(0, 0.5), f"/a/{each}") for each in assets))
        await asyncio.sleep(min(30, 6 * math.exp(rng.gauss(0, 0.7))))


async def attacker(
    run: Run, number: int, rng: random.Random, profile: str, per_second: float
) -> None:
    mimic = profile == "mimic"
    cookie = f"Cookie: sid={rng.getrandbits(64):x}\r\n" if mimic else ""
    agent = rng.choice(AGENTS) if mimic else "Mozilla/5.0"
    client = Client(f"127.2.{number // 250}.{number % 250 + 1}", f"User-Agent: {agent}\r\n{cookie}")

    async def get(target: str) -> None:
        at = time.monotonic()
        run.attack.append((at, await client.get(target)))

    await asyncio.sleep(run.begin - time.monotonic() + rng.expovariate(per_second))
    pending = []
    while time.monotonic() < run.end:
        target = f"/p/{page(rng)}" if mimic else f"/p/search?q={rng.getrandbits(40):x}"
        pending.append(asyncio.create_task(get(target)))
        await asyncio.sleep(rng.expovariate(per_second))
    await asyncio.gather(*pending)


async def load(options: argparse.Namespace, profile: str) -> Run:
    """Let people and the flood come."""
    now, rng = time.monotonic(), random.Random(options.seed)
    begin = now + BEGIN
    run = Run(begin, begin + (options.seconds - BEGIN) * 2 / 3)
    until = now + options.seconds
    tasks = [
        asyncio.create_task(person(run, each, random.Random(rng.random()), until))
        for each in range(PEOPLE)
    ]
    tasks += [
        asyncio.create_task(attacker(run, each, random.Random(rng.random()), profile, options.rate))
        for each in range(options.attackers)
    ]
    await asyncio.sleep(options.seconds + 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return run


def measure(options: argparse.Namespace, profile: str, defence: str) -> dict[str, float]:
    site = subprocess.Popen([sys.executable, __file__, "--site"])
    try:
        probe = "location = /probe { webtorch_handler xor_app:output; }"
        with Server(probe, "/probe", http=HTTP % DEFENCES[defence]):
            return asyncio.run(load(options, profile)).report()
    finally:
        site.terminate()
        site.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--attackers", type=int, default=500)
    parser.add_argument("--rate", type=float, default=1.8, help="requests per second of each")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--site", action="store_true", help="be the upstream")
    options = parser.parse_args()
    if options.site:
        asyncio.run(serve_site())
        return
    print("| % | people served well | people denied | attack let through |\n|---|---|---|---|")
    for profile in ("fixed", "mimic"):
        for defence in DEFENCES:
            cells = " | ".join(
                f"{value:.1f}" for value in measure(options, profile, defence).values()
            )
            print(f"| {profile}, {defence} | {cells} |", flush=True)
    print("| target | ≥ 95 | ≤ 1 | ≤ 15 |")


if __name__ == "__main__":
    main()
