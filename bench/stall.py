"""Measures the longest stall of the event loop in large requests; see bench/README.md.

Usage: .venv/bin/python bench/stall.py [--only NAME] [--repeat 20] [--json PATH]
"""

import gzip
import http.client
import io
import json
import mmap
import socket
import struct
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from server import PORT, ROOT, Server
from table import Measure, Row, Settings, main

LIMIT = 5.0
"""Milliseconds that a turn of the event loop may take beyond one at rest."""

MEGABYTE = 1024 * 1024
PIECE = 128 * 1024

# nginx reads and sends in a loop as long as the other side keeps up: the client is paced, and the
# socket has little room, so that what remains is the module's
LOCATIONS = """
client_max_body_size 128m;
location = /ready { webtorch_handler xor_app:output; }
location = /total { webtorch_handler stall_app:total; }
location = /total/memory { client_body_buffer_size 128m; webtorch_handler stall_app:total; }
location = /much { webtorch_handler stall_app:much; }
location = /kept { webtorch_handler stall_app:kept; }
location = /stream { webtorch_handler stall_app:stream; }
location = /tensor { webtorch_handler stall_app:tensor; }
location = /picture { webtorch_handler stall_app:picture; }
location /v2 { webtorch_inference_protocol; }
"""

JSON = "application/json"
NPZ = "application/x-npz"
SAFETENSORS = "application/vnd.safetensors"


@dataclass(frozen=True)
class Post:
    """A request."""

    path: str
    body: bytes
    type: str = JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Probe:
    """The memory where stall.c writes what it measures in the worker."""

    def __init__(self, directory: str) -> None:
        self.library = Path(directory, "stall.so")
        source = ROOT / "bench/stall.c"
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", self.library, source, "-ldl"]
        subprocess.run(command, check=True)
        self.file = Path(directory, "stall")
        self.file.write_bytes(bytes(mmap.PAGESIZE))
        with self.file.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def environment(self) -> dict[str, str]:
        """Return the variables that preload it."""
        return {"LD_PRELOAD": str(self.library), "WEBTORCH_STALL": str(self.file)}

    def reset(self) -> None:
        """Forget what was measured."""
        self._memory[:16] = bytes(16)

    def read(self) -> tuple[float, float]:
        """Return the longest time between two turns, as it was and without preemption, in ms."""
        longest, own = struct.unpack_from("QQ", self._memory)
        return longest / 1e6, own / 1e6


