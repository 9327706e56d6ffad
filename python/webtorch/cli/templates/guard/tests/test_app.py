import app
import torch


def test_requests_without_payload_are_allowed():
    tokens = torch.zeros(2, 5, 8, dtype=torch.int32)
    segments = torch.zeros(2, 8, dtype=torch.int64)
    assert (app.score(tokens, segments) < 0.5).all()
