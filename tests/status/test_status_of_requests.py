"""What webtorch_status counts of a request: once, where it belongs, and for its own handler."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gate import GATE_APP
from nginx import Nginx, running, wait_for
from scrape import scrape, value

APP = (
    GATE_APP
    + """
from typing import NamedTuple
from jaxtyping import Bool, Int64, UInt8
from webtorch import HTTPError, State, metrics

calls_of_fork = metrics.counter("app_forks_total", "Forks with a text that is é" + 60 * "é",
                                labels=["kind"])


@webtorch.infer
def guard(bytes: UInt8[Tensor, "batch 64"]) -> Float64[Tensor, "batch"]:
    gate.wait()
    return torch.zeros(len(bytes), dtype=torch.float64)


@webtorch.infer
def hang(bytes: UInt8[Tensor, "batch 64"]) -> Float64[Tensor, "batch"]:
    threading.Event().wait()


class Step(NamedTuple):
    token: Int64[Tensor, "batch"]
    at: State[Int64[Tensor, "batch"]]
    done: Bool[Tensor, "batch"]


@webtorch.generate
def write(at: State[Int64[Tensor, "batch"]]) -> Step:
    return Step(at.clone(), at + 1, at >= 2)


@write.open
def begin(start: Int64[Tensor, ""]) -> Tensor:
    return start


@webtorch.handler
def parts(request: webtorch.Request):
    yield "a"
    yield "b"


@webtorch.handler
def fork(request: webtorch.Request) -> str:
    child = os.fork()
    calls_of_fork.labels(kind="nul\\0 \\udc80").inc()
    if child == 0:
        for _ in range(100):
            calls_of_fork.labels(kind="nul\\0 \\udc80").inc(7)
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


