"""`webtorch status`: what it shows of a server, once and on a terminal."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from copy import deepcopy
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nginx import DEADLINE, wait_for
from webtorch.cli import cli
from webtorch.cli._status_report import Report

APP = """
import torch, webtorch
from jaxtyping import Float32
from torch import Tensor, nn, optim

model = webtorch.Model("line", nn.Linear(1, 1), lambda p: optim.SGD(p, lr=0.1))

@webtorch.infer
def output(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    if (x == 500).any():
        raise ValueError("on purpose")
    return model(x)

@webtorch.train
def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    found = model(x)
    with webtorch.stage("loss"):
        model.step(found.square().mean())
    return found
"""

SERVER = """
location = /output { webtorch_handler app:output; }
location = /train { webtorch_handler app:train; }
location = /status { webtorch_status; }
location = /other { return 200 "[]"; }
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["status", *arguments], prog_name="webtorch")


def found(server: Any) -> dict[str, Any]:
    answer: dict[str, Any] = server.get("/status?format=json").json()
    return answer


def row(lines: list[str], name: str) -> dict[str, str]:
    """Return a row of a table by its titles."""
    index = next(i for i, line in enumerate(lines) if line.split("  ")[0] == name)
    head = next(line for line in reversed(lines[:index]) if line.isupper() and line[0].isalpha())
    cells = re.split("  +", lines[index])
    return dict(zip(re.split("  +", head), cells, strict=True))


def test_status_printed_once(server):
    for _ in range(4):
        assert server.post("/train", [[1.0], [2.0]]).ok
    assert server.post("/output", [[1.0]]).ok
    wait_for(lambda: found(server)["handlers"][1]["requests"], "counts")
    done = run(server.url(""))
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "nothing is wrong"
    assert re.match(r"WebTorch \S+, nginx \S+, 1 workers, counts since ", lines[2])
    train = row(lines, "app:train")
    assert (train["REQUESTS"], train["ERRORS"], train["ROWS/CALL"]) == ("4", "0", "2")
    assert all(re.fullmatch(r"[\d.]+ (us|ms|s)", train[name]) for name in ("P50", "P99"))
    model = row(lines, "line")
    assert (model["STEPS"], model["WORKERS"], model["CHECKPOINT"]) == ("4", "1", "-")
    assert float(model["LOSS"]) >= 0
    assert row(lines, "loss")["CALLS"] == "4"
    assert row(lines, "0")["PID"] == str(server.workers()[0])
    assert "\x1b" not in done.output

    done = run(server.url("/status"), "--json")
    assert done.exit_code == 0 and json.loads(done.output).keys() == found(server).keys()
    assert done.output.count("\n") == 1


def test_status_failures(server):
    for url, message in (
        (server.url("/other"), "this is no answer of webtorch_status"),
        (server.url("/nothing"), "answered 404: is webtorch_status there?"),
        ("http://127.0.0.1:1", "refused"),
        ("gopher://127.0.0.1", "is not an address of http or https"),
    ):
        done = run(url)
        assert done.exit_code == 1 and message in done.output, done.output


def test_status_rates_are_those_since_the_answer_before(server):
    before = found(server)
    now = deepcopy(before)
    now["time"] += 2000
    one = now["handlers"][0]
    one["requests"] = {"200": before["handlers"][0]["requests"].get("200", 0) + 100, "500": 3}
    one["request"]["buckets"][5] += 103
    one["request"]["count"] += 103
    one["rows"] |= {"count": one["rows"]["count"] + 10, "sum": one["rows"]["sum"] + 95}
    report = Report(now, before)
    failed = before["handlers"][0]["requests"].get("500", 0)
    assert report.problems == [
        f"{one['name']} has answered {3 - failed} requests with an error just now"
    ]
    lines = report.lines()
    assert lines[0] == f"! {report.problems[0]}"
    cells = row(lines, one["name"])
    assert (cells["REQ/S"], cells["ROWS/CALL"]) == ("51.5", "9.5")
    # an upper bound of the bucket
    assert cells["P50"] == cells["P99"] == f"{now['server']['bounds'][5] * 1e3:g} ms"

    # nginx was started again
    now["server"]["started"] += 1
    assert Report(now, before).problems == []


def test_servers_that_are_ejected(server):
    states = {"a:1": (False, False), "b:1": (True, False), "c:1": (False, True)}
    servers = [
        {"name": name, "picks": 1, "in_flight": 0, "service": None, "error": None}
        | {"ejected": ejected, "out": out}
        for name, (ejected, out) in states.items()
    ]
    lines = Report(found(server) | {"balancers": [{"name": "u", "servers": servers}]}).lines()
    ends = {words[1]: line for line in lines if (words := line.split()) and words[0] == "u"}
    assert [*ends] == [*states]
    assert [re.split("  +", line)[-1] for line in ends.values()] == ["no", "yes", "by an operator"]


def test_answers_cannot_control_the_terminal(server):
    wrong = found(server) | {"problems": ["queue \x1b]52;c;AAAA\x07 is full\nnothing is wrong"]}
    lines = Report(wrong).lines()
    assert lines[0] == "! queue ?]52;c;AAAA? is full?nothing is wrong"


def test_status_of_a_server_with_problems(server, monkeypatch):
    wrong = found(server) | {"problems": ["queue of app:output is full since 3 s"]}
    monkeypatch.setattr("webtorch.cli._status._Source.read", lambda source: wrong)
    for option in ("--once", "--json"):
        done = run(server.url(""), option)
        assert done.exit_code == 3, done.output
        assert "queue of app:output is full since 3 s" in done.output
    assert run("--once").output.startswith("! queue of app:output is full")
    # webtorch_metrics off
    wrong |= {"server": wrong["server"] | {"started": 0}}
    assert "counts since" not in run("--once").output


def take_terminal() -> None:
    """Let Ctrl-C reach this process, also if the tests themselves ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("end", [b"q", b"\x03"], ids=["q", "interrupt"])
def test_status_on_a_terminal(server, end):
    own, its = pty.openpty()
    command = [sys.executable, "-m", "webtorch", "status", server.url(""), "-n", "0.1"]
    process = subprocess.Popen(
        command,
        stdin=its,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "", "COLUMNS": "200", "LINES": "50"},
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(its)
    shown = bytearray()

    def read() -> None:
        shown.extend(os.read(own, 65536))

    def has(text: str) -> bool:
        read()
        return text in shown.decode(errors="replace")

    try:
        wait_for(lambda: has("q ends"), lambda: f"the page in {shown!r}")
        assert "\x1b[?1049h" in shown.decode() and "\x1b[32mnothing is wrong" in shown.decode()
        server.expected_in_log.append("on purpose")
        assert server.post("/output", [[500.0]]).status_code == 500
        wait_for(lambda: has("requests with an error just now"), lambda: f"errors in {shown!r}")
        os.write(own, end)
        with pytest.raises(OSError):
            while True:
                read()
        assert process.wait(DEADLINE) == 0
        # the cursor and the screen are as before
        assert shown.endswith(b"\x1b[?25h\x1b[?1049l")
    finally:
        process.kill()
        process.wait()
        os.close(own)
