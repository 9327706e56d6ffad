"""A one-class detector of requests that are new to a site, learned from its normal requests."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from webtorch.detect._payloads import Payloads

ASPECTS = (
    "path",
    "parameters",  # the set of a path's parameters
    "parameter",  # a parameter of a path
    "shape",  # a value's shape; from here on by the name of the parameter, paths have one name
    "length",
    "word",
    "words",  # two words
    "word_after",  # a word after a shape
    "shapes_3",
    "shapes_4",
)
"""The aspects in which a request may be new."""

SLOTS = 1 << 20
"""Slots of the tables of counts; items with the same hash share a slot."""

_PATH = 0x5A5A5A5  # the name of paths
_MIX = -1640531535


class _Items(NamedTuple):
    """The items of requests, `[batch, items]`, one aspect after the other."""

    context: Tensor
    """The slot of an item's context, int64."""
    itself: Tensor
    """The slot of an item in its context, int64."""
    present: Tensor
    """Whether a request has the item, bool."""
    widths: list[int]
    """Numbers of items of each aspect."""

    @classmethod
    def of(cls, tokens: Tensor, segments: Tensor, parameters: Tensor) -> "_Items":
        """Return the items of requests; the tensors are those of `Payloads`."""
        path, names = parameters[:, 0, :1], parameters[:, 0, 1:]
        count, size = segments.shape
        named = torch.cat([torch.full_like(path, _PATH), names], 1)
        of_token = named.gather(1, segments).unsqueeze(1).expand(-1, 5, -1).reshape(count, -1)
        there = parameters[:, 0] != 0
        values = parameters[:, 1:].reshape(count, -1)

        context = torch.cat(
            [
                torch.zeros_like(path),
                path,
                path.expand_as(names),
                named,
                named,
                of_token,
            ],
            1,
        )
        together = _mix(2, names).mul_(there[:, 1:]).sum(1, keepdim=True, dtype=torch.int32)
        itself = torch.cat([path, together, names, values, tokens.reshape(count, -1)], 1)
        present = torch.cat(
            [
                there[:, :1],
                there[:, :1],
                there[:, 1:],
                there,
                there,
                (tokens != 0).reshape(count, -1),
            ],
            1,
        )
        widths = [1, 1, names.shape[1], named.shape[1], named.shape[1], *([size] * 5)]
        aspect = torch.arange(len(ASPECTS), dtype=torch.int32).repeat_interleave(
            torch.tensor(widths)
        )
        context = _mix(100, context ^ (aspect << 24))
        itself = _mix(200, (context * _MIX) ^ itself)
        slots = SLOTS - 1
        return cls(context.long() & slots, itself.long() & slots, present, widths)


def _mix(seed: int, numbers: Tensor) -> Tensor:
    """Return hashes of int32 numbers."""
    mixed = (numbers ^ (seed * 40503 + 1)) * _MIX
    mixed = (mixed ^ ((mixed >> 15) & 0x1FFFF)) * _MIX
    return mixed ^ ((mixed >> 15) & 0x1FFFF)


