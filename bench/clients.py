"""Clients that count what was acknowledged to them, and report what failed on which connection."""

import random
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What happened to all requests."""

    acknowledged: int = 0
    failures: list[str] = field(default_factory=list)
    by_worker: dict[str, int] = field(default_factory=dict)
    """Failures by the worker that had answered before on the connection."""
    stale: int = 0
    """Requests on connections that nginx had closed as idle; sent again, as clients do."""
    slowest: float = 0.0
    """Seconds from the first sending to the answer."""


@dataclass
class Client:
    """One connection, which is reopened when it was closed."""

    port: int
    path: str
    connection: "socket.socket | None" = None
    worker: str = ""
    reused: bool = False
    begun: float = 0.0
    request: bytes = b""
    answer: bytes = b""

    def compose(self) -> None:
        """Make the next request."""
        body = f"[[{random.uniform(-1, 1)},{random.uniform(-1, 1)}]]"
        self.request = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self.begun = time.monotonic()


def run(
    port: int,
    path: str,
    connections: int,
    seconds: float,
    *,
    stop: Callable[[], bool] = bool,
    resend: bool = True,
) -> Outcome:
    """Let clients send rows for some seconds, each the next one when it has its answer.

    Args:
        port: of the server.
        path: of the handler.
        connections: how many clients there are.
        seconds: for how long they begin requests.
        stop: asked before each request, whether to end earlier.
        resend: whether a request is sent again that got no answer on a connection that had been
            idle; else it is a failure.

    """
    outcome = Outcome()
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:

        def connect(client: Client) -> None:
            client.connection = socket.create_connection(("127.0.0.1", port))
            client.reused = False
            client.answer = b""
            selector.register(client.connection, selectors.EVENT_READ, client)

        def disconnect(client: Client) -> None:
            assert client.connection is not None
            selector.unregister(client.connection)
            client.connection.close()
            client.connection = None

        def send(client: Client) -> None:
            for _ in range(2):
                if client.connection is None:
                    connect(client)
                try:
                    client.connection.sendall(client.request)  # type: ignore[union-attr]
                except OSError:
                    outcome.stale += client.reused
                    disconnect(client)
                else:
                    return

        def next_request(client: Client) -> None:
            if time.monotonic() < end and not stop():
                client.compose()
                send(client)
            elif client.connection is not None:
                disconnect(client)

        def failed(client: Client, why: str) -> None:
            if resend and why == "closed" and client.reused and not client.answer:
                outcome.stale += 1
                disconnect(client)
                send(client)
                return
            outcome.failures.append(why)
            outcome.by_worker[client.worker] = outcome.by_worker.get(client.worker, 0) + 1
            disconnect(client)
            next_request(client)

        for _ in range(connections):
            next_request(Client(port, path))

        while selector.get_map():
            for key, _ in selector.select(10) or [(None, 0)]:
                if key is None:
                    raise TimeoutError("no answer within 10 s")
                client: Client = key.data
                try:
                    data = client.connection.recv(65536)  # type: ignore[union-attr]
                except OSError:
                    data = b""
                if not data:
                    failed(client, "closed")
                    continue
                client.answer += data
                if not is_whole(client.answer):
                    continue
                outcome.slowest = max(outcome.slowest, time.monotonic() - client.begun)
                head = client.answer.partition(b"\r\n\r\n")[0].decode()
                client.worker = header(head, "X-Worker")
                if not head.startswith("HTTP/1.1 200 "):
                    failed(client, head.partition("\r\n")[0])
                    continue
                outcome.acknowledged += 1
                client.answer, client.reused = b"", True
                if header(head, "Connection") == "close":
                    disconnect(client)
                next_request(client)
    return outcome


def header(head: str, name: str) -> str:
    """Return a header's value, empty if there is none."""
    for line in head.split("\r\n"):
        key, _, value = line.partition(": ")
        if key == name:
            return value
    return ""


def is_whole(answer: bytes) -> bool:
    """Return whether an answer with a length is there."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    return bool(separator) and len(body) >= int(header(head.decode(), "Content-Length") or 0)
