"""Sealed connections between two hosts, beside those of a group: of guests, and of probes.

A host behind NAT can open one. It carries requests and answers, each an object of JSON and perhaps
the bytes of tensors. Both ends make a number for it, so nothing that was recorded is of use.
"""

import contextlib
import hashlib
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

from webtorch._cluster.interfaces import GUEST_PORT, ClusterError, OutsiderError, Settings
from webtorch._cluster.seal import HELLO, OVERHEAD, Buffer, Channel, Ring
from webtorch._cluster.teams import parse_object

FRAME = 64 << 10
"""Bytes that are sealed at a time: what the slowest link carries in a timeout."""

MAX_HEADER = 256 << 10
"""Bytes of an object of JSON; an anchor has up to 20 KB."""

_MAX_HELLO = 512
_LENGTH = struct.Struct("<I")


class CallError(ClusterError):
    """A connection to another host ended, or could not be made."""


class SealedCall:
    """One end of a connection. One thread uses it.

    Args:
        connection: The socket, which it closes.
        other: The id of the other host.
        to: What seals for it.
        by: What opens its messages.

    """

    def __init__(self, connection: socket.socket, other: str, to: Channel, by: Channel) -> None:
        self.other = other
        self.is_over: Callable[[], bool] = lambda: False
        """Returns whether what is sent or received is to end with an error."""
        self.sent = 0
        self.received = 0
        self._connection = connection
        self._to = to
        self._by = by
        self._numbers = [0, 0]

    def send(self, header: Mapping[str, object], *payloads: Buffer) -> None:
        """Send an object and the bytes that follow, each of which is received by itself.

        Raises:
            CallError: The other host does not take them.

        """
        size = sum(len(each) for each in payloads)
        self._send(json.dumps({**header, "size": size}).encode())
        for each in payloads:
            view = memoryview(each)
            for begin in range(0, len(view), FRAME):
                self._send(view[begin : begin + FRAME])

    def receive(self, until: float | None = None) -> dict[str, Any]:
        """Return an object; its "size" is that of the bytes that follow.

        Args:
            until: The monotonic clock when it has to be there; None: it may be as slow as the
                link is.

        Raises:
            CallError: Nothing comes.
            OutsiderError: It has no valid seal.

        """
        size = _read_length(self._connection, OVERHEAD, MAX_HEADER + OVERHEAD, until)
        data = bytearray(size - OVERHEAD)
        self._receive(memoryview(data), until)
        header = parse_object(bytes(data))
        if type(header.get("size")) is not int or header["size"] < 0:
            raise CallError("a message has no size")
        return header

    def receive_into(self, memory: memoryview) -> float:
        """Receive bytes that follow an object; return the seconds of the second half."""
        half = time.monotonic()
        for begin in range(0, len(memory), FRAME):
            part = memory[begin : begin + FRAME]
            size = len(part) + OVERHEAD
            _read_length(self._connection, size, size)
            self._receive(part)
            if begin < len(memory) // 2:
                half = time.monotonic()
        return time.monotonic() - half

    def close(self) -> None:
        """Close the connection; the thread that uses it gets an error."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _check(self) -> None:
        if self.is_over():
            raise CallError("it was ended here")

    def _send(self, data: Buffer) -> None:
        self._check()
        sealed = bytearray(_LENGTH.size + len(data) + OVERHEAD)
        _LENGTH.pack_into(sealed, 0, len(data) + OVERHEAD)
        self._to.seal(data, memoryview(sealed)[_LENGTH.size :], self._numbers[0], 0)
        self._numbers[0] += 1
        _write(self._connection, sealed)
        self.sent += len(sealed)

    def _receive(self, into: memoryview, until: float | None = None) -> None:
        self._check()
        sealed = _read(self._connection, len(into) + OVERHEAD, until)
        self.received += len(sealed)
        self._by.open(sealed, into, self._numbers[1], 0)
        self._numbers[1] += 1


def connect(settings: Settings, ring: Ring, address: str, port: int) -> SealedCall:
    """Return a connection to the host with an address and a port of `Settings`.

    Raises:
        CallError: It could not be made within the timeout.
        OutsiderError: The host has none of the secrets.

    """
    # the address of one behind NAT may not be its own
    source = (settings.address, 0) if settings.guest != "always" else None
    try:
        connection = socket.create_connection(
            (address, port + GUEST_PORT), settings.timeout, source_address=source
        )
    except OSError as error:
        raise CallError(f"{address} cannot be reached: {error}") from None
    try:
        connection.settimeout(settings.timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own = os.urandom(HELLO)
        _write_hello(connection, ring.seal(own + settings.id.encode(), "call", "hello"))
        key, number, other = _read_hello(connection, ring, "call", "answer", own.hex())
        return _call(connection, ring, other, key, own + number, ("client", "server"))
    except BaseException:
        connection.close()
        raise


def accept(settings: Settings, ring: Ring, connection: socket.socket) -> SealedCall:
    """Return the other end of a connection that `connect` has made.

    Raises:
        CallError: Nothing comes.
        OutsiderError: The host has none of the secrets.

    """
    try:
        connection.settimeout(settings.timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise CallError(str(error)) from None
    # others may send a byte now and then, to keep guests away
    until = time.monotonic() + settings.timeout
    key, number, other = _read_hello(connection, ring, "call", "hello", until=until)
    connection.settimeout(settings.timeout)
    own = os.urandom(HELLO)
    sealed = ring.seal(own + settings.id.encode(), "call", "answer", number.hex())
    _write_hello(connection, sealed)
    return _call(connection, ring, other, key, number + own, ("server", "client"))


def _call(
    connection: socket.socket,
    ring: Ring,
    other: str,
    key: bytes,
    numbers: bytes,
    roles: tuple[str, str],
) -> SealedCall:
    session = hashlib.sha256(numbers).digest()
    to = ring.channel(ring.id, session, "call", roles[0])
    by = ring.channel(key, session, "call", roles[1])
    return SealedCall(connection, other, to, by)


def _write_hello(connection: socket.socket, sealed: bytes) -> None:
    _write(connection, _LENGTH.pack(len(sealed)) + sealed)


def _read_hello(
    connection: socket.socket, ring: Ring, *about: str, until: float | None = None
) -> tuple[bytes, bytes, str]:
    """Return the key of the other host, its number, and its id."""
    size = _read_length(connection, HELLO, _MAX_HELLO, until)
    sealed = bytes(_read(connection, size, until))
    data = ring.open(sealed, *about)
    return sealed[: len(ring.id)], data[:HELLO], data[HELLO:].decode(errors="replace")


def _read_length(
    connection: socket.socket, least: int, most: int, until: float | None = None
) -> int:
    (size,) = _LENGTH.unpack(_read(connection, _LENGTH.size, until))
    if not least <= size <= most:
        raise OutsiderError("a message has an invalid length")
    return int(size)


def _read(connection: socket.socket, size: int, until: float | None = None) -> bytearray:
    """Return so many bytes; the timeout is from some to the next ones, or for all of them."""
    found = bytearray(size)
    view = memoryview(found)
    done = 0
    while done < size:
        try:
            if until is not None:
                # 0 would mean that it does not wait at all
                connection.settimeout(max(until - time.monotonic(), 1e-3))
            count = connection.recv_into(view[done:])
        except OSError as error:
            raise CallError(f"nothing came: {error}") from None
        if not count:
            raise CallError("the connection was closed")
        done += count
    return found


def _write(connection: socket.socket, data: Buffer) -> None:
    try:
        connection.sendall(data)
    except OSError as error:
        raise CallError(f"nothing is taken: {error}") from None