def send(post: Post) -> None:
    """Send a request, slowly enough that nginx does not read all of it in one turn."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
    client.settimeout(120)
    client.connect(("127.0.0.1", PORT))
    lines = [f"POST {post.path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in post.headers.items()]
    lines += [f"Content-Type: {post.type}", f"Content-Length: {len(post.body)}", "", ""]
    with client:
        client.sendall("\r\n".join(lines).encode())
        for at in range(0, len(post.body), PIECE):
            client.sendall(post.body[at : at + PIECE])
            time.sleep(0.0005)
        answer = http.client.HTTPResponse(client, method="POST")
        answer.begin()
        while answer.read(PIECE):
            pass
        assert answer.status == post.status, f"{post.path}: {answer.status}"


def get_ok() -> None:
    client = http.client.HTTPConnection("127.0.0.1", PORT)
    client.request("GET", "/ok")
    assert client.getresponse().read() == b"ok"
    client.close()


@contextmanager
def probed() -> Iterator[Probe]:
    """Start a server whose event loop is measured."""
    with tempfile.TemporaryDirectory(prefix="webtorch-stall-") as directory:
        Path(directory).chmod(0o755)
        probe = Probe(directory)
        environment = probe.environment()
        with Server(LOCATIONS, "/ready", environment=environment, listen="sndbuf=256k"):
            yield probe


def row(name: str, make: Callable[[], Sequence[Post]]) -> Measure:
    """Make the measurement of requests, each sent several times."""

    def measure(settings: Settings) -> Row:
        stalls: dict[str, list[tuple[float, float]]] = {}
        posts = make()
        with probed() as probe:
            rest = max(worst(probe, get_ok)[0] for _ in range(settings.repeat))
            for number, post in enumerate(posts):
                # the first one starts threads and fills caches
                send(post)
                runs = [worst(probe, lambda post=post: send(post)) for _ in range(settings.repeat)]
                stalls[f"{number} {post.path}"] = runs
        value = max(longest for runs in stalls.values() for longest, _ in runs) - rest
        details: dict[str, object] = {"rest": rest, "longest_and_without_preemption": stalls}
        return Row(name, f"≤ {LIMIT:.0f} ms", value, value <= LIMIT, "ms", details)

    return measure


def worst(probe: Probe, send: Callable[[], None]) -> tuple[float, float]:
    """Return the longest turn while a request is served, and until it has been cleaned up."""
    time.sleep(0.02)
    probe.reset()
    send()
    time.sleep(0.05)
    get_ok()
    return probe.read()


# --- requests ---


def array(rows: int) -> np.ndarray:
    return np.random.default_rng(0).random((rows, 1024), dtype=np.float32)


def json_in() -> list[Post]:
    row = "[" + ",".join(f"{value:.8f}" for value in array(1)[0].tolist()) + "]"
    body = ("[" + ",".join([row] * (64 * MEGABYTE // (len(row) + 1))) + "]").encode()
    return [Post("/total", body), Post("/total/memory", body)]


def json_out() -> list[Post]:
    v2 = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.25, 0.5]}]}
    ).encode()
    return [
        Post("/much", b"[[0.25,0.5]]"),
        Post("/kept", b"[[0.25,0.5]]"),
        Post("/tensor", b""),
        Post("/much", b"[[0.25,0.5]]", headers={"Accept": NPZ}),
        Post("/v2/models/much/infer", v2),
    ]


def stream_out() -> list[Post]:
    return [
        Post("/stream", b"[0.25,0.5]\n", "application/x-ndjson", headers={"Accept": accept})
        for accept in ("application/x-ndjson", "text/event-stream", "application/octet-stream")
    ]


def npz(compress: bool, x: np.ndarray) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, x=x)
    return file.getvalue()


def npz_in() -> list[Post]:
    x = array(16 * 1024)
    bodies = [npz(False, x), npz(True, x)]
    return [Post(path, body, NPZ) for body in bodies for path in ("/total", "/total/memory")] + [
        Post("/total", x.tobytes(), "application/octet-stream")
    ]


def gzip_bombs() -> list[Post]:
    """Bodies just below and above 16 KB, and one that inflates to 64 MB."""
    zeros = b"[" + b" " * (64 * MEGABYTE) + b"]"
    return [
        Post("/total", gzip.compress(zeros[:size]), status=400, headers=GZIP)
        for size in (15 * MEGABYTE, 17 * MEGABYTE, 64 * MEGABYTE)
    ] + [
        Post("/total", gzip.compress(bytes(size)), "application/octet-stream", headers=GZIP)
        for size in (15 * MEGABYTE, 64 * MEGABYTE)
    ]


GZIP = {"Content-Encoding": "gzip"}


def zip_bombs() -> list[Post]:
    return [
        Post("/total", npz(True, np.zeros((rows, 1024), np.float32)), NPZ)
        for rows in (1024, 16 * 1024)
    ]


def safetensors() -> list[Post]:
    """10,000 tensors, of which the last is the only one that is missing."""
    empty = {"dtype": "F32", "shape": [0, 1024], "data_offsets": [0, 0]}
    header: dict[str, object] = {
        "__metadata__": {f"tensor.{number}.weight": "x" * 80 for number in range(10_000)}
    }
    x = array(1)
    header["x"] = {"dtype": "F32", "shape": [1, 1024], "data_offsets": [0, x.nbytes]}
    unknown = {f"tensor.{number}.weight": empty for number in range(10_000)}
    return [
        Post("/total", struct.pack("<Q", len(text)) + text + x.tobytes(), SAFETENSORS, status)
        for status, text in (
            (200, json.dumps(header).encode()),
            (422, json.dumps(unknown).encode()),
        )
    ]


def png() -> list[Post]:
    """A picture of noise, which does not compress."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    width, height = 2600, 2600
    noise = np.random.default_rng(0).integers(0, 256, (height, 3 * width + 1), dtype=np.uint8)
    noise[:, 0] = 0
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    body += chunk(b"IDAT", zlib.compress(noise.tobytes(), 1)) + chunk(b"IEND", b"")
    return [Post("/picture", body, "image/png")]


def picture_after_small_ones(settings: Settings) -> Row:
    """The picture comes to a handler that has run in the event loop before it."""

    def run() -> None:
        for _ in range(20):
            send(small)
        send(large)

    small = Post("/picture", b"", "image/png")
    (large,) = png()
    with probed() as probe:
        rest = max(worst(probe, get_ok)[0] for _ in range(settings.repeat))
        run()
        stalls = [worst(probe, run) for _ in range(settings.repeat)]
    value = max(longest for longest, _ in stalls) - rest
    details: dict[str, object] = {"rest": rest, "longest_and_without_preemption": stalls}
    return Row("20 MB PNG", f"≤ {LIMIT:.0f} ms", value, value <= LIMIT, "ms", details)


ROWS: dict[str, Measure] = {
    "json-in": row("64 MB JSON in", json_in),
    "json-out": row("16 MB JSON out", json_out),
    "stream-out": row("16 MB JSON of a stream out", stream_out),
    "npz-in": row("64 MB npz in", npz_in),
    "gzip-bombs": row("gzip bombs", gzip_bombs),
    "zip-bombs": row("zip bombs", zip_bombs),
    "safetensors": row("safetensors with 10,000 tensors", safetensors),
    "png": picture_after_small_ones,
}


if __name__ == "__main__":
    main(__doc__, "stall", ROWS, repeat=20)
