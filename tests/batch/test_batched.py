"""batched(): rows of handlers join the batches of functions of tensors."""

import concurrent.futures

import pytest

from nginx import DEADLINE, wait_for
from wire import connections, request

APP = '''
import asyncio, functools, os, sys, threading, time, numpy as np, torch, webtorch
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from jaxtyping import Float32, Int64
from torch import Tensor
from webtorch import Strings

rows_of_calls = []
gate = threading.Event()
gate.set()
begun = []

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    rows_of_calls.append(len(x))
    begun.append(len(x))
    gate.wait()
    return 2 * x

@webtorch.infer
def late(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    gate.wait()
    return x

@webtorch.infer
def narrow(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    begun.append(len(x))
    gate.wait()
    return x

def scaled(x: Float32[Tensor, "batch 2"], by: float) -> Float32[Tensor, "batch 2"]:
    return by * x

twice, thrice = (webtorch.infer(functools.partial(scaled, by=by)) for by in (2.0, 3.0))

@webtorch.handler
async def partials(request):
    x = np.float32(request.json())
    found = await asyncio.gather(*(each.batched(x) for each in (twice, thrice) * 3))
    return [each.tolist() for each in found]

class Found(NamedTuple):
    total: Float32[Tensor, "batch"]
    text: Strings[list[str], "batch"]

@webtorch.infer
def several(
    x: Float32[Tensor, "batch n"], words: Strings[list[list[str]], "batch n"]
) -> Found:
    return Found(x.sum(1), ["-".join(each) for each in words])

@webtorch.infer
def found(x: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch k"]:
    return x[:, None].expand(-1, 3).contiguous()

@webtorch.infer
def single(x: Float32[Tensor, "2"]) -> Float32[Tensor, "2"]:
    return x + 1

@webtorch.infer
def picky(x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
    if (x == 13).any():
        raise LookupError("thirteen")
    if (x == 14).any():
        raise webtorch.HTTPError(422, "no fourteen")
    return x

@webtorch.infer
def unserved(x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
    return x + threading.get_native_id() * 0 + len(x)

@webtorch.train
def learn(x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
    return x

@webtorch.infer
def outer(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return double.batched(x) + 1

at_import = double(torch.ones(1, 2)).tolist(), double.batched(torch.ones(1, 2)).tolist()

def answer(request, result):
    kind = request.args
    if isinstance(result, tuple):
        return {"type": type(result).__name__, "total": result[0].tolist(), "text": result[1]}
    return {"result": result.tolist(), "dtype": str(result.dtype)}

def start(request):
    kind = request.args
    if kind == "double":
        return double.batched(torch.tensor(request.json(), dtype=torch.float32))
    if kind in ("late", "narrow"):
        return {"late": late, "narrow": narrow}[kind].batched(request.json())
    if kind == "numpy":
        return double.batched(np.array(request.json(), dtype=np.float64))
    if kind == "list":
        return double.batched(x=request.json())
    if kind == "several":
        return several.batched([[1, 2], [3, 4]], [["a", "\\u00e9"], ["", "d"]])
    if kind == "found":
        return found.batched(torch.tensor([1, 2]))
    if kind == "single":
        return single.batched(torch.zeros(2))
    if kind == "none":
        return double.batched(torch.zeros(0, 2))
    if kind == "large":
        return double.batched(torch.ones(200_000, 2))
    if kind == "unserved":
        return unserved.batched([5.0])
    if kind == "learn":
        return learn.batched([float("nan")])
    if kind == "shape":
        return double.batched(torch.ones(1, 3))
    if kind == "dtype":
        return found.batched(torch.ones(1))
    if kind == "thirteen":
        return picky.batched([13.0])
    if kind == "fourteen":
        return picky.batched([14.0])
    raise ValueError(kind)

def explain(error):
    status = getattr(error, "status", 0)
    return {"error": type(error).__name__, "text": str(error), "status": status}

@webtorch.handler
async def coroutine(request):
    return answer(request, await start(request))

@webtorch.handler
def thread(request):
    return answer(request, start(request))

@webtorch.handler
async def caught(request):
    try:
        return answer(request, await start(request))
    except Exception as error:
        return explain(error)

@webtorch.handler
async def to_thread(request):
    return answer(request, await asyncio.to_thread(start, request))

@webtorch.handler
async def other_loop(request):
    def run():
        async def main():
            return await start(request)
        return asyncio.run(main())
    return answer(request, await asyncio.to_thread(run))

@webtorch.handler
def own_loop(request):
    async def main():
        return await start(request)
    return answer(request, asyncio.run(main()))

@webtorch.handler
def own_thread(request):
    with ThreadPoolExecutor(1) as pool:
        return answer(request, pool.submit(start, request).result())

@webtorch.handler
async def many(request):
    """Rows of one handler come from many tasks."""
    xs = [torch.full((1, 2), float(n)) for n in range(100)]
    rows_of_calls.clear()
    results = await asyncio.gather(*map(double.batched, xs))
    right = all(torch.equal(y, 2 * x) for x, y in zip(xs, results))
    return {"right": right, "calls": rows_of_calls}

@webtorch.handler
async def impatient(request):
    try:
        async with asyncio.timeout(0.2):
            await double.batched(torch.zeros(1, 2))
    except TimeoutError:
        return "gave up"

@webtorch.handler(threads=1)
def control(request):
    if request.args == "shut":
        gate.clear()
        begun.clear()
    elif request.args == "open":
        gate.set()
    return {"begun": begun, "at_import": at_import, "raised": raised()}

def raised():
    failures = sys.modules.get("webtorch._worker.exchange.failures")
    return len(failures.raised)
'''

