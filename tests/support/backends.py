"""Servers behind nginx, for tests: each answers as configured, and counts its requests."""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from nginx import Nginx, free_port, release_port

LOCATION = """
location / {
    proxy_pass http://u;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 2s;
    add_header Reason $webtorch_upstream_reason always;
    add_header Score $webtorch_upstream_score always;
    add_header Tried $upstream_addr always;
}
"""
"""Proxies to the upstream `u`, and adds the balancer's variables to the answer."""


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    status: int
    server: str
    """The name of the backend, or nginx's own page."""

    reason: str
    score: float
    tried: tuple[str, ...]
    """The addresses that it was sent to."""


def ask(nginx: Nginx, count: int, path: str = "/", at_once: int = 8) -> list[Answer]:
    """Send requests, some at once."""

    def one(_: int) -> Answer:
        answer = nginx.get(path)
        headers = answer.headers
        return Answer(
            answer.status_code,
            answer.text,
            headers.get("Reason", ""),
            float(headers.get("Score", "nan")),
            tuple(headers.get("Tried", "").split(", ")),
        )

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(count)))


def ask_until(nginx: Nginx, condition: Callable[[Answer], bool], path: str = "/") -> list[Answer]:
    """Send requests until an answer is as it should be; fail after a minute."""
    answers: list[Answer] = []
    end = time.monotonic() + 60
    while not any(map(condition, answers[-8:])):
        assert time.monotonic() < end, answers[-8:]
        answers += ask(nginx, 8, path)
    return answers


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n"
    )
    await reader.read()


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\ndata: 1\n\n")
    await reader.read()


async def _poll(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def _large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
    for _ in range(30):
        writer.write(bytes(LARGE // 30))
        await writer.drain()


LARGE = 30 * 1024 * 1024

LONG = {b"/tunnel": _tunnel, b"/stream": _stream, b"/poll": _poll, b"/large": _large}
"""Answers that last until the other side closes, or reads; they are not counted."""


@dataclass
class Backend:
    """A server of HTTP/1.1 on a port of its own."""

    name: str
    port: int
    delay: float = 0.0
    """Seconds until an answer."""

    status: int = 200
    hangs: bool = False
    is_cut: bool = False
    """It closes the connection within the answer."""

    first_contact: float = 0.0
    """Seconds that a key takes more when it comes for the first time."""

    long: int = 0
    """How many requests were for one of `LONG`."""

    requests: Counter[str] = field(default_factory=Counter)
    """How many there were, by the argument `k`."""

    most_at_once: int = 0
    """The most requests that were answered at the same time."""

    _running: int = 0
    _listener: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def total(self) -> int:
        """Return how many requests there were."""
        return self.requests.total()

    async def listen(self) -> None:
        """Accept connections."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Close all connections and accept no more."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                key = head.split(b"k=", 1)[-1].split(b" ", 1)[0].decode()
                path = head.split(b" ", 2)[1].split(b"?")[0]
                if path in LONG:
                    self.long += 1
                    await LONG[path](reader, writer)
                    break
                new = not self.requests[key]
                self.requests[key] += 1
                self._running += 1
                self.most_at_once = max(self.most_at_once, self._running)
                if self.hangs:
                    await asyncio.Event().wait()
                await asyncio.sleep(self.delay + (self.first_contact if new else 0.0))
                self._running -= 1
                body = self.name.encode()
                size = len(body) + self.is_cut
                writer.write(
                    b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n\r\n" % (self.status, size) + body
                )
                await writer.drain()
                if self.is_cut:
                    break
        self._open.discard(writer)
        writer.close()


class Backends:
    """Several servers in a thread."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: list[Backend] = []
        for number in range(count):
            self.add(str(number))

    def add(self, name: str) -> Backend:
        """Start another server."""
        server = Backend(name, free_port())
        self._servers.append(server)
        self.restart(server)
        return server

    def restart(self, server: Backend) -> None:
        """Let a server that refuses connections accept them."""
        asyncio.run_coroutine_threadsafe(server.listen(), self._loop).result(10)

    def stop(self, server: Backend) -> None:
        """Let a server refuse connections."""
        asyncio.run_coroutine_threadsafe(server.refuse(), self._loop).result(10)

    def __getitem__(self, number: int) -> Backend:
        return self._servers[number]

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._servers)

    def __len__(self) -> int:
        return len(self._servers)

    def forget(self) -> None:
        """Count from 0 again."""
        for server in self._servers:
            server.requests.clear()

    def upstream(self, settings: str = "webtorch_balancer;", **parameters: str) -> str:
        """Write an upstream block `u`; parameters of servers by their names, as `_0="weight=2"`."""
        servers = "\n".join(
            f"server 127.0.0.1:{server.port} {parameters.get(f'_{server.name}', '')};"
            for server in self._servers
        )
        return f"upstream u {{ {settings}\n{servers}\n}}"

    def close(self) -> None:
        """Stop all servers and the thread."""
        for server in self._servers:
            self.stop(server)
            release_port(server.port)
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _cancel(self) -> None:
        """Give up all requests."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
