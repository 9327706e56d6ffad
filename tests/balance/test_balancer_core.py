"""What a balancer decides, in C and without nginx, under AddressSanitizer and UBSan."""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from nginx import ROOT

SOURCE = ROOT / "tests/balance/test_balance.c"
CASES = re.findall(r"named\((\w+)\),", SOURCE.read_text())

PARTS = ("", "_key", "_outcome")

FLAGS = ("-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined")


@functools.cache
def program() -> Path:
    path = ROOT / "build/test_balance"
    path.parent.mkdir(exist_ok=True)
    built = path.with_name(f"{path.name}.{os.getpid()}")
    sources = [ROOT / f"ngx_webtorch/balance/ngx_webtorch_balance{part}.c" for part in PARTS]
    includes = [f"-I{ROOT / 'ngx_webtorch' / room}" for room in ("api", "balance")]
    command = ["clang-14", *FLAGS, "-fno-sanitize-recover=all", *includes, SOURCE, *sources]
    subprocess.run([*command, "-lm", "-o", built], check=True)
    built.rename(path)  # another process may run the old one
    return path


def test_cases_match_the_program():
    listed = subprocess.run([program()], capture_output=True, text=True, check=True).stdout
    assert CASES and listed.split() == CASES


@pytest.mark.parametrize("case", CASES)
def test_balance(case):
    done = subprocess.run([program(), case], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
