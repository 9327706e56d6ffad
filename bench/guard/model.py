"""The net of the guard: a score of each window of a request, put together to one."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from reading import Numbers
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from webtorch.detect import FieldClassifier

NUMBERS = 1 << 20
HIDDEN = 32


@dataclass
class Batch:
    """Requests as one row of numbers."""

    numbers: Tensor  # int64 [n]
    offsets: Tensor  # int64 [windows]
    owners: Tensor  # int64 [windows], the request of each window
    size: int


class Data:
    """Numbers of many requests, in one array."""

    def __init__(self, requests: list[Numbers]) -> None:
        self.numbers = np.concatenate([each.numbers for each in requests])
        counts = [len(each.numbers) for each in requests]
        self.begins = np.concatenate([[0], np.cumsum(counts)])
        self.starts = [  # of windows within a request
            np.flatnonzero(np.diff(each.windows, prepend=-1)) for each in requests
        ]

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, index: NDArray[np.int64], words: "Words") -> Batch:
        parts = [self.numbers[self.begins[i] : self.begins[i + 1]] for i in index]
        shifts = np.cumsum([0, *(len(part) for part in parts)])
        offsets = [self.starts[i] + shift for i, shift in zip(index, shifts, strict=False)]
        owners = np.repeat(np.arange(len(index)), [len(each) for each in offsets])
        return Batch(
            torch.from_numpy(words.index[np.concatenate(parts)].astype(np.int64)),
            torch.from_numpy(np.concatenate(offsets)),
            torch.from_numpy(owners),
            len(index),
        )


class Words:
    """The numbers that are known: those of several sites or lists."""

    def __init__(self, data: Data, groups: list[str], least: int) -> None:
        seen = np.zeros(NUMBERS, np.int32)
        names = {name: [] for name in groups}
        for i, name in enumerate(groups):
            names[name].append(i)
        for members in names.values():
            parts = [data.numbers[data.begins[i] : data.begins[i + 1]] for i in members]
            seen[np.unique(np.concatenate(parts))] += 1
        known = np.flatnonzero(seen >= least)
        self.index = np.zeros(NUMBERS, np.int32)
        self.index[known] = np.arange(1, len(known) + 1)
        self.known = known

    def __len__(self) -> int:
        return len(self.known) + 1

    def often(self, data: Data) -> NDArray[np.int64]:
        """Return how often each is there, first what is not known."""
        return np.bincount(self.index[data.numbers], minlength=len(self))


class Net(nn.Module):
    def __init__(self, words: int, kinds: int) -> None:
        super().__init__()
        self.linear = nn.EmbeddingBag(words, 1, mode="sum", padding_idx=0)
        self.table = nn.EmbeddingBag(words, HIDDEN, mode="sum", padding_idx=0)
        nn.init.zeros_(self.linear.weight)
        nn.init.normal_(self.table.weight, std=0.05)
        with torch.no_grad():
            self.table.weight[0] = 0
        self.bias = nn.Parameter(torch.zeros(HIDDEN))
        self.out = nn.Linear(HIDDEN, 1 + kinds)
        nn.init.constant_(self.out.bias, 0)
        with torch.no_grad():
            self.out.bias[0] = -6

    def windows(self, batch: Batch) -> Tensor:
        """Return a logit and kinds of each window, `[windows, 1 + kinds]`."""
        hidden = torch.relu(self.table(batch.numbers, batch.offsets) + self.bias)
        found = self.out(hidden)
        linear = self.linear(batch.numbers, batch.offsets)
        return torch.cat([found[:, :1] + linear, found[:, 1:]], 1)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logit of each request, and the kinds of its worst window."""
        windows = self.windows(batch)
        logits = windows[:, 0].clamp(-30, 30)
        sums = torch.zeros(batch.size).scatter_add_(0, batch.owners, logits.exp())
        with torch.no_grad():
            order = torch.argsort(logits, stable=True)
            worst = torch.zeros(batch.size, dtype=torch.int64)
            worst[batch.owners[order]] = order
        return sums.log(), windows[worst, 1:]


