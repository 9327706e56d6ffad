"""HTTP/1 byte by byte, for what a well-behaved client would not send."""

import contextlib
import json
import os
import signal
import socket
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nginx import DEADLINE, Nginx, wait_for


@dataclass(frozen=True)
class Answer:
    """An answer as it came, its headers by their names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


class Wire:
    """A connection of a client that sends any bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._input = sock.makefile("rb")

    def send(self, *pieces: bytes) -> None:
        """Send pieces, each in a segment of its own."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self._sock.sendall(piece)

    def post(self, path: str, document: Any) -> None:
        """Send a POST with a document as JSON, without waiting for the answer."""
        self.send(request(path, json.dumps(document).encode()))

    def answer(self, head: bool = False) -> Answer:
        """Read an answer; one to HEAD has no body."""
        line = self._input.readline()
        assert line.startswith(b"HTTP/1."), f"not a status line: {line!r}"
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := self._input.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Answer(status, headers, b"" if head or status < 200 else self._body(headers))

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._input.readline(), 16):
                body += self._input.read(size)
                assert self._input.readline() == b"\r\n"
            assert self._input.readline() == b"\r\n"
            return body
        if "content-length" in headers:
            body = self._input.read(int(headers["content-length"]))
            assert len(body) == int(headers["content-length"]), "the answer is cut off"
            return body
        return self._input.read()

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._sock.fileno()

    def is_closed(self) -> bool:
        """Wait for the next byte; true if the server closes the connection instead."""
        return self._input.read(1) == b""

    def reset(self) -> None:
        """Close with a reset: unread data is lost."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._input.close()
        self._sock.close()


def request(
    path: str,
    body: bytes = b"",
    *headers: str,
    method: str = "POST",
    version: str = "1.1",
    content_type: str = "application/json",
) -> bytes:
    """Write a request; Content-Length is there unless a header says how the body is sent."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    if body:
        lines.append(f"Content-Type: {content_type}")
    if body and not any(header.lower().startswith("transfer-encoding") for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(pieces: Sequence[bytes]) -> bytes:
    """Write a body in chunks, which need a `Transfer-Encoding: chunked`."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def raw_deflate(data: bytes) -> bytes:
    """Compress without the header of zlib's format."""
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def connect(server: Nginx) -> Wire:
    """Open a connection, which the caller closes."""
    return Wire(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE))


@contextlib.contextmanager
def connections(server: Nginx, count: int) -> Iterator[list[Wire]]:
    """Open connections, for the time of the context."""
    with contextlib.ExitStack() as stack:
        wires = []
        for _ in range(count):
            wires.append(connect(server))
            stack.callback(wires[-1].close)
        yield wires


def settle(server: Nginx) -> None:
    """Return when the only worker has read all that was sent to it until now.

    Events are handled in the order they came in: what came before a request that is answered has
    been handled. A new connection is accepted in one round of the event loop and read in another.
    """
    for _ in range(3):
        assert server.get("/alive").ok


@contextlib.contextmanager
def at_once(server: Nginx) -> Iterator[None]:
    """Stop the only worker; what is sent meanwhile its event loop then finds in one round."""
    (pid,) = server.workers()
    settle(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: _state(pid) == "T", "the worker to stop")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def send_at_once(server: Nginx, path: str, bodies: Sequence[Any]) -> list[Answer]:
    """Send requests that the event loop finds in one round; return the answers."""
    with connections(server, len(bodies)) as wires:
        with at_once(server):
            for wire, body in zip(wires, bodies, strict=True):
                wire.post(path, body)
        return [wire.answer() for wire in wires]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
