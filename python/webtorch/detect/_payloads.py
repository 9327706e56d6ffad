"""The features of requests that `PayloadClassifier` and `Anomaly` take."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from webtorch import features


@dataclass(frozen=True)
class Payloads:
    """The features `tokens`, `segments` and `parameters` of requests, see docs/features.md.

        payloads = Payloads.of([("/search", "q=red+shoes", ""), ("/login", "", "user=a")])
        probabilities = classifier(payloads.tokens, payloads.segments)

    An index selects requests: `payloads[labels == 0]`.
    """

    tokens: Tensor
    """int32 `[batch, 5, size]`."""
    segments: Tensor
    """int64 `[batch, size]`."""
    parameters: Tensor
    """int32 `[batch, 3, 64]`."""

    @classmethod
    def of(cls, requests: Sequence[Sequence[bytes | str]], size: int | None = None) -> "Payloads":
        """Return the payloads of requests; it takes about 100 µs for each.

        In nginx use the features that nginx computes instead.

        Args:
            requests: Path, query and body of each request, as `features.text` takes them.
            size: Tokens in a row, see `features.tokens`; by default as many as needed.

        """
        return cls(*(torch.from_numpy(each) for each in features.tokens(requests, size)))

    def __len__(self) -> int:
        """Return the number of requests."""
        return self.tokens.shape[0]

    def __getitem__(self, index: Tensor | slice) -> "Payloads":
        """Return the requests of a mask (bool), an index (int64) or a range."""
        return Payloads(self.tokens[index], self.segments[index], self.parameters[index])

    def trimmed(self) -> "Payloads":
        """Return the requests without the columns of tokens that are empty in all of them."""
        size = max(1, int((self.tokens[:, 0] != 0).sum(1).amax()))
        return Payloads(self.tokens[:, :, :size], self.segments[:, :size], self.parameters)
