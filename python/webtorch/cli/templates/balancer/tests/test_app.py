import app
import torch


def test_work():
    assert torch.allclose(app.work(torch.zeros(3, 8)), torch.full((3, 8), 1 / 8))
