import app
import pytest
import torch

from webtorch.testing import Client

client = Client(app)


def test_classify():
    best, probabilities = app.classify(torch.rand(5, 4))
    assert best.shape == (5,)
    assert probabilities.sum(1).tolist() == pytest.approx([1] * 5)


def test_requests_that_share_a_call():
    alone = client.post("/classify", json=[[1, 2, 3, 4]])
    assert alone.status_code == 200
    together = client.batch("/classify", [{"json": [[1, 2, 3, 4]]}, {"json": [[4, 3, 2, 1]]}])
    assert together[0].json()["best"] == alone.json()["best"]


def test_points_of_another_size():
    answer = client.post("/classify", json=[[1, 2, 3]])
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong_shape")
