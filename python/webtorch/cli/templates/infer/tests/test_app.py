import app
import pytest
import torch


def test_classify():
    best, probabilities = app.classify(torch.rand(5, 4))
    assert best.shape == (5,)
    assert probabilities.sum(1).tolist() == pytest.approx([1] * 5)


def test_points_do_not_depend_on_their_batch():
    points = torch.rand(2, 4)
    _, together = app.classify(points)
    _, alone = app.classify(points[:1])
    assert torch.allclose(together[:1], alone)
