"""Traces: the header traceparent in requests, in Python's logging, and as spans."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from gate import GATE_APP, GATE_SERVER, Gate, rows_of
from nginx import Nginx, wait_for

APP = (
    GATE_APP
    + """
import asyncio, logging
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

class Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        if span.name == "no begin": raise ValueError("of a processor")

    def on_end(self, span):
        if span.name == "no end": raise ValueError("of a processor")

provider.add_span_processor(Broken())

class Kept(logging.Handler):
    def emit(self, record): lines.append(self.format(record))

lines = []
log = logging.getLogger("app")
log.addHandler(Kept())
log.handlers[0].setFormatter(logging.Formatter("%(trace_id)s %(message)s"))
log.warning("import")

def answer_of(request):
    log.warning(request.path)
    return {"trace": request.trace_id, "span": request.span_id, "sampled": request.is_sampled}

@webtorch.handler
def traced(request): return answer_of(request)

@webtorch.handler
async def coroutine(request):
    await asyncio.sleep(0)
    await asyncio.to_thread(log.warning, "in a thread")
    return answer_of(request)

@webtorch.handler
def words(request):
    log.warning("first")
    yield "one"
    log.warning("second")
    yield "two"

@webtorch.infer
def logged(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    gate.wait()
    log.warning("rows %d", len(x))
    with webtorch.stage("inner"):
        return x

@webtorch.handler
def processed(request):
    for _ in range(3):
        with webtorch.stage("no begin"), webtorch.stage("no end"):
            current = trace.get_current_span().name
    with webtorch.stage("after"):
        pass
    return [current, trace.get_current_span().name]

@webtorch.handler
def broken(request):
    with webtorch.stage("outer"):
        raise ValueError("broken")

@webtorch.handler
def seen(request):
    found, lines[:] = [*lines], []
    return found

def hex_of(context): return context and [f"{context.trace_id:032x}", f"{context.span_id:016x}"]

@webtorch.handler
def spans(request):
    return [
        {
            "name": each.name,
            "context": hex_of(each.context),
            "parent": hex_of(each.parent),
            "links": [hex_of(link.context) for link in each.links],
            "attributes": dict(each.attributes),
            "start": each.start_time,
            "end": each.end_time,
            "error": not each.status.is_ok,
        }
        for each in exporter.get_finished_spans()
    ]

@webtorch.handler
def clear(request): exporter.clear()
"""
)

SERVER = (
    GATE_SERVER
    + """
    location = /traced { webtorch_handler app:traced; }
    location = /thread { webtorch_handler app:traced mode=thread; }
    location = /coroutine { webtorch_handler app:coroutine; }
    location = /words { webtorch_handler app:words mode=thread; }
    location = /logged { webtorch_handler app:logged mode=thread; }
    location = /processed { webtorch_handler app:processed; }
    location = /broken { webtorch_handler app:broken; }
    location = /seen { webtorch_handler app:seen; }
    location = /spans { webtorch_handler app:spans; }
    location = /clear { webtorch_handler app:clear; }
    location = /status { webtorch_status; }
"""
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e473{}"
SPAN = "00f067aa0ba902b{}"


def parent(number: int = 6, flags: str = "01") -> dict[str, str]:
    """Return the header of a caller."""
    return {"traceparent": f"00-{TRACE.format(number)}-{SPAN.format(number)}-{flags}"}


def spans_of(server: Nginx, *names: str) -> list[Any]:
    """Wait for spans with these names, and return all in the order of their begin."""

    def find() -> Any:
        found = server.get("/spans").json()
        return found if sorted(each["name"] for each in found) == sorted(names) else None

    found = wait_for(find, lambda: f"{names} in {server.get('/spans').text}")
    return sorted(found, key=lambda span: (span["start"], span["end"]))


@pytest.mark.parametrize("path", ["/traced", "/thread", "/coroutine"])
def test_traces_in_requests_and_in_logging(server: Nginx, path: str):
    server.get("/seen")
    answer = server.get(path, headers=parent(flags="00"))
    trace = TRACE.format(6)
    assert answer.json() == {"trace": trace, "span": SPAN.format(6), "sampled": False}
    thread = [f"{trace} in a thread"] if path == "/coroutine" else []
    assert server.get("/seen").json() == [*thread, f"{trace} {path}"]
    # the next call has none
    assert server.get(path).json() == {"trace": None, "span": None, "sampled": None}
    assert f"- {path}" in server.get("/seen").json()


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        ("00-{t}-{s}-01", True),
        ("00-{t}-{s}-ff", True),
        ("01-{t}-{s}-01-more", True),
        ("00-{t}-{s}-01-more", False),
        ("01-{t}-{s}-01more", False),
        ("ff-{t}-{s}-01", False),
        ("00-{t}-{s}-1", False),
        ("00-{t}-{s}", False),
        ("00-{T}-{s}-01", False),
        ("00-{z}-{s}-01", False),
        ("00-{t}-0000000000000000-01", False),
        ("0g-{t}-{s}-01", False),
        ("00_{t}-{s}-01", False),
        ("", False),
    ],
)
def test_traces_of_headers(server: Nginx, value: str, is_valid: bool):
    server.get("/seen")
    trace = TRACE.format(6)
    header = value.format(t=trace, T=trace.upper(), s=SPAN.format(6), z="0" * 32)
    answer = server.get("/traced", headers={"traceparent": header}).json()
    assert answer["trace"] == (trace if is_valid else None)
    assert server.get("/seen").json() == [f"{trace if is_valid else '-'} /traced"]


def test_traces_of_two_headers_are_none(server: Nginx):
    server.get("/seen")
    line = f"traceparent: 00-{TRACE.format(1)}-{SPAN.format(1)}-01\r\n"
    with server.connection() as s:
        s.sendall(f"GET /traced HTTP/1.0\r\n{line}{line}\r\n".encode())
        answer = b"".join(iter(lambda: s.recv(4096), b""))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["trace"] is None
    assert server.get("/seen").json() == ["- /traced"]


def test_traces_of_a_generator(server: Nginx):
    server.get("/seen")
    assert server.get("/words", headers=parent(3, "00")).ok
    trace = TRACE.format(3)
    assert server.get("/seen").json() == [f"{trace} first", f"{trace} second"]


def test_spans_of_one_request(server: Nginx):
    server.get("/clear")
    assert server.post("/logged", rows_of(1, 2), headers=parent()).ok
    queue, run, inner, encode = spans_of(
        server, "webtorch.queue", "webtorch.run", "inner", "webtorch.encode"
    )
    caller = [TRACE.format(6), SPAN.format(6)]
    assert queue["parent"] == run["parent"] == encode["parent"] == caller
    assert inner["parent"] == run["context"]
    assert queue["start"] <= queue["end"] == run["start"]
    assert run["start"] <= inner["start"] <= inner["end"] <= run["end"]
    assert encode["start"] <= encode["end"]
    assert run["attributes"] == {
        "webtorch.handler": "app:logged",
        "webtorch.batch.rows": 2,
        "webtorch.batch.requests": 1,
    }
    assert encode["attributes"] == {"http.response.status_code": 200}
    assert not run["links"]


def test_spans_of_sampled_requests_alone(server: Nginx):
    server.get("/clear")
    assert server.post("/logged", rows_of(1), headers=parent(flags="00")).ok
    assert server.get("/thread").ok
    assert server.get("/coroutine", headers=parent(4)).ok
    queue, run, encode = spans_of(server, "webtorch.queue", "webtorch.run", "webtorch.encode")
    assert run["attributes"]["webtorch.handler"] == "app:coroutine"
    assert queue["parent"] == run["parent"] == encode["parent"]


def test_spans_of_a_call_of_many_requests(server: Nginx, gate: Gate):
    server.get("/seen")
    server.get("/clear")
    headers = [parent(1), parent(2), parent(3, "00"), {}]
    with ThreadPoolExecutor(5) as pool:
        with gate:
            # it keeps the thread, so that the others become one batch
            first = pool.submit(server.post, "/logged", rows_of(0))
            wait_for(lambda: running(server) == 1, "the first call")
            others = [pool.submit(server.post, "/logged", rows_of(1), headers=h) for h in headers]
            wait_for(lambda: waiting(server) == 4, "the others to wait")
        assert first.result().ok
        assert all(other.result().ok for other in others)

    found = spans_of(
        server,
        *["webtorch.queue"] * 2,
        *["webtorch.run", "inner"],
        *["webtorch.encode"] * 2,
    )
    (run,) = (each for each in found if each["name"] == "webtorch.run")
    callers = [[TRACE.format(number), SPAN.format(number)] for number in (1, 2)]
    assert sorted(run["links"]) == callers
    assert run["parent"] in callers
    for name in "webtorch.queue", "webtorch.encode":
        assert sorted(each["parent"] for each in found if each["name"] == name) == callers
    assert all(
        each["links"] == [run["context"]] for each in found if each["name"] == "webtorch.queue"
    )
    assert run["attributes"]["webtorch.batch.requests"] == 4
    lines = server.get("/seen").json()
    assert lines[0] == "- rows 1"
    ids, message = lines[1].split(" ", 1)
    assert message == "rows 4"
    assert sorted(ids.split(",")) == [TRACE.format(number) for number in (1, 2, 3)]


def test_spans_of_a_request_that_left_its_batch(server: Nginx, gate: Gate):
    server.get("/clear")
    with ThreadPoolExecutor(2) as pool:
        with gate:
            first = pool.submit(server.post, "/logged", rows_of(0))
            wait_for(lambda: running(server) == 1, "the first call")
            with server.connection() as s:
                # it is closed with a reset
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                s.sendall(raw_request(1))
                wait_for(lambda: waiting(server) == 1, "the request with a trace")
                other = pool.submit(server.post, "/logged", rows_of(1), headers=parent(2, "00"))
                wait_for(lambda: waiting(server) == 2, "the other request")
            wait_for(lambda: waiting(server) == 1, "the first one to leave")
        assert first.result().ok
        assert other.result().ok
    assert server.get("/spans").json() == []
    assert "a span could not" not in server.log()


def test_spans_of_the_first_requests_of_a_call(server: Nginx, gate: Gate):
    server.get("/clear")
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        with gate:
            first = pool.submit(server.post, "/logged", rows_of(0))
            wait_for(lambda: running(server) == 1, "the first call")
            for number in range(66):
                stack.enter_context(server.connection()).sendall(raw_request(number % 9 + 1))
            wait_for(lambda: waiting(server) == 66, "the others to wait")
        assert first.result().ok
        found = spans_of(
            server,
            *["webtorch.queue"] * 64,
            *["webtorch.run", "inner"],
            *["webtorch.encode"] * 66,
        )
    (run,) = (each for each in found if each["name"] == "webtorch.run")
    assert len(run["links"]) == 64
    assert run["attributes"]["webtorch.batch.requests"] == 66


def raw_request(number: int) -> bytes:
    """Write a request with a trace for the function that logs."""
    header = parent(number)["traceparent"]
    body = json.dumps(rows_of(1))
    return (
        f"POST /logged HTTP/1.0\r\ntraceparent: {header}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def waiting(server: Nginx) -> int:
    """Return the requests of the function that wait."""
    return handler_of(server)["waiting"]


def running(server: Nginx) -> int:
    """Return the requests of the function that run."""
    return handler_of(server)["running"]


def handler_of(server: Nginx) -> Any:
    """Return what the status has of the function that logs."""
    found = server.get("/status?format=json").json()["handlers"]
    return next(each for each in found if each["name"] == "app:logged")


def test_spans_that_a_processor_fails(server: Nginx):
    server.expected_in_log.append("ValueError: of a processor")
    server.get("/clear")
    assert server.get("/processed", headers=parent(7)).json() == ["no end", "webtorch.run"]
    found = spans_of(
        server, *["no end"] * 3, *["webtorch.queue", "webtorch.run", "after", "webtorch.encode"]
    )
    run, after = (
        next(each for each in found if each["name"] == name) for name in ("webtorch.run", "after")
    )
    assert after["parent"] == run["context"]
    assert "a span could not begin" in server.log()
    assert "a span could not end" in server.log()


def test_spans_of_a_failed_call(server: Nginx):
    server.expected_in_log.append("ValueError: broken")
    server.get("/clear")
    assert server.get("/broken", headers=parent(5)).status_code == 500
    _, run, outer = spans_of(server, "webtorch.queue", "webtorch.run", "outer")
    assert run["error"]
    assert outer["error"]
    assert run["attributes"]["webtorch.status"] == 500
