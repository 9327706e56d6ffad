"""Attack or not, by the payload of a request."""

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
"""Those that are shipped."""

BUCKETS = 1 << 16
"""Of hashed n-grams."""

SEGMENTS = 64

_BIAS = -7.0  # exp(-3) divided by so many segments
_LARGE = 60.0  # the exponential of more has no room in float32


class PayloadClassifier(nn.Module):
    """Scores requests by whether their payload is an attack.

    Words, numbers and signs of the path and of each parameter's value are in n-grams, each of which
    has a weight; a request is about as bad as its worst segment (the sum of exponentials, as in
    multiple-instance learning). Names of parameters are not looked at, so what it has learned of
    one site is true of another. With labelled requests of a site, `adapt` adds what that site's
    requests are like, see `Anomaly`.

    Labels are float32 of shape `[batch]`, 1 for attacks.
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
        """Return one with the weights that are shipped, or with those that `save` wrote."""
        made = cls()
        made.load(path)
        return made

    def load(self, path: Path) -> None:
        """Read weights.

        Raises:
            OSError, ValueError: if the file is none of `save`'s.

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
        """Write the weights, and what is known of the site if there is something."""
        tensors = {name: tensor.detach() for name, tensor in self.state_dict().items()}
        tensors["weight"] = tensors["weight"].half()
        if self.site is None:
            tensors = {name: tensors[name] for name in ("weight", "bias")}
        save_file(tensors, path)
        path.chmod(0o644)  # workers of another user read it

    def forward(self, tokens: Tensor, segments: Tensor, parameters: Tensor | None = None) -> Tensor:
        """Return the probability of an attack, float32 of shape `[batch, 1]`.

        Args:
            tokens: int32 of shape `[batch, 5, size]`.
            segments: int64 of shape `[batch, size]`.
            parameters: int32 of shape `[batch, 3, 64]`, for one that is adapted to a site.

        Raises:
            ValueError: if it is adapted, and there are no parameters.

        """
        logits = self._general(tokens, segments)
        if self.site is not None:
            if parameters is None:
                raise ValueError("a classifier that is adapted to a site needs `parameters`, too")
            logits = self._combine(self.site.novelty(tokens, segments, parameters), logits)
        return logits.unsqueeze(1).sigmoid()

    def logits(self, payloads: Payloads) -> Tensor:
        """Return what the sigmoid is of, float32 of shape `[batch]`."""
        general = self._general(payloads.tokens, payloads.segments)
        if self.site is None:
            return general
        novelty = self.site.novelty(payloads.tokens, payloads.segments, payloads.parameters)
        return self._combine(novelty, general)

    def loss(self, payloads: Payloads, labels: Tensor) -> Tensor:
        """Return the loss to be minimized, a scalar."""
        return binary_cross_entropy_with_logits(self.logits(payloads), labels)

    def fit(self, payloads: Payloads, labels: Tensor, *, epochs: int = 5, lr: float = 0.03) -> None:
        """Learn what attacks look like from many labelled requests, of any sites."""
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
        """Learn a site from some labelled requests of it, 200 or more, normal ones among them.

        Args:
            payloads: the requests.
            labels: of them.
            decay: pulls the weights of what is new to the site to zero.

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

        Normal requests are counted as the site's, and a step is made along the gradient of
        `loss`. With a `webtorch.Model`, use `model.step(classifier.loss(payloads, labels))`.
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
        """Return the logits that know nothing of the site, float32 of shape `[batch]`.

        Few operations, as batches are small and each takes more than a microsecond. Where there is
        no token, number and weight are 0, and the segment is the last one.
        """
        ngrams = self.weight.index_select(0, tokens.view(-1)).view(tokens.shape)
        segment = torch.zeros(tokens.shape[0], SEGMENTS).scatter_add_(1, segments, ngrams.sum(1))
        if torch.is_grad_enabled():
            # the weight of no token must stay 0, and gradients finite
            segment = torch.cat([segment[:, :-1], torch.zeros(len(segment), 1)], 1)
            segment = segment.clamp(max=_LARGE)
        return segment.exp().sum(1).log() + self.bias

    def _combine(self, novelty: Tensor, general: Tensor) -> Tensor:
        """Return the logits of what is new to the site and what looks like an attack anywhere."""
        scaled = (general.clamp(-6, 6) + 6) / 3
        return torch.cat([novelty, scaled.unsqueeze(1)], 1) @ self.site_weight + self.site_bias
