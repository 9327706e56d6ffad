"""Decisions of a balancer, in C and without nginx, under AddressSanitizer and UBSan."""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from nginx import ROOT

ROOM = ROOT / "ngx_webtorch/balance"
SOURCES = sorted((ROOT / "tests/balance").glob("*.c"))
CASES = [case for path in SOURCES for case in re.findall(r"test_case\((\w+)\),", path.read_text())]

FLAGS = ("-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined")


@functools.cache
def program() -> Path:
    path = ROOT / "build/test_balance"
    path.parent.mkdir(exist_ok=True)
    built = path.with_name(f"{path.name}.{os.getpid()}")
    sources = [*SOURCES, *sorted(ROOM.glob("*.c"))]
    includes = [f"-I{ROOT / 'ngx_webtorch/api'}", f"-I{ROOM}"]
    command = ["clang-14", *FLAGS, "-fno-sanitize-recover=all", *includes, *sources]
    subprocess.run([*command, "-lm", "-o", built], check=True)
    built.rename(path)  # another process may run the old one
    return path


def test_cases_match_the_program():
    listed = subprocess.run([program()], capture_output=True, text=True, check=True).stdout
    assert CASES and sorted(listed.split()) == sorted(CASES)


@pytest.mark.parametrize("case", CASES)
def test_balance(case):
    done = subprocess.run([program(), case], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
