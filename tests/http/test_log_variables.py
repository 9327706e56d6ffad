"""Variables of calls in an access log of JSON."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from files import save_torch
from gate import GATE_APP, GATE_SERVER, Gate, rows_of
from nginx import Nginx, wait_for

APP = (
    GATE_APP
    + """
from jaxtyping import Float32
from torch import nn, optim
from webtorch import State

net = webtorch.Model("net", nn.Linear(1, 1), lambda p: optim.SGD(p, 0.001))
other = webtorch.Model("an", nn.Linear(1, 1))

@webtorch.infer
def infer(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]: return net(x)

@webtorch.infer
def both(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]: return net(x) + other(x)

@webtorch.train
def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    y = net(x)
    net.step((y - x).square().mean())
    return y.detach()

@webtorch.handler
def answer(request): raise webtorch.HTTPError(418, "a teapot", code="teapot")

@webtorch.handler
async def coroutine(request, n: int = 0): return {"steps": net.steps}

@webtorch.handler
def words(request):
    yield "one"
    yield "two"

@webtorch.stream
def double(x: Float32[Tensor, "batch 1"], s: State[Float32[Tensor, "batch"]],
           ) -> tuple[Float32[Tensor, "batch 1"], State[Float32[Tensor, "batch"]]]:
    return 2 * x, s
"""
)

HTTP = """
    log_format calls escape=json
        '{"uri":"$uri","status":$status,"handler":"$webtorch_handler",'
        '"queue":"$webtorch_queue_time","run":"$webtorch_run_time","rows":"$webtorch_batch_rows",'
        '"mode":"$webtorch_mode","error":"$webtorch_error","step":"$webtorch_model_step",'
        '"version":"$webtorch_model_version"}';
    log_format plain '$uri [$webtorch_queue_time] [$webtorch_model_step] [$webtorch_error]';
"""

SERVER = (
    GATE_SERVER
    + """
    access_log logs.json calls;
    access_log plain.log plain;
    location = /infer { webtorch_handler app:infer mode=inline; }
    location = /both { webtorch_handler app:both mode=inline; }
    location = /train { webtorch_handler app:train mode=thread; }
    location = /answer { webtorch_handler app:answer; }
    location = /coroutine { webtorch_handler app:coroutine; }
    location = /words { webtorch_handler app:words; }
    location = /stream { webtorch_handler app:double; }
    location = /gated { webtorch_handler app:gated mode=thread timeout=1s; }
    location = /denied { deny all; webtorch_handler app:infer; }
    location = /denied/head { deny all; webtorch_handler app:infer; }
    location = /page { webtorch_handler app:answer; webtorch_intercept_errors on;
                       error_page 418 /page.html; }
    location = /page.html { return 200 "a page"; }
    location /v2 { webtorch_inference_protocol; }
    location = /loaded { webtorch_handler app:infer; webtorch_torch_load on; }
    location = /none { return 204; }
