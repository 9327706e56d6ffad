import app
import pytest
import torch

from webtorch.testing import Client

client = Client(app)


def test_line_is_learned():
    x = torch.linspace(-1, 1, 20)[:, None]
    for _ in range(200):
        client.post("/learn", json={"x": x, "y": 3 * x - 1}).raise_for_status()
    assert client.post("/predict", json=[[0.5]]).json()[0] == pytest.approx([0.5], abs=0.01)


def test_points_without_values():
    answer = client.post("/learn", json={"x": [[1]]})
    assert (answer.status_code, answer.json()["code"]) == (422, "missing_tensor")
