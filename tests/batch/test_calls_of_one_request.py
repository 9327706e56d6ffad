"""Functions that get one request per call: each request is answered when its call returns."""

import pytest

from wire import Wire, at_once, connections, request

APP = """
import threading, webtorch

turns = threading.Semaphore(0)
begun = []

@webtorch.handler
def turn(request):
    begun.append(request.args)
    turns.acquire()
    if request.args == "fail":
        raise webtorch.HTTPError(418, "no tea")
    return request.args

@webtorch.handler
def let(request):
    turns.release(int(request.args))
    return {"begun": begun}
"""

SERVER = """
location = /turn { webtorch_handler app:turn mode=thread threads=1; }
location = /delayed { webtorch_handler app:turn mode=thread threads=1 max_batch=64 max_delay=60s; }
location = /impatient { webtorch_handler app:turn mode=thread threads=1 timeout=2s; }
location = /let { webtorch_handler app:let mode=thread; }
"""


def get(wire: Wire, target: str) -> None:
    wire.send(request(target, method="GET"))


@pytest.mark.parametrize("path", ["/turn", "/delayed"])
def test_each_request_is_answered_after_its_call(server, path):
    names = ["a", "fail", "b", "c"]
    with connections(server, len(names)) as wires:
        with at_once(server):
            for wire, name in zip(wires, names, strict=True):
                get(wire, f"{path}?{name}")
        # the calls of the others have not begun, or wait for their turn
        for wire, name in zip(wires, names, strict=True):
            assert server.get("/let?1").ok
            answer = wire.answer()
            assert answer.status == (418 if name == "fail" else 200)
            assert answer.status == 418 or answer.body == name.encode()


def test_each_request_has_its_own_timeout(server):
    with connections(server, 40) as wires:
        assert server.get("/let?1").ok
        with at_once(server):
            for number, wire in enumerate(wires):
                get(wire, f"/impatient?{number}")
        answer = wires[0].answer()
        assert (answer.status, answer.body) == (200, b"0")
        for wire in wires[1:]:
            assert wire.answer().json()["code"] == "timeout"

        # the call that runs ends unheard, those that have not begun are dropped
        get(wires[0], "/impatient?last")
        begun = server.get("/let?2").json()["begun"]
        assert wires[0].answer().body == b"last"
        assert [name for name in begun if name.isdigit()] == ["0", "1"]
