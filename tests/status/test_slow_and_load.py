"""Calls that take long in the error log, load reports, and the drain of a server."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gate import GATE_APP, GATE_SERVER, Gate, rows_of
from nginx import Nginx, free_port, wait_for

APP = (
    GATE_APP
    + """
import asyncio, time
from pathlib import Path

log = Path(__file__).parents[1] / "error.log"

def wait_for_log(text):
    end = time.monotonic() + 120
    while text not in log.read_text(errors="replace") and time.monotonic() < end:
        time.sleep(0.01)

@webtorch.infer
def blocks(x: Float64[Tensor, "batch length"]) -> Float64[Tensor, "batch length"]:
    # of its stack, which is written after the message
    wait_for_log(" in blocks\\n")
    return x

async def inner():
    while not gate.is_set():
        await asyncio.sleep(0.01)

@webtorch.handler
async def awaits(request):
    await inner()

@webtorch.handler
async def blocks_loop(request):
    wait_for_log(" in blocks_loop\\n")

@webtorch.handler
def broken(request): raise webtorch.HTTPError(503, "broken")
"""
)

BACKEND = free_port()

HTTP = f"""
    webtorch_slow 30ms;
    webtorch_load_report on;
    upstream loaded {{ webtorch_balancer; server 127.0.0.1:{BACKEND}; }}
    upstream idle {{ webtorch_balancer; server 127.0.0.1:{BACKEND}; }}
    map $http_endpoint_load_metrics_format $load {{
        TEXT "TEXT cpu_utilization=0.5, named_metrics.requests_waiting=50";
    }}
    server {{
        listen 127.0.0.1:{BACKEND};
        webtorch_load_report off;
        location / {{ add_header endpoint-load-metrics $load; return 200 "served"; }}
    }}
"""

SERVER = (
    GATE_SERVER
    + """
    location = /gated { webtorch_handler app:gated mode=thread max_batch=1; }
    location = /request { webtorch_handler app:gated_request; webtorch_slow off; }
    location = /blocks { webtorch_handler app:blocks mode=inline; }
    location = /awaits { webtorch_handler app:awaits; }
    location = /blocks_loop { webtorch_handler app:blocks_loop; }
    location = /broken { webtorch_handler app:broken; }
    location = /affine { webtorch_handler app:affine; }
    location = /off { webtorch_handler app:affine; webtorch_load_report off; }
    location = /behind {
        proxy_set_header endpoint-load-metrics-format TEXT;
        proxy_hide_header endpoint-load-metrics;
        add_header Score $webtorch_upstream_score;
        proxy_pass http://loaded;
    }
    location = /not_asked {
        add_header Score $webtorch_upstream_score;
        proxy_pass http://idle;
    }
