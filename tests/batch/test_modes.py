"""mode=auto, inline and thread: where a handler runs, and whom it holds up."""

import concurrent.futures
import threading

import pytest
import requests

from nginx import wait_for

APP = """
import os, threading, time, torch, webtorch
from jaxtyping import Int64
from torch import Tensor
from webtorch import Strings

release = threading.Event()

def where(n):
    # 1 in the event loop, 0 in a thread
    return n * 0 + int(threading.get_native_id() == os.getpid())

@webtorch.infer
def fast(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    return where(n)

@webtorch.infer
def slow(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    time.sleep(0.02)
    return where(n)

@webtorch.infer
def by_rows(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    time.sleep(0.0005 * len(n) if len(n) > 8 else 0)
    return where(n)

@webtorch.infer
def held(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    release.wait()
    return where(n)

@webtorch.handler
def by_body(request):
    return {"loop": where(0)}

@webtorch.infer
def by_text(texts: Strings[list[str], "batch"]) -> Int64[Tensor, "batch"]:
    return torch.full((len(texts),), where(0))

spinning = threading.Event()

def spin():
    while spinning.is_set():
        sum(range(100))

@webtorch.handler
def set_spinning(request):
    if request.args == "on":
        spinning.set()
        threading.Thread(target=spin, daemon=True).start()
    else:
        spinning.clear()
    return "set"

@webtorch.handler
def let_go(request):
    release.set()
    return "released"
"""

SERVER = """
location = /fast { webtorch_handler app:fast; }
location = /fast_inline { webtorch_handler app:fast mode=inline; }
location = /fast_thread { webtorch_handler app:fast mode=thread; }
location = /slow { webtorch_handler app:slow; }
location = /slow_inline { webtorch_handler app:slow mode=inline; }
location = /by_rows { webtorch_handler app:by_rows max_batch=1000; }
location = /held { webtorch_handler app:held; }
location = /by_body { webtorch_handler app:by_body; client_max_body_size 4m; }
location = /by_text { webtorch_handler app:by_text; client_max_body_size 4m; }
location = /set_spinning { webtorch_handler app:set_spinning mode=thread; }
location = /let_go { webtorch_handler app:let_go mode=thread; }
"""


def test_inline_and_thread_run_where_configured(server):
    for _ in range(3):
        assert server.post("/fast_inline", [0]).json() == [1]
        assert server.post("/slow_inline", [0]).json() == [1]
        assert server.post("/fast_thread", [0]).json() == [0]


def test_auto_moves_what_is_fast_into_the_event_loop(server):
    wait_for(lambda: server.post("/fast", [0]).json() == [1], "the handler to move")


def test_auto_leaves_what_is_slow_in_a_thread(server):
    for _ in range(20):
        assert server.post("/slow", [0]).json() == [0]


@pytest.mark.serial
def test_auto_judges_a_batch_by_its_rows(server):
    wait_for(lambda: server.post("/by_rows", [0]).json() == [1], "the handler to move")
    assert server.post("/by_rows", [0] * 100).json() == [0] * 100


def test_auto_judges_a_request_by_its_body(server):
    wait_for(lambda: server.post("/by_body").json()["loop"], "the handler to move")
    assert server.post("/by_body", data=bytes(1 << 20)).json() == {"loop": 0}


def test_auto_judges_strings_by_their_bytes(server):
    wait_for(lambda: server.post("/by_text", ["a"]).json() == [1], "the handler to move")
    assert server.post("/by_text", ["a" * (1 << 20)]).json() == [0]


@pytest.mark.serial
def test_auto_does_not_wait_for_a_thread_of_the_user(start):
    server = start(SERVER, APP)
    wait_for(lambda: server.post("/fast", [0]).json() == [1], "the handler to move")
    assert server.get("/set_spinning?on").ok
    wait_for(lambda: server.post("/fast", [0]).json() == [0], "the handler to move")
    assert server.get("/set_spinning?off").ok
    wait_for(lambda: server.post("/fast", [0]).json() == [1], "the handler to move back")


def test_slow_handler_delays_no_other(start):
    server = start(SERVER, APP)
    wait_for(lambda: server.post("/fast", [0]).json() == [1], "the handler to move")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(server.post, "/held", [n]) for n in range(4)]
        with requests.Session() as session:
            for _ in range(50):
                assert session.get(server.url("/alive"), timeout=30).text == "alive"
                # the event loop does not wait for a thread's Python: not inline now
                assert session.post(server.url("/fast"), json=[0], timeout=30).ok
        assert not any(future.done() for future in waiting)
        assert server.get("/let_go").text == "released"
        assert all(future.result().json() == [0] for future in waiting)


@pytest.mark.serial
def test_handlers_of_one_worker_do_not_wait_for_each_other(start):
    server = start(SERVER, APP)
    barrier = threading.Barrier(2)

    def keep_busy():
        barrier.wait()
        return [server.post("/slow", [0]).json() for _ in range(20)]

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        busy = pool.submit(keep_busy)
        barrier.wait()
        served = 0
        while not busy.done():
            assert server.post("/fast", [0]).ok
            served += 1
        assert busy.result() == [[0]] * 20
    # behind the slow one in a single queue it would be about one for each
    assert served > 20
