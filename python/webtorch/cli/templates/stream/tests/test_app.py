import app
import torch


def test_streams_have_means_of_their_own():
    mean = torch.zeros(2, 1)
    for _ in range(50):
        smoothed, mean = app.smooth(torch.tensor([[1.0], [-2.0]]), mean)
    assert torch.allclose(smoothed, torch.tensor([[1.0], [-2.0]]), atol=1e-4)


def test_first_value():
    smoothed, _ = app.smooth(torch.ones(1, 1), torch.zeros(1, 1))
    assert smoothed.item() == app.SHARE