def fit(
    net: Net,
    data: Data,
    words: Words,
    labels: NDArray[np.float32],
    kinds: NDArray[np.int64],
    *,
    epochs: int,
    seed: int = 0,
    lr: float = 3e-3,
    size: int = 128,
    normal_weight: float = 2.0,
) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    steps = epochs * (len(labels) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps + epochs, pct_start=0.1)
    for epoch in range(epochs):
        order = rng.permutation(len(labels))
        total = 0.0
        for at in range(0, len(order) - size + 1, size):
            index = order[at : at + size]
            batch = data.batch(index, words)
            # what is not known is frequent in requests of other sites
            batch.numbers[torch.rand(len(batch.numbers)) < 0.1] = 0
            logits, found = net(batch)
            label = torch.from_numpy(labels[index])
            weight = 1 + (normal_weight - 1) * (1 - label)
            loss = binary_cross_entropy_with_logits(logits, label, weight)
            kind = torch.from_numpy(kinds[index])
            if bool((kind >= 0).any()):
                loss = loss + 0.1 * cross_entropy(found, kind, ignore_index=-1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch}: {total / (len(order) // size):.4f}", flush=True)


@torch.no_grad()
def published(
    net: Net,
    words: Words,
    often: NDArray[np.int64],
    kinds: tuple[str, ...],
    shift: float,
    *,
    most: int,
) -> FieldClassifier:
    """Return the classifier of the package that computes nearly the same.

    Args:
        net: The net.
        words: Its numbers.
        often: How often it has seen each of them.
        kinds: Names of its kinds.
        shift: The logit whose probability is to be 0.5.
        most: Numbers that are kept: those that change the logits of windows most.

    """
    rows = torch.cat([net.linear.weight, net.table.weight], 1)
    through = net.out.weight[0].abs()
    weight = rows[:, 0].abs() + (rows[:, 1:].abs() * through).sum(1)
    # above some dozen times it is the weight that counts
    count = torch.from_numpy(often).log1p().clamp(max=4)
    order = (weight * count)[1:].argsort(descending=True)
    kept = order[:most].sort().values
    classifier = FieldClassifier(torch.from_numpy(words.known)[kept], kinds)
    classifier.table.copy_(torch.cat([rows[:1], rows[1:][kept]]))
    classifier.bias.copy_(net.bias)
    classifier.out.load_state_dict(net.out.state_dict())
    classifier.shift.fill_(shift)
    return classifier


def sample(data: Data, labels: NDArray[np.float32], most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return numbers, windows and labels of short requests, the same number of each label."""
    sizes = np.diff(data.begins)
    size = 512
    short = np.flatnonzero(sizes <= size)
    rng = np.random.default_rng(0)
    chosen = np.concatenate(
        [rng.permutation(short[labels[short] == label])[: most // 2] for label in (0, 1)]
    )
    numbers = torch.zeros(len(chosen), size, dtype=torch.int32)
    windows = torch.zeros(len(chosen), size, dtype=torch.int64)
    for row, i in enumerate(chosen):
        starts = data.starts[i]
        numbers[row, : sizes[i]] = torch.from_numpy(data.numbers[data.begins[i] :][: sizes[i]])
        windows[row] = torch.from_numpy(
            np.searchsorted(starts, np.arange(size).clip(max=sizes[i] - 1), side="right") - 1
        )
    return numbers, windows, torch.from_numpy(labels[chosen])


@torch.no_grad()
def scores(net: Net, data: Data, words: Words) -> NDArray[np.float32]:
    found = [
        net(data.batch(np.arange(at, min(at + 256, len(data))), words))[0].numpy()
        for at in range(0, len(data), 256)
    ]
    return np.concatenate(found)
