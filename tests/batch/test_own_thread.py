"""threads=1: all calls of a handler run in one thread, for objects that are bound to theirs."""

import pytest

from nginx import wait_for

APP = """
import asyncio, functools, os, signal, sqlite3, threading, webtorch
from jaxtyping import Int64
from torch import Tensor

early = sqlite3.connect(":memory:")

@functools.cache
def database():
    return sqlite3.connect(":memory:")

def where():
    return "loop" if threading.get_native_id() == os.getpid() else "thread"

@webtorch.handler(threads=1)
def one(request):
    return where() + str(database().execute("select 1").fetchone()[0])

@webtorch.handler
def any(request):
    early.execute("select 1")
    return where()

@webtorch.handler(threads=1)
def signals(request):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

@webtorch.handler(threads=1)
def loops(request):
    asyncio.get_event_loop()

@webtorch.infer
def rows(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    return n * 0 + (where() == "thread")
"""

SERVER = """
location = /one { webtorch_handler app:one; }
location = /rows { webtorch_handler app:rows threads=1; }
location = /any { webtorch_handler app:any; }
location = /signals { webtorch_handler app:signals; }
location = /loops { webtorch_handler app:loops; }
"""


def test_object_of_the_thread_is_used_in_every_call(server):
    # short calls, which mode=auto would move into the event loop
    assert {server.get("/one").text for _ in range(40)} == {"thread1"}


def test_threads_of_the_directive(server):
    assert [server.post("/rows", [0]).json() for _ in range(40)] == [[1]] * 40


def test_object_of_another_thread_is_explained(server):
    wait_for(lambda: server.get("/any").text == "loop", "a call in the event loop")
    wait_for(lambda: "sqlite3.ProgrammingError" in server.log(), "a call in the thread to fail")
    hint = server.wait_for_log(r'handler "app:any": an object that is bound to its thread .*')
    assert "use threads=1" in hint[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [("signals", "set them while the module is imported"), ("loops", r"use asyncio\.run\(\)")],
)
def test_what_only_the_main_thread_has_is_explained(server, name, text):
    assert server.get(f"/{name}").status_code == 500
    assert "threads=1" not in server.wait_for_log(f'handler "app:{name}": .*{text}.*')[0]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("webtorch_handler app:one mode=inline;", '"mode=inline" conflicts with "threads=1" in'),
        ("webtorch_handler app:any threads=1 mode=inline;", '"mode=inline" conflicts with'),
        ("webtorch_handler app:any threads=2 mode=inline;", '"mode=inline" conflicts with'),
        ("webtorch_handler app:any threads=0;", 'invalid parameter "threads=0"'),
        ("webtorch_handler app:any threads=1025;", 'invalid parameter "threads=1025"'),
        ("webtorch_handler app:one threads=2;", 'conflicts with "threads=1" of its decorator in'),
        ("webtorch_handler app:rows threads=2;", '"threads=2" is for functions under @webtorch'),
    ],
)
def test_threads_invalid_values(reconfigured, location, message):
    assert message in reconfigured(f"location / {{ {location} }}", APP).refuse()


def test_number_of_the_decorator(reconfigured):
    app = "import webtorch\n@webtorch.handler(threads=0)\ndef f(request): return ''"
    output = reconfigured("location / { webtorch_handler app:f; }", app).refuse()
    assert "ValueError: threads is 1 to 1024 or None, not 0" in output