class Anomaly(nn.Module):
    """Learns a site's normal requests, and scores how new other requests are.

        anomaly = Anomaly()
        anomaly.fit(payloads)
        scores = anomaly(others.tokens, others.segments, others.parameters)

    It counts items of requests by aspects, for example the punctuation in the values of a
    parameter. An item that was never seen is scored by how rare new items are in its context, with
    the Good-Turing estimate: a quote is remarkable in a number, but not in a text. Items that were
    seen score 0.
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

    def forward(self, tokens: Tensor, segments: Tensor, parameters: Tensor) -> Tensor:
        """Return scores, float32 `[batch, 1]`; few normal requests have more than 1.

        Args:
            tokens: The feature `tokens`, int32 `[batch, 5, size]`.
            segments: The feature `segments`, int64 `[batch, size]`.
            parameters: The feature `parameters`, int32 `[batch, 3, 64]`.

        """
        return self.novelty(tokens, segments, parameters).sum(1, keepdim=True) / self.usual

    def novelty(self, tokens: Tensor, segments: Tensor, parameters: Tensor) -> Tensor:
        """Return how new each aspect of requests is, in nats, float32 `[batch, 10]`."""
        items = _Items.of(tokens, segments, parameters)
        count = self.counts[items.itself]
        return self._surprise(items, count, self.contexts[items.context], self.once[items.context])

    def novelty_without(self, payloads: Payloads, learned: Tensor) -> Tensor:
        """Return `novelty` as if each request had not been learned itself, float32 `[batch, 10]`.

        Args:
            payloads: The requests.
            learned: Whether a request was learned, bool `[batch]`.

        """
        items = _Items.of(payloads.tokens, payloads.segments, payloads.parameters)
        count, once = self.counts[items.itself], self.once[items.context]
        out = learned.float().unsqueeze(1)
        # without this request, its items with a count of 1 are no longer seen once in their
        # context, and those with a count of 2 are
        change = ((count == 1).float() - (count == 2).float()) * out
        row, first = _distinct(items)
        cells = row * SLOTS + items.context[first]
        pairs, where = torch.unique(cells, return_inverse=True)
        less = torch.zeros(len(pairs)).index_add(0, where, change[first])
        of_item = torch.zeros_like(once)
        every = torch.arange(len(once)).unsqueeze(1) * SLOTS + items.context
        of_item[items.present] = less[torch.searchsorted(pairs, every[items.present])]
        context = self.contexts[items.context] - out
        return self._surprise(items, count - out, context, once - of_item)

    @torch.no_grad()
    def learn(self, payloads: Payloads) -> None:
        """Count normal requests."""
        items = _Items.of(payloads.tokens, payloads.segments, payloads.parameters)
        row, first = _distinct(items)
        itself, context = items.itself[first], items.context[first]
        before = self.counts.clone()
        self.counts.index_add_(0, itself, torch.ones(len(itself)))
        pairs = torch.unique(row * SLOTS + context)
        self.contexts.index_add_(0, pairs & (SLOTS - 1), torch.ones(len(pairs)))
        slots, where = torch.unique(itself, return_inverse=True)
        of_slot = torch.empty_like(slots).index_copy_(0, where, context)
        change = (self.counts[slots] == 1).float() - (before[slots] == 1).float()
        self.once.index_add_(0, of_slot, change)

    @torch.no_grad()
    def fit(self, payloads: Payloads, false_positives: float = 0.005) -> None:
        """Learn normal requests, and set the scale of the scores.

        Args:
            payloads: The requests.
            false_positives: Share of the requests that score above 1 as if they had not been
                learned; by default 0.005.

        """
        self.learn(payloads)
        learned = torch.ones(len(payloads), dtype=torch.bool)
        scores = self.novelty_without(payloads, learned).sum(1)
        self.usual.copy_(torch.quantile(scores, 1 - false_positives).clamp(min=1.0))

    @staticmethod
    def _surprise(items: _Items, count: Tensor, context: Tensor, once: Tensor) -> Tensor:
        """Return the greatest surprise of each aspect, in nats, float32 `[batch, 10]`.

        Args:
            items: The items.
            count: Number of requests with the item, float32 `[batch, items]`.
            context: Number of requests with any item in its context, float32 `[batch, items]`.
            once: Number of items in its context that were seen once, float32 `[batch, items]`.

        """
        surprise = -((once + 0.5) / (context + 1)).clamp(max=1).log()
        surprise = surprise.masked_fill((count > 0) | ~items.present, 0)
        return torch.stack([part.amax(1) for part in torch.split(surprise, items.widths, 1)], 1)


def _distinct(items: _Items) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the rows of items, each item once per row, and the indexes of these items."""
    row, column = items.present.nonzero(as_tuple=True)
    keys = row * SLOTS + items.itself[row, column]
    _, where = torch.unique(keys, return_inverse=True)
    first = torch.empty(int(where.max()) + 1 if len(where) else 0, dtype=torch.long)
    first.index_copy_(0, where, torch.arange(len(where)))
    return row[first], (row[first], column[first])
