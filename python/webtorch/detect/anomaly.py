"""What is new to a site: one-class, learned from its normal requests."""

import torch
from torch import Tensor, nn

from webtorch.detect.tokens import Tokens, cut, mix

ASPECTS = (
    "path",
    "parameter",  # of a path
    "parameters",  # all of a path together
    "shape",  # of a value, from here on each for its parameter's name; paths have one name
    "value_length",
    "sign",
    "sign_after",
    "sign_before",
    "word",
    "run",  # of one class, and how long
)
"""In which way something may be new."""

SLOTS = 1 << 18
"""Of the tables of what was seen; what has the same hash is taken for the same."""


class _Features:
    """What requests are made of: for each its row, its aspect, its context and itself, hashed."""

    def __init__(self, tokens: Tokens) -> None:
        self._parts: list[tuple[Tensor, int, Tensor, Tensor]] = []
        self._of_paths(tokens)
        self._of_values(tokens)
        self.row = torch.cat([part[0] for part in self._parts])
        self.cell = torch.cat([part[0] * len(ASPECTS) + part[1] for part in self._parts])
        self.context = torch.cat([part[2] for part in self._parts]).long() & (SLOTS - 1)
        self.itself = torch.cat([part[3] for part in self._parts]).long() & (SLOTS - 1)

    def _add(self, aspect: str, row: Tensor, context: Tensor, itself: Tensor) -> None:
        index = ASPECTS.index(aspect)
        context = mix(100 + index, context)
        self._parts.append((row, index, context, mix(200 + index, context, itself)))

    def _of_paths(self, tokens: Tokens) -> None:
        """Add a row's path and parameters."""
        in_path = (tokens.is_path.index_select(0, tokens.segment) & tokens.value).nonzero()[:, 0]
        row = tokens.row.index_select(0, tokens.segment.index_select(0, in_path))
        placed = mix(1, tokens.word.index_select(0, in_path), tokens.place.index_select(0, in_path))
        nothing = torch.zeros(tokens.rows, dtype=torch.int32)
        path = nothing.index_add(0, row, placed)
        self._add("path", torch.arange(tokens.rows), nothing, path)

        parameter = self._filled(tokens)
        row = tokens.row.index_select(0, parameter)
        name = tokens.name.index_select(0, parameter)
        self._add("parameter", row, path.index_select(0, row), name)
        together = nothing.index_add(0, row, mix(2, name))
        self._add("parameters", torch.arange(tokens.rows), path, together)

    def _of_values(self, tokens: Tokens) -> None:
        """Add the values of parameters, and the paths, as such."""
        value = tokens.value.nonzero()[:, 0]
        segment = tokens.segment.index_select(0, value)
        kind, word, length, place = (
            each.index_select(0, value)
            for each in (tokens.kind, tokens.word, tokens.length, tokens.place)
        )
        nothing = torch.zeros(tokens.row.shape[0], dtype=torch.int32)
        shape = nothing.index_add(0, segment, mix(3, tokens.shape.index_select(0, value), place))
        total = nothing.index_add(0, segment, length)
        parameter = self._filled(tokens)
        row = tokens.row.index_select(0, parameter)
        name = tokens.name.index_select(0, parameter)
        self._add("shape", row, name, shape.index_select(0, parameter))
        self._add("value_length", row, name, total.index_select(0, parameter))

        row = tokens.row.index_select(0, segment)
        name = tokens.name.index_select(0, segment)
        before = tokens.kind.index_select(0, (value - 1).clamp(min=0)) * (place > 0)
        following = tokens.kind.index_select(0, (value + 1).clamp(max=tokens.kind.shape[0] - 1))
        following = following * (following > 0x1F).int()
        self._add("sign", row, name, kind)
        self._add("sign_after", row, name, mix(4, before, kind))
        self._add("sign_before", row, name, mix(5, kind, following))
        self._add("word", row, name, word)
        self._add("run", row, name, mix(6, kind, length))

    @staticmethod
    def _filled(tokens: Tokens) -> Tensor:
        """Return the segments that are parameters: those with a name or a value."""
        nothing = torch.zeros(tokens.row.shape[0], dtype=torch.bool)
        nothing[tokens.segment[tokens.value]] = True
        return ((nothing | (tokens.name != 0)) & ~tokens.is_path).nonzero()[:, 0]


