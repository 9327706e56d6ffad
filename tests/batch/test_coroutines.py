"""Functions of requests under `async def`: asyncio's loop of the worker runs them."""

import re
import signal

import pytest

from nginx import DEADLINE, wait_for
from wire import connections, request

APP = '''
import asyncio, contextvars, os, threading, time, torch, webtorch
from jaxtyping import Float32
from torch import Tensor

seen = []
gate = None
name = contextvars.ContextVar("name", default="none")

def opened():
    global gate
    if gate is None:
        gate = asyncio.Event()
    return gate

@webtorch.handler
async def control(request):
    if request.args == "open":
        opened().set()
    elif request.args == "shut":
        opened().clear()
        seen.clear()
    return {"seen": seen}

@webtorch.handler
async def gated(request):
    """Note the call and how it ends."""
    seen.append("begin")
    try:
        await opened().wait()
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise
    finally:
        seen.append("end")
    return "passed"

@webtorch.handler
async def where(request):
    this = asyncio.current_task()
    return {
        "thread": threading.current_thread().name,
        "other": await asyncio.to_thread(lambda: threading.current_thread().name),
        "grad": torch.is_grad_enabled(),
        "grad_of_other": await asyncio.to_thread(torch.is_grad_enabled),
        "in_the_event_loop": threading.get_native_id() == os.getpid(),
        "tasks": this in asyncio.all_tasks(),
        "loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
    }

@webtorch.handler
async def fail(request):
    await asyncio.sleep(0)
    raise {"http": webtorch.HTTPError(418, "teapot"), "exit": SystemExit(3)}.get(
        request.args, ValueError("of the handler")
    )

class Unprintable(Exception):
    def __str__(self):
        return self.args[0]

@webtorch.handler
async def unprintable(request):
    raise Unprintable(7)

@webtorch.handler
async def exits_in_a_task(request):
    async def exit():
        raise SystemExit(3)

    task = asyncio.create_task(exit())
    while not task.done():
        await asyncio.sleep(0)
    return "done"

@webtorch.handler
async def wrong(request):
    return object()

@webtorch.handler
async def cancels_itself(request):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

@webtorch.handler
async def context(request):
    before = name.get()
    name.set(request.args)
    await asyncio.sleep(0.01)
    return {"before": before, "after": name.get()}

@webtorch.handler
async def gradients(request):
    """Keep the mode over awaits, beside other calls."""
    found = []
    with torch.set_grad_enabled(request.args == "on"):
        for _ in range(20):
            await asyncio.sleep(0.001)
            found.append(torch.is_grad_enabled())
    found.append(torch.is_grad_enabled())
    return {"found": found}

background = set()

@webtorch.handler
async def starts(request):
    async def note():
        await asyncio.sleep(0.01)
        seen.append("background")
    task = asyncio.create_task(note())
    background.add(task)
    task.add_done_callback(background.discard)
    return "started"

@webtorch.handler
async def double(request):
    return 2 * torch.tensor(request.json())

@webtorch.handler
async def swallows(request):
    """Answer even if it is cancelled."""
    seen.append("begin")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        seen.append("swallowed")
    return "late"

@webtorch.handler
async def blocks(request):
    if request.args:
        threading.Event().wait()
    return str(os.getpid())

@webtorch.infer
def fast(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return x * 0 + int(threading.get_native_id() == os.getpid())
'''

SERVER = """
location = /control { webtorch_handler app:control; }
location = /gated { webtorch_handler app:gated; }
location = /late { webtorch_handler app:gated timeout=300ms; }
location = /queue { webtorch_handler app:gated queue=3; }
location = /ignore { webtorch_handler app:gated; webtorch_ignore_client_abort on; }
location = /where { webtorch_handler app:where; }
location = /fail { webtorch_handler app:fail; }
location = /wrong { webtorch_handler app:wrong; }
location = /unprintable { webtorch_handler app:unprintable; }
location = /exits_in_a_task { webtorch_handler app:exits_in_a_task; }
location = /cancels_itself { webtorch_handler app:cancels_itself; }
location = /context { webtorch_handler app:context; }
location = /gradients { webtorch_handler app:gradients; }
location = /starts { webtorch_handler app:starts; }
location = /double { webtorch_handler app:double; }
location = /swallows { webtorch_handler app:swallows timeout=300ms; }
location = /fast { webtorch_handler app:fast; }
"""


