"""The environment of Python code in workers."""

import math
import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest
import requests

APP = """
import ctypes, os, subprocess
import webtorch

libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
NAMES = ["PATH", "TZ", "GIVEN", "INHERITED", "OTHER", "SET", "LATER"]
os.environ["SET"] = "by the module"
at_import = dict(os.environ)

def in_c(name):
    value = libc.getenv(name.encode())
    return value and value.decode()

@webtorch.handler
def env(request):
    os.environ["LATER"] = "by the handler"
    program = subprocess.run(["/usr/bin/env"], capture_output=True, text=True).stdout.split("\\n")
    program = dict(line.split("=", 1) for line in program if line)
    return {
        "python": {name: os.environ.get(name) for name in NAMES},
        "c": {name: in_c(name) for name in NAMES},
        "program": {name: program.get(name) for name in NAMES},
    }
"""

SERVER = "location = /env { webtorch_handler app:env; }"

MAIN = "env GIVEN=value; env INHERITED;"


@pytest.mark.parametrize("main", [MAIN, MAIN + "master_process off;"])
def test_environment_is_one(start, monkeypatch, main):
    monkeypatch.setenv("INHERITED", "from the shell")
    monkeypatch.setenv("OTHER", "from the shell")
    found = start(SERVER, APP, main=main).get("/env").json()
    assert found["python"] == found["c"] == found["program"]
    assert found["python"] == {
        "PATH": os.environ["PATH"],
        "TZ": os.environ.get("TZ"),
        "GIVEN": "value",
        "INHERITED": "from the shell",
        "OTHER": "from the shell",
        "SET": "by the module",
        "LATER": "by the handler",
    }


PRIMITIVES_APP = """
import ctypes, os, webtorch

libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p

@webtorch.handler
def env(request):
    names = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"
    values = [libc.getenv(name.encode()) for name in names]
    return [value and int(value) for value in values]
"""


@pytest.mark.parametrize(
    ("main", "found"),
    [("", [8192, None]), ("env DNNL_PRIMITIVE_CACHE_CAPACITY=7;", [None, 7])],
    ids=["default", "given"],
)
def test_environment_keeps_primitives_of_many_sizes(start, monkeypatch, main, found):
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"):
        monkeypatch.delenv(name, raising=False)
    assert start(SERVER, PRIMITIVES_APP, main=main).get("/env").json() == found


def test_environment_of_preloaded_modules(start, monkeypatch, tmp_path):
    monkeypatch.setenv("INHERITED", "from the shell")
    tmp_path.chmod(0o755)
    (tmp_path / "preloaded_variables.py").write_text(
        "import os; os.environ['SET'] = 'early'; os.environ['OTHER'] = 'no more'\n"
        "del os.environ['INHERITED']"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    http = "webtorch_preload preloaded_variables;"
    found = start(SERVER, APP, main=MAIN, http=http).get("/env").json()
    assert found["python"] == found["c"] == found["program"]
    assert found["python"]["INHERITED"] is None
    assert found["python"]["OTHER"] == "no more"


def test_environment_of_the_check(configured, monkeypatch):
    monkeypatch.setenv("OTHER", "from the shell")
    app = APP + "\nos.environ['OTHER']"
    status, output = configured(SERVER, app).check()
    assert status == 0, output
    status, output = configured(SERVER, APP + "\nos.environ['MISSING']").check()
    assert status == 1 and "KeyError: 'MISSING'" in output


USER_APP = """
import getpass, os, pathlib, torch, webtorch
from jaxtyping import Float32
from torch import Tensor

@torch.compile
def curve(x):
    return torch.sin(x) * 2 + 1

@webtorch.infer
def compiled(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return curve(x)

def owner(path):
    path = pathlib.Path(path)
    while not path.exists():
        path = path.parent
    return path.owner()

@webtorch.handler
def user(request):
    names = "HOME USER LOGNAME XDG_CACHE_HOME XDG_RUNTIME_DIR TORCHINDUCTOR_CACHE_DIR".split()
    found = {name: os.environ.get(name) for name in names}
    cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    return found | {
        "uid": os.geteuid(),
        "writable": os.access(cache, os.W_OK),
        "owner": owner(os.environ["TORCHINDUCTOR_CACHE_DIR"]) if os.geteuid() != 0 else None,
    }
"""

USER_SERVER = """
location = /user { webtorch_handler app:user; }
location = /compiled { webtorch_handler app:compiled mode=thread timeout=900s; }
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start workers as others")


@as_root
def test_compile_as_another_user(start, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    server = start(USER_SERVER, USER_APP)
    nobody = pwd.getpwnam("nobody")
    found = server.get("/user").json()
    assert found["HOME"] == nobody.pw_dir
    assert found["USER"] == found["LOGNAME"] == found["owner"] == "nobody"
    assert found["XDG_RUNTIME_DIR"] is None
    assert found["writable"]
    # a compiler may take minutes
    answer = requests.post(server.url("/compiled"), json=[[0, 1]], timeout=900)
    assert answer.json() == [[1, pytest.approx(2 * math.sin(1) + 1, abs=1e-5)]], answer.text


@as_root
def test_directories_that_the_configuration_sets(start):
    given = tempfile.mkdtemp()
    os.chmod(given, 0o777)
    main = f"env HOME=/root; env XDG_CACHE_HOME={given}; env USER=somebody;"
    found = start(USER_SERVER, USER_APP, main=main).get("/user").json()
    assert (found["HOME"], found["USER"], found["LOGNAME"]) == ("/root", "somebody", "nobody")
    assert found["TORCHINDUCTOR_CACHE_DIR"] == f"{given}/torchinductor"
    shutil.rmtree(given)


@as_root
def test_directory_of_another_user_is_not_used(start, monkeypatch):
    temporary = Path(tempfile.mkdtemp())
    temporary.chmod(0o1777)
    (temporary / "webtorch-nobody").mkdir()  # of root
    monkeypatch.setenv("TMPDIR", str(temporary))
    found = start(USER_SERVER, USER_APP).get("/user").json()
    assert found["XDG_CACHE_HOME"].startswith(f"{temporary}/webtorch-nobody-")
    assert found["writable"]
    shutil.rmtree(temporary)


@as_root
def test_same_user_keeps_its_environment(start, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    found = start(USER_SERVER, USER_APP, main="user root;").get("/user").json()
    assert found["HOME"] == "/somewhere"
