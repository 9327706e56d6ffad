"""The codecs under AddressSanitizer and UBSan: all seeds, and a bounded time of fuzzing.

docs/testing.md tells how to fuzz longer.
"""

import os
import subprocess

import pytest

from tensor.codec import fuzz

SECONDS = os.environ.get("WEBTORCH_FUZZ_SECONDS", "10")


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_no_input_does_harm(name, tmp_path):
    fuzzer = fuzz.build(name)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    options = (
        f"-max_total_time={SECONDS}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    )
    done = subprocess.run(
        fuzz.command(fuzzer, name, corpus, *options), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "stat::number_of_executed_units:" in done.stderr
