"""Parts of the command line that need no nginx."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from nginx import wait_for
from webtorch.cli import _load, cli
from webtorch.cli._configuration import ServeSettings, write
from webtorch.cli._discovery import Application
from webtorch.cli._errors import CommandError
from webtorch.cli._examples import curl, order
from webtorch.cli._functions import Function, Tensor
from webtorch.cli._nginx import Nginx
from webtorch.cli._serve import _Serving
from webtorch.cli._server import Server, find_port
from webtorch.cli._target import Target
from webtorch.cli._terminal import Terminal

URL = "http://127.0.0.1:8000/f"


def infer(*inputs: Tensor, batched: bool = True) -> Function:
    return Function("f", "infer", ("POST", "PUT"), batched, inputs, (Tensor("output", "bool", ()),))


def body_of(function: Function) -> object:
    """Return the document that the example sends."""
    command = curl(function, URL)
    assert "\n" not in command
    if "|" in command:
        program, command = command.split(" | ")
        assert shlex.split(command) == ["curl", "--json", "@-", URL]
        done = subprocess.run(program, shell=True, capture_output=True, check=True)
        return json.loads(done.stdout)
    (_, _, body, url) = shlex.split(command)
    assert url == URL
    return json.loads(body)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (infer(Tensor("x", "float32", (2,))), [[0.5, 0.5]]),
        (infer(Tensor("x", "float64", ()), batched=False), 0.5),
        (infer(Tensor("x", "int64", ("seq",))), [[1, 1, 1, 1]]),
        (infer(Tensor("x", "str", ()), Tensor("y", "bool", ())), {"x": ["text"], "y": [True]}),
        (infer(Tensor("x", "float32", (3, "height", 64))), [[[[0.5] * 64] * 32] * 3]),
        (
            infer(Tensor("x", "str", (300,)), Tensor("y", "uint8", (300, 1)), batched=False),
            {"x": ["text"] * 300, "y": [[1]] * 300},
        ),
    ],
    ids=["row", "scalar", "variable", "names", "image", "long names"],
)
def test_example_body(function, expected):
    assert body_of(function) == expected


def test_example_of_request_function():
    assert curl(Function("f", "handler", ("GET", "POST")), URL, ["-k"]) == f"curl -k {URL}"
    assert curl(Function("f", "handler", ("POST",)), URL) == f"curl --json '{{}}' {URL}"
    assert curl(Function("f", "handler", ("PUT",)), URL) == f"curl -X PUT --json '{{}}' {URL}"


def test_example_of_request_function_with_arguments():
    f = Function("f", "handler", ("GET", "POST"), query=(("q", "a b"), ("n", "1")))
    assert curl(f, URL) == f"curl '{URL}?q=a+b&n=1'"
    f = Function("f", "handler", ("GET", "PUT", "POST"), body='{"name": "text"}')
    assert curl(f, URL) == f"""curl --json '{{"name": "text"}}' {URL}"""
    assert Function.of_json(json.loads(json.dumps(f.to_json()))) == f


def test_example_order():
    page = Function("page", "handler", ("GET",))
    train = Function("train", "train", ("POST",))
    assert order([train, page, infer()]) == [infer(), page, train]


def test_find_application(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "package/inner"
    package.mkdir(parents=True)
    for file in ("package/__init__.py", "package/inner/__init__.py", "package/inner/serve.py"):
        (tmp_path / file).touch()
    (tmp_path / "main.py").touch()
    (tmp_path / "two-words.py").touch()
    assert Target.find(".") == Target(tmp_path, "main")
    assert Target.find("main.py") == Target(tmp_path, "main")
    assert Target.find("main") == Target(tmp_path, "main")
    assert Target.find("package/inner/serve.py") == Target(tmp_path, "package.inner.serve")
    assert Target.find("package.inner.serve") == Target(tmp_path, "package.inner.serve")
    assert Target.find("package/__init__.py") == Target(tmp_path, "package")
    for wrong in ("package", "other.py", "other", "two-words.py", "a b"):
        with pytest.raises(CommandError):
            Target.find(wrong)


def settings(**changes: object) -> ServeSettings:
    values: dict[str, object] = {
        "host": "127.0.0.1",
        "port": 8000,
        "workers": "1",
        "zone": "auto",
        "checkpoint": None,
        "preload": (),
        "max_body_size": "16m",
        "access_log": "off",
        "log_level": "warn",
        "certificate": None,
        "key": None,
    }
    return ServeSettings(**(values | changes))  # type: ignore[arg-type]


def conf(version: tuple[int, ...] = (1, 31, 5), state: int = 0, **changes: object) -> str:
    nginx = Nginx(("/usr/sbin/nginx",), version, Path("/m.so"), None)
    application = Application((infer(Tensor("x", "float32", (2,))),), state=state)
    return write(settings(**changes), Target(Path("/srv/my app"), "app"), application, nginx)


def test_configuration():
    text = conf()
    assert 'webtorch_path "/srv/my app";' in text
    assert "location = /f {\n            webtorch_handler app:f;" in text
    assert "webtorch_zone" not in text
    assert "webtorch_zone models:18m;" in conf(state=1 << 20)
    assert "webtorch_zone models:64m;" in conf(state=1 << 20, zone="64m")
    assert "webtorch_zone" not in conf(state=1 << 20, zone="off")
    checkpoint = conf(zone="off", checkpoint=Path("/var/lib/models"))
    assert "webtorch_zone models:16m;" in checkpoint
    assert "webtorch_checkpoint /var/lib/models;" in checkpoint
    assert "webtorch_preload torch numpy;" in conf(preload=("numpy",))
    assert "deny all;\n            webtorch_status;" in text
    own = Application((Function("status", "handler", ("GET",)),))
    nginx = Nginx(("/usr/sbin/nginx",), (1, 31, 5), Path("/m.so"), None)
    text = write(settings(), Target(Path("/srv"), "app"), own, nginx)
    assert "webtorch_status" not in text and text.count("location = /status") == 1


def test_configuration_of_many_functions():
    tensors = tuple(
        Tensor(f"input_{index}", "float32", ("\N{GREEK SMALL LETTER MU}" * 30, 2))
        for index in range(32)
    )
    functions = tuple(
        Function(f"f_{index}", "infer", ("POST",), True, tensors, tensors[:1])
        for index in range(100)
    )
    nginx = Nginx(("/usr/sbin/nginx",), (1, 31, 5), Path("/m.so"), None)
    target = Target(Path("/srv"), "app")
    text = write(settings(), target, Application(functions), nginx)
    assert max(len(line.encode()) for line in text.splitlines()) < 4096
    index = "".join(re.findall(r"set \$functions '(?:\$\{functions\})?(.*)';", text))
    assert json.loads(index) == {one.name: f"infer {one.signature()}" for one in functions}


def test_configuration_of_tls():
    text = conf(certificate=Path("/c.pem"), key=Path("/k.pem"), host="::")
    assert "listen [::]:8000 ssl;\n        http2 on;" in text
    assert "ssl_certificate_key /k.pem;" in text
    assert "listen 127.0.0.1:8000 ssl http2;" in conf((1, 22, 1), certificate=Path("/c.pem"))
    assert settings(certificate=Path("/c.pem"), host="::").url == "https://[::1]:8000"


HOLDER = """
import subprocess, sys
from webtorch.cli._server import Server
server = Server(None, None)
child = subprocess.Popen(["sleep", "1000"], pass_fds=[server._lock], stdout=subprocess.DEVNULL)
print(server.configuration.parent, child.pid, flush=True)
sys.stdin.read()
"""


def test_directories_of_killed_commands(tmp_path, monkeypatch):
    """They stay as long as a process of nginx uses them, or as they may be another one's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / "lock").touch()
    link = tmp_path / "webtorch-serve-link"
    link.symlink_to(other)
    fresh = tmp_path / "webtorch-serve-fresh"
    fresh.mkdir()

    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        for _ in range(2)
    ]
    found = [holder.stdout.readline().split() for holder in holders]
    running, killed = (Path(directory) for directory, _ in found)

    def left() -> set[Path]:
        with Server(None, None) as server:
            own = server.configuration.parent
            assert own.is_dir()
            return {*tmp_path.iterdir()} - {own, other, link, fresh}

    try:
        assert left() == {running, killed}
        holders[1].kill()
        holders[1].wait()
        # as if nginx was not yet gone
        assert left() == {running, killed}
        os.kill(int(found[1][1]), signal.SIGKILL)
        wait_for(lambda: left() == {running}, "the directory of the killed command to go")
        assert link.is_symlink() and fresh.is_dir() and (other / "lock").exists()
    finally:
        for holder, (_, child) in zip(holders, found, strict=True):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
            holder.kill()
            holder.communicate()
    # which a process may hold for a moment after it was killed
    wait_for(lambda: left() == set(), "the directory of the other command to go")


