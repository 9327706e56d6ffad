"""stuck=: a worker in which a call does not return is replaced."""

import concurrent.futures
import re
import threading

import pytest
import requests

from nginx import wait_for

APP = """
import ctypes, logging, os, pathlib, threading, time, webtorch
from jaxtyping import Float32
from torch import Tensor

released = pathlib.Path(__file__).with_name("released")

def wait_forever():
    threading.Event().wait()

@webtorch.handler
def hang(request):
    if request.args:
        wait_forever()
    return str(os.getpid())

@webtorch.handler
def hold_gil(request):
    ctypes.PyDLL(None).sleep(3600)

@webtorch.handler
def wait(request):
    while not released.exists():
        time.sleep(0.01)
    return str(os.getpid())

@webtorch.infer
def never(uri: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    logging.getLogger("webtorch").warning("the shadow has begun")
    wait_forever()

@webtorch.infer
def score(uri: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return uri
"""

SERVER = """
location = /hang { webtorch_handler app:hang threads=1 stuck=500ms timeout=5s; }
location = /inline { webtorch_handler app:hang mode=inline stuck=500ms; }
location = /hold_gil { webtorch_handler app:hold_gil mode=thread stuck=500ms timeout=1s; }
location = /wait { webtorch_handler app:wait mode=thread; }
location = /copied { webtorch_handler app:score shadow=app:never stuck=500ms timeout=2s; }
"""


def new_worker(server, old):
    return wait_for(lambda: set(server.workers()) - {old}, "another worker")


def test_worker_is_replaced_after_its_other_requests(start):
    server = start(SERVER, APP)
    old = int(server.get("/hang").text)
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        waiting = clients.submit(server.get, "/wait")
        stuck = [clients.submit(server.get, "/hang?1") for _ in range(6)]
        server.wait_for_log("the worker is replaced, as a webtorch handler does not return")
        wait_for(lambda: not server.workers(), "the worker to close its sockets")
        (server.prefix / "app" / "released").touch()
        assert waiting.result().text == str(old)
        answers = [each.result() for each in stuck]
    # one call has begun, with as many of the requests as it got
    assert sorted(answer.status_code for answer in answers)[-1] == 504
    refused = [answer for answer in answers if answer.status_code == 503]
    assert all(answer.headers["Retry-After"] == "1" for answer in refused)
    assert {answer.status_code for answer in answers} <= {503, 504}
    new_worker(server, old)
    assert int(server.get("/hang").text) != old


def test_log_has_the_stack(start):
    server = start(SERVER, APP)
    (old,) = server.workers()
    # a shadow that hangs is not one of these calls
    assert server.post("/copied", [[1.0]]).json() == [[1]]
    server.wait_for_log("the shadow has begun")
    assert server.get("/hang?1").status_code == 504
    thread = server.wait_for_log(
        r'webtorch handler "app:hang" has not returned for 500 ms; .* thread 0x([0-9a-f]+)'
    )[1]
    stack = server.wait_for_log(rf"hread 0x0*{thread} \(most recent call first\):\n(  File.*\n)+")
    assert re.search(r'app.py", line \d+ in wait_forever\n.*app.py", line \d+ in hang\n', stack[0])
    new_worker(server, old)
    assert len(re.findall("has not returned", server.log())) == 1


def test_call_that_holds_the_gil(start):
    server = start(SERVER, APP)
    (old,) = server.workers()
    assert server.get("/hold_gil").status_code == 504
    server.wait_for_log(r'app.py", line \d+ in hold_gil')
    new_worker(server, old)
    server.wait_for_log("Python did not stop within 5 s")
    assert server.get("/hang").ok


def test_call_in_the_event_loop(start):
    server = start(SERVER, APP, expected=("exited while webtorch handler",))
    (old,) = server.workers()
    with pytest.raises(requests.ConnectionError):
        server.get("/inline?1")
    server.wait_for_log("the event loop waits for it and the worker exits")
    server.wait_for_log(r'app.py", line \d+ in wait_forever')
    new_worker(server, old)
    assert server.get("/inline").ok


def test_workers_are_replaced_one_at_a_time(start):
    server = start(SERVER, APP, workers=2)
    old = set(server.workers())
    replaced = threading.Event()

    def send():
        while not replaced.is_set():
            server.get("/hang?1")

    def is_replaced():
        # a worker is always there to serve others
        assert server.get("/alive").ok
        return len(server.workers()) == 2 and not old & set(server.workers())

    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        sending = [clients.submit(send) for _ in range(4)]
        try:
            wait_for(is_replaced, "both workers to be replaced")
        finally:
            replaced.set()
        for each in sending:
            each.result()


def test_off_by_default(start):
    server = start("location = /hang { webtorch_handler app:hang mode=thread timeout=1s; }", APP)
    old = server.workers()
    assert server.get("/hang?1").status_code == 504
    assert server.get("/hang?1").status_code == 504
    assert server.workers() == old
    assert "has not returned" not in server.log()


@pytest.mark.parametrize("text", ["stuck=0", "stuck=", "stuck=x"])
def test_stuck_invalid_values(configured, text):
    status, output = configured(f"location / {{ webtorch_handler app:hang {text}; }}", APP).check()
    assert status == 1
    assert f'invalid parameter "{text}"' in output


def test_accepted_in_phases(configured):
    server = """
        webtorch_access app:score stuck=10s;
        webtorch_set $score app:score stuck=10s;
        webtorch_log app:score stuck=10s;
    """
    status, output = configured(server, APP.replace("uri:", "length:")).check()
    assert "stuck" not in output, (status, output)
