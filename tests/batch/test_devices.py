"""Functions on a device: copies and calls overlap, and what happens if the device fails."""

import concurrent.futures
import re

import pytest

from nginx import wait_for

APP = """
import os
os.environ["WEBTORCH_SIMULATED_DEVICE"] = "2"

import threading
import torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor
from webtorch import Strings
from webtorch._device import devices
from webtorch._device.simulated import SimulatedFaultError

holds = {name: threading.Event() for name in ("put", "compute", "fetch")}
for hold in holds.values():
    hold.set()
unpinned = []
pins = []

def before(operation, size):
    if operation == "pin":
        pins.append(size)
    if operation == "pin" and unpinned:
        raise RuntimeError("no memory can be pinned")
    if operation in holds:
        assert holds[operation].wait(60)

def device(index=0):
    found = devices.open_device(f"cuda:{index}")
    found.before = before
    return found

@webtorch.infer(device="cuda")
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x

@webtorch.infer
def anywhere(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x + 1

@webtorch.infer
def also(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x + 1

total = torch.zeros(2)

@webtorch.infer(device="cuda:1")
def add(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    total.add_(x.sum(0))
    return total.expand(len(x), 2)

@webtorch.infer(device="auto")
def words(
    text: Strings[list[list[str]], "batch n"], x: Float32[Tensor, "batch n"]
) -> tuple[Strings[list[list[str]], "batch n"], Int64[Tensor, "batch n"]]:
    return [[word.upper() for word in row] for row in text], x.long()

@webtorch.infer(device="cuda")
def narrow(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    if len(x) > 2:
        raise torch.OutOfMemoryError("the device has room for two rows")
    if (x == 13).any():
        raise ValueError("thirteen")
    if (x == 666).any():
        raise SimulatedFaultError("an illegal address")
    return -x

@webtorch.train(device="cuda")
def learn(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    assert torch.is_grad_enabled()
    return 3 * x

@webtorch.infer(device="cuda")
def unnamed(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 5 * x

@webtorch.handler
async def posted(request: webtorch.Request):
    x = torch.ones(1, 2)
    found = [await function.batched(x) for function in (double, unnamed)]
    return [each.tolist() for each in found]

@webtorch.handler
def fault(request: webtorch.Request):
    raise SimulatedFaultError("an illegal address, found by a model of the handler")

unnamed_at_import = unnamed.batched(torch.ones(1, 2)).tolist()

@webtorch.handler(threads=1)
def control(request: webtorch.Request):
    for name, value in request.query().items():
        if name == "unpinned":
            unpinned[:] = [1] if value == "on" else []
        elif value == "hold":
            holds[name].clear()
        else:
            holds[name].set()
    found = [device(0), device(1)]
    return {
        "pid": os.getpid(),
        "traces": [each.trace for each in found],
        "pinned": sum(found[0].pinned.values()),
        "pins": pins,
        "releases": found[0].releases,
        "at_import": unnamed_at_import,
    }
"""

SERVER = """
client_max_body_size 8m;
location = /double { webtorch_handler app:double max_batch=1; }
location = /large { webtorch_handler app:double max_batch=16384; }
location = /add { webtorch_handler app:add threads=2; }
location = /words { webtorch_handler app:words; }
location = /narrow { webtorch_handler app:narrow max_delay=300ms; }
location = /learn { webtorch_handler app:learn; }
location = /posted { webtorch_handler app:posted; }
location = /fault { webtorch_handler app:fault; }
location = /control { webtorch_handler app:control; }
location = /inline { webtorch_handler app:anywhere mode=inline; }
location = /placed { webtorch_device cuda:1; webtorch_handler app:anywhere; }
location = /copied { webtorch_device cuda:1; webtorch_handler app:anywhere shadow=app:also; }
location = /cpu { webtorch_device cpu; webtorch_handler app:anywhere; }
location = /named { webtorch_device cpu; webtorch_handler app:learn; }
"""


def control(server, arguments=""):
    answer = server.get(f"/control?{arguments}")
    assert answer.ok, answer.text
    return answer.json()


def trace(server, index=0):
    return control(server)["traces"][index]


def test_device_copies_and_computes_at_once(server):
    begun = len(trace(server))

    def has(*expected):
        found = trace(server)[begun:]
        return all(found.count(entry) == number for entry, number in expected)

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        control(server, "fetch=hold")
        answers = [clients.submit(server.post, "/double", [[1, 2]])]
        wait_for(lambda: has(("+leaving fetch", 1)), "the first answer to leave")
        control(server, "compute=hold")
        answers.append(clients.submit(server.post, "/double", [[3, 4]]))
        wait_for(lambda: has(("+computing compute", 2)), "the second call")
        answers.append(clients.submit(server.post, "/double", [[5, 6]]))
        wait_for(lambda: has(("-arriving put", 3)), "the third request to arrive")
        # the first leaves, the second is computed and the third has arrived: at once
        assert has(("-computing compute", 1), ("+leaving fetch", 1), ("-leaving fetch", 0))
        # the event loop serves others meanwhile
        assert server.post("/inline", [[1, 2]]).json() == [[2, 3]]
        control(server, "compute=release")
        control(server, "fetch=release")
        assert [each.result().json() for each in answers] == [[[2, 4]], [[6, 8]], [[10, 12]]]


