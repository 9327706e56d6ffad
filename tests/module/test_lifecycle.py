"""Start, reload, crashes of workers, stop."""

import concurrent.futures
import os
import pwd
import signal
import textwrap
import threading
import time

import pytest
import requests

from marks import needs_root
from nginx import wait_for

APP = """
import os, threading, time, torch, webtorch
from jaxtyping import Int64
from torch import Tensor

VERSION = 1

@webtorch.infer
def version(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    return n * 0 + VERSION

@webtorch.infer
def slow(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    time.sleep(0.3)
    return n

@webtorch.handler
def who(request): return f"{os.getuid()} {os.getpid()}"
"""

SERVER = """
location = /version { webtorch_handler app:version; }
location = /thread { webtorch_handler app:version mode=thread; }
location = /slow { webtorch_handler app:slow; }
location = /who { webtorch_handler app:who; }
"""


def test_graceful_quit_answers_requests_in_flight(start):
    server = start(SERVER, APP)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(server.post, "/slow", [n]) for n in range(8)]
        # the first is answered, so that all are connected
        assert waiting[0].result().json() == [0]
        assert server.quit() == 0
        assert [f.result().json() for f in waiting] == [[n] for n in range(8)]


def test_reload_under_load_loses_nothing(start):
    server = start(SERVER, APP, workers=2)
    stop = threading.Event()
    seen = set()

    def load(path: str) -> int:
        count = 0
        while not stop.is_set():
            answer = server.post(path, [count])
            assert answer.status_code == 200
            seen.add(answer.json()[0])
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        loads = [pool.submit(load, path) for path in ["/version", "/thread"] * 3]
        try:
            for version in (2, 3):
                server.write_app(APP.replace("VERSION = 1", f"VERSION = {version}"))
                server.reload()
                wait_for(lambda v=version: v in seen, "the new code to answer")
        finally:
            stop.set()
        assert all(f.result() > 0 for f in loads)
    assert seen == {1, 2, 3}


def test_killed_worker_is_replaced(start):
    server = start(SERVER, APP, expected=(r"exited on signal 9",))
    (worker,) = server.workers()
    assert server.get("/who").text.split()[1] == str(worker)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(server.workers()) == 1 and server.workers() != [worker], "a new worker")
    assert server.post("/version", [1]).json() == [1]


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (APP.replace('"batch"', '"batch 2"'), "has another signature than when the"),
    ],
)
def test_broken_code_when_a_worker_is_replaced(start, app, message):
    server = start(SERVER, APP, expected=(r"exited on signal 9",))
    server.write_app(app)
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(server.workers()) == 1 and server.workers() != [worker], "a new worker")
    answer = server.post("/version", [1])
    assert answer.status_code == 503 and answer.json()["code"] == "not_loaded"
    assert server.get("/alive").ok
    server.wait_for_log(message)

    server.write_app(APP)
    server.reload()
    assert server.post("/version", [1]).json() == [1]


@needs_root
def test_workers_of_another_user(start):
    user = pwd.getpwnam("www-data")
    server = start(SERVER, APP, main="user www-data;")
    assert server.get("/who").text.split()[0] == str(user.pw_uid)
    assert server.post("/thread", [1]).json() == [1]


@needs_root
def test_files_unreadable_by_the_workers_user(configured):
    server = configured(SERVER, APP, main="user www-data;")
    (server.prefix / "app").chmod(0o700)
    status, output = server.check()
    assert status == 1 and "ModuleNotFoundError: No module named 'app'" in output


def test_single_process(start):
    server = start(SERVER, APP, main="master_process off;")
    assert server.get("/who").text.split()[1] == str(server.process.pid)
    assert server.post("/thread", [1]).json() == [1]
    assert server.post("/version", [1]).json() == [1]


def test_thousand_connections(start):
    server = start(SERVER, APP)
    head = "POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n[0]"
    sockets = []
    try:
        for _ in range(1000):
            connection = server.connection()
            sockets.append((connection, connection.__enter__()))
        for _ in range(3):
            for _, s in sockets:
                s.sendall(head.encode())
            for _, s in sockets:
                answer = b""
                while not answer.endswith(b"[1]"):
                    answer += s.recv(1000)
                assert answer.startswith(b"HTTP/1.1 200 OK")
    finally:
        for connection, _ in sockets:
            connection.__exit__(None, None, None)


def test_two_workers_serve(start):
    server = start(SERVER, APP, workers=2)
    pids = set()

    def ask() -> bool:
        with requests.Session() as session:
            pids.add(session.get(server.url("/who"), timeout=30).text.split()[1])
        return len(pids) == 2

    wait_for(ask, "both workers to answer")


def test_old_workers_serve_until_new_ones_have_imported(start):
    """The master stops old workers 100 ms after it has started the new ones."""
    gate = """
        from pathlib import Path
        here = Path(__file__).parent.parent
        # the check of the configuration passes, workers wait
        if (here / "checked").exists():
            while not (here / "go").exists():
                time.sleep(0.01)
        else:
            (here / "checked").touch()
        """
    server = start(SERVER, APP)
    server.prefix.chmod(0o777)
    (old,) = server.workers()
    server.write_app(APP + textwrap.dedent(gate))
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: server.log().count("start worker process ") == 2, "a new worker")

    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert server.get("/who").text.split()[1] == str(old)

    (server.prefix / "go").touch()
    wait_for(lambda: len(server.workers()) == 1 and old not in server.workers(), "the new worker")
    assert server.get("/who").text.split()[1] != str(old)


def test_stop_does_not_wait_for_new_workers(start):
    """Nor after a reload that was refused."""
    server = start(SERVER, APP, expected=("emerg",))
    server.write_app("broken(")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("SyntaxError")
    assert server.quit() == 0
