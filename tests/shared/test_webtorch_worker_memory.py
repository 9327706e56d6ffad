"""webtorch_worker_memory: a worker that outgrows it is replaced."""

import contextlib
import re
import socket

import pytest
import requests

from gate import GATE_APP, GATE_SERVER, Gate
from nginx import DEADLINE, Nginx, free_port, wait_for
from wire import Wire, connections, request, settle

APP = """
    import os
    import webtorch

    kept = []

    @webtorch.handler
    def leak(request):
        kept.append(bytes([len(kept) % 256]) * (10 << 20))
        return str(os.getpid())
"""

SERVER = "location = /leak { webtorch_handler app:leak; }"


def test_leaking_worker_replaced_without_lost_requests(start):
    server = start(SERVER, APP, http="webtorch_worker_memory 500m;", workers=2)
    before = set(server.workers())
    answered = set()

    def replaced():
        answered.add(int(server.get("/leak").text))
        return len(answered - before) > 1

    wait_for(replaced, "two new workers")
    server.wait_for_log(r"the worker has \d+k of memory, which is above \"webtorch_worker_memory\"")


@pytest.mark.parametrize("size", ["0x", "-1", ""])
def test_invalid_sizes(configured, size):
    status, output = configured(SERVER, APP, http=f'webtorch_worker_memory "{size}";').check()
    assert status == 1
    assert '"webtorch_worker_memory" directive invalid value' in output


# --- a worker whose connections no other one accepts ---

GATED = (
    GATE_SERVER
    + SERVER
    + """
location = /pid { webtorch_handler app:where; }
location = /request { webtorch_handler app:gated_request mode=thread threads=1; }
"""
)
LEAK = """
kept = []

@webtorch.handler
def leak(request: webtorch.Request) -> str:
    kept.append(bytes([len(kept) % 256]) * (10 << 20))
    return str(os.getpid())
"""
HOLD = """
import time
from pathlib import Path

@webtorch.handler
def hold(request: webtorch.Request) -> str:
    directory = Path(__file__).parent
    (directory / f"{os.getpid()}.held").touch()
    while not (directory / "go").exists():
        time.sleep(0.01)
    return "held"
"""
LIMIT = "webtorch_worker_memory 500m;"


def wait_until_serving(server: Nginx) -> int:
    """Leak until a worker is to be replaced, and serves until it can be; return its pid."""
    pattern = r"(\d+)#\d+: no other worker accepts its connections"
    wait_for(lambda: server.get("/leak").ok and re.search(pattern, server.log()), "it to leave")
    return int(server.wait_for_log(pattern)[1])


def test_only_worker_serves_while_a_request_is_in_flight(start):
    server = start(GATED, GATE_APP + LEAK, http=LIMIT)
    (old,) = server.workers()
    gate = Gate(server)
    with gate, connections(server, 2) as (wire, _):
        # the other connection, without a request, must not delay the next worker
        wire.send(request("/request", b"body"))
        gate.wait_for_calls(1)
        assert wait_until_serving(server) == old
        settle(server)
        assert server.get("/pid").json()["pid"] == old
        gate.open()
        assert wire.answer().body == b"passed"
        wait_for(lambda: server.workers() not in ([old], []), "a new worker")
    assert server.get("/pid").json()["pid"] != old


def test_workers_with_sockets_of_their_own_serve_meanwhile(start):
    port = free_port()
    listen = f"listen 127.0.0.1:{port} reuseport;"
    listen += "location = /hold { webtorch_handler app:hold mode=thread; }"
    server = start(listen + GATED, GATE_APP + LEAK + HOLD, http=LIMIT, workers=2)
    before = set(server.workers())
    directory = server.prefix / "app"
    directory.chmod(0o777)  # workers have another user

    def where() -> int:
        """Ask on a new connection, which the kernel gives to one of the workers."""
        answer = requests.get(f"http://127.0.0.1:{port}/pid", timeout=DEADLINE)
        return int(answer.json()["pid"])

    with contextlib.ExitStack() as stack:
        wires = []

        def are_held() -> bool:
            sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
            wires.append(stack.enter_context(contextlib.closing(Wire(sock))))
            wires[-1].send(request("/hold", b"body"))
            return all((directory / f"{pid}.held").exists() for pid in before)

        wait_for(are_held, "a request in each worker")
        old = wait_until_serving(server)
        wait_for(lambda: where() == old, "an answer of the worker that leaves")
        (directory / "go").touch()
        assert all(wire.answer().status == 200 for wire in wires)
    wait_for(lambda: where() not in before, "a new worker")
    server.wait_for_log(f"process {old} exited with code 0")