SERVER = """
location = /double { webtorch_handler app:double mode=thread; }
location = /late { webtorch_handler app:late mode=thread timeout=300ms; }
location = /narrow { webtorch_handler app:narrow mode=thread queue=2; }
location = /several { webtorch_handler app:several; }
location = /found { webtorch_handler app:found; }
location = /single { webtorch_handler app:single; }
location = /picky { webtorch_handler app:picky; }
location = /learn { webtorch_handler app:learn; }
location = /outer { webtorch_handler app:outer; }
location = /coroutine { webtorch_handler app:coroutine; }
location = /thread { webtorch_handler app:thread; }
location = /inline { webtorch_handler app:thread mode=inline; }
location = /caught { webtorch_handler app:caught; }
location = /to_thread { webtorch_handler app:to_thread; }
location = /other_loop { webtorch_handler app:other_loop; }
location = /own_loop { webtorch_handler app:own_loop mode=inline; }
location = /own_thread { webtorch_handler app:own_thread mode=inline; }
location = /partials { webtorch_handler app:partials; }
location = /many { webtorch_handler app:many; }
location = /impatient { webtorch_handler app:impatient; }
location = /control { webtorch_handler app:control; }
"""

PLACES = ["/coroutine", "/thread", "/inline", "/to_thread", "/other_loop", "/own_loop"]
PLACES += ["/own_thread"]


@pytest.mark.parametrize("path", PLACES)
def test_rows_are_computed(server, path):
    for _ in range(3):
        answer = server.post(f"{path}?double", [[1, 2], [3, 4]])
        assert answer.json() == {"result": [[2, 4], [6, 8]], "dtype": "torch.float32"}


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("numpy", {"result": [[2, 4]], "dtype": "torch.float32"}),
        ("list", {"result": [[2, 4]], "dtype": "torch.float32"}),
        ("several", {"type": "Found", "total": [3, 7], "text": ["a-\u00e9", "-d"]}),
        ("found", {"result": [[1, 1, 1], [2, 2, 2]], "dtype": "torch.int64"}),
        ("single", {"result": [1, 1], "dtype": "torch.float32"}),
        ("none", {"result": [], "dtype": "torch.float32"}),
        ("unserved", {"result": [6], "dtype": "torch.float32"}),
    ],
)
def test_inputs_and_results(server, path, kind, expected):
    answer = server.post(f"{path}?{kind}", [[1, 2]])
    assert answer.ok and answer.json() == expected


@pytest.mark.parametrize("path", PLACES)
def test_large_rows(server, path):
    result = server.get(f"{path}?large").json()["result"]
    assert len(result) == 200_000
    assert result[0] == result[-1] == [2, 2]


@pytest.mark.parametrize(
    ("kind", "error", "text", "status"),
    [
        ("thirteen", "LookupError", "thirteen", 0),
        ("fourteen", "HTTPError", "no fourteen", 422),
        ("shape", "TypeError", '"x" is annotated as float32 [batch, 2], [1, 3] was given', 0),
        ("dtype", "TypeError", '"x" is torch.int64, torch.float32 was given', 0),
        ("learn", "ValueError", "training does not take numbers that are not finite", 0),
    ],
)
def test_errors_are_raised_in_the_caller(server, kind, error, text, status):
    answer = server.post(f"/caught?{kind}", [[1, 2]]).json()
    assert answer == {"error": error, "text": text, "status": status}


def test_partial_functions_of_one_function(server):
    for number in range(5):
        x = [[number, 1]]
        expected = [[[by * number, by]] for by in (2, 3)] * 3
        assert server.post("/partials", x).json() == expected


@pytest.mark.parametrize("path", PLACES)
def test_errors_that_are_not_caught(server, path):
    answer = server.post(f"{path}?fourteen", [[1, 2]])
    assert (answer.status_code, answer.json()["error"]) == (422, "no fourteen")
    assert server.post(f"{path}?thirteen", [[1, 2]]).status_code == 500
    server.wait_for_log("LookupError: thirteen")
    assert 'handler "app:picky" failed' not in server.log()


