"""The environment of Python code in workers."""

import os

import pytest

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
