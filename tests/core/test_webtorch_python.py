"""The directive webtorch_python."""

import os
import re
import sys

import pytest

from nginx import ROOT

APP = """
import sys, webtorch

@webtorch.handler
def where(request): return sys.executable + " " + sys.prefix
"""

LOCATION = "location = /where { webtorch_handler app:where; }"
VENV = f"{ROOT}/.venv"
BASE = os.path.realpath(sys.executable)  # without the packages of VENV


@pytest.mark.parametrize("value", [VENV, f"{VENV}/", f"{VENV}/bin/python"])
def test_virtual_environment_or_its_interpreter(start, value):
    server = start(LOCATION, APP, http=f"webtorch_python {value};")
    executable, prefix = server.get("/where").text.split()
    assert executable == f"{VENV}/bin/python"
    assert prefix == VENV


def test_default_is_the_environment_of_the_build(start):
    assert start(LOCATION, APP).get("/where").text.split()[1] == VENV


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("/nowhere/venv", '"webtorch_python": "/nowhere/venv" not found'),
        ("/etc", 'no interpreter "/etc/bin/python", is the directory a virtual environment?'),
        (BASE, f'could not import "webtorch" with {BASE}'),
    ],
)
def test_invalid_values(configured, value, message):
    status, output = configured(LOCATION, APP, http=f"webtorch_python {value};").check()
    assert status == 1
    assert "[emerg]" in output and message in output
    assert re.search(r" in \S+/nginx.conf:\d+", output), output


def test_relative_path_starts_at_the_configuration(configured):
    server = configured(LOCATION, APP, http="webtorch_python venv;")
    (server.prefix / "venv").symlink_to(VENV)
    status, output = server.check()
    assert status == 0, output


def test_reload_cannot_change_it(start):
    server = start(LOCATION, APP, expected=(r"restart nginx to change it",))
    server.configure(http=f"webtorch_python {VENV}/bin/python3;")
    server.process.send_signal(1)
    server.wait_for_log(r"\[emerg\].*\"webtorch_python\" is .*: restart nginx to change it")
    assert server.get("/where").ok