def test_port():
    assert find_port("127.0.0.1", 0) > 0
    with pytest.raises(CommandError, match=r"203\.0\.113\.1:0 \(.*\), see --host"):
        find_port("203.0.113.1", 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CommandError, match=f"127.0.0.1:{port} .*, see --port"):
            find_port("127.0.0.1", port)


def test_example_after_reload_with_a_certificate(capsys):
    class Stop(Exception):
        pass

    class Watcher:
        changes = iter([[Path("/srv/app.py")]])

        def wait(self):
            changed = next(self.changes, None)
            if changed is None:
                raise Stop
            return changed

        def watch(self, *_):
            pass

    page = Function("page", "handler", ("GET",))
    serving = _Serving(
        settings(certificate=Path("/c.pem")),
        Target(Path("/srv"), "app"),
        Nginx(("/usr/sbin/nginx",), (1, 31, 5), Path("/m.so"), None),
        Terminal(io.StringIO()),
        SimpleNamespace(read=lambda _: Application((page,))),
    )
    with pytest.raises(Stop):
        serving._follow(SimpleNamespace(reload=lambda _: True), Watcher(), Application())
    expected = "\nhandler /page GET\n  curl -k https://127.0.0.1:8000/page\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    "answer",
    ["nonsense", "HTTP/1.1 what", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size"],
    ids=["head", "status", "chunk"],
)
def test_connections_with_malformed_answers_are_closed(monkeypatch, answer):
    class Malformed(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(4096):
                self.request.sendall(f"{answer}\r\n\r\n".encode())
                self.request.recv(4096)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Malformed)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        client = _load.Client(_load.LoadTarget(url, "POST", {}, b"[]"), 2)
        connect = client._connect
        writers = []

        async def note():
            reader, writer = await connect()
            writers.append(writer)
            return reader, writer

        monkeypatch.setattr(client, "_connect", note)
        # the time is over when two connections are broken, however long that takes
        monkeypatch.setattr(_load.time, "perf_counter", lambda: float(client.result.broken > 1))
        result = client.run(0.5, lambda result: None)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert result.requests == 0 and result.broken > 1
    assert len(writers) > 1 and all(writer.is_closing() for writer in writers)