class Anomaly(nn.Module):
    """Learns a site's normal requests, and tells what is new in others.

    It counts what requests are made of, by aspects, such as the signs in the values of a
    parameter. What was never seen counts by how seldom new things come in its context, with Good
    and Turing's estimate: a quote is remarkable in a number and not in a text. What was seen does
    not count.
    """

    counts: Tensor
    contexts: Tensor
    once: Tensor
    usual: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(SLOTS))
        self.register_buffer("contexts", torch.zeros(SLOTS))
        self.register_buffer("once", torch.zeros(SLOTS))
        self.register_buffer("usual", torch.tensor(1.0))

    def forward(self, bytes: Tensor) -> Tensor:
        """Return scores: float32 of shape `[batch, 1]`; few normal requests have more than 1.

        Args:
            bytes: uint8 of shape `[batch, width]`, the feature `bytes`.

        """
        return self.novelty(bytes).sum(1, keepdim=True) / self.usual

    def novelty(self, bytes: Tensor, learned: Tensor | None = None) -> Tensor:
        """Return how new each aspect of requests is, in nats: float32, `[batch, 10]`.

        Args:
            bytes: uint8 of shape `[batch, width]`.
            learned: bool of shape `[batch]`: those that it has learned. They are judged as if it
                had not.

        """
        features = _Features(cut(bytes))
        if learned is not None:
            features = self._distinct(features)
        count = self.counts.index_select(0, features.itself)
        context = self.contexts.index_select(0, features.context)
        once = self.once.index_select(0, features.context)
        if learned is not None:
            out = learned.index_select(0, features.row).float()
            pairs = features.row * SLOTS + features.context
            pairs, where = torch.unique(pairs, return_inverse=True)
            single = (count == 1).float() - (count == 2).float()
            of_row = torch.zeros(pairs.shape[0]).index_add(0, where, single)
            once = once - out * of_row.index_select(0, where)
            count, context = count - out, context - out
        surprise = -((once + 0.5) / (context + 1)).clamp(max=1).log()
        surprise = torch.where(count > 0, 0.0, surprise)
        cells = torch.zeros(bytes.shape[0] * len(ASPECTS))
        cells.scatter_reduce_(0, features.cell, surprise, "amax")
        return cells.view(-1, len(ASPECTS))

    @torch.no_grad()
    def learn(self, bytes: Tensor) -> None:
        """Count normal requests.

        Args:
            bytes: uint8 of shape `[batch, width]`.

        """
        features = self._distinct(_Features(cut(bytes)))
        before = self.counts.clone()
        self.counts.index_add_(0, features.itself, torch.ones(features.itself.shape[0]))
        pairs = torch.unique(features.row * SLOTS + features.context)
        self.contexts.index_add_(0, pairs & (SLOTS - 1), torch.ones(pairs.shape[0]))
        itself, where = torch.unique(features.itself, return_inverse=True)
        context = torch.empty_like(itself).index_copy_(0, where, features.context)
        change = (self.counts[itself] == 1).float() - (before[itself] == 1).float()
        self.once.index_add_(0, context, change)

    @torch.no_grad()
    def fit(self, bytes: Tensor, false_positives: float = 0.005) -> None:
        """Learn normal requests, and choose what scores 1.

        Args:
            bytes: uint8 of shape `[batch, width]`.
            false_positives: part of them that would score more if it was not learned.

        """
        self.learn(bytes)
        learned = torch.ones(bytes.shape[0], dtype=torch.bool)
        scores = self.novelty(bytes, learned).sum(1)
        self.usual.copy_(torch.quantile(scores, 1 - false_positives).clamp(min=1.0))

    @staticmethod
    def _distinct(features: _Features) -> _Features:
        """Leave what a row has several times once."""
        key, where = torch.unique(features.row * SLOTS + features.itself, return_inverse=True)
        first = torch.empty_like(key).index_copy_(0, where, torch.arange(where.shape[0]))
        features.row, features.cell = features.row[first], features.cell[first]
        features.context, features.itself = features.context[first], features.itself[first]
        return features