class Control:
    """The event that `gated` waits for; it is clear."""

    def __init__(self, server):
        self.server = server
        assert server.get("/control?shut").ok

    def open(self):
        assert self.server.get("/control?open").ok

    def seen(self):
        return self.server.get("/control").json()["seen"]

    def wait_for(self, what, count):
        wait_for(lambda: self.seen().count(what) == count, f"{count} times {what}")


@pytest.fixture
def control(server):
    control = Control(server)
    yield control
    control.open()


def test_coroutines_run_in_own_thread(server):
    found = server.get("/where").json()
    loop = found.pop("loop")
    assert found == {
        "thread": "webtorch asyncio",
        "other": "webtorch asyncio_0",
        "grad": False,
        "grad_of_other": False,
        "in_the_event_loop": False,
        "tasks": True,
    }
    try:
        import uvloop  # noqa: F401
    except ImportError:
        assert loop == "asyncio"
    else:
        assert loop == "uvloop"


def test_hundreds_at_once(server, control):
    with connections(server, 300) as wires:
        for wire in wires:
            wire.send(request("/gated", method="GET"))
        control.wait_for("begin", 300)
        assert control.seen().count("end") == 0
        control.open()
        assert [wire.answer().body for wire in wires] == [b"passed"] * 300


def test_each_is_answered_when_it_is_ready(server, control):
    with connections(server, 2) as (waiting, ready):
        waiting.send(request("/gated", method="GET"))
        control.wait_for("begin", 1)
        ready.send(request("/double", b"[[1, 2]]"))
        assert ready.answer().json() == [[2, 4]]
        control.open()
        assert waiting.answer().body == b"passed"


def test_timeout_cancels(server, control):
    answer = server.get("/late")
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    wait_for(lambda: control.seen() == ["begin", "cancelled", "end"], "the call to end")
    assert "CancelledError" not in server.log()


def test_call_that_ends_after_its_timeout(server, control):
    assert server.get("/swallows").status_code == 504
    wait_for(lambda: control.seen() == ["begin", "swallowed"], "the call to end")
    assert server.get("/where").ok


def test_client_that_has_gone_cancels(server, control):
    with connections(server, 2) as (leaving, staying):
        for wire in (leaving, staying):
            wire.send(request("/gated", method="GET"))
        control.wait_for("begin", 2)
        leaving.reset()
        control.wait_for("cancelled", 1)
        control.open()
        assert staying.answer().body == b"passed"
    assert control.seen().count("end") == 2


def test_client_abort_is_ignored(server, control):
    with connections(server, 1) as (leaving,):
        leaving.send(request("/ignore", method="GET"))
        control.wait_for("begin", 1)
        leaving.reset()
    assert server.get("/where").ok
    control.open()
    wait_for(lambda: control.seen() == ["begin", "end"], "the call to end")


def test_queue_counts_what_runs(server, control):
    with connections(server, 4) as wires:
        for wire in wires[:3]:
            wire.send(request("/queue", method="GET"))
        control.wait_for("begin", 3)
        wires[3].send(request("/queue", method="GET"))
        assert wires[3].answer().json()["code"] == "queue_full"
        control.open()
        assert [wire.answer().status for wire in wires[:3]] == [200] * 3
    assert server.get("/queue").ok


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/fail", "ValueError: of the handler"),
        ("/fail?exit", "SystemExit: 3"),
        ("/wrong", "TypeError: JSON cannot hold a builtins.object"),
        ("/unprintable", "Unprintable"),
        ("/cancels_itself", "CancelledError"),
    ],
)
def test_errors_are_logged_and_end_no_loop(server, path, error):
    answer = server.get(path)
    assert (answer.status_code, answer.json()["code"]) == (500, "handler_failed")
    server.wait_for_log(error)
    if path == "/fail":
        server.wait_for_log(r'app.py", line \d+, in fail')
    assert server.get("/where").ok