@webtorch.infer
def named(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    return x


@webtorch.infer
def score(bytes: UInt8[Tensor, "batch 64"]) -> Float64[Tensor, "batch"]:
    return torch.zeros(len(bytes), dtype=torch.float64)


@webtorch.infer
def wide(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 300"]:
    return x.expand(-1, 300) / 7


@webtorch.handler
def teapot(request: webtorch.Request) -> str:
    raise HTTPError(418, "short and stout")
"""
)

SERVER = """
location = /control { webtorch_handler app:control mode=inline; }
location = /guarded { webtorch_access app:guard mode=thread timeout=100ms; empty_gif; }
location = /write { webtorch_handler app:write; }
location = /parts { webtorch_handler app:parts; }
location = /fork { webtorch_handler app:fork; }
location = /wide { webtorch_handler app:wide mode=thread; }
location = /inline { webtorch_handler app:affine mode=inline; }
location = /threaded { webtorch_handler app:affine mode=thread; }
location = /teapot {
    webtorch_handler app:teapot;
    webtorch_intercept_errors on;
    error_page 418 =200 /gif;
}
location = /gif { empty_gif; }
location = /named { webtorch_handler app:named; }
location ~ "^/scored/\\w$" { webtorch_access app:score; empty_gif; }
location /scored/ { webtorch_access app:score; empty_gif; }
location = /status { webtorch_status; }
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Nginx]:
    with running(Nginx(SERVER, APP)) as nginx:
        yield nginx


def number(server: Nginx, name: str, handler: str, **labels: str) -> float:
    return value(scrape(server), f"webtorch_{name}", handler=f"app:{handler}", **labels)


def wait_for_number(server: Nginx, wanted: float, name: str, handler: str, **labels: str) -> None:
    wait_for(
        lambda: number(server, name, handler, **labels) == wanted,
        lambda: f"{wanted} of {name} {labels}, not {number(server, name, handler)}",
    )


def test_status_of_generations(server):
    """A generation is a request of its function, not of the one that opens it."""
    assert server.post("/write", {"start": 0}).ok
    assert server.post("/write", "nonsense").status_code in (400, 422)
    for _ in range(2):
        assert server.get("/parts").text == "ab"
    for handler, code, count in (("write", "200", 1), ("write", "422", 1), ("parts", "200", 2)):
        wait_for_number(server, count, "requests_total", handler, code=code)
    for handler in ("write", "parts"):
        assert number(server, "request_seconds_count", handler) == 2
        wait_for_number(server, 0, "streams_open", handler)
    assert number(server, "decode_seconds_count", "write") == 1
    assert number(server, "refused_total", "write", reason="body") == 1
    assert number(server, "streams_opened_total", "parts") == 2


def test_status_of_an_access_that_is_too_late(server):
    """A request whose call has begun is counted once, as 504."""
    server.get("/control?shut")
    assert server.get("/guarded").ok
    wait_for_number(server, 1, "requests_total", "guard", code="504")
    assert number(server, "queue_seconds_count", "guard") == 0
    server.get("/control?open")
    wait_for_number(server, 1, "run_seconds_count", "guard")
    assert server.get("/guarded").ok
    wait_for_number(server, 1, "requests_total", "guard", code="200")
    assert number(server, "requests_total", "guard", location="/guarded") == 2
    assert number(server, "refused_total", "guard", reason="timeout") == 1


def test_status_of_an_access_that_is_stuck(start):
    """What no call can begin with is refused, and counted as such over the worker's end."""
    locations = """
    location = /hung { webtorch_access app:hang mode=thread stuck=300ms timeout=5s; empty_gif; }
    location = /status { webtorch_status; }
    """
    expected = ("has not scored", "has not returned", "is replaced", "not exited", "exiting")
    nginx = start(locations, APP, expected=expected)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(nginx.get, "/hung")
        wait_for_number(nginx, 1, "requests_running", "hang")
        others = [pool.submit(nginx.get, "/hung") for _ in range(3)]
        assert all(other.result().ok for other in others)
        wait_for_number(nginx, 3, "requests_total", "hang", code="503")
        assert number(nginx, "refused_total", "hang", reason="stuck") == 3
        nginx.stop()
        first.exception()


def test_status_of_a_page_instead_of_an_answer(server):
    """The code is that of the handler, not of the page that nginx sends."""
    assert server.get("/teapot").status_code == 200
    wait_for_number(server, 1, "requests_total", "teapot", code="418")
    assert number(server, "requests_total", "teapot") == 1


def test_status_of_encoding_is_of_one_request(server):
    """Requests of one batch are encoded one after the other in one worker."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.post("/wide", [[1.0]] * 4), range(48)))
    passed = time.perf_counter() - begin
    assert all(answer.ok for answer in answers)
    wait_for_number(server, 48, "encode_seconds_count", "wide")
    assert 0 < number(server, "encode_seconds_sum", "wide") < passed


def test_status_of_two_directives_with_other_modes(server):
    """A function has moved if the calls of one directive have."""
    for path in 3 * ("/inline", "/threaded"):
        assert server.post(path, [[1.0]]).ok
    assert number(server, "run_seconds_count", "affine") == 6
    assert number(server, "handler_moves_total", "affine") == 0


def test_status_of_children(server):
    """What a worker has forked counts for nobody."""
    for _ in range(2):
        assert server.get("/fork").text == "forked"
    samples = scrape(server)
    assert value(samples, "app_forks_total", kind="nul  ?") == 2
    wait_for_number(server, 2, "requests_total", "fork", code="200")


def test_status_names_of_other_servers(server):
    """Triton's and vLLM's names, in both formats, in place of ours."""
    assert server.post("/named", [[1.0], [2.0]]).ok
    assert server.post("/named", "nonsense").status_code == 422
    own = {"model": "app:named", "version": "1"}

    def triton(name: str) -> float:
        return value(scrape(server, "&names=triton"), f"nv_inference_{name}", **own)

    wait_for(lambda: triton("request_failure") == 1, "the failure")
    wait_for(lambda: triton("request_success") == 1, "the success")
    assert (triton("count"), triton("exec_count")) == (2, 1)
    assert triton("compute_infer_duration_us") > 0
    assert triton("request_duration_us") > triton("compute_infer_duration_us")
    plain = server.get("/status?names=triton")
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert "# TYPE nv_inference_count counter" in plain.text
    assert "webtorch_" not in plain.text

    vllm = scrape(server, "&names=vllm")
    assert {name for name, _ in vllm if not name.startswith("vllm:")} == set()
    own = {"model_name": "app:named"}
    assert value(vllm, "vllm:num_requests_waiting", **own) == 0
    assert value(vllm, "vllm:e2e_request_latency_seconds_count", **own) == 2
    reasons = {"stop": 1, "abort": 0, "error": 1}
    for reason, count in reasons.items():
        assert value(vllm, "vllm:request_success_total", finished_reason=reason, **own) == count, (
            reason
        )
    assert server.get("/status?names=tgi").json()["code"] == "unknown_names"


def test_status_of_locations(server):
    """Functions of phases are counted for each location."""
    for path, count in (("/scored/a", 2), ("/scored/long", 1)):
        for _ in range(count):
            assert server.get(path).ok
    for location, count in ((r"^/scored/\w$", 2), ("/scored/", 1)):
        wait_for_number(server, count, "requests_total", "score", location=location)
    handlers = server.get("/status?format=json&scope=handlers").json()["handlers"]
    found = {
        each.get("location"): each["requests"] for each in handlers if ":score" in each["name"]
    }
    assert found == {r"^/scored/\w$": {"200": 2}, "/scored/": {"200": 1}}


def test_status_arguments(server):
    """Commas may be escaped; an answer may have no metric."""
    named = scrape(server, "&metrics=webtorch_workers%2Cwebtorch_requests&scope=workers%2Chandlers")
    assert {name for name, _ in named} == {"webtorch_workers", "webtorch_requests_total"}
    assert server.get("/status?format=prometh%65us").ok
    empty = server.get("/status?format=prometheus&metrics=nothing")
    assert (empty.status_code, empty.content) == (200, b"")
    assert server.get("/status?format=openmetrics&metrics=nothing").text == "# EOF\n"
