"""A classifier of requests by their payload: attack or not."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from webtorch.detect._anomaly import ASPECTS, Anomaly
from webtorch.detect._payloads import Payloads

WEIGHTS = Path(__file__).with_name("payload.safetensors")
"""The weights that are shipped."""

BUCKETS = 1 << 16
"""Buckets of hashed n-grams."""

SEGMENTS = 64

_BIAS = -7.0  # about log(exp(-3) / SEGMENTS)
_LARGE = 60.0  # greatest logit, so that sums of exponentials fit in float32


class PayloadClassifier(nn.Module):
    """Scores requests by the probability that their payload is an attack.

        classifier = PayloadClassifier.pretrained()
        probabilities = classifier(payloads.tokens, payloads.segments)

    Words, numbers and punctuation of the path and of each parameter's value are in n-grams, each of
    which has a weight. The score of a request is about that of its worst segment (the log of a sum
    of exponentials, as in multiple-instance learning). Names of parameters are not used, so what is
    learned from one site holds for another. From labelled requests of a site, `adapt` learns its
    normal requests, see `Anomaly`.

    Labels are float32 `[batch]`, 1 for attacks.
    """

    bias: nn.Parameter

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(BUCKETS))
        self.bias = nn.Parameter(torch.tensor(_BIAS))
        self.site: Anomaly | None = None
        self.site_weight = nn.Parameter(torch.zeros(len(ASPECTS) + 1))
        self.site_bias = nn.Parameter(torch.tensor(-3.0))

    @classmethod
    def pretrained(cls, path: Path = WEIGHTS) -> "PayloadClassifier":
        """Return a classifier with weights from a file.

        Args:
            path: A file of `save`; by default the weights that are shipped.

        Raises:
            OSError: The file cannot be read.
            ValueError: It has no weights of a classifier.

        """
        classifier = cls()
        classifier.load(path)
        return classifier

    def load(self, path: Path) -> None:
        """Read weights from a file of `save`.

        Raises:
            OSError: The file cannot be read.
            ValueError: It has no weights of a classifier.

        """
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        missing = {"weight", "bias"} - tensors.keys()
        if missing or tensors["weight"].shape != (BUCKETS,):
            raise ValueError(f"{path} has no weights of a PayloadClassifier")
        if "site.counts" in tensors:
            self.site = Anomaly()
        self.load_state_dict({**self.state_dict(), **tensors})

    def save(self, path: Path) -> None:
        """Write the weights, and those of the site if it is adapted, as a safetensors file.

        Raises:
            OSError: The file cannot be written.

        """
        tensors = {name: tensor.detach() for name, tensor in self.state_dict().items()}
        tensors["weight"] = tensors["weight"].half()
        if self.site is None:
            tensors = {name: tensors[name] for name in ("weight", "bias")}
        save_file(tensors, path)
        path.chmod(0o644)  # workers of another user read it

    def forward(self, tokens: Tensor, segments: Tensor, parameters: Tensor | None = None) -> Tensor:
        """Return the probability of an attack, float32 `[batch, 1]`.

        Args:
            tokens: The feature `tokens`, int32 `[batch, 5, size]`.
            segments: The feature `segments`, int64 `[batch, size]`.
            parameters: The feature `parameters`, int32 `[batch, 3, 64]`; needed after `adapt` only.

        Raises:
            ValueError: It is adapted to a site, and there are no parameters.

        """
        logits = self._general(tokens, segments)
        if self.site is not None:
            if parameters is None:
                raise ValueError("a classifier that is adapted to a site needs `parameters`, too")
            logits = self._combine(self.site.novelty(tokens, segments, parameters), logits)
        return logits.unsqueeze(1).sigmoid()

    def logits(self, payloads: Payloads) -> Tensor:
        """Return the logits of the probabilities, float32 `[batch]`."""
        general = self._general(payloads.tokens, payloads.segments)
        if self.site is None:
            return general
        novelty = self.site.novelty(payloads.tokens, payloads.segments, payloads.parameters)
        return self._combine(novelty, general)

    def loss(self, payloads: Payloads, labels: Tensor) -> Tensor:
        """Return the binary cross entropy of requests with labels, a scalar to be minimized."""
        return binary_cross_entropy_with_logits(self.logits(payloads), labels)

    def fit(self, payloads: Payloads, labels: Tensor, *, epochs: int = 5, lr: float = 0.03) -> None:
        """Learn from many labelled requests, of any sites.

        Args:
            payloads: The requests.
            labels: Labels of the requests.
            epochs: Number of passes over the requests; by default 5.
            lr: Learning rate of the first pass, which decreases to 0; by default 0.03.

        """
        optimizer = torch.optim.Adam([self.weight, self.bias], lr=lr)
        generator = torch.Generator().manual_seed(0)
        size = max(8, min(256, len(labels) // 32))
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = lr * (1 - epoch / epochs)
            for part in torch.randperm(len(labels), generator=generator).split(size):  # type: ignore[no-untyped-call]
                some = payloads[part].trimmed()
                logits = self._general(some.tokens.contiguous(), some.segments)
                loss = binary_cross_entropy_with_logits(logits, labels[part])
                loss = loss + 1e-6 * self.weight.square().sum()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()

    def adapt(self, payloads: Payloads, labels: Tensor, *, decay: float = 0.003) -> None:
        """Learn a site from labelled requests, normal ones among them.

        Args:
            payloads: Requests of the site, 200 or more.
            labels: Labels of the requests.
            decay: Weight decay of the site's weights; by default 0.003.

        """
        self.site = Anomaly()
        normal = labels == 0
        self.site.learn(payloads[normal])
        with torch.no_grad():
            novelty = self.site.novelty_without(payloads, normal)
            general = self._general(payloads.tokens, payloads.segments)
            self.site_weight.zero_()
            self.site_bias.fill_(-3.0)
        optimizer = torch.optim.LBFGS(
            [self.site_weight, self.site_bias], max_iter=300, line_search_fn="strong_wolfe"
        )

        def closure() -> Any:
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(self._combine(novelty, general), labels)
            loss = loss + decay * self.site_weight.square().sum()
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]

    def learn(self, payloads: Payloads, labels: Tensor, *, lr: float = 0.05) -> None:
        """Learn from an operator's feedback, a few requests at a time.

        Normal requests are added to those of the site, and a step is made along the gradient of
        `loss`. With a `webtorch.Model`, use `model.step(classifier.loss(payloads, labels))`.

        Args:
            payloads: The requests.
            labels: Labels of the requests.
            lr: Length of the step of each parameter; by default 0.05.

        """
        with torch.enable_grad():
            loss = self.loss(payloads, labels)
            parameters = [each for each in self.parameters() if each.requires_grad]
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(lr * gradient / (gradient.norm() + 1e-6))
        if self.site is not None and bool((labels == 0).any()):
            self.site.learn(payloads[labels == 0])

    def _general(self, tokens: Tensor, segments: Tensor) -> Tensor:
        """Return the logits without knowledge of the site, float32 `[batch]`.

        The operations are few, as each takes more than a microsecond and batches are small. After
        a request's tokens, number and weight are 0, and the segment is the last one.
        """
        ngrams = self.weight.index_select(0, tokens.view(-1)).view(tokens.shape)
        segment = torch.zeros(tokens.shape[0], SEGMENTS, device=tokens.device)
        segment = segment.scatter_add_(1, segments, ngrams.sum(1))
        if torch.is_grad_enabled():
            # the weight of number 0 must stay 0, and gradients finite
            segment = torch.cat([segment[:, :-1], segment.new_zeros(len(segment), 1)], 1)
            segment = segment.clamp(max=_LARGE)
        return segment.exp().sum(1).log() + self.bias

    def _combine(self, novelty: Tensor, general: Tensor) -> Tensor:
        """Return the logits from the novelty for the site and the general logits."""
        scaled = (general.clamp(-6, 6) + 6) / 3
        return torch.cat([novelty, scaled.unsqueeze(1)], 1) @ self.site_weight + self.site_bias
