"""The memory by which workers hand batches to one of them, in C and without nginx's events."""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from nginx import ROOT

SOURCE = ROOT / "tests/shared/test_handoff.c"
CASES = re.findall(r"CASE\(([a-z_]+)\),", SOURCE.read_text())
NGINX = ROOT / "build/nginx"

FLAGS = ("-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined")


@functools.cache
def program() -> Path:
    path = ROOT / "build/test_handoff"
    built = path.with_name(f"{path.name}.{os.getpid()}")
    rooms = ROOT / "ngx_webtorch"
    parts = ("src/core", "src/event", "src/os/unix", "objs")
    includes = [f"-I{rooms / room}" for room in ("api", "core", "shared")]
    includes += [f"-isystem{NGINX / part}" for part in parts]
    sources = [
        SOURCE,
        rooms / "shared/ngx_webtorch_handoff.c",
        rooms / "core/ngx_webtorch_robust.c",
    ]
    command = ["cc", *FLAGS, "-fno-sanitize-recover=all", *includes, *sources]
    subprocess.run([*command, "-lpthread", "-o", built], check=True)
    built.rename(path)  # another process may run the old one
    return path


def test_cases_match_the_program():
    listed = subprocess.run([program()], capture_output=True, text=True, check=True).stdout
    assert CASES and sorted(listed.split()) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_handoff(case):
    done = subprocess.run(
        [program(), case], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
