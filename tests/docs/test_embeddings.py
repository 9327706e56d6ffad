"""examples/embeddings: sentences of one meaning are similar, and sections are found by it."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from example import Example
from nginx import ROOT, running


@pytest.fixture(scope="module")
def shared_server():
    with running(Example("embeddings", workers=1)) as server:
        yield server


def test_questions_and_plot(server, tmp_path):
    plot = tmp_path / "embeddings.svg"
    program = ROOT / "examples/embeddings/watch.py"
    command = [sys.executable, program, server.url(""), "--plot", plot]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # four questions with three sections each
    assert len(re.findall(r"^    \d\.\d{3}  \w+\.md: ", done.stdout, re.M)) == 12
    assert len(ElementTree.parse(plot).getroot().findall(".//{*}image")) >= 1


def test_similar_sentences(server):
    texts = ["A cat sleeps.", "The kitten is napping.", "nginx serves a page.", "Ünïcödé 猫"]
    answer = server.post("/v1/embed", texts)
    vectors = np.array(answer.json())
    assert vectors.shape == (4, 384)
    similarity = vectors @ vectors.T
    np.testing.assert_allclose(similarity.diagonal(), 1, atol=1e-5)
    assert similarity[0, 1] > 0.6 > 0.3 > similarity[0, 2]


def test_search_finds_sections(server):
    for page, heading in (("state.md", "Checkpoints"), ("streams.md", "Functions")):
        text = (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2]
        sentence = " ".join(text.split())[:200]
        best, *others = server.get("/search", params={"q": f"{heading}. {sentence}"}).json()
        assert best["section"] == f"{page}: {heading}" and best["score"] > 0.7
        assert len(others) == 2 and best["score"] > others[0]["score"] >= others[1]["score"]


@pytest.mark.parametrize("query", ["", "q=a&limit=0", "q=a&limit=21"])
def test_wrong_questions(server, query):
    assert server.get(f"/search?{query}").status_code in (400, 422)
