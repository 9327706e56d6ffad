"""The process that imports applications: its time limit, and its end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nginx import DEADLINE, wait_for
from webtorch.cli._discovery import Discovery
from webtorch.cli._errors import CommandError
from webtorch.cli._target import Target
from webtorch.cli._watcher import Watcher

HANGS = """\
import os, subprocess, time
from pathlib import Path
child = subprocess.Popen(["sleep", "1000"])
Path("pids.tmp").write_text(f"{os.getpid()} {child.pid}")
Path("pids.tmp").rename("pids")
def load():
    time.sleep(1000)
load()
"""
"""An application whose import does not return, and that has started a process."""

APP = """
import webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def importing(directory: Path) -> list[int]:
    """Wait until HANGS is imported; return its process and the one it has started."""
    file = directory / "pids"
    wait_for(file.is_file, "the import")
    return [int(pid) for pid in file.read_text().split()]


@contextmanager
def ended(pids: list[int]) -> Iterator[None]:
    """Check that processes end; they end in any case."""
    try:
        yield
        wait_for(lambda: not any(map(is_running, pids)), lambda: f"the end of {pids}")
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)


def test_import_limit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text(HANGS)
    # the limit holds whatever becomes of the signal
    deaf = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
    (tmp_path / "deaf.py").write_text(deaf + HANGS)
    (tmp_path / "good.py").write_text(APP)
    with Discovery(limit=0.5) as discovery:
        found = discovery.read(Target(tmp_path, "slow"))
        first, *_, place, code, last = found.failure.splitlines()
        assert first == "Traceback (most recent call last):"
        assert (place, code) == (
            f'  File "{tmp_path}/slow.py", line 7, in load',
            " " * 4 + code.strip(),
        )
        assert last == "slow was not imported within 0.5 s"
        assert "importlib" not in found.failure
        assert found.files == (tmp_path / "slow.py",)

        found = discovery.read(Target(tmp_path, "deaf"))
        assert found.failure == "deaf was not imported within 0.5 s"
        assert discovery.read(Target(tmp_path, "good")).failure == ""


def test_import_with_process_that_stays(tmp_path):
    # it has the pipe of the answer, whose end does not come
    (tmp_path / "app.py").write_text(
        "import os, time\nif not os.fork():\n    time.sleep(1000)\n" + APP
    )
    with Discovery(limit=DEADLINE) as discovery:
        assert [each.name for each in discovery.read(Target(tmp_path, "app")).functions] == [
            "double"
        ]


def test_import_reads_no_orders(tmp_path):
    (tmp_path / "app.py").write_text("name = input()\n")
    with Discovery(limit=DEADLINE) as discovery:
        assert "EOFError" in discovery.read(Target(tmp_path, "app")).failure


def test_close_during_import(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(HANGS)
    failures = []

    def read() -> None:
        with pytest.raises(CommandError) as failure:
            discovery.read(Target(tmp_path, "app"))
        failures.append(failure.value.message)

    discovery = Discovery()
    reader = threading.Thread(target=read)
    reader.start()
    with ended(importing(tmp_path)):
        closer = threading.Thread(target=discovery.close, daemon=True)
        closer.start()
        closer.join(DEADLINE)
        assert not closer.is_alive()
    reader.join(DEADLINE)
    assert failures == ["the application cannot be imported."]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_command_ends_during_import(tmp_path, number):
    (tmp_path / "app.py").write_text(HANGS)
    process = subprocess.Popen(
        [sys.executable, "-m", "webtorch", "check", "app.py"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    try:
        with ended(importing(tmp_path)):
            process.send_signal(number)
            assert process.wait(DEADLINE) != 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("import helper", ["helper.py", "helper/__init__.py"]),
        ("import part.sub.deep", ["part/sub.py", "part/sub/__init__.py"]),
        ("from part import other", ["part/other.py", "part/other/__init__.py"]),
        ("try:\n    import a1\nexcept ImportError:\n    import a2", ["a1.py", "a2.py"]),
    ],
)
def test_missing_files(tmp_path, code, missing):
    (tmp_path / "app.py").write_text(code)
    (tmp_path / "part").mkdir()
    (tmp_path / "part/__init__.py").touch()
    with Discovery(limit=DEADLINE) as discovery:
        found = discovery.read(Target(tmp_path, "app"))
    assert {tmp_path / name for name in missing} <= set(found.files), found.files


def test_files_changed_while_they_are_read(tmp_path):
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    for file in (old, new):
        file.touch()
    os.utime(old, ns=(0, 1_000_000))
    os.utime(new, ns=(0, 3_000_000))
    watcher = Watcher()
    watcher.watch([old, new, tmp_path / "missing.py"], 2_000_000)
    assert watcher.changed() == [new]
    (tmp_path / "missing.py").touch()
    assert watcher.changed() == [tmp_path / "missing.py"]
    assert watcher.changed() == []