"""
)


def line_of(server: Nginx, uri: str) -> dict[str, Any]:
    """Wait for the line of a request and return it."""

    def find() -> dict[str, Any] | None:
        path = server.prefix / "logs.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return next((line for line in reversed(lines) if line["uri"] == uri), None)

    found = wait_for(find, f"a line of {uri}")
    assert isinstance(found, dict)
    return found


def test_log_variables_of_functions_of_tensors(server: Nginx):
    assert server.post("/train", [[1.0], [2.0]]).ok
    assert server.post("/infer", [[1.0], [2.0], [3.0]]).ok
    assert server.post("/both", [[1.0]]).ok

    train = line_of(server, "/train")
    assert train["handler"] == "app:train"
    assert (train["rows"], train["mode"], train["version"]) == ("2", "thread", "1")
    assert (train["error"], train["status"]) == ("", 200)
    steps = int(train["step"])
    assert steps >= 1
    assert float(train["run"]) > 0
    assert float(train["queue"]) >= 0

    infer = line_of(server, "/infer")
    assert (infer["handler"], infer["rows"], infer["mode"]) == ("app:infer", "3", "inline")
    assert infer["step"] == str(steps)
    # of models in the order of their names
    both = line_of(server, "/both")
    assert (both["step"], both["version"]) == (f"0, {steps}", "1, 1")


def test_log_variables_of_the_inference_protocol(server: Nginx):
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1, 2]}
    assert server.post("/v2/models/infer/infer", {"inputs": [tensor]}).ok
    line = line_of(server, "/v2/models/infer/infer")
    assert (line["handler"], line["rows"], line["version"]) == ("app:infer", "2", "1")


def test_log_variables_of_functions_of_requests(server: Nginx):
    assert server.get("/coroutine").ok
    line = line_of(server, "/coroutine")
    assert (line["handler"], line["rows"], line["mode"]) == ("app:coroutine", "1", "thread")
    assert line["step"].isdigit()
    # an argument that cannot be read: the coroutine does not begin, its models have changed
    steps = int(line["step"])
    assert server.post("/train", [[1.0]]).ok
    assert server.get("/coroutine?n=a").status_code == 422
    wait_for(lambda: line_of(server, "/coroutine")["status"] == 422, "the line of the error")
    assert int(line_of(server, "/coroutine")["step"]) > steps

    assert server.get("/words").ok
    line = line_of(server, "/words")
    assert (line["handler"], line["rows"], line["step"]) == ("app:words", "1", "")
    assert float(line["run"]) > 0


def test_log_variables_of_files_that_are_loaded(server: Nginx):
    headers = {"Content-Type": "application/x-pytorch"}
    assert server.post("/loaded", data=save_torch(torch.ones(2, 1)), headers=headers).ok
    assert line_of(server, "/loaded")["rows"] == "2"

    answer = server.post("/loaded", data=save_torch(torch.ones(2, 1) * 1j), headers=headers)
    assert answer.status_code == 422
    wait_for(lambda: line_of(server, "/loaded")["status"] == 422, "the line of the error")
    line = line_of(server, "/loaded")
    # of the call that loads
    assert float(line["run"]) > 0
    assert (line["rows"], line["step"]) == ("1", "")


def test_log_variables_of_a_stream(server: Nginx):
    headers = {"Content-Type": "application/x-ndjson"}
    answer = server.request("POST", "/stream", data=b"[1]\n[2]\n", headers=headers)
    assert answer.text.split() == ["[2]", "[4]"]
    line = line_of(server, "/stream")
    assert (line["handler"], line["rows"], line["error"]) == ("app:double", "1", "")
    assert float(line["run"]) > 0


def test_log_variables_of_a_stream_that_ends_with_an_error(server: Nginx):
    headers = {"Content-Type": "application/x-ndjson"}
    answer = server.request("POST", "/stream", data=b'[1]\n["a"]\n', headers=headers)
    first, last = answer.text.splitlines()
    assert first == "[2]"
    wait_for(lambda: line_of(server, "/stream")["error"], "a line with an error")
    line = line_of(server, "/stream")
    assert (line["status"], line["error"]) == (200, json.loads(last)["code"])
    # the first chunk had a call
    assert float(line["run"]) > 0


def test_log_variables_of_errors(server: Nginx):
    assert server.get("/answer").status_code == 418
    line = line_of(server, "/answer")
    assert (line["status"], line["error"], line["rows"]) == (418, "teapot", "1")

    answer = server.post("/infer", [["a"]])
    assert answer.status_code == 422
    wait_for(lambda: line_of(server, "/infer")["status"] == 422, "the line of the error")
    line = line_of(server, "/infer")
    assert (line["handler"], line["queue"], line["run"]) == ("app:infer", "", "")
    assert line["error"] == answer.json()["code"]

    assert server.get("/denied").status_code == 403
    line = line_of(server, "/denied")
    assert (line["handler"], line["error"]) == ("app:infer", "forbidden")

    # there is no body that names the error
    assert server.request("HEAD", "/denied/head").status_code == 403
    assert line_of(server, "/denied/head")["error"] == "forbidden"

    # a page of nginx answers in place of the handler, whose error is logged
    assert server.get("/page").text == "a page"
    line = line_of(server, "/page.html")
    assert (line["handler"], line["error"], line["rows"]) == ("app:answer", "teapot", "1")


def test_log_variables_of_a_request_that_waited_in_vain(server: Nginx, gate: Gate):
    with ThreadPoolExecutor(1) as pool, gate:
        first = pool.submit(server.post, "/gated", rows_of(1))
        gate.wait_for_calls(1)
        assert first.result().status_code == 504
        # it was in a call, whose begin only the thread knows
        line = line_of(server, "/gated")
        assert (line["error"], line["queue"], line["run"]) == ("timeout", "", "")
        # all of its time in the queue, as the thread is busy
        assert server.post("/gated", rows_of(2)).status_code == 504
        wait_for(lambda: line_of(server, "/gated")["queue"], "a line with a time")
        assert float(line_of(server, "/gated")["queue"]) >= 0.9


def test_log_variables_that_are_not_there(server: Nginx):
    assert server.get("/none").status_code == 204
    assert set(line_of(server, "/none").values()) == {"/none", 204, ""}
    plain = (server.prefix / "plain.log").read_text()
    assert "/none [-] [-] [-]" in plain


def test_log_variables_without_metrics(start: Any):
    server = start(
        "access_log logs.json calls; location = /infer { webtorch_handler app:infer; }",
        APP,
        http=HTTP + "webtorch_metrics off;",
    )
    assert server.post("/infer", [[1.0]]).ok
    line = line_of(server, "/infer")
    assert float(line["queue"]) >= 0
    assert (line["rows"], line["step"]) == ("1", "0")
