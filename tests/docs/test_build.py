"""Parts of build.sh that need no build."""

import os
import re
import subprocess
from pathlib import Path

from nginx import ROOT

STUBS = """
set -euo pipefail
ROOT=. JOBS=1 NGINX_DEV=. MODULE=module.so FORMATS=formats.so NGX_CONF_FLAGS=()
configure_nginx() { :; }
make() { :; }
say() { :; }
nginx_version() { :; }
"""


def functions(*names: str) -> str:
    """Return functions of build.sh."""
    text = (ROOT / "build.sh").read_text()
    found = [re.search(rf"^{name}\(\) \{{\n.*?^\}}\n", text, re.M | re.S) for name in names]
    return "\n".join(one[0] for one in found if one)


def test_one_command_builds_several_things(tmp_path: Path):
    """It holds the lock for all of them, and another one waits."""
    stubs = "require_packages() { :; }\nrequire_python() { :; }\nBUILD_PACKAGES=()\n"
    script = (
        STUBS
        + stubs
        + functions("prepare_system")
        + "prepare_system\nprepare_system\n"
        + "! flock --nonblock build/lock true\n"
    )
    done = subprocess.run(["timeout", "60", "bash", "-c", script], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_formats_are_those_of_the_module(tmp_path: Path):
    """A build whose last link has failed links again."""
    objects = tmp_path / "build/nginx/objs"
    modules = tmp_path / "build/modules"
    for directory in (objects, modules):
        directory.mkdir(parents=True)
    (tmp_path / "conf_flags").touch()
    for name in ("module.so", "formats.so"):
        (modules / name).write_text("old")
        os.utime(modules / name, (1, 1))
    (objects / "module.so").write_text("new")
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ntest -e works && echo new >"$3"\n')
    compiler.chmod(0o755)
    script = STUBS + functions("build_module", "link_formats") + "build_module\n"

    def build() -> int:
        return subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env={**os.environ, "CC": str(compiler)}
        ).returncode

    assert build() != 0
    assert (modules / "formats.so").read_text() == "old"
    (tmp_path / "works").touch()
    assert build() == 0
    assert (modules / "formats.so").read_text().strip() == "new"
    assert (modules / "module.so").read_text() == "new"