@pytest.mark.parametrize("command", ["call", "bench", "models", "status"])
def test_malformed_addresses(command):
    for url, reason in {"http://[::1": "Invalid IPv6 URL", "://x": "unknown url type"}.items():
        done = CliRunner().invoke(cli, [command, url], prog_name="webtorch")
        assert isinstance(done.exception, SystemExit) and done.exit_code == 1
        assert done.output.startswith(f"webtorch: {url}: {reason}")


class Console(io.StringIO):
    def isatty(self) -> bool:
        return True


RECORD = "2026/11/29 11:00:00 [error] 12#12: *3 "
TRACE = 'Traceback (most recent call last):\n  File "/a.py", line 3, in f\nValueError: no\n'


def test_terminal_without_colors():
    stream = io.StringIO()
    Terminal(stream).record(RECORD + "message\n")
    Terminal(stream).trace(TRACE)
    assert stream.getvalue() == RECORD + "message\n" + TRACE


def test_terminal_with_colors(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Console()
    terminal = Terminal(stream)
    for line in ["message\n", *TRACE.splitlines(True)]:
        terminal.record(RECORD + "webtorch: " + line)
    terminal.record("printed\n")
    plain = "error: message\n" + TRACE + "printed\n"
    text = stream.getvalue()
    assert "\x1b[31mValueError\x1b[0m: no" in text
    assert click.unstyle(text) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Terminal(Console()).has_colors


def test_help_names_environment_variables():
    done = CliRunner().invoke(cli, ["serve", "--help"], auto_envvar_prefix="WEBTORCH")
    assert done.exit_code == 0
    for name in ("PORT", "WORKERS", "CHECKPOINT", "RELOAD", "SSL_CERTIFICATE", "PRINT_CONF"):
        assert f"WEBTORCH_SERVE_{name}" in done.output
    assert "webtorch serve app.py --reload\n" in done.output


def commands(group: click.Group, *names: str) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return all commands below a group, with their names."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        path = (*names, name)
        found.append((path, command))
        if isinstance(command, click.Group):
            found += commands(command, *path)
    return found


COMMANDS = commands(cli)


@pytest.mark.parametrize(
    ("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS]
)
def test_help(path, command):
    """A command fits its line, each option is the variable that its name says."""
    done = CliRunner().invoke(cli, [*path[:-1], "--help"], prog_name="webtorch", terminal_width=80)
    (line,) = re.findall(rf"^  {path[-1]} +(\S.*)$", done.output, re.M)
    assert line == command.get_short_help_str(80) and not line.endswith("..")

    done = CliRunner().invoke(cli, [*path, "--help"], prog_name="webtorch", terminal_width=200)
    for option in command.params:
        # several flags may be the values of one variable
        if isinstance(option, click.Option) and not isinstance(option.flag_value, str):
            name = max(option.opts, key=len).removeprefix("--").replace("-", "_")
            if name != "help":
                assert "_".join(["WEBTORCH", *path, name]).upper() in done.output


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["new", ""], 2, "it is not the name of a new directory"),
        (["new", "/proc/shop"], 1, "/proc/shop: No such file or directory."),
        (["serve", "app.py", "--zone", "5x"], 2, "'5x' is not a number with k or m"),
        (["serve", "app.py", "--max-body-size", "big"], 2, "'big' is not a number with k"),
        (["serve", "app.py", "--workers", "0"], 2, "'0' is not a number from 1 on, nor auto"),
        (["call", "ftp://127.0.0.1/x"], 1, "ftp://127.0.0.1/x is not an address of http or https."),
        (["call", "file:///etc/hostname"], 1, "is not an address of http or https."),
        (["call", "http://127.0.0.1:1/x"], 1, "webtorch: http://127.0.0.1:1/x: Connection refused"),
        (["models", "http://127.0.0.1:1", "-k", "-H", "A: b"], 1, "Connection refused"),
        (["models", "http://127.0.0.1:1", "-H", "A"], 2, '"A" is not NAME: VALUE'),
        (["checkpoints", "compare", "app.py", "app.py"], 1, "Weights only load failed.\n"),
        (["checkpoints", "prune", ".", "none"], 1, '. has no model "none".'),
        (["call", "127.0.0.1:1", "--timeout", "0"], 2, "0.0 is not in the range x>0"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_wrong_usage(tmp_path: Path, monkeypatch, arguments, status, message):
    """The message names what is wrong; there is no traceback."""
    (tmp_path / "app.py").write_text("import nothing\n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, arguments, prog_name="webtorch")
    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (status, True)
    assert message in done.output
    assert done.output.count("app.py") <= 1


def test_file_that_cannot_be_written(tmp_path: Path, monkeypatch):
    """It is named, whichever command was to write it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(
        "import webtorch\n\n\n@webtorch.handler\ndef f(request):\n    return 1\n"
    )
    done = CliRunner().invoke(cli, ["openapi", "app.py", "-o", "none/x"], prog_name="webtorch")
    assert (done.exit_code, done.output) == (1, "webtorch: none/x: No such file or directory.\n")


def test_new_in_a_directory_with_a_space(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["new", "my shop"], prog_name="webtorch")
    assert shlex.split(done.output.splitlines()[0]) == ["cd", "my shop"]


def test_address_that_is_not_of_this_host():
    """Another port would not help."""
    with pytest.raises(CommandError, match="see --host"):
        find_port("192.0.2.1", 8000)


@pytest.mark.parametrize("name", ["call", "bench", "status"])
def test_headers_of_the_environment(name):
    command = cli.commands[name]
    (option,) = (one for one in command.params if one.name == "header")
    context = click.Context(command, auto_envvar_prefix=f"WEBTORCH_{name.upper()}")
    lines = "Authorization: Basic ZXZh\nX-Team:  a b \n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"WEBTORCH_{name.upper()}_HEADER", lines)
        value, _ = option.consume_value(context, {})
    assert option.type_cast_value(context, value) == (
        "Authorization: Basic ZXZh",
        "X-Team:  a b ",
    )
    assert option.type.name == "text"
