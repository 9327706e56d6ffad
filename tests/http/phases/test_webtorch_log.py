"""The directive webtorch_log: finished requests as rows, which nobody waits for."""

import math
import re
import signal

import pytest

from gate import GATE_APP, GATE_SERVER, Gate
from nginx import wait_for
from webtorch import features
from wire import connections, request, settle

APP = (
    GATE_APP
    + '''
from jaxtyping import Float32, UInt8

rows: list = []


@webtorch.infer
def note(
    bytes: UInt8[Tensor, "batch 64"],
    outcome: Float32[Tensor, "batch 13"],
    id: UInt8[Tensor, "batch 16"],
) -> Float32[Tensor, "batch 13"]:
    """Note the rows of a call, behind the gate."""
    texts = [row.numpy().tobytes().rstrip(b"\\0").decode("latin-1") for row in bytes]
    ids = [row.numpy().tobytes().hex() for row in id]
    rows.append(list(zip(texts, outcome.tolist(), ids)))
    gate.wait()
    return outcome


@webtorch.infer
def fail(outcome: Float32[Tensor, "batch 13"]) -> Float32[Tensor, "batch 12"]:
    raise ValueError("always")


@webtorch.infer
def score(request: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return torch.full((len(request), 1), 0.75)


@webtorch.handler
def noted(request: webtorch.Request) -> dict:
    return {"rows": rows}
'''
)

MODEL = '''
from torch import nn, optim

model = webtorch.Model(
    "counter", nn.Linear(1, 1), optimizer=lambda params: optim.SGD(params, lr=0.5)
)

@webtorch.train
def learn(outcome: Float32[Tensor, "batch 13"]) -> Float32[Tensor, "batch 1"]:
    """Learn the share of answers 404."""
    found = model(torch.ones(len(outcome), 1))
    model.step(((found - outcome[:, 2:3]) ** 2).mean())
    return found.detach()

@webtorch.handler
def learned(request: webtorch.Request) -> dict:
    return {"share": model(torch.ones(1, 1)).item()}
'''

SERVER = (
    GATE_SERVER
    + """
location = /noted { webtorch_handler app:noted; }
location /log/ {
    webtorch_log app:note max_delay=0 body=1k;
    add_header Id $request_id always;
    return 404;
    location /log/ok { empty_gif; }
    location /log/off { webtorch_log off; empty_gif; }
    location /log/proxy { proxy_pass http://127.0.0.1:$server_port/alive; }
    location /log/deny { webtorch_access app:score; empty_gif; }
    location /log/dry { webtorch_access app:score dry_run threshold=0.5; empty_gif; }
    location /log/allow { webtorch_access app:score threshold=0.9; empty_gif; }
    location /log/redirect { try_files /nothing /log/ok; }
}
location /delay { webtorch_log app:note mode=inline max_delay=5s; empty_gif; }
location /three { webtorch_log app:note mode=thread max_batch=3 max_delay=10s; empty_gif; }
location /queue { webtorch_log app:note mode=thread queue=4 max_delay=0; empty_gif; }
location /fail { webtorch_log app:fail; empty_gif; }
"""
)


def rows_of(server, count=1):
    """Wait for so many rows, and return them."""

    def all_rows():
        rows = sum(server.get("/noted").json()["rows"], [])
        return rows if len(rows) >= count else None

    return [
        (text, dict(zip(features.OUTCOME, outcome, strict=True)), id)
        for text, outcome, id in wait_for(all_rows, f"{count} rows")
    ]


def test_outcomes(start):
    server = start(SERVER, APP)
    paths = ["x?q", "ok", "off", "proxy", "deny", "dry", "allow", "redirect"]
    answers = [server.get(f"/log/{path}") for path in paths]
    rows = rows_of(server, len(paths) - 1)
    assert len(rows) == len(paths) - 1
    found = {text.partition("\x1d")[0].removeprefix("/log/"): row for text, row, _ in rows}
    statuses = {
        path: [f"status_{n}xx" for n in range(2, 6) if row[f"status_{n}xx"]]
        for path, row in found.items()
    }
    assert statuses == {
        "x": ["status_4xx"],
        "ok": ["status_2xx"],
        "proxy": ["status_2xx"],
        "deny": ["status_4xx"],
        "dry": ["status_2xx"],
        "allow": ["status_2xx"],
        "redirect": ["status_2xx"],
    }
    assert [path for path, row in found.items() if row["upstream"]] == ["proxy"]
    assert {path for path, row in found.items() if row["denied"]} == {"deny", "dry"}
    assert {path for path, row in found.items() if row["scored"]} == {"deny", "dry", "allow"}
    assert {row["score"] for row in found.values()} == {0, 0.75}
    assert all(math.expm1(row["sent"]) > 100 for row in found.values())
    assert rows[0][2] == answers[0].headers["Id"]
    assert rows[0][0] == "/log/x\x1dq\x1e"


