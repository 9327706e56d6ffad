"""The directive webtorch_ignore_client_abort: what becomes of requests of clients that close."""

import re
import socket

import numpy as np
import pytest

from gate import GATE_APP, GATE_SERVER, affine, rows_of
from nginx import wait_for
from wire import Wire, connections, request, settle

WIDTH = 3_000_000
"""Elements of an answer that sockets have no room for."""

APP = (
    GATE_APP
    + f"""
from jaxtyping import Float32
from webtorch import features

@webtorch.infer
def much(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch {WIDTH}"]:
    gate.wait()
    return torch.arange({WIDTH}, dtype=torch.float32) + x

@webtorch.infer
def score(client: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch"]:
    calls.append([0] * len(client))
    gate.wait()
    return client[:, 0] * 0
"""
)

HTTP = "webtorch_clients_zone clients:64k;"

LOCATIONS = """
location = {0}/gated {{ webtorch_handler app:gated mode=thread; {1} }}
location = {0}/request {{ webtorch_handler app:gated_request mode=thread threads=1; {1} }}
location = {0}/much {{ webtorch_handler app:much mode=thread; {1} }}
location = {0}/scored {{ webtorch_access app:score mode=thread; {1} try_files /x /alive; }}
"""

SERVER = (
    GATE_SERVER
    + LOCATIONS.format("", "")
    + LOCATIONS.format("/on", "webtorch_ignore_client_abort on;")
    + LOCATIONS.format("/off", "webtorch_ignore_client_abort off;")
    + LOCATIONS.format("/half_closed", "webtorch_ignore_client_abort half_closed;")
)

FLOATS = "application/octet-stream"


def half_close(wire: Wire) -> None:
    wire._sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("mode", ["", "/half_closed", "/on"])
def test_half_closed_clients_are_answered(server, gate, mode):
    with gate, connections(server, 3) as wires:
        wires[0].post(f"{mode}/gated", rows_of(1))
        wires[1].send(request(f"{mode}/request", b"body"))
        wires[2].send(request(f"{mode}/scored", method="GET"))
        settle(server)
        for wire in wires:
            half_close(wire)
        settle(server)
        gate.open()
        assert wires[0].answer().json() == affine(rows_of(1))
        assert wires[1].answer().body == b"passed"
        assert wires[2].answer().status == 200
        assert all(wire.is_closed() for wire in wires)


def test_half_closed_before_the_request_is_read(server):
    with connections(server, 1) as (wire,):
        wire.post("/gated", rows_of(1))
        half_close(wire)
        assert wire.answer().json() == affine(rows_of(1))


@pytest.mark.parametrize("accept", [FLOATS, "application/json"])
@pytest.mark.parametrize("mode", ["", "/on"])
def test_half_closed_client_gets_all_of_a_large_answer(server, gate, mode, accept):
    one = np.ones((1, 1), np.float32).tobytes()
    with gate, connections(server, 1) as (wire,):
        wire.send(request(f"{mode}/much", one, f"Accept: {accept}", content_type=FLOATS))
        settle(server)
        half_close(wire)
        settle(server)
        gate.open()
        # the client's window is full, and nginx waits for it
        settle(server)
        answer = wire.answer()
        found = (
            np.frombuffer(answer.body, np.float32)
            if accept == FLOATS
            else np.array(answer.json(), np.float32).flatten()
        )
        assert np.array_equal(found, np.arange(1, WIDTH + 1, dtype=np.float32))


def test_half_closed_client_is_dropped(server, gate):
    with gate, connections(server, 2) as (first, wire):
        first.post("/off/gated", rows_of(0))
        gate.wait_for_calls(1)
        wire.post("/off/gated", rows_of(1))
        settle(server)
        half_close(wire)
        assert wire.is_closed()
        gate.open()
        assert first.answer().json() == affine(rows_of(0))
        assert gate.calls() == [[0]]


@pytest.mark.parametrize(
    ("mode", "leave", "served"),
    [
        ("", Wire.reset, False),
        ("", Wire.close, True),
        ("/off", Wire.reset, False),
        ("/off", Wire.close, False),
        ("/on", Wire.reset, True),
        ("/on", Wire.close, True),
    ],
)
def test_clients_that_are_gone(server, gate, mode, leave, served):
    with gate, connections(server, 2) as (first, wire):
        first.post(f"{mode}/gated", rows_of(0))
        gate.wait_for_calls(1)
        wire.post(f"{mode}/gated", rows_of(1))
        settle(server)
        leave(wire)
        settle(server)
        gate.open()
        assert first.answer().json() == affine(rows_of(0))
        if served:
            gate.wait_for_calls(2)
        assert server.post("/gated", rows_of(2)).ok
        assert gate.calls() == [[0], *[[1]] * served, [2]]


def test_reset_during_a_large_answer(server):
    before = server.log().count("client prematurely closed connection")
    one = np.ones((1, 1), np.float32).tobytes()
    with connections(server, 1) as (wire,):
        wire.send(request("/much", one, content_type=FLOATS))
        assert wire._input.read(1000)
        wire.reset()
    wait_for(
        lambda: (
            server.log().count("client prematurely closed connection") > before
            or re.search(r"writev\(\) failed|Connection reset by peer", server.log())
        ),
        "the request to end",
    )


def test_wrong_value(configured):
    status, output = configured("webtorch_ignore_client_abort maybe;", APP).check()
    assert status == 1
    assert re.search(r'\[emerg\].*invalid value "maybe"', output)