def test_device_answers_many_requests(server):
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        bodies = [[[n, -n]] * (1 + n % 7) for n in range(200)]
        answers = [*clients.map(lambda body: server.post("/large", body).json(), bodies)]
    assert answers == [[[2 * a, 2 * b] for a, b in body] for body in bodies]
    body = {"text": [["a", "bc"], ["", "ß"]], "x": [[1.5, 2], [3, 4]]}
    answer = server.post("/words", body).json()
    assert [*answer.values()] == [[["A", "BC"], ["", "SS"]], [[1, 2], [3, 4]]]
    assert server.post("/learn", [[1, 2]]).json() == [[3, 6]]
    assert server.get("/posted").json() == [[[2, 2]], [[5, 5]]]
    assert control(server)["at_import"] == [[5, 5]]


def test_device_is_that_of_the_directive_unless_the_function_names_one(server):
    before = control(server)["traces"]
    assert server.post("/cpu", [[1, 2]]).json() == [[2, 3]]
    assert [*map(len, control(server)["traces"])] == [*map(len, before)]
    assert server.post("/placed", [[1, 2]]).json() == [[2, 3]]
    assert server.post("/named", [[1, 2]]).json() == [[3, 6]]
    after = control(server)["traces"]
    assert after[1][len(before[1]) :].count("+computing compute") == 1
    assert after[0][len(before[0]) :].count("+computing compute") == 1


def test_shadow_is_on_the_device_of_its_location(server):
    begun = len(trace(server, 1))
    assert server.post("/copied", [[1, 2]]).json() == [[2, 3]]

    def computed():
        return trace(server, 1)[begun:].count("+computing compute")

    wait_for(lambda: computed() == 2, "both calls on the device")


def test_device_outputs_that_change_in_the_next_call_are_copied_before_it(server):
    begun = len(trace(server, 1))
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        answers = [*clients.map(lambda _: server.post("/add", [[1, 2]]).json(), range(40))]
    # several requests may be in one batch, no answer is that of a later one
    assert all(b == 2 * a for ((a, b),) in answers)
    last = server.post("/add", [[1, 2]]).json()
    assert last == [[41, 82]]
    entries = trace(server, 1)[begun:]
    assert "+computing fetch" in entries and "+leaving fetch" not in entries


def test_device_without_memory_runs_a_batch_in_parts(server):
    releases = control(server)["releases"]
    (worker,) = server.workers()
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        rows = [1, 2, 13, 4, 5, 6]
        answers = [*clients.map(lambda n: server.post("/narrow", [[n]]), rows)]
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200, 200, 200]
    assert [a.json()[0][0] for a in answers if a.ok] == [-1, -2, -4, -5, -6]
    large = server.post("/narrow", [[1], [2], [3]])
    assert large.status_code == 503 and large.headers["Retry-After"] == "1"
    assert large.json()["code"] == "out_of_memory"
    assert server.post("/narrow", [[7]]).json() == [[-7]]
    assert server.workers() == [worker]
    assert control(server)["releases"] > releases
    assert "cuda:0 has no memory for a batch" in server.log()


def test_device_memory_is_pinned_as_far_as_possible(server):
    rows = [[n, 0] for n in range(20000)]
    expected = [[2 * n, 0] for n in range(20000)]
    assert server.post("/large", rows).json() == expected
    assert control(server)["pinned"] >= 8 * 20000
    # a body that is a batch of its own: its memory is used once
    body = bytes(8 * 400000)
    raw = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
    assert server.post("/large", data=body, headers=raw).content == body
    assert len(body) not in control(server)["pins"]
    control(server, "unpinned=on")
    for _ in range(2):
        assert server.post("/large", rows * 2).json() == expected * 2
    control(server, "unpinned=off")
    # the larger buffer has replaced the one that was pinned
    assert control(server)["pinned"] == 0
    assert server.log().count("memory cannot be pinned (error 1)") == 1


def test_device_that_fails_retires_the_worker(server):
    for path, body in (("narrow", [[666]]), ("fault", [])):
        pid = control(server)["pid"]
        assert server.post(f"/{path}", body).status_code == 500
        server.wait_for_log(f'cuda:0 has failed in handler "app:{path}"')
        wait_for(lambda pid=pid: set(server.workers()) - {pid}, "another worker")
        wait_for(lambda pid=pid: control(server)["pid"] != pid, "an answer of the other worker")
        assert server.post("/double", [[1, 2]]).json() == [[2, 4]]


ERRORS = {
    "inline": ('"mode=inline" conflicts with device "cuda:0"', "mode=inline"),
    "threads": ('"threads=9" is more than the 8', "threads=9"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_device_conflicts_with_options(configured, name):
    message, option = ERRORS[name]
    server = configured(f"location / {{ webtorch_handler app:double {option}; }}", APP)
    code, output = server.check()
    assert code == 1 and message in output and "nginx.conf:" in output


def test_device_that_is_not_there_is_refused(configured):
    app = APP.replace('"WEBTORCH_SIMULATED_DEVICE"', '"OTHER"').replace("unnamed.batched", "double")
    server = configured(
        "location / { webtorch_device cuda:99; webtorch_handler app:anywhere; }",
        "import torch, webtorch\n"
        + app[app.index("from jaxtyping") : app.index("from webtorch._d")]
        + app[app.index("@webtorch.infer\ndef anywhere") : app.index("total =")],
    )
    code, output = server.check()
    assert code == 1
    assert re.search(r'device "cuda:99": (this )?PyTorch .*nginx\.conf:\d+', output), output


@pytest.mark.parametrize(
    "value", ["gpu", "cuda:", "cuda:x", "cuda:1000", "cpu; webtorch_device cpu"]
)
def test_webtorch_device_refuses(configured, value):
    server = configured(f"webtorch_device {value};")
    code, output = server.check()
    assert code == 1 and ("invalid device" in output or "is duplicate" in output), output
