"""examples/balancer: requests leave a server that has become slow."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from example import Example
from nginx import ROOT, running


def test_requests_leave_the_slow_server(tmp_path):
    # by itself, as its connections to the servers stay open for a minute
    server = Example("balancer")
    server.expected_in_log.append("upstream server temporarily disabled")
    with running(server):
        check(server, tmp_path)


def check(server: Example, directory: Path) -> None:
    plot = directory / "balancer.svg"
    program = ROOT / "examples/balancer/watch.py"
    ports = [str(server.ports[port]) for port in (3001, 3002, 3003, 3004)]
    command = [sys.executable, program, server.url(""), "--plot", plot, "--count", "600"]
    command += ["--brownout", server.prefix / "run/brownout", "--ports", *ports]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = re.findall(r"^(?:calm|brownout|calm again) +(\d.*%)$", done.stdout, re.M)
    calm, brownout, again = ([float(share.rstrip("%")) for share in row.split()] for row in rows)
    for shares in (calm, brownout, again):
        assert sum(shares) == pytest.approx(100, abs=0.5)
        # the one that fails
        assert shares[3] < 20
    assert calm[0] > 2 * brownout[0] and brownout[1] > 2 * brownout[0]
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    log = (server.prefix / "run/balancer.log").read_text().splitlines()
    assert len(log) >= 1800