"""
)

ASKS = "endpoint-load-metrics-format"
REPORT = "endpoint-load-metrics"


def slow_of(server: Nginx, name: str) -> tuple[str, str]:
    """Wait for the message about a slow call; return it and the stack after it."""
    found = server.wait_for_log(
        rf'\[warn\] .*handler "app:{name}" is slow: (.*)\n((?:.*\n)*?.*File "[^\n]*\n)'
    )
    return found[1], found[2]


def test_slow_call_of_a_thread(server: Nginx, gate: Gate):
    with ThreadPoolExecutor(2) as pool, gate:
        slow = pool.submit(server.post, "/gated", rows_of(1, 2, 3))
        other = pool.submit(server.post, "/request", data=b"abc")
        message, _ = slow_of(server, "gated")
        assert re.match(
            r"its call runs for \d+ ms with 3 rows of 1 requests, 24 bytes; the stack", message
        )
        # the thread waits in the lock of the gate, called from the function
        server.wait_for_log(r"Stack \(most recent call first\):\n(  File .*\n)*?.*in gated\n")
        gate.wait_for_calls(2)
        gate.open()
        assert slow.result().ok
        assert other.result().ok
    assert '"app:gated_request" is slow' not in server.log()


def test_slow_call_of_the_event_loop(server: Nginx):
    assert server.post("/blocks", [[1.0, 2.0]]).ok
    message, _ = slow_of(server, "blocks")
    assert "1 rows of 1 requests, 16 bytes, length 2;" in message
    server.wait_for_log(r"in wait_for_log\n.*in blocks\n")


def test_slow_coroutine(server: Nginx, gate: Gate):
    with ThreadPoolExecutor(1) as pool, gate:
        slow = pool.submit(server.get, "/awaits")
        server.wait_for_log(r'handler "app:awaits" is slow: its coroutine runs for 30 ms')
        server.wait_for_log(r"in inner: await asyncio.sleep\(0.01\)\n.*in awaits: await inner\(\)")
        gate.open()
        assert slow.result().ok


def test_slow_coroutine_that_blocks(server: Nginx):
    assert server.get("/blocks_loop").ok
    server.wait_for_log(r"in wait_for_log\n.*in blocks_loop\n")


@pytest.mark.parametrize("value", ["0", "never", "-1s"])
def test_slow_times_that_are_refused(configured: Any, value: str):
    server = configured(http=f"webtorch_slow {value};")
    status, output = server.check()
    assert status != 0
    assert 'needs a time above 0, or "off"' in output


# --- load reports ---


def numbers_of(text: str) -> dict[str, float]:
    """Read a report in text."""
    kind, _, pairs = text.partition(" ")
    assert kind == "TEXT"
    return {name: float(value) for name, value in (pair.split("=") for pair in pairs.split(", "))}


def test_load_report_in_both_formats(server: Nginx, gate: Gate):
    with ThreadPoolExecutor(3) as pool, gate:
        calls = [pool.submit(server.post, "/gated", rows_of(1)) for _ in range(3)]

        def report() -> dict[str, float] | None:
            answer = server.post("/affine", rows_of(1), headers={ASKS: "text"})
            found = numbers_of(answer.headers[REPORT])
            waits = found["named_metrics.requests_waiting"]
            # the request itself may be counted, too
            return found if waits >= 2 and found["named_metrics.requests_running"] >= 1 else None

        found = wait_for(report, "the report of requests that wait")
        assert list(found) == [
            "cpu_utilization",
            "application_utilization",
            "rps_fractional",
            "eps",
            "named_metrics.rows_per_second",
            "named_metrics.requests_waiting",
            "named_metrics.requests_running",
        ]
        gate.open()
        assert all(call.result().ok for call in calls)

    def rates() -> dict[str, Any] | None:
        assert server.get("/broken").status_code == 503
        answer = server.get("/broken", headers={ASKS: "JSON"})
        kind, _, text = answer.headers[REPORT].partition(" ")
        assert kind == "JSON"
        read: dict[str, Any] = json.loads(text)
        return read if read["eps"] > 0 else None

    read = wait_for(rates, "a rate of errors")
    assert read["rps_fractional"] >= read["eps"]
    assert read["cpu_utilization"] >= 0
    assert read["application_utilization"] >= 0
    assert read["named_metrics"]["requests_running"] == 0


def test_load_report_of_those_who_ask(server: Nginx):
    assert REPORT not in server.post("/affine", rows_of(1)).headers
    assert REPORT not in server.post("/affine", rows_of(1), headers={ASKS: "BIN"}).headers
    assert REPORT not in server.post("/off", rows_of(1), headers={ASKS: "TEXT"}).headers


def test_load_report_is_read_by_a_balancer(server: Nginx):
    def cost(path: str) -> float:
        answer = server.get(path)
        assert answer.ok
        # the client of the balancer does not see it
        assert REPORT not in answer.headers
        return float(answer.headers["Score"])

    # the same server, which reports requests that wait if it is asked to
    wait_for(lambda: cost("/behind") > 3 * cost("/not_asked") > 0, "the cost of what waits")


# --- drain ---


def test_drain_of_all_workers_over_a_reload(start: Any):
    server = start(
        """
        location /control { webtorch_control; }
        location = /readyz { webtorch_health ready; }
        location = /livez { webtorch_health live; }
        location = /status { webtorch_status; }
        location = /affine { webtorch_handler app:affine; }
        location /v2 { webtorch_inference_protocol; }
        """,
        GATE_APP,
        workers=2,
    )

    def statuses(path: str) -> set[int]:
        # on connections of their own, which either worker accepts
        return {server.get(path).status_code for _ in range(8)}

    assert statuses("/readyz") == {200}
    assert server.get("/control/drain").json() == {"drained": False}
    assert server.post("/control/drain").json() == {"drained": True}
    server.wait_for_log(r"control: drain, by 127\.0\.0\.1")

    assert statuses("/readyz") == {503}
    assert "drained by an operator" in server.get("/readyz").text
    problems = server.get("/status?format=json").json()["problems"]
    assert problems[0] == "the server is drained by an operator"
    assert statuses("/v2/health/ready") == {400}
    assert statuses("/livez") == {200}
    assert all(server.post("/affine", rows_of(1)).json() == [[3.0]] for _ in range(8))

    server.reload()
    assert statuses("/readyz") == {503}
    assert server.get("/control/drain").json() == {"drained": True}
    assert server.request("PUT", "/control/drain").status_code == 405
    assert server.get("/control/undrain").headers["Allow"] == "POST"

    assert server.post("/control/undrain").json() == {"drained": False}
    assert statuses("/readyz") == {200}
    assert statuses("/v2/health/ready") == {200}
