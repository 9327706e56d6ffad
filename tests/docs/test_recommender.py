"""examples/recommender: visitors click more often the more it has learned."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from example import Example
from nginx import ROOT, running


@pytest.fixture(scope="module")
def shared_server():
    with running(Example("recommender", workers=1)) as server:
        yield server


def test_clicks_become_more(server, tmp_path):
    plot = tmp_path / "recommender.svg"
    program = ROOT / "examples/recommender/watch.py"
    command = [sys.executable, program, server.url(""), "--plot", plot, "--visits", "3000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shares = [float(percent) for percent in re.findall(r"clicked +([\d.]+)%", done.stdout)]
    assert len(shares) == 15
    # random films are clicked with 18 %
    assert max(shares[:2]) < 27 < 35 < min(shares[-2:])
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("recommend", [65536]),
        ("recommend", [-1]),
        ("learn", {"visitor": [1], "film": [[1, 2, 60]], "clicked": [[True, False, False]]}),
    ],
    ids=["large visitor", "negative visitor", "film"],
)
def test_unknown_numbers_are_refused(server, path, body):
    answer = server.post(f"/v1/{path}", body)
    assert answer.status_code == 400 and "is from 0 to" in answer.json()["error"]
