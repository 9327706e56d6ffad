"""The end of a worker: functions of atexit are run and files are flushed."""

import concurrent.futures
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nginx import wait_for

APP = """
import atexit, concurrent.futures, os, sys, time
import webtorch

directory = os.environ["DIRECTORY"]
log = open(f"{directory}/app.log", "w")
pool = concurrent.futures.ThreadPoolExecutor()
processes = concurrent.futures.ProcessPoolExecutor(1)
atexit.register(lambda: open(f"{directory}/left", "w").write("left"))

def late():
    time.sleep(0.2)
    open(f"{directory}/late", "w").write("late")

@atexit.register
def fail():
    raise ValueError("at the end")

def note(text):
    with open(f"{directory}/order", "a") as file:
        file.write(f"{text} ")

atexit.register(note, "atexit")
webtorch.on_exit(lambda: note(pool.submit(str, "first").result()))

@webtorch.on_exit
def broken():
    raise ValueError("at the end, too")

webtorch.on_exit(lambda: note("last"))

@webtorch.handler(threads=1)
def hold(request):
    open(f"{directory}/began", "w")
    time.sleep(0.2)
    note("request")
    return "answered"

@webtorch.handler
def write(request):
    log.write("a line")
    pool.submit(late)
    return "written"

@webtorch.handler
def square(request):
    return str(processes.submit(pow, 3, 2).result())
"""

SERVER = """
location = /write { webtorch_handler app:write; }
location = /hold { webtorch_handler app:hold; }
location = /square { webtorch_handler app:square mode=thread; }
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory where workers of any user may write."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


@pytest.mark.parametrize("sent", [signal.SIGQUIT, signal.SIGTERM])
@pytest.mark.parametrize("main", ["", "master_process off;"])
def test_exit_functions_run_and_files_are_flushed(start, directory, main, sent):
    server = start(SERVER, APP, main=f"env DIRECTORY={directory};{main}")
    assert server.get("/write").text == "written"
    server.process.send_signal(sent)
    server.process.wait(100)
    assert [(directory / name).read_text() for name in ("app.log", "left", "late")] == [
        "a line",
        "left",
        "late",
    ]


def test_on_exit_after_the_last_request(start, directory):
    server = start(SERVER, APP, main=f"env DIRECTORY={directory};")
    with concurrent.futures.ThreadPoolExecutor(1) as clients:
        answer = clients.submit(server.get, "/hold")
        wait_for((directory / "began").exists, "the call to begin")
        server.process.send_signal(signal.SIGQUIT)
        assert answer.result().text == "answered"
    server.process.wait(100)
    # the check has called none
    assert (directory / "order").read_text() == "request last first atexit "
    assert "a function of webtorch.on_exit failed" in server.log()
    assert "ValueError: at the end, too" in server.log()


def test_on_exit_outside_nginx():
    text = "import webtorch; webtorch.on_exit(lambda: print('exit')); print('begin')"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "begin\nexit\n"


def test_exit_functions_after_a_reload(start, directory):
    server = start(SERVER, APP, main=f"env DIRECTORY={directory};")
    server.reload()
    wait_for((directory / "left").exists, "the old worker's exit functions")


def test_exit_with_a_pool_of_processes(start, directory):
    server = start(SERVER, APP, main=f"env DIRECTORY={directory};")
    (worker,) = server.workers()
    assert server.get("/square").text == "9"
    server.reload()
    assert worker not in server.workers()
    assert "did not stop within" not in server.log()
