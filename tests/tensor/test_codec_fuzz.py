"""The codecs under AddressSanitizer and UBSan: all seeds, and some of their mutations.

CONTRIBUTING.md describes how to fuzz longer.
"""

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from nginx import ROOT
from tensor.codec import fuzz

HERE = Path(__file__)

SECONDS = os.environ.get("WEBTORCH_FUZZ_SECONDS")

LIMITS = (f"-max_total_time={SECONDS}",) if SECONDS else ("-runs=20000", "-max_total_time=10")


@pytest.fixture(scope="session")
def fuzzers(request) -> dict[str, Path]:
    """Build the fuzzers of all selected tests, in one of the processes that share a run."""
    names = [item.callspec.params["name"] for item in request.session.items if item.path == HERE]
    built = ROOT / "build/fuzz/built"
    built.parent.mkdir(parents=True, exist_ok=True)
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    with open(built, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if run is None or file.read() != run:
            for name in names:
                fuzz.build(name)
            file.truncate(0)
            file.write(run or "")
    return {name: ROOT / "build/fuzz" / name / "fuzzer" for name in names}


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_fuzzer_finds_nothing(name, fuzzers, tmp_path):
    fuzzer = fuzzers[name]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    options = (
        *LIMITS,
        "-seed=1",  # what is found must not depend on the run
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    )
    done = subprocess.run(
        fuzz.command(fuzzer, name, corpus, *options), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "stat::number_of_executed_units:" in done.stderr
