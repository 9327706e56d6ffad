"""What bench/phases.py serves: small models in the phases of access, variables and logs."""

from jaxtyping import Float32, Int32
from torch import Tensor, nn

import webtorch

small = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1)).requires_grad_(False)
wide = nn.EmbeddingBag(65537, 1, mode="sum", padding_idx=0).requires_grad_(False)


@webtorch.infer
def request(request: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return small(request) * 0


@webtorch.infer
def client(client: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return small(client) * 0


@webtorch.infer
def ngrams(ngrams: Int32[Tensor, "batch 1024"]) -> Float32[Tensor, "batch 1"]:
    return wide(ngrams % 65536 + 1) * 0


@webtorch.infer
def outcome(outcome: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return small(outcome)
