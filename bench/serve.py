"""`webtorch serve` beside a configuration that is written by hand, and its reloads.

The rate of the XOR network under `serve` is measured between two measurements of the same function
under the configuration of server.py, both with one worker and a zone. A reload is timed from the
end of a write to app.py until the line with its error is on standard error; requests are sent
meanwhile.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import wrk
from server import ROOT, Server
from table import Row, Settings, at_least, between, main

PORT = 3902

LOCATIONS = "location = /output { webtorch_handler xor_app:output; }"

APP = """
import torch, webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x
"""

BROKEN = APP.replace("return 2 * x", "return 2 * )")


class Serve:
    """`webtorch serve` of an application, with its standard error."""

    def __init__(self, app: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "webtorch", "serve", str(app), "--port", str(PORT), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._lines: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Iterator[str]) -> None:
        for line in stream:
            with self._changed:
                self._lines.append((time.perf_counter(), line))
                self._changed.notify_all()

    def wait_for(self, text: str, after: float = 0.0) -> float:
        """Return when a line with a text was printed, after a time."""
        with self._changed:
            while True:
                for when, line in self._lines:
                    if when >= after and text in line:
                        return when
                if self.process.poll() is not None or not self._changed.wait(120):
                    raise RuntimeError(f"there is no {text!r}: {self._lines[-20:]}")

    def close(self) -> None:
        """Let it end."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


@contextlib.contextmanager
def serving(app: Path, *options: str) -> Iterator[Serve]:
    """Serve an application when it is entered."""
    serve = Serve(app, *options)
    try:
        serve.wait_for("  curl")
        yield serve
    finally:
        serve.close()


def rate(settings: Settings) -> Row:
    """Compare the rates."""
    app = ROOT / "bench/apps/xor_app.py"
    with Server(LOCATIONS, "/output", http="webtorch_zone models:16m;") as server, serving(app):
        urls = f"http://127.0.0.1:{PORT}/output", server.url("/output")
        for url in urls:
            assert wrk.run(url, 1).errors == 0
        served, written = (
            lambda url=url: wrk.run(url, settings.seconds).per_second for url in urls
        )
        ratios = between(served, written, settings)
    return at_least("`serve`, XOR infer, one worker, to a configuration by hand", 0.95, ratios)


def error(settings: Settings) -> Row:
    """Time an error of a reload, and count requests that fail meanwhile."""
    seconds = []
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        app = Path(directory) / "app.py"
        app.write_text(APP)
        with serving(app, "--reload") as serve:
            for _ in range(settings.repeat):
                app.write_text(BROKEN)
                begin = time.perf_counter()
                # the old code answers until the new one is mended
                serve.wait_for(", line 8", begin)
                seconds.append(serve.wait_for("SyntaxError", begin) - begin)
                failed += not _answers()
                app.write_text(APP)
                serve.wait_for("the new code is served", begin)
                failed += not _answers()
    value = median(seconds) if not failed else float("inf")
    details = {"seconds": seconds, "failed": failed}
    return Row("an error of a reload, s", "≤ 1", value, value <= 1, details=details)


def _answers() -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/double", b"[[1, 2]]", {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bool(answer.read().strip() == b"[[2,4]]")
    except OSError:
        return False


if __name__ == "__main__":
    main(__doc__, "serve", {"rate": rate, "error": error})
