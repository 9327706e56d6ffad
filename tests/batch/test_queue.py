"""The option queue= of webtorch_handler: how many requests may wait for an answer."""

import pytest

from gate import GATE_APP, GATE_SERVER, affine, rows_of
from wire import Answer, connections, request, settle

APP = GATE_APP

SERVER = (
    GATE_SERVER
    + """
webtorch_ignore_client_abort off;
location = /gated { webtorch_handler app:gated mode=thread queue=4; }
location = /batch { webtorch_handler app:gated mode=thread queue=4 max_batch=2; }
location = /request { webtorch_handler app:gated_request mode=thread threads=1 queue=4; }
location = /other { webtorch_handler app:affine queue=1; }
"""
)


def assert_refused(answer: Answer) -> None:
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["code"] == "queue_full"
    assert "wait" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/gated", "/batch"])
def test_requests_beyond_the_queue_are_refused(server, gate, path):
    with gate, connections(server, 6) as wires:
        wires[0].post(path, rows_of(0))
        gate.wait_for_calls(1)
        for number, wire in enumerate(wires[1:4], 1):
            wire.post(path, rows_of(number))
            settle(server)
        for wire in wires[4:]:
            wire.post(path, rows_of(9))
            assert_refused(wire.answer())

        gate.open()
        for number, wire in enumerate(wires[:4]):
            assert wire.answer().json() == affine(rows_of(number))
        assert sum(gate.calls(), []) == [0, 1, 2, 3]


def test_refused_connections_are_served_again(server, gate):
    with connections(server, 6) as wires:
        for _ in range(3):
            with gate:
                wires[0].post("/gated", rows_of(0))
                gate.wait_for_calls(1)
                for wire in wires[1:]:
                    wire.post("/gated", rows_of(1))
                    settle(server)
                gate.open()
                answers = [wire.answer() for wire in wires]
                assert [answer.status for answer in answers] == [200] * 4 + [503] * 2
            for number, wire in enumerate(wires):
                wire.post("/gated", rows_of(number))
                assert wire.answer().json() == affine(rows_of(number))


def test_requests_count_not_rows(server, gate):
    with gate, connections(server, 5) as wires:
        wires[0].post("/gated", rows_of(*range(10)))
        gate.wait_for_calls(1)
        for wire in wires[1:]:
            wire.post("/gated", rows_of(*range(10)))
            settle(server)
        assert_refused(wires[4].answer())
        gate.open()
        assert all(wire.answer().status == 200 for wire in wires[:4])


def test_custom_handlers_have_a_queue_too(server, gate):
    with gate, connections(server, 5) as wires:
        for wire in wires:
            wire.send(request("/request", b"body"))
            settle(server)
        assert_refused(wires[4].answer())
        gate.open()
        assert [wire.answer().body for wire in wires[:4]] == [b"passed"] * 4


def test_body_refused_before_it_is_sent(server, gate):
    with gate, connections(server, 5) as wires:
        for wire in wires[:4]:
            wire.post("/gated", rows_of(0))
            settle(server)
        head, _, body = request("/gated", b"[[1]]", "Expect: 100-continue").partition(b"\r\n\r\n")
        wires[4].send(head + b"\r\n\r\n")
        answer = wires[4].answer()
        if answer.status == 100:  # nginx says so before it discards a body
            answer = wires[4].answer()
        assert_refused(answer)
        wires[4].send(body)
        gate.open()
        assert all(wire.answer().status == 200 for wire in wires[:4])


def test_queue_fills_while_a_body_is_read(server, gate):
    with gate, connections(server, 5) as wires:
        for wire in wires[:3]:
            wire.post("/gated", rows_of(0))
            settle(server)
        late = request("/gated", b"[[1]]")
        wires[4].send(late[:-1])
        settle(server)
        wires[3].post("/gated", rows_of(0))
        settle(server)
        wires[4].send(late[-1:])
        assert_refused(wires[4].answer())
        gate.open()
        assert all(wire.answer().status == 200 for wire in wires[:4])


def test_queue_per_handler(server, gate):
    with gate, connections(server, 4) as wires:
        for wire in wires:
            wire.post("/gated", rows_of(0))
            settle(server)
        assert server.post("/other", rows_of(1)).json() == affine(rows_of(1))
        assert server.post("/gated", rows_of(1)).status_code == 503
        gate.open()
        assert all(wire.answer().status == 200 for wire in wires)


def test_client_abort_makes_room(server, gate):
    with gate, connections(server, 5) as wires:
        wires[0].post("/gated", rows_of(0))
        gate.wait_for_calls(1)
        for number, wire in enumerate(wires[1:4], 1):
            wire.post("/gated", rows_of(number))
            settle(server)
        assert server.post("/gated", rows_of(9)).status_code == 503
        wires[2].close()
        settle(server)
        wires[4].post("/gated", rows_of(4))
        settle(server)
        gate.open()
        for number in (0, 1, 3, 4):
            assert wires[number].answer().json() == affine(rows_of(number))
        assert sorted(sum(gate.calls(), [])) == [0, 1, 3, 4]
