"""An HTTP server that answers what the client sends it."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch

from files import npy, npz
from files import save_torch as torch_file

Answer = tuple[int, dict[str, str], bytes]
"""A status, headers and a body."""

NPY, NPZ, TORCH = "application/x-npy", "application/x-npz", "application/x-pytorch"

ANSWERS: dict[str, Answer] = {
    "/pair": (
        200,
        {"Content-Type": NPZ},
        npz(best=np.array([[1]], np.float32), index=np.array([3])),
    ),
    "/big-endian": (200, {"Content-Type": NPY}, npy(np.arange(3, dtype=">f4"))),
    "/pickle": (200, {"Content-Type": NPY}, npy(np.array([{}], dtype=object))),
    "/words": (200, {"Content-Type": NPY}, npy(np.array(["word"]))),
    "/truncated": (200, {"Content-Type": NPY}, npy(np.zeros(9))[:-1]),
    "/no-zip": (200, {"Content-Type": NPZ}, npz(a=np.zeros(9))[:-1]),
    "/nothing": (200, {"Content-Type": NPZ}, npz()),
    "/html": (200, {"Content-Type": "text/html; charset=utf-8"}, b"<p>hello</p>"),
    "/json": (200, {"Content-Type": "application/json"}, b'{"text": ["word"]}'),
    "/null": (
        200,
        {"Content-Type": "application/json"},
        b"[[1, null], [1%s, 2]]" % (b"0" * 20),
    ),
    "/torch/noise": (200, {"Content-Type": TORCH}, b"noise"),
    "/torch/words": (200, {"Content-Type": TORCH}, torch_file({"x": "word"})),
    "/torch/nothing": (200, {"Content-Type": TORCH}, torch_file({})),
    "/torch/tensor": (200, {"Content-Type": TORCH}, torch_file(torch.ones(1))),
    "/down": (502, {"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>"),
    "/full": (
        503,
        {"Content-Type": "application/json", "Retry-After": "2"},
        b'{"error": "more than 4096 wait", "code": "queue_full"}',
    ),
    "/later": (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"[1]"),
}


class Echo(BaseHTTPRequestHandler):
    """Answers the arrays that it is sent: one without a name with one, others by name."""

    protocol_version = "HTTP/1.1"

    server: "EchoServer"

    def do_OPTIONS(self) -> None:
        """Answer that there is no signature, and keep the connection."""
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        """Answer that it does not serve this method."""
        self.send_response(405)
        self.send_header("Allow", "POST")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.client_address, dict(self.headers), body))
        status, headers, answer = ANSWERS.get(self.path) or self.echo(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def echo(self, body: bytes) -> Answer:
        """Return the arrays of a body."""
        assert NPY in self.headers["Accept"] and NPZ in self.headers["Accept"]
        content_type = self.headers["Content-Type"]
        loaded = np.load(io.BytesIO(body), allow_pickle=False)
        answer = npy(loaded) if content_type == NPY else npz(**loaded)
        return 200, {"Content-Type": content_type}, answer

    def log_message(self, *args: object) -> None:
        """Log nothing."""


class EchoServer(ThreadingHTTPServer):
    """A server of `Echo` in a thread; `seen` has the addresses, headers and bodies it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.seen: list[tuple[object, dict[str, str], bytes]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> "EchoServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