def test_one_error_fails_no_other_rows(server):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        kinds = ["thirteen", "double"] * 8
        answers = list(pool.map(lambda kind: server.post(f"/caught?{kind}", [[1, 2]]), kinds))
    assert ["error" in answer.json() for answer in answers] == [True, False] * 8


def test_rows_of_many_tasks_are_few_batches(server):
    for _ in range(5):
        answer = server.get("/many").json()
        assert answer["right"] and sum(answer["calls"]) == 100
        assert len(answer["calls"]) < 20


def test_rows_of_handlers_and_requests_are_one_batch(server):
    assert server.get("/control?shut").ok
    try:
        with connections(server, 4) as (first, *others):
            first.send(request("/double", b"[[0, 0]]"))
            wait_for(lambda: server.get("/control").json()["begun"], "a call")
            paths = ["/double", "/coroutine?double", "/thread?double"]
            for path, wire in zip(paths, others, strict=True):
                wire.send(request(path, b"[[1, 2]]"))
            # posted rows have joined the batch when a later handler has run
            for _ in range(20):
                assert server.post("/found", [1]).ok
            assert server.get("/control?open").ok
            assert first.answer().json() == [[0, 0]]
            assert others[0].answer().json() == [[2, 4]]
            assert others[1].answer().json()["result"] == [[2, 4]]
            assert others[2].answer().json()["result"] == [[2, 4]]
            assert server.get("/control").json()["begun"][1:] != [1, 1, 1]
    finally:
        assert server.get("/control?open").ok


def test_cancelled_rows_leave_their_batch(server):
    assert server.get("/control?shut").ok
    try:
        with connections(server, 1) as (first,):
            first.send(request("/double", b"[[0, 0]]"))
            wait_for(lambda: server.get("/control").json()["begun"], "a call")
            assert server.get("/impatient").text == "gave up"
            assert server.get("/control?open").ok
            assert first.answer().json() == [[0, 0]]
        assert server.post("/double", [[1, 1]]).ok
        assert server.get("/control").json()["begun"] == [1, 1]
    finally:
        assert server.get("/control?open").ok
    wait_for(lambda: server.get("/control").json()["raised"] == 0, "no caller to be left")


def test_calls_within_functions_of_tensors(server):
    assert server.post("/outer", [[1, 2]]).json() == [[3, 5]]


def test_calls_at_import(server):
    assert server.get("/control").json()["at_import"] == [[[2, 2]], [[2, 2]]]


@pytest.mark.parametrize("path", ["/coroutine", "/thread"])
def test_timeout(server, path):
    assert server.get("/control?shut").ok
    try:
        answer = server.post(f"{path}?late", [[1, 2]])
        assert (answer.status_code, answer.json()["error"]) == (
            504,
            '"late" did not return in time',
        )
        assert server.post("/caught?late", [[1, 2]]).json()["error"] == "BatchTimeoutError"
    finally:
        assert server.get("/control?open").ok
    wait_for(lambda: server.post(f"{path}?late", [[1, 2]]).ok, "the function to return")


@pytest.mark.parametrize("path", ["/coroutine", "/thread"])
def test_full_queue(server, path):
    assert server.get("/control?shut").ok
    try:
        with connections(server, 2) as wires:
            wires[0].send(request("/narrow", b"[[1, 2]]"))
            wait_for(lambda: server.get("/control").json()["begun"], "a call")
            wires[1].send(request("/narrow", b"[[1, 2]]"))
            wait_for(lambda: server.post("/narrow", [[1, 2]]).status_code == 503, "a full queue")
            answer = server.post(f"{path}?narrow", [[1, 2]])
            assert answer.status_code == 503
            assert answer.json()["error"] == 'the queue of "narrow" is full'
            assert server.post("/caught?narrow", [[1, 2]]).json()["error"] == "QueueFullError"
            assert server.get("/control?open").ok
            assert [wire.answer().status for wire in wires] == [200, 200]
    finally:
        assert server.get("/control?open").ok
    assert server.post(f"{path}?narrow", [[1, 2]]).ok


def test_exit_ends_calls_that_wait(start):
    server = start(SERVER, APP)
    assert server.get("/control?shut").ok
    with connections(server, 3) as (first, coroutine, thread):
        first.send(request("/double", b"[[0, 0]]"))
        wait_for(lambda: server.get("/control").json()["begun"], "a call")
        coroutine.send(request("/coroutine?double", b"[[1, 2]]"))
        thread.send(request("/thread?double", b"[[1, 2]]"))
        server.process.terminate()
        server.process.wait(DEADLINE)
    log = server.log()
    assert 'handler "app:double" is still running' in log
    assert 'handler "app:thread" is still running' not in log
