"""A network that distinguishes the requests of a surge from those of people."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from webtorch.detect._flood_clients import Present
from webtorch.detect._flood_rows import COLUMNS, KINDS, SEVERAL, TEMPO, requests_of

_TICK, _LATER_TICK = 0.1, 0.3  # seconds between two lessons, of the first and of later ones
_FIRST = 100  # lessons
_LESSON = 256  # rows of each kind in a step
_ENOUGH = 64  # rows of the present for a lesson
_MARGIN = 0.3  # distance of the threshold above the logits of the people
_MARGIN_ROWS = 300.0  # added to it, divided by the rows of the sample: few rows say less
_PARTS = (0.01, 0.02, 0.04, 0.07)  # shares of the sample that may be denied if that is worth it
_WORTH = 15.0  # share of current requests to be denied / share of the sample that it costs
_RARE = 0.02  # share of a kind of targets that people hardly request
_FEW = 32  # rows of people with the same number of requests that are enough


class Network:
    """A small network that is trained to distinguish the present from a sample of people.

    People who come for the first time, or for something new, are people, too:

    - they are compared with people who had sent as many requests;
    - all that the sample hardly has are one kind of targets, and half of the sample is taken as
      if one kind of each client's targets had been of that.

    Args:
        people: Rows of the sample.
        size: Rows of the present that are kept.
        blocked: Share of the sample that may be denied at any rate.
        has_tempo: Whether the pace of clients counts.
        generator: Random numbers.

    """

    def __init__(
        self,
        people: Tensor,
        size: int,
        blocked: float,
        has_tempo: bool,
        generator: torch.Generator,
    ) -> None:
        self._generator, self._blocked = generator, blocked
        self._present = Present(COLUMNS + 1, size)  # and the luck of their clients
        self._map = _map_of(people, has_tempo)
        self._people, self._numbers = self._sample(people)
        self._starts, self._counts = _groups(self._numbers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Sequential(nn.Linear(COLUMNS + 1, 24), nn.ReLU(), nn.Linear(24, 1))
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.02, weight_decay=0.02)
        self._line = self._shed_line = math.inf
        self._next_lesson = -math.inf
        self._lessons = 0
        self.denied = 0.0
        """Share of the present that is denied."""

    def add(self, rows: Tensor, luck: Tensor) -> None:
        """Add rows of the present."""
        self._present.add(torch.cat([rows, luck.unsqueeze(1)], 1))

    def scores(self, rows: Tensor, luck: Tensor) -> Tensor:
        """Return scores from 0 to 1, float32 `[batch]`; those of 0.5 and more are to be denied."""
        logits = self.network(rows @ self._map).flatten()
        return torch.sigmoid(torch.maximum(logits - self._line, logits + luck - self._shed_line))

    def learn(self, now: float, least: float) -> None:
        """Train the network, if it is time to, and set the thresholds.

        Args:
            now: Seconds of the clock.
            least: Share of the present that is to be denied.

        """
        present, luck = self._present.rows[:, :-1], self._present.rows[:, -1]
        if now < self._next_lesson or len(present) < _ENOUGH or not len(self._people):
            return
        self._next_lesson = now + (_TICK if self._lessons < _FIRST else _LATER_TICK)
        self._lessons += 1
        numbers = requests_of(present)
        present = present @ self._map
        labels = torch.cat([torch.zeros(_LESSON), torch.ones(_LESSON)])
        for _ in range(24 if self._lessons <= 4 else 6):
            drawn = torch.randint(len(present), (_LESSON,), generator=self._generator)
            rows = torch.cat([self._people[self._like(numbers[drawn])], present[drawn]])
            loss = binary_cross_entropy_with_logits(self.network(rows).squeeze(1), labels)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
        with torch.no_grad():
            logits = self.network(present).flatten()
            self._line = self._threshold(logits, numbers)
            lots = logits + luck
            self._shed_line = float(lots.quantile(1 - least)) if least else math.inf
            is_denied = (logits > self._line) | (lots > self._shed_line)
            self.denied = float(is_denied.float().mean())

    def _sample(self, people: Tensor) -> tuple[Tensor, Tensor]:
        """Return mapped rows of people, with the same ones as if something were new to the site.

        They are in the order of their numbers of requests, which are returned, too.
        """
        rows = people @ self._map
        kinds = rows[:, KINDS]
        changed = rows.clone()
        if len(rows):
            chosen = torch.multinomial((kinds > 0.01).float() + 1e-6, 1, generator=self._generator)
            part = (2 * torch.rand(len(rows), 1, generator=self._generator)).clamp(max=1)
            moved = part * kinds.gather(1, chosen)
            changed[:, KINDS].scatter_add_(1, chosen, -moved)
            changed[:, -1:] += moved
        rows = torch.cat([rows, changed])
        numbers = requests_of(people).repeat(2)
        order = numbers.argsort(stable=True)
        return rows[order], numbers[order]

    def _like(self, numbers: Tensor) -> Tensor:
        """Return random people, half of them with these numbers of requests, half with any."""
        drawn = torch.rand(len(numbers), generator=self._generator)
        like = self._starts[numbers] + (drawn * self._counts[numbers]).long()
        like[::2] = (drawn[::2] * len(self._people)).long()
        return like

    def _threshold(self, present: Tensor, numbers: Tensor) -> float:
        """Return the logit above which requests are denied.

        It denies the share `blocked` of the sample, or a larger one if that denies so many more
        current requests that it is worth it: then the sample has rows of the flood. That is so for
        the sample as it is, and weighted by numbers of requests, with the present's shares of them.
        """
        people = self.network(self._people).flatten()
        weights = torch.bincount(numbers, minlength=SEVERAL + 1) / self._counts
        weights = weights[self._numbers]
        parts = torch.tensor([self._blocked, *(each for each in _PARTS if each > self._blocked)])
        lines = _quantiles(people, weights, 1 - parts) + _MARGIN
        lines = torch.maximum(lines, people.quantile(1 - parts) + _MARGIN)
        lines = lines + _MARGIN_ROWS / (len(people) / 2)  # each is there twice
        denied = (present.unsqueeze(1) > lines).float().mean(0)
        return float(lines[(denied - _WORTH * parts).argmax()])


def _map_of(people: Tensor, has_tempo: bool) -> Tensor:
    """Return the matrix from rows to inputs of the network."""
    matrix = torch.cat([torch.diag(1 - TEMPO * (not has_tempo)), torch.zeros(COLUMNS, 1)], 1)
    if len(people):
        kinds = torch.arange(COLUMNS)[KINDS]
        rare = kinds[people[:, KINDS].mean(0) < _RARE]
        matrix[rare] = 0
        matrix[rare, -1] = 1
    return matrix


def _groups(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the start of the group of each number, and its size: its rows, and some before.

    A number of which there are few has those of the next lower or higher ones, too.
    """
    each = torch.arange(SEVERAL + 1)
    starts = torch.searchsorted(numbers, each)
    ends = torch.searchsorted(numbers, each, right=True)
    ends = torch.maximum(ends, torch.tensor(min(_FEW, len(numbers))))
    starts = torch.minimum(starts, (ends - _FEW).clamp(min=0))
    return starts, ends - starts


def _quantiles(values: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    """Return the values below which these shares of the weights are."""
    order = values.argsort()
    sums = weights[order].cumsum(0)
    places = torch.searchsorted(sums, shares * sums[-1]).clamp(max=len(values) - 1)
    return values[order][places]
