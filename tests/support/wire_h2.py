"""HTTP/2 stream by stream, for clients that reset them."""

import json
import socket
from typing import Any

import h2.config
import h2.connection
import h2.events

from nginx import DEADLINE


class H2:
    """An HTTP/2 connection with many streams."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.received: dict[int, bytes] = {}
        self.status: dict[int, str] = {}
        self.ended: set[int] = set()
        self.flush()

    def flush(self) -> None:
        """Send what has been written."""
        self.socket.sendall(self.h2.data_to_send())

    def open(self, path: str, method: str = "POST", *, is_whole: bool = False) -> int:
        """Begin a request; its body may follow."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream,
            [
                (":method", method),
                (":path", path),
                (":scheme", "http"),
                (":authority", "localhost"),
                ("content-type", "application/x-ndjson"),
            ],
            end_stream=is_whole,
        )
        self.received[stream] = b""
        self.flush()
        return stream

    def reset(self, stream: int) -> None:
        """Give up a request."""
        self.h2.reset_stream(stream)
        self.flush()

    def send(self, stream: int, row: object) -> None:
        """Write a row as JSON."""
        self.h2.send_data(stream, json.dumps(row).encode() + b"\n")

    def receive(self) -> None:
        """Handle the next bytes of the server."""
        data = self.socket.recv(65536)
        assert data, "the connection was closed"
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.received[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.ResponseReceived):
                self.status[event.stream_id] = dict(event.headers)[b":status"].decode()
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self.ended.add(event.stream_id)
        self.flush()

    def row(self, stream: int) -> Any:
        """Wait for a line of JSON."""
        while b"\n" not in self.received[stream]:
            assert stream not in self.ended
            self.receive()
        line, _, self.received[stream] = self.received[stream].partition(b"\n")
        return json.loads(line)
