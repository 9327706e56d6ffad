"""New connections go to workers with less requests."""

import os
import signal
from collections import Counter

import pytest

from nginx import Nginx, wait_for
from wire import connections, request

APP = """
import os, threading, time, webtorch

@webtorch.handler(methods=["POST"])
def pid(request):
    return str(os.getpid())

@webtorch.handler(methods=["GET"])
def block(request):
    open(f"{os.environ['GATE']}/begun-{os.getpid()}", "w").close()
    while not os.path.exists(f"{os.environ['GATE']}/open"):
        time.sleep(0.01)
    return str(os.getpid())
"""

SERVER = """
client_max_body_size 8m;
location = /pid { webtorch_handler app:pid; }
location = /block { webtorch_handler app:block mode=inline timeout=300s; }
"""

UPLOADS = 16


def listen(server: Nginx, events: str = "", options: str = "") -> Nginx:
    """Change the server's `events` and its `listen`."""
    text = server.conf.read_text()
    listens = f"listen 127.0.0.1:{server.port}"
    assert listens in text
    text = text.replace(f"{listens};", f"{listens} {options};")
    server.conf.write_text(text.replace("events {", f"events {{ {events}"))
    return server


def upload_slowly(server: Nginx, count: int = UPLOADS) -> list[int]:
    """Begin uploads at once, end them when all have begun; return how many each worker had."""

    def sockets() -> set[str]:
        names = [fd.partition(": ")[2] for fds in server.descriptors().values() for fd in fds]
        return {name for name in names if name.startswith("socket")}

    # the connection by which the start was noticed may be among them
    before = sockets()
    upload = request("/pid", b"1" * 100_000)
    with connections(server, count) as wires:
        for wire in wires:
            wire.send(upload[:50_000])
        wait_for(lambda: len(sockets() - before) >= count, "all connections to be accepted")
        for wire in wires:
            wire.send(upload[50_000:])
        pids = Counter(wire.answer().body for wire in wires)
    wait_for(lambda: sockets() <= before, "all connections to be closed")
    return sorted(pids.values())


@pytest.mark.parametrize(
    ("events", "options"),
    [("", ""), ("multi_accept on;", ""), ("", "reuseport"), ("accept_mutex on;", "")],
    ids=["default", "multi_accept", "reuseport", "accept_mutex"],
)
def test_slow_uploads(configured, events, options):
    server = listen(configured(SERVER, APP, workers=2), events, options)
    server.start()
    try:
        found = [upload_slowly(server) for _ in range(3)]
    finally:
        assert server.quit() == 0
    assert not server.unexpected_in_log()
    if "accept_mutex" not in events:
        # 16 of 16 without it; a worker may have been late once
        assert min(max(workers) for workers in found) <= UPLOADS * 5 // 8, found


def test_worker_that_does_not_answer(configured, monkeypatch):
    """The other one serves everybody while a call holds up the event loop."""
    server = configured(SERVER, APP, workers=2)
    monkeypatch.setenv("GATE", str(server.prefix))
    server.prefix.chmod(0o777)
    server.start()
    try:
        with connections(server, 1) as (wire,):
            wire.send(request("/block", method="GET"))
            wait_for(lambda: [*server.prefix.glob("begun-*")], "the call")
            (begun,) = server.prefix.glob("begun-*")
            blocked = begun.name.removeprefix("begun-").encode()
            assert upload_slowly(server, 8) == [8]
            assert server.post("/pid", [1]).content != blocked
            (server.prefix / "open").touch()
            assert wire.answer().body == blocked
    finally:
        assert server.quit() == 0
    assert not server.unexpected_in_log()


def test_crashed_worker(configured):
    server = configured(SERVER, APP, workers=2)
    server.expected_in_log.append("exited on signal 9")
    server.start()
    try:
        killed = server.workers()[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(server.workers()) == 2 and killed not in server.workers(), "a worker")
        # a worker that has just begun may be late
        wait_for(lambda: len(upload_slowly(server)) == 2, "uploads to the new worker")
        server.reload()
        wait_for(lambda: len(upload_slowly(server)) == 2, "uploads to both new workers")
    finally:
        assert server.quit() == 0
    assert not server.unexpected_in_log()