def test_exit_of_a_task_ends_no_loop(server):
    assert server.get("/exits_in_a_task").text == "done"
    server.wait_for_log("loop was left by SystemExit")
    assert server.get("/where").ok


def test_http_error(server):
    answer = server.get("/fail?http")
    assert (answer.status_code, answer.json()["error"]) == (418, "teapot")


def test_context_variables_are_those_of_the_call(server):
    with connections(server, 20) as wires:
        for number, wire in enumerate(wires):
            wire.send(request(f"/context?{number}", method="GET"))
        for number, wire in enumerate(wires):
            assert wire.answer().json() == {"before": "none", "after": str(number)}


def test_grad_mode_is_that_of_the_call(server):
    with connections(server, 8) as wires:
        for number, wire in enumerate(wires):
            wire.send(request(f"/gradients?{'on' if number % 2 else 'off'}", method="GET"))
        for number, wire in enumerate(wires):
            assert wire.answer().json()["found"] == [bool(number % 2)] * 20 + [False]


def test_background_tasks(server, control):
    assert server.get("/starts").text == "started"
    control.wait_for("background", 1)


def test_functions_of_tensors_stay_in_the_event_loop(server, control):
    with connections(server, 20) as wires:
        for wire in wires:
            wire.send(request("/gated", method="GET"))
        control.wait_for("begin", 20)
        wait_for(lambda: server.post("/fast", [[0]]).json() == [[1]], "the handler to move")
        control.open()
        assert [wire.answer().status for wire in wires] == [200] * 20


def test_graceful_exit_waits_for_answers(start):
    server = start(SERVER, APP)
    control = Control(server)
    with connections(server, 2) as (waiting, opener):
        waiting.send(request("/gated", method="GET"))
        control.wait_for("begin", 1)
        opener.send(request("/control?open", method="GET")[:-2])
        server.process.send_signal(signal.SIGQUIT)
        server.wait_for_log("gracefully shutting down")
        assert server.process.poll() is None
        opener.send(b"\r\n")
        opener.answer()
        assert waiting.answer().body == b"passed"
    wait_for(lambda: server.process.poll() is not None, "nginx to quit")


def test_fast_exit_cancels(start):
    app = APP.replace('seen.append("end")', 'print("ended by exit", flush=True)')
    server = start(SERVER, app + "\nimport sys\nsys.stdout = sys.stderr\n")
    control = Control(server)
    with connections(server, 1) as (waiting,):
        waiting.send(request("/gated", method="GET"))
        control.wait_for("begin", 1)
        server.process.terminate()
        server.process.wait(DEADLINE)
    assert "ended by exit" in server.log()
    assert "CancelledError" not in server.log()


def test_loop_that_blocks_is_stuck(start):
    server = start(
        "location = /blocks { webtorch_handler app:blocks stuck=500ms timeout=2s; }", APP
    )
    old = server.get("/blocks").text
    with connections(server, 1) as (blocked,):
        blocked.send(request("/blocks?1", method="GET"))
        server.wait_for_log('handler "app:blocks" has not returned for 500 ms')
        server.wait_for_log(r'app.py", line \d+ in blocks')
        new = wait_for(lambda: set(server.workers()) - {int(old)}, "another worker")
    assert int(server.get("/blocks").text) in new


def test_reload_of_code(start):
    server = start(SERVER, APP, http="webtorch_reload on;")
    assert server.post("/double", [[1, 2]]).json() == [[2, 4]]
    server.write_app(APP.replace("return 2 * torch", "return 3 * torch"))
    server.wait_for_log("the new code is served")
    assert server.post("/double", [[1, 2]]).json() == [[3, 6]]
    server.write_app(APP.replace("async def double", "def double"))
    server.wait_for_log('"app:double" has another signature or other options')
    assert server.post("/double", [[1, 2]]).json() == [[3, 6]]


@pytest.mark.parametrize("option", ["threads=2", "threads=1", "mode=inline", "mode=thread"])
def test_refused_options(reconfigured, option):
    server = reconfigured(f"location / {{ webtorch_handler app:where {option}; }}", APP)
    output = server.refuse()
    assert re.search(
        r'"app:where" is a coroutine .*: "threads=" and "mode=" cannot be set in', output
    )
