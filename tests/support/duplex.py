"""A client of a stream over HTTP/1.1 that sends and receives at the same time."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from nginx import DEADLINE, Nginx


class Duplex:
    """A request whose body is sent in chunks while its answer is read.

    Args:
        server: The server.
        path: Path of the stream.
        headers: Further headers, in lines.
        content_type: Of the body.

    """

    def __init__(
        self,
        server: Nginx,
        path: str,
        *headers: str,
        content_type: str = "application/x-ndjson",
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = self.socket.makefile("rb")
        self._rest = b""
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: localhost",
            f"Content-Type: {content_type}",
            "Transfer-Encoding: chunked",
            *headers,
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.status = 0
        self.headers: dict[str, str] = {}

    def head(self) -> int:
        """Read the head of the answer; return its status."""
        line = self._input.readline()
        if not line:
            raise EOFError("the connection was closed before the answer")
        self.status = int(line.split()[1])
        while (line := self._input.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()
        return self.status

    def send(self, data: bytes) -> None:
        """Send a part of the body."""
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def send_row(self, row: Any) -> None:
        """Send a line of JSON."""
        self.send(json.dumps(row).encode() + b"\n")

    def finish(self) -> None:
        """Send the end of the body."""
        self.socket.sendall(b"0\r\n\r\n")

    def piece(self) -> bytes:
        """Read a chunk of the answer's transfer encoding; empty: the answer has ended."""
        line = self._input.readline()
        if not line:
            raise EOFError("the connection was closed within the answer")
        data = self._input.read(int(line, 16))
        if (end := self._input.readline()) != b"\r\n":
            raise EOFError(f"the connection was closed within the answer: {end!r}")
        return data

    def read(self, size: int) -> bytes:
        """Read bytes of the answer."""
        while len(self._rest) < size:
            piece = self.piece()
            assert piece, "the answer has ended"
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def line(self) -> bytes:
        """Read a line of the answer without its newline; empty: the answer has ended."""
        while b"\n" not in self._rest:
            piece = self.piece()
            if not piece:
                assert not self._rest, self._rest
                return b""
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def row(self) -> Any:
        """Read a line of JSON."""
        return json.loads(self.line())

    def rest(self) -> bytes:
        """Read up to the end of the answer."""
        while piece := self.piece():
            self._rest += piece
        rest, self._rest = self._rest, b""
        return rest

    def reset(self) -> None:
        """Close with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._input.close()
        self.socket.close()


@contextlib.contextmanager
def duplex(server: Nginx, path: str, *headers: str, **options: Any) -> Iterator[Duplex]:
    """Open a stream, and read the head of its answer, which must be 200."""
    client = Duplex(server, path, *headers, **options)
    try:
        assert client.head() == 200, (client.status, client.headers)
        yield client
    finally:
        client.close()
