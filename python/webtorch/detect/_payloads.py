"""What `PayloadClassifier` and `Anomaly` see of requests."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from webtorch import features


@dataclass(frozen=True)
class Payloads:
    """Requests as the features `tokens`, `segments` and `parameters`, see docs/features.md."""

    tokens: Tensor
    """int32 of shape `[batch, 5, size]`."""
    segments: Tensor
    """int64 of shape `[batch, size]`."""
    parameters: Tensor
    """int32 of shape `[batch, 3, 64]`."""

    @classmethod
    def of(cls, requests: Sequence[Sequence[bytes | str]], size: int | None = None) -> "Payloads":
        """Return requests, each path, query and body as they are sent, see `features.tokens`.

        It takes some 100 µs of a processor for each. What is in nginx need not be made again: the
        features come from there.
        """
        return cls(*(torch.from_numpy(each) for each in features.tokens(requests, size)))

    def __len__(self) -> int:
        """Return how many requests they are."""
        return self.tokens.shape[0]

    def __getitem__(self, index: Tensor | slice) -> "Payloads":
        """Return some of them: those of a mask, of numbers or of a range."""
        return Payloads(self.tokens[index], self.segments[index], self.parameters[index])

    def trimmed(self) -> "Payloads":
        """Return them without what is empty in all of them."""
        size = max(1, int((self.tokens[:, 0] != 0).sum(1).amax()))
        return Payloads(self.tokens[:, :, :size], self.segments[:, :size], self.parameters)
