"""`webtorch call`: bodies, media types, answers, errors."""

import json
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from files import npy
from webtorch.cli import cli


def call(*arguments: str, **options: str) -> Result:
    return CliRunner().invoke(cli, ["call", *arguments], prog_name="webtorch", **options)


@pytest.fixture
def url(echo) -> str:
    return f"http://127.0.0.1:{echo.server_port}"


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (["[[1, 2]]"], [[1, 2]]),
        (["a=[1]", 'b=["x=y"]'], {"a": [1], "b": ["x=y"]}),
        (["a=[1]"], {"a": [1]}),
    ],
    ids=["json", "names", "name"],
)
def test_call_json(echo, url, data, body):
    done = call(f"{url}/json", *data, "-H", "X-Test: 1:2")
    assert (done.exit_code, done.output) == (0, '{"text": ["word"]}\n')
    ((_, headers, sent),) = echo.seen
    assert json.loads(sent) == body
    assert (headers["Content-Type"], headers["X-Test"]) == ("application/json", "1:2")


def test_call_standard_input(echo, url):
    assert call(f"{url}/json", "-", input="[3]").exit_code == 0
    assert echo.seen[0][2] == b"[3]"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("x.npy", "application/x-npy"),
        ("x.SAFETENSORS", "application/vnd.safetensors"),
        ("x.jpg", "image/jpeg"),
        ("x", "application/octet-stream"),
    ],
)
def test_call_file(echo, url, tmp_path: Path, name, media_type):
    (tmp_path / name).write_bytes(b"\0\xff")
    assert call(f"{url}/json", f"@{tmp_path / name}").exit_code == 0
    assert echo.seen[0][1]["Content-Type"] == media_type
    assert echo.seen[0][2] == b"\0\xff"


def test_call_output_file(echo, url, tmp_path: Path):
    (tmp_path / "x.npy").write_bytes(npy(np.zeros(2)))
    output = tmp_path / "y.npy"
    done = call(f"{url}/big-endian", f"@{tmp_path}/x.npy", "--accept", "npy", "-o", str(output))
    assert (done.exit_code, done.output) == (0, "")
    assert np.load(output).tolist() == [0, 1, 2]
    assert echo.seen[0][1]["Accept"] == "application/x-npy"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["URL/full", "[1]"], 1, "more than 4096 wait"),
        (["http://127.0.0.1:9/", "[1]"], 1, "Connection refused"),
        (["URL/json"], 1, "answered 405: give DATA, see --help."),
        (["URL/json", "[1]", "-X", "GET"], 1, "answered 405.\n"),
        (["URL/json", "[1"], 2, "is not JSON"),
        (["URL/json", "a=1", "[1]"], 2, "is not NAME=JSON"),
        (["URL/json", "@/nowhere"], 1, "No such file"),
        (["URL/json", "[1]", "-H", "x"], 2, "is not NAME: VALUE"),
        (["ftp://127.0.0.1:9/", "[1]"], 1, "ftp"),
        (["URL/a b", "[1]"], 1, "control characters"),
    ],
    ids=[
        "answer",
        "refused",
        "no-data",
        "method",
        "json",
        "names",
        "file",
        "header",
        "scheme",
        "path",
    ],
)
def test_call_failures(url, arguments, status, message):
    done = call(*[argument.replace("URL", url) for argument in arguments])
    assert done.exit_code == status, done.output
    assert message in done.output


def test_call_of_another_protocol():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-server\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        done = call(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (1, True)
    assert "BadStatusLine" in done.output
