import app
import pytest

from webtorch.testing import Client


def test_work():
    answer = Client(app).post("/work", json=[[0] * 8] * 3)
    assert answer.json() == [pytest.approx([1 / 8] * 8)] * 3
