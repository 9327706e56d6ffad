"""Clients that go away before their answer: what waits is dropped, others are not disturbed."""

import random
import threading
from pathlib import Path

import pytest

from gate import GATE_APP, GATE_SERVER, affine, rows_of
from nginx import wait_for
from wire import Wire, at_once, connect, connections, request, settle

APP = (
    GATE_APP
    + '''
import time


@webtorch.infer
def slow(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Take a while, so that requests wait for it."""
    time.sleep(0.003)
    return 2 * x + 1


@webtorch.infer
def two(x: Float64[Tensor, "batch 1"], y: Float64[Tensor, "batch 2"]) -> Float64[Tensor, "batch 2"]:
    """Tell by its rows whether those of two inputs still belong together."""
    gate.wait()
    return x + y
'''
)

SERVER = (
    GATE_SERVER
    + """
webtorch_ignore_client_abort off;
location = /gated { webtorch_handler app:gated mode=thread; }
location = /gated/4 { webtorch_handler app:gated mode=thread max_batch=4; }
location = /two { webtorch_handler app:two mode=thread; }
location = /request { webtorch_handler app:gated_request threads=1; client_max_body_size 1m; }
location = /slow/thread { webtorch_handler app:slow mode=thread max_batch=16; }
location = /slow/auto { webtorch_handler app:slow max_batch=16; }
location = /slow/inline { webtorch_handler app:slow mode=inline max_batch=16; }
location = /slow/delay { webtorch_handler app:slow max_batch=16 max_delay=2ms; }
"""
)


@pytest.mark.parametrize("path", ["/gated", "/gated/4"])
@pytest.mark.parametrize("leave", [Wire.close, Wire.reset])
def test_abort_before_the_call(server, gate, path, leave):
    with gate, connections(server, 9) as wires:
        wires[0].post(path, rows_of(0))
        gate.wait_for_calls(1)
        for number, wire in enumerate(wires[1:], 1):
            wire.post(path, rows_of(number))
            settle(server)
        for number in (1, 4, 5, 8):
            leave(wires[number])
        settle(server)
        gate.open()
        for number in (0, 2, 3, 6, 7):
            assert wires[number].answer().json() == affine(rows_of(number))
        assert sorted(sum(gate.calls(), [])) == [0, 2, 3, 6, 7]


def test_rows_move_up(server, gate):
    """Rows of the other requests keep their order within their request."""
    generator = random.Random(2)
    for _ in range(20):
        count = generator.randint(2, 9)
        requests = [
            rows_of(*(generator.random() for _ in range(generator.randint(1, 4))))
            for _ in range(count)
        ]
        leaving = generator.sample(range(count), generator.randint(1, count - 1))
        with gate, connections(server, count + 1) as (first, *wires):
            first.post("/gated", rows_of(0))
            gate.wait_for_calls(1)
            with at_once(server):
                for rows, wire in zip(requests, wires, strict=True):
                    wire.post("/gated", rows)
            settle(server)
            for index in leaving:
                wires[index].close()
                settle(server)
            gate.open()
            first.answer()
            for index in set(range(count)) - set(leaving):
                assert wires[index].answer().json() == affine(requests[index])
            stayed = sum(len(requests[index]) for index in set(range(count)) - set(leaving))
            assert [len(call) for call in gate.calls()] == [1, stayed]


def test_rows_of_two_inputs_stay_together(server, gate):
    with gate, connections(server, 9) as wires:
        sizes = (1, 2, 3, 1, 2, 3, 1, 2, 3)
        for number, (size, wire) in enumerate(zip(sizes, wires, strict=True)):
            base = 100 * number
            x = [[base + row] for row in range(size)]
            y = [[base + row, -base - row] for row in range(size)]
            wire.post("/two", {"x": x, "y": y})
            settle(server)
        for number in (2, 4, 6):
            wires[number].close()
        settle(server)
        gate.open()
        for number in (0, 1, 3, 5, 7, 8):
            expected = [[2 * (100 * number + row), 0] for row in range(sizes[number])]
            assert wires[number].answer().json()["output"] == expected


def test_abort_of_all_requests(server, gate):
    with gate, connections(server, 5) as wires:
        wires[0].post("/gated", rows_of(0))
        gate.wait_for_calls(1)
        for wire in wires[1:]:
            wire.post("/gated", rows_of(1))
        settle(server)
        for wire in wires[1:]:
            wire.close()
        settle(server)
        gate.open()
        assert wires[0].answer().json() == affine(rows_of(0))
        assert server.post("/gated", rows_of(2)).json() == affine(rows_of(2))
        assert gate.calls() == [[0], [2]]


def test_abort_during_the_call(server, gate):
    with gate, connections(server, 3) as wires:
        with at_once(server):
            for number, wire in enumerate(wires):
                wire.post("/gated", rows_of(number))
        gate.wait_for_calls(1)
        wires[1].close()
        settle(server)
        gate.open()
        for number in (0, 2):
            assert wires[number].answer().json() == affine(rows_of(number))
        assert [len(call) for call in gate.calls()] == [3]


def test_abort_before_the_body_is_complete(server, gate):
    with gate, connections(server, 4) as wires:
        for wire in wires:
            wire.send(request("/gated", b"[[1], [2], [3]]")[:-3])
        settle(server)
        for wire in wires[:3]:
            wire.close()
        settle(server)
        wires[3].send(b"3]]")
        gate.wait_for_calls(1)
        gate.open()
        assert wires[3].answer().json() == affine(rows_of(1, 2, 3))
        assert gate.calls() == [[1, 2, 3]]


@pytest.mark.parametrize("mode", ["thread", "auto", "inline", "delay"])
def test_random_aborts_under_load(server, mode):
    """A fifth of the requests are given up at some moment; the others get their own answers."""
    wrong: list[object] = []
    answered: list[int] = []
    barrier = threading.Barrier(32)

    def client(seed: int) -> None:
        generator = random.Random(seed)
        barrier.wait()
        wire = connect(server)
        try:
            for _ in range(40):
                rows = rows_of(*(generator.random() for _ in range(generator.randint(1, 5))))
                wire.post(f"/slow/{mode}", rows)
                if generator.random() < 0.2:
                    threading.Event().wait(generator.random() * 0.01)
                    generator.choice((wire.close, wire.reset))()
                    wire = connect(server)
                    continue
                answer = wire.answer()
                answered.append(answer.status)
                if answer.status != 200 or answer.json() != affine(rows):
                    wrong.append((rows, answer))
        except Exception as error:
            wrong.append(error)
        finally:
            wire.close()

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong, wrong[:3]
    assert len(answered) > 800


def test_aborts_leak_no_memory(server, gate):
    (worker,) = server.workers()

    def memory() -> int:
        """Return the worker's resident memory, in bytes."""
        return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * 4096

    body = b"x" * 500_000

    def depart(count: int) -> None:
        for _ in range(count):
            with connections(server, 5) as wires:
                for wire in wires:
                    wire.send(request("/request", body))
                settle(server)
        settle(server)

    with gate, connections(server, 1) as (wire,):
        wire.send(request("/request", b"first"))
        gate.wait_for_calls(1)
        depart(4)
        before = memory()
        depart(40)  # 100 MB of bodies
        assert memory() - before < 20_000_000
        gate.open()
        assert wire.answer().body == b"passed"
    wait_for(lambda: gate.calls() == [[5]], "the only call that was waited for")
