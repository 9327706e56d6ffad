"""The option max_delay= of webtorch_handler: how long a batch waits for more requests."""

import signal
import time

import pytest

from gate import GATE_APP, GATE_SERVER, affine, rows_of
from nginx import wait_for
from wire import connections, settle

APP = GATE_APP

# A minute is longer than any test: where it is the delay, nothing may wait for its end.
SERVER = (
    GATE_SERVER
    + """
webtorch_ignore_client_abort off;
location = /short/inline { webtorch_handler app:affine mode=inline max_delay=200ms; }
location = /short/thread { webtorch_handler app:affine mode=thread max_delay=200ms; }
location = /long/inline { webtorch_handler app:affine mode=inline max_delay=60s max_batch=4; }
location = /long/thread { webtorch_handler app:affine mode=thread max_delay=60s max_batch=4; }
location = /impatient {
    webtorch_handler app:affine mode=thread max_delay=60s max_batch=4 timeout=200ms;
}
location = /gated { webtorch_handler app:gated mode=thread max_delay=1s; }
location = /clock { webtorch_handler app:affine mode=inline max_delay=1s; }
"""
)


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_request_waits_for_others(server, gate, mode):
    with gate, connections(server, 3) as wires:
        begin = time.monotonic()
        for number, wire in enumerate(wires):
            wire.post(f"/short/{mode}", rows_of(number))
            settle(server)
        for number, wire in enumerate(wires):
            assert wire.answer().json() == affine(rows_of(number))
        assert time.monotonic() - begin >= 0.19  # nginx counts milliseconds
        assert sum(gate.calls(), []) == [0, 1, 2]


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_requests_within_the_delay_are_one_call(server, gate, mode):
    with gate, connections(server, 4) as wires:
        for number, wire in enumerate(wires):
            assert gate.calls() == []
            wire.post(f"/long/{mode}", rows_of(number))
            settle(server)
        for number, wire in enumerate(wires):
            assert wire.answer().json() == affine(rows_of(number))
        assert gate.calls() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_full_batch_does_not_wait(server, gate, mode):
    for _ in range(3):
        with gate:
            assert server.post(f"/long/{mode}", rows_of(1, 2, 3, 4)).ok
            assert server.post(f"/long/{mode}", rows_of(1, 2, 3, 4, 5)).ok
            assert gate.calls() == [[1, 2, 3, 4], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_batch_without_room_for_the_next_does_not_wait(server, gate, mode):
    with gate, connections(server, 2) as (first, second):
        first.post(f"/long/{mode}", rows_of(1, 2, 3))
        settle(server)
        second.post(f"/long/{mode}", rows_of(4, 5))
        assert first.answer().json() == affine(rows_of(1, 2, 3))
        # the second fills the next batch up
        assert server.post(f"/long/{mode}", rows_of(6, 7)).json() == affine(rows_of(6, 7))
        assert second.answer().json() == affine(rows_of(4, 5))
        assert gate.calls() == [[1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_malformed_request_opens_no_batch(server, gate, mode):
    with gate, connections(server, 4) as wires:
        for number, wire in enumerate(wires):
            assert server.post(f"/long/{mode}", [["x"]]).status_code == 422
            wire.post(f"/long/{mode}", rows_of(number))
            settle(server)
        for number, wire in enumerate(wires):
            assert wire.answer().json() == affine(rows_of(number))
        assert gate.calls() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_client_abort_while_the_batch_is_open(server, gate, mode):
    with gate, connections(server, 5) as wires:
        for number, wire in enumerate(wires[:3]):
            wire.post(f"/long/{mode}", rows_of(number))
            settle(server)
        wires[0].close()
        wires[1].reset()
        settle(server)
        for number, wire in enumerate(wires[3:], 3):
            wire.post(f"/long/{mode}", rows_of(number))
            settle(server)
        assert server.post(f"/long/{mode}", rows_of(5)).json() == affine(rows_of(5))
        for number, wire in enumerate(wires[2:], 2):
            assert wire.answer().json() == affine(rows_of(number))
        (call,) = gate.calls()
        assert sorted(call) == [2, 3, 4, 5]


def test_timeout_counts_while_the_batch_is_open(server, gate):
    with gate:
        answer = server.post("/impatient", rows_of(1))
        assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
        assert gate.calls() == []


@pytest.mark.serial
def test_delay_does_not_start_again(server, gate):
    """A batch that waits for the thread takes more requests in, but no more time."""
    with gate, connections(server, 3) as wires:
        wires[0].post("/gated", rows_of(0))
        gate.wait_for_calls(1)
        wires[1].post("/gated", rows_of(1))
        settle(server)
        # a later request with the same delay is answered: the delay is over, the gate is shut
        assert server.post("/clock", rows_of(9)).json() == affine(rows_of(9))
        wires[2].post("/gated", rows_of(2))
        settle(server)
        begin = time.monotonic()
        gate.open()
        for number, wire in enumerate(wires):
            assert wire.answer().json() == affine(rows_of(number))
        assert time.monotonic() - begin < 0.9
        assert gate.calls() == [[0], [9], [1, 2]]


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_graceful_quit_waits_for_an_open_batch(start, mode):
    server = start(f"location = / {{ webtorch_handler app:affine mode={mode} max_delay=1s; }}", APP)
    with connections(server, 1) as (wire,):
        wire.post("/", rows_of(1))
        settle(server)
        server.process.send_signal(signal.SIGQUIT)
        assert wire.answer().json() == affine(rows_of(1))
        assert wire.is_closed()
    wait_for(lambda: server.process.poll() is not None, "nginx to quit")
