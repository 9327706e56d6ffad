"""`webtorch check`, `webtorch run`: configurations, and applications."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from nginx import BINARY, DEADLINE, MODULE, free_port, release_port, wait_for
from webtorch.cli._main_directives import main_directives

APP = """
import webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x
"""

CONF = """
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    webtorch_path .;
    server {
        listen 127.0.0.1:PORT;
        location = /double { webtorch_handler app:double; }
    }
}
"""


def command(name: str, *arguments: str) -> list[str]:
    nginx = ["--nginx", BINARY.path, *(["--module", str(MODULE)] if BINARY.load_module else [])]
    return [sys.executable, "-m", "webtorch", name, *arguments, *nginx]


@pytest.fixture
def conf(tmp_path: Path):
    port = free_port()
    (tmp_path / "app.py").write_text(APP)
    path = tmp_path / "nginx.conf"
    # pytest's directory is closed to nobody, who would run the workers of root
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(user + CONF.replace("PORT", str(port)))
    yield path
    release_port(port)


def check(conf: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        command("check", *arguments),
        capture_output=True,
        text=True,
        cwd=conf.parent,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_check_application(conf):
    status, output = check(conf, "app.py")
    assert status == 0
    assert "infer double (x: float32 [batch, 2]) -> float32 [batch, 2]\n" in output


def test_check_handler_that_cannot_be_served(conf):
    handler = "\n@webtorch.handler\ndef item(request, id):\n    return id\n"
    (conf.parent / "app.py").write_text(APP + handler)
    status, output = check(conf, "app.py")
    assert status == 1
    assert 'nothing fills its parameter "id"' in output
    line = len(APP.splitlines()) + 2
    assert f'File "{conf.parent}/app.py", line {line}, in item\n' in output


def test_check_functions_that_cannot_be_called(conf):
    (conf.parent / "app.py").write_text(APP.replace("def double", "async def double"))
    status, output = check(conf, "app.py")
    assert status == 1
    assert 'it is a coroutine ("async def") of tensors, which is not supported' in output

    (conf.parent / "app.py").write_text(APP.replace("@webtorch", "@webtorch.handler\n@webtorch"))
    status, output = check(conf, "app.py")
    assert status == 1
    assert "double is under a decorator of webtorch already" in output


def test_check_broken_configuration(conf):
    valid = conf.read_text()
    conf.write_text(valid.replace("app:double", "app:triple"))
    status, output = check(conf, "nginx.conf", "-p", ".")
    assert status == 1
    assert 'has no function "triple"' in output
    assert f"{conf}:" in output

    wrapped = "import functools\ntriple = functools.wraps(double)(lambda x: x)\n"
    (conf.parent / "app.py").write_text(APP + wrapped)
    status, output = check(conf, "nginx.conf", "-p", ".")
    assert status == 1
    assert '"triple" has another decorator above that of webtorch' in output

    conf.write_text(valid.replace("app:double", "app:double resume=3s"))
    status, output = check(conf, "nginx.conf", "-p", ".")
    assert status == 1
    assert '"resume=" is for functions under @webtorch.stream' in output
    assert output.count("app.py, line") == 1


def test_check_configuration_that_loads_the_module(conf):
    text = conf.read_text()
    # a comment does not load it
    conf.write_text(f"#load_module modules/{MODULE.name};\n{text}")
    status, output = check(conf, "nginx.conf", "-p", ".")
    assert status == 0, output

    # an included file does, as in Debian
    enabled = conf.parent / "enabled"
    enabled.mkdir()
    (enabled / "50-webtorch.conf").write_text(f"# modules\n{BINARY.load_module}\n")
    conf.write_text(f"include enabled/*.conf;\n{text}")
    status, output = check(conf, "nginx.conf", "-p", ".")
    assert status == 0, output


def test_main_directives(tmp_path):
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        'user "a b"; # load_module c.so;\n'
        "include parts/*.conf;\n"
        'http { load_module no.so; server { set $x "}"; location ~ \\{ { return 200 ${a}b; } } }\n'
        "pid a#b; include conf.d/missing.conf; include nginx.conf;\n"
        "daemon off"
        ";"
    )
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "b.conf").write_text("load_module 'b.so';")
    (parts / "a.conf").write_text("load_module a.so; include parts/deep/c.conf;")
    (parts / "deep").mkdir()
    (parts / "deep/c.conf").write_text("env X;")
    expected = [
        ["user", "a b"],
        ["load_module", "a.so"],
        ["env", "X"],
        ["load_module", "b.so"],
        ["pid", "a#b"],
    ]
    assert [*main_directives(conf, depth=0)] == [
        ["user", "a b"],
        ["include", "parts/*.conf"],
        ["pid", "a#b"],
        ["include", "conf.d/missing.conf"],
        ["include", "nginx.conf"],
        ["daemon", "off"],
    ]
    found = [*main_directives(conf)]
    assert found[:5] == expected
    assert found[-1] == ["daemon", "off"]
    assert [*main_directives(tmp_path / "missing.conf")] == []

    # as glob(3) has it
    conf.write_text("include parts/**.conf; include /; include parts/[; include ; include '';")
    (parts / ".hidden.conf").write_text("env HIDDEN;")
    assert [*main_directives(conf)] == [*expected[1:4], ["include"]]


def test_run_configuration_with_daemon_off(conf):
    conf.write_text(f"daemon off;\n{conf.read_text()}")
    _run_and_stop(conf)


def test_run_configuration(conf):
    status, output = check(conf, "nginx.conf", "-p", ".")
    assert status == 0, output
    assert "test is successful" in output
    _run_and_stop(conf)


def _run_and_stop(conf: Path) -> None:
    port = int(conf.read_text().partition("127.0.0.1:")[2].partition(";")[0])
    process = subprocess.Popen(command("run", "-p", "."), cwd=conf.parent)
    try:

        def answer() -> requests.Response | None:
            assert process.poll() is None
            try:
                return requests.post(
                    f"http://127.0.0.1:{port}/double", json=[[1, 2]], timeout=DEADLINE
                )
            except requests.ConnectionError:
                return None

        assert wait_for(answer, "nginx to answer").json() == [[2, 4]]
        os.kill(process.pid, signal.SIGQUIT)
        assert process.wait(DEADLINE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
