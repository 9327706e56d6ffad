"""WebSockets whose messages are compressed, permessage-deflate."""

import asyncio
import json
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from http_stream_app import APP
from nginx import DEADLINE, Nginx, peak_memory, running

SERVER = """
location = /total { webtorch_handler app:total deflate=on; }
location = /echo { webtorch_handler app:echo deflate=on; }
location = /bytes { webtorch_handler app:echo_bytes deflate=on; }
location = /off { webtorch_handler app:echo deflate=off; }
location = /default { webtorch_handler app:echo; }
location = /small { client_max_body_size 90k; webtorch_handler app:echo deflate=on; }
location = /tiny { client_max_body_size 20; webtorch_handler app:echo deflate=on; }
location = /unlimited { client_max_body_size 0; webtorch_handler app:total deflate=on; }
location = /again { webtorch_handler app:echo deflate=on resume=60s resume_buffer=64k; }
"""

OFFER = "permessage-deflate"
ACCEPTED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
DEFLATED = 0x40


@pytest.fixture(scope="module")
def shared_server():
    zone = "webtorch_zone models:4m;"
    with running(Nginx(SERVER, APP, http=zone, main="thread_pool default threads=2;")) as server:
        yield server


def deflate(data: bytes, level: int = 6) -> bytes:
    """Return the bytes of a compressed message."""
    packer = zlib.compressobj(level, wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflate(data: bytes, bits: int = 15) -> bytes:
    return zlib.decompressobj(-bits).decompress(data + b"\0\0\xff\xff")


def frame(first: int, data: bytes = b"") -> bytes:
    """Write a frame of a client, with a mask of zeros."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = (
            b"\xfe" + struct.pack(">H", size) if size < 65536 else b"\xff" + struct.pack(">Q", size)
        )
    return bytes([first]) + length + bytes(4) + data


class Socket:
    """A WebSocket by hand."""

    def __init__(self, s: socket.socket, path: str, offers: tuple[str, ...]) -> None:
        self.s = s
        self.file = s.makefile("rb")
        head = [f"GET {path} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
        head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
        head += [f"Sec-WebSocket-Extensions: {offer}" for offer in offers]
        s.sendall("\r\n".join([*head, "", ""]).encode())
        assert self.file.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        self.headers = {}
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value

    @property
    def accepted(self) -> str | None:
        return self.headers.get("sec-websocket-extensions")

    def send(self, first: int, data: bytes = b"") -> None:
        self.s.sendall(frame(first, data))

    def receive(self) -> tuple[int, bytes]:
        """Return the first byte of a frame, and its payload."""
        first, size = self.file.read(2)
        if size > 125:
            (size,) = struct.unpack(
                ">H" if size == 126 else ">Q", self.file.read(2 if size == 126 else 8)
            )
        return first, self.file.read(size)

    def close_code(self) -> int:
        """Return the code of the close frame; messages before it say why."""
        while True:
            first, data = self.receive()
            if first == 0x80 | CLOSE:
                return struct.unpack(">H", data[:2])[0]


@contextmanager
def opened(server: Nginx, path: str, *offers: str) -> Iterator[Socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as s:
        yield Socket(s, path, offers)


def test_offers(server):
    """The first offer with parameters that are known and valid is accepted."""
    for offers, accepted in [
        ((OFFER,), ACCEPTED),
        (("permessage-deflate; client_max_window_bits",), ACCEPTED),
        (("permessage-deflate;client_max_window_bits = 9",), None),
        (('Permessage-Deflate;client_max_window_bits="9"',), ACCEPTED),
        (
            ("permessage-deflate; server_max_window_bits=10",),
            f"{ACCEPTED}; server_max_window_bits=10",
        ),
        (
            ("permessage-deflate; server_max_window_bits=15",),
            f"{ACCEPTED}; server_max_window_bits=15",
        ),
        (
            ("permessage-deflate; server_max_window_bits=8",),
            f"{ACCEPTED}; server_max_window_bits=8",
        ),
        ((f"permessage-deflate; server_max_window_bits=7, {OFFER}",), ACCEPTED),
        (("x-other; a=1", OFFER), ACCEPTED),
        ((ACCEPTED,), ACCEPTED),
        ((), None),
        (("x-webkit-deflate-frame",), None),
        (("permessage-deflate; server_max_window_bits",), None),
        (("permessage-deflate; server_max_window_bits=016",), None),
        (("permessage-deflate; client_max_window_bits=16",), None),
        (("permessage-deflate; server_no_context_takeover=1",), None),
        (("permessage-deflate; mux=1",), None),
        (("permessage-deflate; client_no_context_takeover; client_no_context_takeover",), None),
    ]:
        with opened(server, "/echo", *offers) as ws:
            assert ws.accepted == accepted, offers
    for path in ("/off", "/default"):
        with opened(server, path, OFFER) as ws:
            assert ws.accepted is None
            ws.send(0x80 | DEFLATED | TEXT, deflate(b"a"))
            assert ws.close_code() == 1002


def test_which_answers_are_compressed(server):
    """Those that become smaller, with the client's window."""
    rng = random.Random(0)
    same = b"0123456789" * 800
    apart = bytes(rng.randrange(32, 127) for _ in range(600)) * 3  # further than 512 bytes
    for bits in (8, 9, 15):
        with opened(server, "/echo", f"permessage-deflate; server_max_window_bits={bits}") as ws:
            for text in (same, apart, same):
                ws.send(0x80 | DEFLATED | TEXT, deflate(text))
                first, data = ws.receive()
                if bits == 8:  # zlib has no window as small
                    assert (first, data) == (0x80 | TEXT, text)
                else:
                    assert first == 0x80 | DEFLATED | TEXT
                    assert len(data) < len(text)
                    assert inflate(data, bits) == text
    with opened(server, "/bytes", OFFER) as ws:
        for answer in (b"", b"a" * 100, rng.randbytes(2000), b"a" * 40_000):
            ws.send(0x80 | BINARY, answer)
            assert ws.receive() == (0x80 | BINARY, answer)
        ws.send(0x80 | BINARY, b"a" * 30_000)
        assert ws.receive()[0] == 0x80 | DEFLATED | BINARY


@pytest.mark.parametrize("size", [0, 1, 400, 5000, 70_000, 400_000])
def test_sizes(server, size):
    """Of the event loop and of the thread pool."""
    rng = random.Random(size)
    hard = "".join(chr(rng.randrange(32, 0x3000)) for _ in range(size // 3))
    with connect(f"ws://127.0.0.1:{server.port}/echo", max_size=None, compression="deflate") as ws:
        assert ws.response.headers["Sec-WebSocket-Extensions"].startswith(ACCEPTED)
        for text in (hard, "ä" * (size // 2), hard, "after"):
            ws.send(text)
            assert ws.recv(DEADLINE) == text
        ws.send([hard[:10], "", hard[10:]])
        assert ws.recv(DEADLINE) == hard


def test_rows_of_tensors(server):
    factory = ClientPerMessageDeflateFactory(
        server_max_window_bits=9, client_max_window_bits=9, compress_settings={"level": 9}
    )
    with connect(f"ws://127.0.0.1:{server.port}/total", extensions=[factory]) as ws:
        ws.send("[1, 2]" + " " * 5000)
        assert json.loads(ws.recv(DEADLINE)) == [1, 2]
        ws.send(struct.pack("<2f", 1, 2))
        assert struct.unpack("<2f", ws.recv(DEADLINE)) == (2, 4)
        ws.send(json.dumps([1, 2])[:-1] + "0" * 300_000 + "]")  # in a thread
        assert json.loads(ws.recv(DEADLINE))["code"]
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(DEADLINE)
        assert caught.value.rcvd.code == 1007


def test_aiohttp(server):
    async def talk() -> None:
        async with aiohttp.ClientSession() as session:
            url = f"ws://127.0.0.1:{server.port}/echo"
            async with session.ws_connect(url, compress=15) as ws:
                assert ws.compress == 15
                for text in ("a", "x" * 100_000, "äö" * 500):
                    await ws.send_str(text)
                    assert await ws.receive_str() == text

    asyncio.run(asyncio.wait_for(talk(), DEADLINE))


def test_last_blocks(server):
    """A message may be several parts, each with the bit of a last block."""
    packer = zlib.compressobj(wbits=-15)
    whole = packer.compress(b"text") + packer.flush()
    with opened(server, "/echo", OFFER) as ws:
        ws.send(0x80 | DEFLATED | TEXT, whole + whole + b"\0")
        assert ws.receive() == (0x80 | TEXT, b"texttext")
        ws.send(DEFLATED | TEXT, deflate(b"in parts")[:4])
        ws.send(0x80 | PING, b"?")
        assert ws.receive() == (0x80 | 10, b"?")
        ws.send(0x80, deflate(b"in parts")[4:])
        assert ws.receive() == (0x80 | TEXT, b"in parts")


def test_malformed_messages(server):
    text = deflate(b"0123456789" * 100, level=9)
    for first, data, code in [
        (0x80 | DEFLATED | TEXT, b"\xff\xff", 1007),
        (0x80 | DEFLATED | TEXT, text[:-3], 1007),
        (0x80 | DEFLATED | TEXT, b"\x03\0\xff" * 10, 1007),
        (0x80 | DEFLATED | TEXT, deflate(b"a\xff"), 1007),
        (0x80 | DEFLATED | TEXT, deflate(random.Random(0).randbytes(20_000)), 1007),
        (0x80 | DEFLATED | TEXT, deflate("ä".encode()[:1]), 1007),
        (0x80 | DEFLATED | PING, b"", 1002),
        (0x80 | DEFLATED, b"", 1002),
        (0x80 | 0x20 | TEXT, b"a", 1002),
    ]:
        with opened(server, "/echo", OFFER) as ws:
            ws.send(first, data)
            assert ws.close_code() == code, data
    with opened(server, "/echo", OFFER) as ws:
        ws.send(TEXT, b"a")
        ws.send(0x80 | DEFLATED, b"b")
        assert ws.close_code() == 1002


def test_bombs(server):
    """The limit is that of the inflated message, whose memory is never there."""
    before = peak_memory(server)
    for path, size, code in [
        ("/tiny", 20, None),
        ("/tiny", 21, 1009),
        ("/tiny", 200_000, 1009),
        ("/small", 64 << 10, None),
        ("/small", 90 << 10, None),
        ("/small", (90 << 10) + 1, 1009),
        ("/echo", 1 << 20, None),
        ("/echo", (1 << 20) + 1, 1009),
        ("/echo", 300 << 20, 1009),
    ]:
        with opened(server, path, OFFER) as ws:
            ws.send(0x80 | DEFLATED | TEXT, deflate(b"a" * size))
            if code:
                assert ws.close_code() == code
            else:
                assert ws.receive()[1].count(b"a") == size or size <= 32 << 10
    assert peak_memory(server) - before < 32 * 1024


def test_bomb_without_a_limit(server):
    """As a body, a message inflates to 1 GiB at most if any size is allowed."""
    packer = zlib.compressobj(9, wbits=-15)
    mib = packer.compress(b"a" * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    with opened(server, "/unlimited", OFFER) as ws:
        ws.send(0x80 | DEFLATED | TEXT, mib * 1024 + deflate(b"a"))
        assert ws.close_code() == 1009


def test_answers_that_are_kept(server):
    """A client that comes back gets them without compression, and later ones with it."""
    texts = ["ab" * 1000, "c", "de" * 5000]
    with opened(server, "/again", OFFER) as ws:
        hello = json.loads(ws.receive()[1])
        for text in texts:
            ws.send(0x80 | DEFLATED | TEXT, deflate(text.encode()))
            first, data = ws.receive()
            assert (inflate(data) if first & DEFLATED else data).decode() == text
    for offers in ((OFFER,), ()):
        path = f"/again?stream_id={hello['stream_id']}&stream_offset=0"
        with opened(server, path, *offers) as ws:
            assert json.loads(ws.receive()[1])["stream_offset"] == len(texts)
            for text in texts:
                first, data = ws.receive()
                assert not first & DEFLATED
                assert data.decode() == text
