"""threads= of functions of requests: calls that wait run side by side."""

import concurrent.futures

import pytest

from gate import GATE_APP, GATE_SERVER, affine, rows_of
from nginx import DEADLINE, wait_for
from wire import connections, request

APP = (
    GATE_APP
    + '''
barriers = {n: threading.Barrier(n) for n in (2, 8)}


@webtorch.handler
def meet(request: webtorch.Request) -> str:
    """Wait until as many calls as the query says are here."""
    number = int(request.args)
    barriers[number].wait(60)
    return str(threading.get_native_id())


@webtorch.handler(threads=2)
def two(request: webtorch.Request) -> str:
    """Note the call, wait for the gate."""
    calls.append([len(request.args)])
    gate.wait()
    return ""


@webtorch.handler
def crash(request: webtorch.Request) -> str:
    """End the worker with two calls."""
    calls.append([0])
    if request.args:
        os.abort()
    gate.wait()
    return ""


@webtorch.infer
def fast(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Tell the place: 1 in the event loop, 0 in a thread."""
    return x * 0 + int(threading.get_native_id() == os.getpid())
'''
)

SERVER = (
    GATE_SERVER
    + """
location = /meet { webtorch_handler app:meet; }
location = /meet/2 { webtorch_handler app:meet threads=2; }
location = /two { webtorch_handler app:two; }
location = /three { webtorch_handler app:two threads=3; }
location = /one { webtorch_handler app:gated_request threads=1; }
location = /gated_request { webtorch_handler app:gated_request; }
location = /queue { webtorch_handler app:gated_request queue=2; }
location = /fast { webtorch_handler app:fast; }
location = /affine { webtorch_handler app:affine; }
location = /gated { webtorch_handler app:gated; }
"""
)


def get_at_once(server, path, count):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return [each.result() for each in [pool.submit(server.get, path) for _ in range(count)]]


@pytest.mark.parametrize(("path", "count"), [("/meet?8", 8), ("/meet/2?2", 2)])
def test_calls_run_at_once_in_a_thread_each(server, path, count):
    for _ in range(3):
        answers = get_at_once(server, path, count)
        assert all(answer.ok for answer in answers)
        assert len({answer.text for answer in answers}) == count


@pytest.mark.parametrize(("path", "most"), [("/two", 2), ("/three", 3)])
def test_no_more_calls_than_threads(server, gate, path, most):
    with gate, connections(server, 5) as wires:
        for wire in wires:
            wire.send(request(path, method="GET"))
        gate.wait_for_calls(most)
        # a handler of another location has run since
        assert server.post("/affine", rows_of(7)).json() == affine(rows_of(7))
        assert gate.calls() == [[0]] * most + [[7]]
        gate.open()
        assert [wire.answer().status for wire in wires] == [200] * 5


def test_one_thread_keeps_the_order(server, gate):
    with gate, connections(server, 4) as wires:
        for size, wire in enumerate(wires):
            wire.send(request("/one", b"x" * size))
            gate.wait_for_calls(1)
        assert gate.calls() == [[0]]
        gate.open()
        assert [wire.answer().status for wire in wires] == [200] * 4
        assert gate.calls() == [[0], [1], [2], [3]]


def test_queue_counts_what_waits_and_runs(server, gate):
    with gate, connections(server, 3) as wires:
        for number, wire in enumerate(wires[:2], 1):
            wire.send(request("/queue", b"x"))
            gate.wait_for_calls(number)
        wires[2].send(request("/queue", b"x"))
        answer = wires[2].answer()
        assert (answer.status, answer.json()["code"]) == (503, "queue_full")
        gate.open()
        assert [wire.answer().status for wire in wires[:2]] == [200, 200]


def test_calls_that_wait_leave_functions_of_tensors_in_the_event_loop(server, gate):
    wait_for(lambda: server.post("/fast", rows_of(0)).json() == [[1]], "the handler to move")
    with gate, connections(server, 4) as wires:
        for wire in wires:
            wire.send(request("/gated_request", b"x"))
        gate.wait_for_calls(4)
        wait_for(lambda: server.post("/fast", rows_of(0)).json() == [[1]], "the calls to wait")
        gate.open()
        assert [wire.answer().status for wire in wires] == [200] * 4


def test_timeouts_of_calls_that_run(start):
    server = start(
        GATE_SERVER + "location = /request { webtorch_handler app:gated_request timeout=300ms; }",
        APP,
    )
    assert server.get("/gate?shut").ok
    answers = get_at_once(server, "/request", 12)
    assert [answer.status_code for answer in answers] == [504] * 12
    assert server.get("/gate?open").ok
    wait_for(lambda: server.get("/request").ok, "the threads to be free")


def test_exit_waits_for_no_call(start):
    server = start(SERVER, APP)
    assert server.get("/gate?shut").ok
    with connections(server, 3) as wires:
        for wire in wires:
            wire.send(request("/gated_request", b"x"))
        wait_for(lambda: len(server.get("/gate").json()["calls"]) == 3, "three calls")
        server.process.terminate()
        server.process.wait(DEADLINE)
    assert server.log().count('handler "app:gated_request" is still running') == 1


def test_crash_is_logged_with_the_calls_that_ran(start):
    server = start(SERVER, APP, expected=("exited while webtorch handler", "exited on signal"))
    server.configure(server=SERVER + "location = /crash { webtorch_handler app:crash; }")
    server.reload()
    assert server.get("/gate?shut").ok
    with connections(server, 2) as wires:
        wires[0].send(request("/crash", method="GET"))
        wait_for(lambda: server.get("/gate").json()["calls"], "a call")
        wires[1].send(request("/crash?now", method="GET"))
        server.wait_for_log('while webtorch handler "app:crash" ran, in its batch 2 of 2 requests')
