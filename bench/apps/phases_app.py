"""What bench/phases.py serves: small models in the phases of access, variables and logs."""

from jaxtyping import Float32, Int32
from torch import Tensor, nn

import webtorch

small = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 1)).requires_grad_(False)
# row 0 is of what is no n-gram; padding_idx instead would take ten times as long
wide = nn.EmbeddingBag(65537, 1, mode="sum").requires_grad_(False)
wide.weight[0] = 0
# all pass
small[2].bias.fill_(-100)


@webtorch.infer
def request(request: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return small(request)


@webtorch.infer
def client(client: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return small(client)


@webtorch.infer
def ngrams(ngrams: Int32[Tensor, "batch 1024"]) -> Float32[Tensor, "batch 1"]:
    # -1 is row 0, others are 1 to 65536
    return wide((ngrams >> 31 | ngrams & 65535) + 1) * 0


@webtorch.infer
def outcome(outcome: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return small(outcome)
