"""`webtorch serve`: addresses, examples, reloads, errors, the end."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from nginx import BINARY, DEADLINE, MODULE, free_port, release_port, wait_for

APP = """
import torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor

@webtorch.handler
def page(request: webtorch.Request) -> str:
    return "a page"

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x

@webtorch.infer
def tokens(ids: Int64[Tensor, "batch seq"], w: Float32[Tensor, "batch 300"]) -> Int64[
    Tensor, "batch"
]:
    return ids.sum(1) + w.sum(1).long()
"""


class Served:
    """A `webtorch serve` in a directory of its own."""

    def __init__(self, directory: Path, *options: str, app: str = APP) -> None:
        self.file = directory / "app.py"
        self.file.write_text(app)
        self.port = free_port()
        self._out, self._err = directory / "out", directory / "err"
        environment = os.environ | {
            "WEBTORCH_SERVE_NGINX": BINARY.path,
            "WEBTORCH_SERVE_PORT": str(self.port),
            "TMPDIR": str(directory),
        }
        if BINARY.load_module:
            environment["WEBTORCH_SERVE_MODULE"] = str(MODULE)
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "webtorch", "serve", *options],
                cwd=directory,
                stdout=out,
                stderr=err,
                env=environment,
            )

    def output(self) -> str:
        return self._out.read_text()

    def errors(self) -> str:
        return self._err.read_text()

    def wait_for(self, text: str, stream: str = "errors") -> None:
        """Wait until standard error or output has a text."""

        def is_there() -> bool:
            assert self.process.poll() is None, self.errors()
            return text in getattr(self, stream)()

        wait_for(is_there, lambda: f"{text!r} in {getattr(self, stream)()!r}, {self.errors()!r}")

    def commands(self) -> list[str]:
        """Return the lines of curl that it has printed."""
        return [line.strip() for line in self.output().splitlines() if line.startswith("  ")]

    def call(self, name: str) -> requests.Response:
        url = f"http://127.0.0.1:{self.port}/{name}"
        return requests.post(url, json=[[1, 2]], timeout=DEADLINE)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        release_port(self.port)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[type[Served]]:
    started: list[Served] = []

    class Recorded(Served):
        def __init__(self, *options: str, **settings: str) -> None:
            super().__init__(tmp_path, *options, **settings)
            started.append(self)

    yield Recorded
    for served in started:
        served.kill()


def test_serve_reload(serve):
    served = serve("--reload")
    served.wait_for("/page", "output")
    wait_for(lambda: len(served.commands()) == 3, "three examples")

    # each example is a line that works, to which options can be appended
    for command in served.commands():
        done = subprocess.run(
            f"{command} -s -o answer -w '%{{http_code}}'",
            shell=True,
            cwd=served.file.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "200", (command, done.stdout)
    assert served.commands()[0].startswith("curl --json '[[0.5, 0.5]]' http://127.0.0.1:")
    assert "\x1b" not in served.output() + served.errors()

    # broken code
    served.file.write_text(APP + "def broken(:\n")
    served.wait_for("the old code is still served")
    line = len(APP.splitlines()) + 1
    assert f'File "{served.file}", line {line}' in served.errors()
    assert "SyntaxError" in served.errors()
    assert "importlib" not in served.errors()
    assert served.call("double").json() == [[2, 4]]

    # another function, another signature
    served.file.write_text(
        APP.replace("def double", "def triple").replace("2 * x", "3 * x").replace("batch 300", "3")
    )
    served.wait_for("SignatureError")
    served.file.write_text(APP.replace("def double", "def triple").replace("2 * x", "3 * x"))
    served.wait_for("the new code is served")
    assert served.call("triple").json() == [[3, 6]]
    assert served.call("double").status_code == 404
    wait_for(lambda: served.commands()[-1].endswith("/triple"), "an example of the new function")

    assert served.stop() == 0
    assert not list(served.file.parent.glob("webtorch-*"))
    with pytest.raises(requests.ConnectionError):
        served.call("triple")


def test_serve_reload_of_new_files(serve):
    served = serve("--reload")
    served.wait_for("/page", "output")
    # the import comes first, then the file
    served.file.write_text("import new_helper\n" + APP.replace("2 * x", "new_helper.N * x"))
    served.wait_for("No module named 'new_helper'")
    (served.file.parent / "new_helper.py").write_text("N = 3\n")
    served.wait_for("new_helper.py: the new code is served")
    assert served.call("double").json() == [[3, 6]]


def test_serve_stop_during_import(serve):
    served = serve("--reload")
    served.wait_for("/page", "output")
    hangs = "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(1000)\n"
    served.file.write_text(hangs)
    wait_for((served.file.parent / "importing").is_file, "the import")
    assert served.stop() == 0
    assert served.errors() == ""


def test_serve_index_and_protocol(serve):
    served = serve("app.py", "--workers", "2", "--checkpoint", "models")
    served.wait_for("/page", "output")
    url = f"http://127.0.0.1:{served.port}"
    index = requests.get(url, timeout=DEADLINE).json()
    assert index["double"] == "infer (x: float32 [batch, 2]) -> float32 [batch, 2]"
    assert [*index] == ["page", "double", "tokens"]
    missing = requests.get(f"{url}/missing", timeout=DEADLINE)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert requests.get(f"{url}/v2/models/double/ready", timeout=DEADLINE).ok
    assert (served.file.parent / "models").is_dir()

    # nginx does not outlive the command
    served.process.kill()
    served.process.wait()

    def is_closed() -> bool:
        try:
            served.call("double")
        except requests.ConnectionError:
            return True
        return False

    wait_for(is_closed, "nginx to exit")


def test_serve_failures(serve):
    served = serve("missing.py")
    assert served.process.wait(DEADLINE) == 1
    assert "there is no file missing.py" in served.errors()

    served = serve("--workers", "0")
    assert served.process.wait(DEADLINE) == 2

    served = serve(app="import missing_module\n")
    assert served.process.wait(DEADLINE) == 1
    assert re.search(r'File ".*app.py", line 1.*ModuleNotFoundError', served.errors(), re.S)

    served = serve(app="x = 1\n")
    assert served.process.wait(DEADLINE) == 1
    assert "has no functions under @webtorch.infer" in served.errors()
