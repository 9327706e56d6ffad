"""examples/digits: accuracy rises while it is watched."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from example import Example
from nginx import ROOT, running


@pytest.fixture(scope="module")
def shared_server():
    with running(Example("digits")) as server:
        yield server


def test_accuracy_rises(server, tmp_path):
    plot = tmp_path / "digits.svg"
    program = ROOT / "examples/digits/watch.py"
    command = [sys.executable, program, server.url(""), "--plot", plot, "--epochs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = re.findall(r"(\d+) requests  accuracy +([\d.]+)%", done.stdout)
    accuracies = [float(percent) for _, percent in lines]
    assert len(accuracies) == 25 and lines[-1][0] == "2874"
    assert accuracies[0] < 40 < 90 < accuracies[-1]
    # the curve and its axes, and the images that were read
    root = ElementTree.parse(plot).getroot()
    assert len(root.findall(".//{*}image")) == 30


def test_labels_outside_are_refused(server):
    body = {"image": [[[0] * 8] * 8], "label": [10]}
    answer = server.post("/v1/learn", body)
    assert answer.status_code == 400 and "from 0 to 9" in answer.json()["error"]
