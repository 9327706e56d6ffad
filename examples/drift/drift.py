"""Learns from the access log which requests will fail, and adapts when that changes.

See nginx-conf/drift.conf. webtorch_log passes finished requests to `learn`, which predicts each of
them before it learns it. When the error of the predictions grows, for example after a release of
the site, the model learns faster for a while.
"""

from jaxtyping import Float32, Int32
from torch import Tensor, nn, optim
from torch.nn import functional

import webtorch
from webtorch import online


class Failures(nn.Module):
    """The logit that a request fails, a sum over the words of its path."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.EmbeddingBag(65536, 1, mode="sum")
        nn.init.zeros_(self.weights.weight)
        self.bias = nn.Parameter(self.weights.weight.new_zeros(1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits `[batch]` for tokens `[batch, 5, T]`."""
        words = tokens[:, 0]
        known = (words > 0).float()  # 0 is behind the last word
        return (self.weights(words, per_sample_weights=known) + self.bias)[:, 0]


model = webtorch.Model("failures", Failures(), lambda parameters: optim.SGD([*parameters], lr=0.01))
monitor = online.Monitor(
    model, on_drift=lambda monitor, drift: monitor.raise_learning_rate(5, samples=500)
)


@webtorch.train
def learn(
    tokens: Int32[Tensor, "batch 5 64"], outcome: Float32[Tensor, "batch 4"]
) -> Float32[Tensor, "batch"]:
    """Learn whether requests failed: status 5xx."""
    logits = model(tokens)
    failed = outcome[:, 3]
    # the sum, so that it does not matter how many requests come together
    loss = functional.binary_cross_entropy_with_logits(logits, failed, reduction="sum")
    monitor.step(loss, (logits > 0) != (failed > 0))
    return logits


@webtorch.infer
def risk(tokens: Int32[Tensor, "batch 5 64"]) -> Float32[Tensor, "batch"]:
    """Return the probability that a request fails, for `webtorch_set`."""
    return model(tokens).sigmoid()


@webtorch.handler
def report(request: webtorch.Request) -> dict[str, float]:
    """Return what the monitor of this worker has measured."""
    return {
        "samples": monitor.samples,
        "error": monitor.error,
        "mean_error": monitor.mean_error,
        "drifts": monitor.drifts,
    }
