"""webtorch_status: what all workers have counted, over kills and reloads, in each format."""

import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from answers import check_error
from backends import Backends, ask
from gate import GATE_APP
from nginx import Nginx, running, wait_for
from scrape import check_order, scrape, scrape_prometheus, value

APP = (
    GATE_APP
    + """
from jaxtyping import UInt8

@webtorch.infer
def score(bytes: UInt8[Tensor, "batch 64"]) -> Float64[Tensor, "batch"]:
    if (bytes == ord("~")).any():
        raise ValueError("no score for this")
    return torch.zeros(len(bytes), dtype=torch.float64)


@webtorch.stream
def echo(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    return x
"""
)

SERVER = """
location = /affine { webtorch_handler app:affine; }
location = /small { client_max_body_size 8; webtorch_handler app:affine; }
location = /gated { webtorch_handler app:gated mode=thread queue=2 timeout=60s; }
location = /late { webtorch_handler app:gated_request timeout=50ms; }
location = /control { webtorch_handler app:control mode=inline; }
location = /stream { webtorch_handler app:echo max_streams=1; }
location = /guarded { webtorch_access app:score; empty_gif; }
location = /logged { webtorch_log app:score; return 204; }
location = /status { webtorch_status; }
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Nginx]:
    with running(Nginx(SERVER, APP)) as nginx:
        yield nginx


def handler(server: Nginx, name: str, **labels: str) -> float:
    return value(scrape(server), name, **labels)


def pids(server: Nginx) -> list[float]:
    """Return those of workers that have gauges, sorted."""
    samples = scrape(server).items()
    return sorted(number for key, number in samples if key[0] == "webtorch_worker_pid")


def kill_worker(server: Nginx) -> None:
    """Kill one of two workers, and wait for another one."""
    old = set(server.workers())
    os.kill(min(old), signal.SIGKILL)
    wait_for(lambda: len(set(server.workers()) - old) == 1, "another worker")


def test_status_counts_over_kills_and_reloads():
    """Totals are what clients have counted, and no counter goes back."""
    nginx = Nginx(SERVER, APP, workers=2)
    nginx.expected_in_log.append("exited on signal 9")
    counted: Counter[int] = Counter()
    rows = 0
    with running(nginx):
        before = scrape(nginx)
        for step in range(4):
            with ThreadPoolExecutor(8) as pool:
                bodies = [[[1.0]] * (1 + n % 3) for n in range(40)] + ["nonsense"] * 5
                answers = pool.map(lambda body: nginx.post("/affine", body), bodies)
                counted.update(answer.status_code for answer in answers)
            rows += sum(map(len, bodies[:40]))

            def has_counted() -> bool:
                samples = scrape(nginx)
                return all(
                    value(samples, "webtorch_requests_total", handler="app:affine", code=str(code))
                    == number
                    for code, number in counted.items()
                )

            wait_for(has_counted, lambda: f"{counted} in {scrape(nginx)}")
            after = scrape(nginx)
            check_order(before, after)
            before = after
            if step == 0:
                kill_worker(nginx)
                wait_for(
                    lambda: value(scrape(nginx), "webtorch_workers") == 2, "the number of workers"
                )
            elif step == 1:
                nginx.reload()
            elif step == 2:
                nginx.configure(http="webtorch_zone models:4m;")
                nginx.reload()

        samples = scrape(nginx)
        served = counted[200]
        assert counted == {200: 160, 422: 20}
        for name, number in (("request", 180), ("queue", served), ("decode", served)):
            assert value(samples, f"webtorch_{name}_seconds_count") - number == 0, name
        assert value(samples, "webtorch_batch_rows_sum", handler="app:affine") == rows
        calls = value(samples, "webtorch_run_seconds_count", handler="app:affine")
        assert 0 < calls <= served
        assert value(samples, "webtorch_batch_rows_count", handler="app:affine") == calls
        assert value(samples, "webtorch_refused_total", reason="body") == 20
        assert value(samples, "webtorch_worker_crashes_total") == 1
        assert value(samples, "webtorch_reloads_total") == 2
        assert value(samples, "webtorch_zone_size_bytes") == 4 * 1024 * 1024
        wait_for(
            lambda: pids(nginx) == sorted(nginx.workers()),
            lambda: f"gauges of exited workers to vanish: {pids(nginx)}",
        )


def test_status_formats(server):
    """The argument, or the header Accept, chooses the format; both texts say the same."""
    server.post("/affine", [[1.0]])
    types = {
        "html": "text/html; charset=utf-8",
        "json": "application/json",
        "prometheus": "text/plain; version=0.0.4; charset=utf-8",
        "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }
    for name, kind in types.items():
        answer = server.get(f"/status?format={name}", headers={"Accept": "image/png"})
        assert answer.headers["Content-Type"] == kind
        assert server.request("HEAD", f"/status?format={name}").status_code == 200
    prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
    accepts = {
        "*/*": "html",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "html",
        "application/json": "json",
        "Text/Plain; q=0.5, application/json; q=0.4": "prometheus",
        f"{prometheus},*/*;q=0.1": "openmetrics",
        "image/png": "html",
        "text/plain;q=0": "html",
    }
    for accept, name in accepts.items():
        found = server.get("/status", headers={"Accept": accept}).headers
        assert found["Content-Type"] == types[name], accept
        assert "Accept" in found["Vary"]
    check_error(server.post("/status"), 405, "method_not_allowed", "Allow")
    assert server.post("/status").headers["Allow"] == "GET, HEAD"
    assert server.get("/status?format=xml").json()["code"] == "unknown_format"
    assert server.get("/status?scope=handlers,all").json()["code"] == "unknown_scope"

    plain = scrape_prometheus(server)
    openmetrics = scrape(server)
    assert {key for key in openmetrics if key[0] != "webtorch_worker_pid"} <= set(plain)
    only = scrape(server, "&scope=workers")
    assert {name.partition("_")[2].partition("_")[0] for name, _ in only} <= {
        "worker",
        "workers",
        "event",
    }
    named = scrape(server, "&metrics=webtorch_requests_total,webtorch_workers")
    assert {name for name, _ in named} == {"webtorch_requests_total", "webtorch_workers"}
    without = scrape(server, "&metrics=-webtorch_requests,-webtorch_workers")
    assert {name for name, _ in openmetrics} - {name for name, _ in without} == {
        "webtorch_requests_total",
        "webtorch_workers",
    }

    found = server.get("/status?format=json").json()
    names = {entry["name"] for entry in found["handlers"]}
    assert {"app:affine", "app:gated", "app:score", "app:echo"} <= names
    assert set(server.get("/status?format=json&scope=models").json()) == {
        "time",
        "problems",
        "models",
    }


def test_status_gauges_and_refusals(server):
    """Requests that wait and run, and why others got no answer."""

    def gauge(name: str) -> float:
        return handler(server, f"webtorch_requests_{name}", handler="app:gated")

    def refused(reason: str) -> float:
        return handler(server, "webtorch_refused_total", reason=reason)

    server.get("/control?shut")
    threads = []
    for count, (running_now, waiting) in enumerate(((1, 0), (1, 1))):
        threads.append(threading.Thread(target=server.post, args=("/gated", [[float(count)]])))
        threads[-1].start()
        wait_for(
            lambda r=running_now, w=waiting: (gauge("running"), gauge("waiting")) == (r, w),
            lambda: server.get("/status?format=json&scope=handlers").text,
        )
    assert server.post("/gated", [[9.0]]).status_code == 503
    assert refused("queue") == 1
    problems = server.get("/status?format=json").json()["problems"]
    assert any(text.startswith("queue of app:gated is full since ") for text in problems)
    assert server.post("/late", data=b"a").status_code == 504
    assert refused("timeout") == 1
    server.get("/control?open")
    for thread in threads:
        thread.join()
    wait_for(lambda: (gauge("running"), gauge("waiting")) == (0, 0), "the queue to be empty")

    # nginx answers before the handler
    assert server.post("/small", [[1.0, 2.0, 3.0]]).status_code == 413
    wait_for(
        lambda: handler(server, "webtorch_requests_total", handler="app:affine", code="413") == 1,
        "the code",
    )
    modes = {
        dict(labels)["mode"]: number
        for (name, labels), number in scrape(server).items()
        if name == "webtorch_handler_mode" and dict(labels)["handler"] == "app:gated"
    }
    assert modes == {"inline": 0, "thread": 1}
    sent = handler(server, "webtorch_sent_bytes_total", handler="app:affine")
    received = handler(server, "webtorch_received_bytes_total", handler="app:affine")
    answer = server.post("/affine", [[1.0]])
    size = len(answer.request.body or "")
    wait_for(
        lambda: (
            handler(server, "webtorch_sent_bytes_total", handler="app:affine") - sent
            > len(answer.content)
            and handler(server, "webtorch_received_bytes_total", handler="app:affine") - received
            > size
        ),
        "the bytes",
    )


def test_status_of_phases_and_streams(server):
    """Functions of phases are counted by what became of their rows, streams while they are open."""
    for path, count in (("/guarded", 3), ("/logged", 2), ("/guarded?~", 1)):
        for _ in range(count):
            assert server.get(path).ok

    def codes() -> list[float]:
        samples = scrape(server)
        return [
            value(samples, "webtorch_requests_total", handler="app:score", code=code)
            for code in ("200", "500")
        ]

    wait_for(lambda: codes() == [5, 1], lambda: str(codes()))

    head = b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
    with server.connection() as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n8\r\n[[1.0]]\n\r\n")
        wait_for(lambda: handler(server, "webtorch_streams_open") == 1, "the stream")
        refused = server.post("/stream", data=b"[1.0]\n")
        assert refused.json()["code"] == "too_many_streams"
        assert handler(server, "webtorch_refused_total", reason="max_streams") == 1
        connection.shutdown(socket.SHUT_WR)
    wait_for(lambda: handler(server, "webtorch_streams_open") == 0, "the end of the stream")
    assert handler(server, "webtorch_streams_opened_total") == 1


def test_status_of_balancers():
    """Picks are what servers got; one that fails is ejected."""
    backends = Backends(2)
    servers = "".join(f"server 127.0.0.1:{one.port};" for one in backends)
    nginx = Nginx(
        "location / { proxy_pass http://group; } location = /status { webtorch_status; }",
        http=f"upstream group {{ webtorch_balancer; {servers} }}",
    )
    with running(nginx):
        ask(nginx, 20)
        samples = scrape(nginx)
        for one in backends:
            labels = {"upstream": "group", "server": f"127.0.0.1:{one.port}"}
            assert value(samples, "webtorch_balancer_picks_total", **labels) == one.total
            assert value(samples, "webtorch_balancer_in_flight", **labels) == 0
        assert value(samples, "webtorch_balancer_picks_total") == 20
        backends[0].status = 500
        failing = {"server": f"127.0.0.1:{backends[0].port}"}

        def is_ejected() -> bool:
            ask(nginx, 8)
            return value(scrape(nginx), "webtorch_balancer_ejections_total", **failing) >= 1

        wait_for(is_ejected, "an ejection")
        samples = scrape(nginx)
        assert value(samples, "webtorch_balancer_error_ratio", **failing) > 0
        assert value(samples, "webtorch_balancer_service_seconds", **failing) > 0


def test_webtorch_metrics_off():
    nginx = Nginx(SERVER, APP, http="webtorch_metrics off;")
    with running(nginx):
        assert nginx.post("/affine", [[1.0]]).json() == [[3.0]]
        assert value(scrape(nginx), "webtorch_requests_total") == 0
        found = json.loads(nginx.get("/status?format=json").text)
        assert found["handlers"] == []
        assert "nothing is counted" in found["problems"][0]
