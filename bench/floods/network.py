"""A flood in real time: nginx with the detector, before a site that sleeps, and clients with
addresses of the loopback interface.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from floods.report import Report
from floods.scenarios import QUEUE, WORKERS, Acts, Client, Scenario, Send, Wait, seconds_of
from server import ROOT, Server

PATIENCE = 5.0  # seconds
NGINX, SITE = 3905, 3906

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
    "none": "",
}


class Upstream(asyncio.Protocol):
    """The site: workers that sleep, and a queue before them."""

    busy = 0
    queue: ClassVar["deque[tuple[Upstream, float]]"] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        target = data.split(b" ", 2)[1].decode()
        if len(Upstream.queue) >= QUEUE:
            self._answer(b"503 Service Unavailable")
            return
        Upstream.queue.append((self, seconds_of(target, random)))
        Upstream.take()

    @classmethod
    def take(cls) -> None:
        while cls.queue and cls.busy < WORKERS:
            connection, seconds = cls.queue.popleft()
            if not connection.transport.is_closing():
                cls.busy += 1
                asyncio.get_running_loop().call_later(seconds, connection._done)

    def _done(self) -> None:
        Upstream.busy -= 1
        self._answer(b"200 OK")
        Upstream.take()

    def _answer(self, status: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")


async def serve_site() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", SITE, backlog=4096)
    await server.serve_forever()


@dataclass
class Host:
    """A client's address, and its idle connections."""

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

    def close(self) -> None:
        for _, writer in self.idle:
            writer.close()


@dataclass
class Visit:
    """Lets a client do what its generator says."""

    client: Client
    rng: random.Random
    begin: float
    report: Report
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        client = self.client
        cookie = f"Cookie: sid={self.rng.getrandbits(64):x}\r\n" if client.cookie else ""
        host = Host(client.address, f"User-Agent: {client.agent}\r\n{cookie}")
        acts: Acts = client.acts(self.rng)
        try:
            act = next(acts)
            while True:
                if isinstance(act, Wait):
                    await asyncio.sleep(act.seconds)
                elif isinstance(act, Send):
                    self._start(self._get(host, 0, act.target))
                else:
                    await asyncio.gather(*(self._get(host, *each) for each in act.targets))
                act = acts.send(time.monotonic() - self.begin)
        except StopIteration:
            await asyncio.gather(*self.tasks)
        finally:
            host.close()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _get(self, host: Host, delay: float, target: str) -> None:
        await asyncio.sleep(delay)
        at = time.monotonic()
        status = await host.get(target)
        self.report.add(self.client.attacks, at - self.begin, time.monotonic() - at, status)


async def _load(scenario: Scenario, calm: float, seed: int, stay: bool) -> Report:
    rng = random.Random(seed)
    times = scenario.times(calm)
    report = Report(times.begin, times.end)
    begin = time.monotonic()
    tasks = [
        asyncio.create_task(Visit(client, random.Random(rng.random()), begin, report).run())
        for client in scenario.clients(calm, rng, stay)
    ]
    await asyncio.sleep(times.end + 1 - (time.monotonic() - begin))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return report


def measure(scenario: Scenario, defence: str, calm: float, seed: int, stay: bool) -> Report:
    """Run a scenario against nginx; return what became of its requests."""
    script = Path(__file__).parents[1] / "flood.py"
    site = subprocess.Popen([sys.executable, str(script), "--site"])
    try:
        probe = "location = /probe { webtorch_handler xor_app:output; }"
        with Server(probe, "/probe", http=HTTP % DEFENCES[defence]):
            return asyncio.run(_load(scenario, calm, seed, stay))
    finally:
        site.terminate()
        site.wait()
