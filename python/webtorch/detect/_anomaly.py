"""What is new to a site: one-class, learned from its normal requests."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from webtorch.detect._payloads import Payloads

ASPECTS = (
    "path",
    "parameters",  # of a path, all together
    "parameter",  # of a path
    "shape",  # of a value, from here on each for its parameter's name; paths have one name
    "length",
    "word",
    "words",  # two of them
    "word_after",  # a shape
    "shapes_3",
    "shapes_4",
)
"""In which way something may be new."""

SLOTS = 1 << 20
"""Of the tables of what was seen; what has the same hash is taken for the same."""

_PATH = 0x5A5A5A5  # the name of paths
_MIX = -1640531535


class _Items(NamedTuple):
    """What requests are made of, of shape `[batch, items]`, aspect by aspect."""

    context: Tensor
    """int64: where it is, a slot."""
    itself: Tensor
    """int64: what it is, and where, a slot."""
    present: Tensor
    """bool."""
    widths: list[int]
    """Items of the aspects."""

    @classmethod
    def of(cls, tokens: Tensor, segments: Tensor, parameters: Tensor) -> "_Items":
        """Take requests apart; the tensors are those of `Payloads`."""
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

    def forward(self, tokens: Tensor, segments: Tensor, parameters: Tensor) -> Tensor:
        """Return scores: float32 of shape `[batch, 1]`; few normal requests have more than 1.

        Args:
            tokens: int32 of shape `[batch, 5, size]`.
            segments: int64 of shape `[batch, size]`.
            parameters: int32 of shape `[batch, 3, 64]`.

        """
        return self.novelty(tokens, segments, parameters).sum(1, keepdim=True) / self.usual

    def novelty(self, tokens: Tensor, segments: Tensor, parameters: Tensor) -> Tensor:
        """Return how new each aspect of requests is, in nats: float32, `[batch, 10]`."""
        items = _Items.of(tokens, segments, parameters)
        count = self.counts[items.itself]
        return self._surprise(items, count, self.contexts[items.context], self.once[items.context])

    def novelty_without(self, payloads: Payloads, learned: Tensor) -> Tensor:
        """Return the same, of those that were learned as if they had not been.

        Args:
            payloads: the requests.
            learned: bool of shape `[batch]`: those that are counted.

        """
        items = _Items.of(payloads.tokens, payloads.segments, payloads.parameters)
        count, once = self.counts[items.itself], self.once[items.context]
        out = learned.float().unsqueeze(1)
        # in a context, those are no longer seen once that this request alone has, but those are
        # that another one has, too
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
        """Learn normal requests, and choose what scores 1.

        Args:
            payloads: the requests.
            false_positives: part of them that would score more if it was not learned.

        """
        self.learn(payloads)
        learned = torch.ones(len(payloads), dtype=torch.bool)
        scores = self.novelty_without(payloads, learned).sum(1)
        self.usual.copy_(torch.quantile(scores, 1 - false_positives).clamp(min=1.0))

    @staticmethod
    def _surprise(items: _Items, count: Tensor, context: Tensor, once: Tensor) -> Tensor:
        """Return the greatest surprise of each aspect.

        Args:
            items: the items.
            count: of the requests that had them, float32 of shape `[batch, items]`.
            context: of those that had something in the same context.
            once: of what was seen only once there.

        """
        surprise = -((once + 0.5) / (context + 1)).clamp(max=1).log()
        surprise = surprise.masked_fill((count > 0) | ~items.present, 0)
        return torch.stack([part.amax(1) for part in torch.split(surprise, items.widths, 1)], 1)


def _distinct(items: _Items) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the rows of items, each item once a row, and where in the items they are."""
    row, column = items.present.nonzero(as_tuple=True)
    keys = row * SLOTS + items.itself[row, column]
    _, where = torch.unique(keys, return_inverse=True)
    first = torch.empty(int(where.max()) + 1 if len(where) else 0, dtype=torch.long)
    first.index_copy_(0, where, torch.arange(len(where)))
    return row[first], (row[first], column[first])
