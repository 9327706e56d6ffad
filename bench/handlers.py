"""Measures handlers and uploads, beside FastAPI in the same run; see bench/README.md.

Usage: .venv/bin/python bench/handlers.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]

It needs `.venv/bin/pip install -e .[bench]`.
"""

import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import median

import wrk
from peer import serving
from server import PORT, ROOT, Server
from table import (
    Measure,
    Row,
    Settings,
    at_least,
    between,
    compare,
    compare_to_loop,
    main,
)
from tensors import JSON

sys.path.insert(0, str(ROOT / "bench/apps"))
from pictures import jpeg

LOCATIONS = """
location = /output { webtorch_handler xor_app:output; }
location = /small { webtorch_handler handlers_app:small; }
location = /flower { webtorch_handler handlers_app:flower; }
location = /wait { webtorch_handler handlers_app:wait; }
location = /wait_async { webtorch_handler handlers_app:wait_async queue=2000; }
location = /alone { webtorch_handler handlers_app:alone; }
location = /without { webtorch_handler handlers_app:without; }
location = /together { webtorch_handler handlers_app:together; }
location = /picture { webtorch_handler handlers_app:picture; }
"""
UPLOADS = """
location = /output { webtorch_handler xor_app:output; }
location = /upload {
    add_header X-Worker $pid;
    client_max_body_size 8m;
    webtorch_handler handlers_app:small;
}
"""

PEER = PORT + 5
BOUNDARY = "----boundary"
FLOWER = (
    b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2,"garden":"west"}'
)


def start(**options: object) -> Server:
    return Server(LOCATIONS, "/output", **options)  # type: ignore[arg-type]


@contextmanager
def fastapi() -> Iterator[str]:
    """Run uvicorn with one process; yield its address."""
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--no-access-log"]
    command += ["--loop", "uvloop", "--http", "httptools", "--port", str(PEER)]
    command += ["--app-dir", str(ROOT / "bench/peers"), "--log-level", "warning"]
    url = f"http://127.0.0.1:{PEER}"
    path = {"PYTHONPATH": str(ROOT / "bench/apps"), "PATH": "/usr/bin:/bin"}
    with serving(command, path, f"{url}/small"):
        yield url


def beside_fastapi(name: str, path: str, target: float, **load: object) -> Measure:
    """Make the measurement of a ratio to FastAPI."""

    def measure(settings: Settings) -> Row:
        def rate(url: str) -> float:
            result = wrk.run(url + path, settings.seconds, **load)
            assert result.errors == 0, f"{url}{path} answers with errors: {result}"
            return result.per_second

        with start() as server, fastapi() as peer:
            rate(peer)
            rate(server.url(""))
            ratios = between(lambda: rate(server.url("")), lambda: rate(peer), settings)
        return at_least(name, target, ratios)

    return measure


def small(settings: Settings) -> Row:
    """A handler that returns a small dict."""
    with start() as server:
        ratios = compare(server, "/small", settings, script="")
    return at_least("a small dict, ratio to return 200", 0.40, ratios)


def post(body: bytes, content_type: str) -> str:
    """Return a script of wrk with the body in it."""
    quoted = "".join(f"\\{byte:03d}" for byte in body)
    return (
        f'wrk.method = "POST"\nwrk.body = "{quoted}"\n'
        f'wrk.headers["Content-Type"] = "{content_type}"\n'
    )


def form() -> str:
    """Return a script of wrk that uploads a JPEG file."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + jpeg() + f"\r\n--{BOUNDARY}--\r\n".encode()
    return post(body, f"multipart/form-data; boundary={BOUNDARY}")


def pictures(settings: Settings) -> Row:
    """JPEG files in a form, against decoding and computing them in a loop on one core."""
    with start() as server:
        ratios = compare_to_loop(
            server, "/picture", "bare_pictures.py", settings, script=form(), connections=32
        )
    return at_least("JPEG in a form, ratio to a bare loop", 0.80, ratios)


def batched(settings: Settings) -> Row:
    """Rows of async handlers that are computed together, against one call for each.

    The same handler without the function shows what there would be if batches cost nothing.
    """
    with start() as server:
        ratios = compare(server, "/together", settings, "/alone")
        without = compare(server, "/without", settings, "/alone")
    limit = median(without["ratios"])
    name = f"batched() from async handlers, ratio to calls (without the function {limit:.2f})"
    return at_least(name, 5, {**ratios, "without": without["ratios"]})


def seconds_of(path: str, calls: int) -> float:
    """Return the time until the last of calls that begin at once is answered."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", PORT))) for _ in range(calls)
        ]
        begin = time.perf_counter()
        for client in clients:
            client.sendall(request)
        answers = [client.recv(4096) for client in clients]
        elapsed = time.perf_counter() - begin
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    return elapsed


def at_once(name: str, path: str, calls: int, limit: float) -> Measure:
    """Make the measurement of the time that calls of 0.5 s take which begin at once."""

    def measure(settings: Settings) -> Row:
        with start() as server:
            server.post("/output", b"[[1,2]]")
            seconds_of(path, 8)
            seconds = [seconds_of(path, calls) for _ in range(settings.repeat)]
        value = median(seconds)
        return Row(name, f"≤ {limit} s", value, value <= limit, "s", {"seconds": seconds})

    return measure


def upload(size: int, pieces: int) -> str:
    """Upload a body slowly; return the pid of the worker that served it."""
    head = (
        "POST /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {size * pieces}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", PORT)) as client:
        client.sendall(head.encode())
        for _ in range(pieces):
            client.sendall(bytes(size))
            time.sleep(0.1)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    headers = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert headers[0].startswith("HTTP/1.1 200 "), headers
    return next(line for line in headers if line.lower().startswith("x-worker"))


def uploads(settings: Settings) -> Row:
    """The share of the busier of two workers of 16 uploads that begin at once."""
    busier = []
    with Server(UPLOADS, "/output", workers=2, events="") as server:
        for _ in range(max(settings.repeat, 5)):
            with ThreadPoolExecutor(16) as pool:
                workers = Counter(pool.map(lambda _: upload(65536, 10), range(16)))
            busier.append(max(workers.values()))
        server.post("/output", b"[[1,2]]")
    value = median(busier)
    name = "16 slow uploads over 2 workers, the busier one has"
    return Row(name, "≤ 10", value, value <= 10, details={"busier": busier})


ROWS: dict[str, Measure] = {
    "threads": at_once("8 calls of 0.5 s at once", "/wait", 8, 0.6),
    "async": at_once("1000 async calls of 0.5 s at once", "/wait_async", 1000, 1),
    "small": small,
    "small-fastapi": beside_fastapi("a small dict, ratio to FastAPI", "/small", 6, script=""),
    "pydantic": beside_fastapi(
        "pydantic in and out, ratio to FastAPI", "/flower", 6, script=post(FLOWER, JSON)
    ),
    "pictures": beside_fastapi(
        "JPEG in a form, ratio to FastAPI", "/picture", 4, script=form(), connections=32
    ),
    "pictures-loop": pictures,
    "batched": batched,
    "uploads": uploads,
}


if __name__ == "__main__":
    main(__doc__, "handlers", ROWS)
