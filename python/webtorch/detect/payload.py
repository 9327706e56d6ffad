"""Attack or not, by the payload of a request."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from webtorch.detect.anomaly import ASPECTS, Anomaly
from webtorch.detect.tokens import Tokens, cut

WEIGHTS = Path(__file__).with_name("payload.safetensors")
"""Those that are shipped."""

BUCKETS = 1 << 16
"""Of hashed n-grams."""


_FACTORS = (0x9E3779B, 0x6C62273, 0x2545F49, 0x5851F43, 0x4F6CDD1, 0x1B87359, 0x45D9F3B)
_KINDS = torch.arange(5, dtype=torch.int32) * 0x3504F33


def _ngrams(tokens: Tokens) -> Tensor:
    """Return hashes of n-grams of the tokens, int32 of shape `[tokens, 5]`.

    Of words they are one and two, of shapes three and four, and the word after a shape: `or 1=1`
    and `and 7=7` have the same shapes. N-grams do not reach over the ends of values.
    """
    inside = tokens.value.int()
    count = inside.shape[0]
    words = pad(tokens.word * inside, (1, 0))
    shapes = pad(tokens.shape * inside, (3, 0))
    word, shape = words[1:], shapes[3:]
    shape_1 = shapes[2 : 2 + count]
    # a split is before a segment, and no value's; what is before the split is another segment's
    shape_2, shape_3 = (shapes[3 - by :][:count] * (tokens.place >= by) for by in (2, 3))
    pair = shape_1 + shape_2 * _FACTORS[0]
    ngrams = torch.stack(
        (
            word,
            word + words[:-1] * _FACTORS[1],
            word + shape_1 * _FACTORS[2],
            shape + pair * _FACTORS[3],
            shape + (pair + shape_3 * _FACTORS[4]) * _FACTORS[5],
        ),
        1,
    )
    # the upper bits of a product depend on all of its factor's
    return ((ngrams + _KINDS) * _FACTORS[6] >> 15) & (BUCKETS - 1)


class PayloadClassifier(nn.Module):
    """Scores requests by whether their payload is an attack.

    Words, numbers and signs of the path and of each parameter's value are hashed in n-grams, each
    with a weight, and a request is as bad as its worst value. Names of parameters are not looked
    at, so what it has learned of one site is true of another. With labelled requests of a site,
    `adapt` adds what that site's requests are like, see `Anomaly`.

    All methods take the feature `bytes`, uint8 of shape `[batch, width]`; labels are float32 of
    shape `[batch]`, 1 for attacks.
    """

    bias: nn.Parameter
    adapted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(BUCKETS))
        self.bias = nn.Parameter(torch.tensor(-3.0))
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

    def forward(self, bytes: Tensor) -> Tensor:
        """Return the probability of an attack, float32 of shape `[batch, 1]`."""
        return torch.sigmoid(self.logits(bytes)).unsqueeze(1)

    def logits(self, bytes: Tensor) -> Tensor:
        """Return what the sigmoid is of, float32 of shape `[batch]`."""
        tokens = cut(bytes)
        general = self._general(tokens)
        if self.site is None:
            return general
        return self._combine(self.site.novelty(bytes), general)

    def loss(self, bytes: Tensor, labels: Tensor) -> Tensor:
        """Return the loss to be minimized, a scalar."""
        return binary_cross_entropy_with_logits(self.logits(bytes), labels)

    def fit(self, bytes: Tensor, labels: Tensor, *, epochs: int = 5, lr: float = 0.03) -> None:
        """Learn what attacks look like from many labelled requests, of any sites."""
        optimizer = torch.optim.Adam([self.weight, self.bias], lr=lr)
        generator = torch.Generator().manual_seed(0)
        size = max(8, min(256, len(labels) // 32))
        for epoch in range(epochs):
            optimizer.param_groups[0]["lr"] = lr * (1 - epoch / epochs)
            for part in torch.randperm(len(labels), generator=generator).split(size):  # type: ignore[no-untyped-call]
                logits = self._general(cut(bytes[part]))
                loss = binary_cross_entropy_with_logits(logits, labels[part])
                loss = loss + 1e-6 * self.weight.square().sum()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()

    def adapt(self, bytes: Tensor, labels: Tensor, *, decay: float = 0.003) -> None:
        """Learn a site from some labelled requests of it, 200 or more, normal ones among them.

        Args:
            bytes: the requests.
            labels: of them.
            decay: pulls the weights of what is new to the site to zero.

        """
        self.site = Anomaly()
        normal = labels == 0
        self.site.learn(bytes[normal])
        with torch.no_grad():
            novelty = self.site.novelty(bytes, normal)
            general = self._general(cut(bytes))
        parameters = [self.site_weight, self.site_bias]
        with torch.no_grad():
            self.site_weight.zero_()
            self.site_bias.fill_(-3.0)
        optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe")

        def closure() -> Any:
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(self._combine(novelty, general), labels)
            loss = loss + decay * self.site_weight.square().sum()
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]

    def learn(self, bytes: Tensor, labels: Tensor, *, lr: float = 0.05) -> None:
        """Learn from an operator's feedback, a few requests at a time.

        Normal requests are counted as the site's, and a step is made along the gradient of
        `loss`. With a `webtorch.Model`, use `model.step(classifier.loss(bytes, labels))`.
        """
        with torch.enable_grad():
            loss = self.loss(bytes, labels)
            parameters = [each for each in self.parameters() if each.requires_grad]
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(lr * gradient / (gradient.norm() + 1e-6))
        if self.site is not None and bool((labels == 0).any()):
            self.site.learn(bytes[labels == 0])

    def _general(self, tokens: Tokens) -> Tensor:
        """Return the logits that know nothing of the site."""
        inside = tokens.value
        weights = self.weight.index_select(0, _ngrams(tokens).flatten()).view(-1, 5).sum(1)
        segments = torch.zeros(2, tokens.row.shape[0])
        both = torch.stack([weights * inside, inside.float()])
        total, count = segments.index_add(1, tokens.segment, both)
        segment = (total * count.clamp(min=1).rsqrt() + self.bias).clamp(max=60)
        rows = torch.full((tokens.rows,), 1e-9)
        return rows.index_add(0, tokens.row, segment.exp()).log()

    def _combine(self, novelty: Tensor, general: Tensor) -> Tensor:
        """Return the logits of what is new to the site and what looks like an attack anywhere."""
        scaled = (general.clamp(-6, 6) + 6) / 3
        return torch.cat([novelty, scaled.unsqueeze(1)], 1) @ self.site_weight + self.site_bias