def test_read_body_is_seen(start):
    server = start(SERVER, APP)
    assert server.post("/log/proxy", data=b"a%20body").ok
    assert rows_of(server)[0][0] == "/log/proxy\x1d\x1ea body"


def test_rows_wait_for_others(start):
    server = start(SERVER, APP)
    for _ in range(7):
        server.get("/three")
    calls = wait_for(
        lambda: [r for r in [server.get("/noted").json()["rows"]] if len(r) >= 2], "calls"
    )[0]
    assert [len(call) for call in calls] == [3, 3]


def test_overload_drops_rows_without_delay(start):
    server = start(SERVER, APP)
    gate = Gate(server)
    gate.shut()
    with connections(server, 1) as (wire,):
        for number in range(20):
            wire.send(request(f"/queue/{number}", method="GET"))
            assert wire.answer().status == 200
    server.wait_for_log('"app:note" has not scored a request: its queue is full')
    gate.open()
    settle(server)
    assert len(rows_of(server, 4)) == 4
    server.get("/queue/last")
    assert rows_of(server, 5)[-1][0].startswith("/queue/last")


def test_failures_are_logged(start):
    server = start(SERVER, APP)
    assert server.get("/fail").ok
    server.wait_for_log("ValueError: always")


def test_rows_train_a_model(start):
    server = start(
        "location = /learned { webtorch_handler app:learned; } location / { return 404; }",
        APP + MODEL,
        http="webtorch_log app:learn max_delay=0;",
    )
    before = server.get("/learned").json()["share"]

    def has_learned():
        assert server.get("/x").status_code == 404
        return abs(server.get("/learned").json()["share"] - before) > 0.01

    wait_for(has_learned, "steps")


def test_client_abort(start):
    server = start(
        GATE_SERVER
        + """
        location = /noted { webtorch_handler app:noted; }
        location = /gated { webtorch_handler app:gated_request mode=thread threads=1;
                            webtorch_log app:note mode=thread max_delay=0; }
        """,
        APP,
    )
    gate = Gate(server)
    gate.shut()
    with connections(server, 1) as (wire,):
        wire.send(request("/gated", method="POST"))
        gate.wait_for_calls(1)
        wire.reset()
    settle(server)
    gate.open()
    ((_, outcome, _),) = rows_of(server)
    assert outcome["aborted"] == outcome["status_4xx"] == 1


def test_graceful_quit_runs_waiting_rows(start):
    server = start(
        "location / { webtorch_log app:tell; empty_gif; }",
        APP
        + """
@webtorch.infer
def tell(bytes: UInt8[Tensor, "batch 64"]) -> UInt8[Tensor, "batch 64"]:
    import logging

    logging.warning("%d rows", len(bytes))
    return bytes
""",
    )
    server.get("/x")
    server.process.send_signal(signal.SIGQUIT)
    server.wait_for_log("1 rows")
    assert wait_for(lambda: server.process.poll() is not None, "nginx to quit")


@pytest.mark.parametrize(
    ("directive", "error"),
    [
        ("app:note body=17k", 'invalid parameter "body=17k"'),
        ("app:note threshold=1", 'invalid parameter "threshold=1"'),
        ("app", 'invalid handler "app"'),
        ("app:note; webtorch_log off", "is duplicate"),
        ("app:noted", "is a function of requests"),
    ],
)
def test_configuration_errors(reconfigured, directive, error):
    output = reconfigured(f"webtorch_log {directive};", APP).refuse()
    assert re.search(rf"\[emerg\].*{re.escape(error)}", output), output
