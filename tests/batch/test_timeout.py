"""The option timeout= of webtorch_handler: how long a request may wait for its answer."""

import signal

import pytest

from gate import GATE_APP, GATE_SERVER, Gate, affine, rows_of
from nginx import wait_for
from wire import Answer, connections, request, settle

APP = (
    GATE_APP
    + '''
import time


@webtorch.handler
def late_upstream(request: webtorch.Request) -> str:
    """Answer 504 by itself."""
    raise webtorch.HTTPError(504, "the upstream is late")


@webtorch.infer
def hang(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Never come back."""
    calls.append(x.flatten().tolist())
    while True:
        time.sleep(3600)
'''
)

SERVER = (
    GATE_SERVER
    + """
location = /gated { webtorch_handler app:gated mode=thread timeout=300ms; }
location = /gated/1 { webtorch_handler app:gated mode=thread timeout=300ms max_batch=1; }
location = /gated/auto { webtorch_handler app:gated timeout=300ms; }
location = /request { webtorch_handler app:gated_request threads=1 timeout=300ms; }
location = /patient { webtorch_handler app:gated mode=thread timeout=30s; }
location = /late { webtorch_handler app:late_upstream timeout=30s; }
"""
)

HANG = """
location = /hang { webtorch_handler app:hang mode=thread timeout=300ms; }
location = /affine { webtorch_handler app:affine; }
location = /inline { webtorch_handler app:affine mode=inline; }
"""


def assert_timed_out(answer: Answer) -> None:
    assert answer.status == 504
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["code"] == "timeout"


@pytest.mark.parametrize("path", ["/gated", "/gated/1", "/gated/auto"])
def test_running_and_waiting_requests_are_answered_504(server, gate, path):
    with gate, connections(server, 5) as wires:
        wires[0].post(path, rows_of(0))
        gate.wait_for_calls(1)
        for number, wire in enumerate(wires[1:], 1):
            wire.post(path, rows_of(number))
        for wire in wires:
            assert_timed_out(wire.answer())
        gate.open()

        # over the same connections; what has waited is dropped
        for number, wire in enumerate(wires, 10):
            wire.post(path, rows_of(number))
            assert wire.answer().json() == affine(rows_of(number))
        assert gate.calls() == [[0], [10], [11], [12], [13], [14]]


def test_custom_handlers_time_out_too(server, gate):
    with gate, connections(server, 3) as wires:
        for size, wire in enumerate(wires, 1):
            wire.send(request("/request", b"x" * size))
            settle(server)
        gate.wait_for_calls(1)
        for wire in wires:
            assert_timed_out(wire.answer())
        gate.open()
        assert server.post("/request", data=b"four").text == "passed"
        # the first call is over when the next has begun
        assert gate.calls() == [[1], [4]]


def test_requests_of_one_batch_time_out_one_by_one(server, gate):
    with gate, connections(server, 3) as (first, second, third):
        first.post("/gated", rows_of(1))
        gate.wait_for_calls(1)
        second.post("/gated", rows_of(2))
        assert_timed_out(first.answer())
        third.post("/gated", rows_of(3))
        assert_timed_out(second.answer())
        gate.open()
        assert third.answer().json() == affine(rows_of(3))
        assert gate.calls() == [[1], [3]]


def test_another_location_of_the_handler_waits_longer(server, gate):
    with gate, connections(server, 2) as (impatient, patient):
        patient.post("/patient", rows_of(1))
        impatient.post("/gated", rows_of(2))
        assert_timed_out(impatient.answer())
        gate.open()
        assert patient.answer().json() == affine(rows_of(1))


def test_answered_request_does_not_time_out(server):
    with connections(server, 1) as (wire,):
        wire.post("/gated", rows_of(1))
        assert wire.answer().json() == affine(rows_of(1))
        # a request that is answered late would leave a second answer behind it
        with Gate(server) as gate:
            wire.post("/gated", rows_of(2))
            assert_timed_out(wire.answer())
            gate.open()
        wire.post("/gated", rows_of(3))
        assert wire.answer().json() == affine(rows_of(3))


def test_graceful_quit_waits_for_answers_and_timeouts(start):
    server = start(SERVER, APP)
    gate = Gate(server)
    gate.shut()
    with connections(server, 2) as (patient, impatient):
        patient.post("/patient", rows_of(1))
        impatient.post("/gated", rows_of(2))
        gate.wait_for_calls(2)
        with connections(server, 1) as (opener,):
            opener.send(request("/gate?open", method="GET")[:-2])
            settle(server)
            server.process.send_signal(signal.SIGQUIT)
            assert_timed_out(impatient.answer())
            assert server.process.poll() is None
            opener.send(b"\r\n")
            opener.answer()
        assert patient.answer().json() == affine(rows_of(1))
    assert wait_for(lambda: server.process.poll() is not None, "nginx to quit")


def test_hanging_handler_stops_no_other(start):
    server = start(GATE_SERVER + HANG, APP)
    gate = Gate(server)
    with connections(server, 3) as wires:
        for number, wire in enumerate(wires):
            wire.post("/hang", rows_of(number))
        for wire in wires:
            assert_timed_out(wire.answer())
        for path in ("/affine", "/inline"):
            for number in range(20):
                assert server.post(path, rows_of(number)).json() == affine(rows_of(number))
        assert server.post("/hang", rows_of(99)).status_code == 504
        assert [99] not in gate.calls()
        (worker,) = server.workers()

    assert server.quit() == 0
    assert f'{worker}#{worker}: webtorch handler "app:hang" is still running' in server.log()


def test_504_of_a_handler_is_its_own(server):
    answer = server.get("/late")
    assert (answer.status_code, answer.json()["error"]) == (504, "the upstream is late")
    assert answer.json()["code"] != "timeout"
