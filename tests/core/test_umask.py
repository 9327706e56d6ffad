"""Files of workers, if nginx has no umask, as a daemon."""

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from line import app, train
from marks import needs_root
from nginx import wait_for

WRITE = """

@webtorch.handler
def write(request):
    path = pathlib.Path(bytes(request.body).decode())
    path.write_text("text")
    subprocess.run(["mkdir", path.with_suffix(".d")], check=True)
"""

SERVER = """
location = /train { webtorch_handler app:train; }
location = /write { webtorch_handler app:write; }
location /control { webtorch_control; }
location /dav/ { root %s; dav_methods MKCOL; dav_access user:rw group:rw; }
"""


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_without_a_umask(start, directory, no_umask):
    directory.chmod(0o777)
    (directory / "dav").mkdir(0o777)
    (directory / "models").mkdir(0o777)
    # a draft of a worker that was killed
    draft = directory / "models/.orders.json.tmp"
    draft.touch(0o666)
    http = f"webtorch_zone models:1m; webtorch_checkpoint {directory}/models interval=100ms;"
    code = "import pathlib, subprocess\n" + textwrap.dedent(app()) + WRITE
    server = start(SERVER % directory, code, http=http)
    if os.geteuid() == 0:
        os.chown(draft, server_user(directory, server), -1)

    assert server.post("/write", data=f"{directory}/file").ok
    assert (mode(directory / "file"), mode(directory / "file.d")) == (0o664, 0o775)
    train(server, 1)
    wait_for(lambda: [*directory.glob("models/line/*.safetensors")], "a checkpoint")
    (file,) = directory.glob("models/line/*.safetensors")
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert server.post("/control/models/line/freeze").ok
    assert mode(directory / "models/.orders.json") == 0o600

    # what nginx itself gives to a group
    assert server.request("MKCOL", "/dav/folder/").status_code == 201
    assert mode(directory / "dav/folder") == 0o770


def server_user(directory: Path, server) -> int:
    """Return the user of the workers."""
    path = directory / "probe"
    assert server.post("/write", data=str(path)).ok
    return path.stat().st_uid


@needs_root
def test_bytecode_without_a_umask(start, no_umask, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    server = start("location = /train { webtorch_handler app:train; }", app(), main="user root;")
    train(server, 1)
    (cache,) = (server.prefix / "app").glob("__pycache__")
    assert mode(cache) == 0o755
