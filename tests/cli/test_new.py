"""`webtorch new`: projects whose tests pass and whose configurations are valid."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nginx import BINARY, MODULE
from webtorch.cli import cli
from webtorch.cli._new import CALLS, SERVED


def new(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["new", *arguments], prog_name="webtorch")


def webtorch(directory: Path, *arguments: str) -> str:
    environment = os.environ | {"WEBTORCH_CHECK_NGINX": BINARY.path}
    if BINARY.load_module:
        environment["WEBTORCH_CHECK_MODULE"] = str(MODULE)
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("template", sorted(CALLS))
def test_new_project(tmp_path, monkeypatch, template):
    monkeypatch.chdir(tmp_path)
    done = new("shop", "--template", template)
    assert done.exit_code == 0, done.output
    start = "webtorch serve app.py" if template in SERVED else "webtorch run nginx.conf"
    assert done.output.splitlines()[:2][1].startswith(start)
    project = tmp_path / "shop"
    assert (project / "README.md").read_text().count(CALLS[template]) == 1

    assert " passed" in webtorch(project, "pytest", "-q", "-p", "no:cacheprovider")

    conf = project / "nginx.conf"
    if os.geteuid() == 0:  # pytest's directory is closed to nobody
        conf.write_text("user root;\n" + conf.read_text())
    webtorch(project, "webtorch", "check", "nginx.conf", "--prefix", ".")
    if template in SERVED:
        webtorch(project, "webtorch", "check", "app.py")


def test_new_does_not_overwrite(tmp_path):
    (tmp_path / "file").touch()
    done = new(str(tmp_path))
    assert done.exit_code == 1
    assert "exists already" in done.output
