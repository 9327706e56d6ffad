"""nginx-conf/xor.conf: the interface of the original, and a network that learns."""

import random
import re

import pytest
import requests

from nginx import ROOT, Nginx, running

TENSOR = "4|1|3|V 1|18|torch.DoubleTensor|1|2|1|1|4|2|3|V 1|19|torch.DoubleStorage|2|{} {}|"


@pytest.fixture(scope="module")
def shared_server():
    """Run the real file, at another port and in another directory."""
    text = (ROOT / "nginx-conf/xor.conf").read_text()
    server_block = text[text.index("        location = /v1/train") : text.rindex("    }\n}")]
    assert "listen       3000;" in text
    with running(Nginx(server_block, http=f"webtorch_path {ROOT}/examples/xor;")) as server:
        yield server


@pytest.fixture
def xor(server) -> Nginx:
    return server


def scalar(text: str) -> float:
    """Read the last word of a Torch7 tensor of one element."""
    lines = text.split()
    assert lines[0] == "4" and "torch.FloatTensor" in lines
    return float(lines[-1])


def test_train_answers_the_label_as_the_request_is_written(xor):
    assert xor.post("/v1/train", [[0.5, 0.5], [-0.5, 0.5]]).json() == [[-1], [1]]
    for a, b in ((0.5, 0.5), (-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5)):
        answer = xor.post_text("/v1/train", TENSOR.format(a, b))
        assert answer.headers["Content-Type"] == "text/plain"
        assert scalar(answer.text) == (-1 if a * b > 0 else 1)


def test_get_train_answers_a_label_in_torch7(xor):
    labels = {scalar(xor.get("/v1/train").text) for _ in range(64)}
    assert labels == {-1.0, 1.0}


def test_get_output_answers_a_plain_number(xor):
    answer = xor.get("/v1/output")
    assert re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", answer.text)
    assert float(answer.text) == pytest.approx(xor.post("/v1/output", [[0.5, 0.5]]).json()[0][0])


def test_network_learns(xor):
    generator = random.Random(1)
    with requests.Session() as session:
        for _ in range(2000):
            rows = [[generator.uniform(-1, 1), generator.uniform(-1, 1)] for _ in range(4)]
            assert session.post(xor.url("/v1/train"), json=rows, timeout=30).ok
    before = xor.post("/v1/output", [[0.5, 0.5], [-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]]).json()
    assert [value < 0 for (value,) in before] == [True, True, False, False], before
