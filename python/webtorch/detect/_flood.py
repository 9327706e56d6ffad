"""A detector of the clients of a flood, learned from a site's own traffic without labels."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

CLIENT_COLUMNS = 31
"""Columns of the feature `client`."""

_REQUESTS, _ERRORS, _FAILURES = 0, 11, 12
_COLUMNS = torch.tensor([_REQUESTS, _ERRORS, 9, 10, *range(13, CLIENT_COLUMNS), 2, 5, 6])
_TEMPO = torch.zeros(len(_COLUMNS))
_TEMPO[-3:] = 1  # rate_fast, gap_mean, gap_deviation
_SEVERAL = math.log(1 + 6)  # log of 6 requests; above it the number does not count

_WINDOW = 0.5  # seconds over which requests are counted
_AFTER = 30.0  # seconds that a surge lasts after its last peak, at least
_TICK = 0.1  # seconds between two lessons in a surge
_LESSON = 256  # rows of each kind in a step
_MARGIN = 0.3  # distance of the threshold above the logits of the people
_PARTS = (0.01, 0.02, 0.04, 0.07)  # shares of the sample that may be denied if that is worth it
_WORTH = 10.0  # share of current requests to be denied / share of the sample that it costs


def _describe(client: Tensor) -> Tensor:
    """Return the columns that describe the kind of a client, float32 `[batch, 25]`.

    The age of a client is not among them, and failures are subtracted from errors: they are the
    site's, and in a flood all clients have them.
    """
    described = client.index_select(1, _COLUMNS)
    described[:, 0].clamp_(max=_SEVERAL)
    described[:, 1] -= client[:, _FAILURES]
    return described


class _People:
    """A random sample of the rows of calm times; a new row replaces a random one, or none.

    Args:
        size: Number of rows that are kept.
        memory: Number of new rows after which a row is replaced with probability 1 - 1/e.
        per_client: Most rows of a client in a period.
        period: Seconds.
        generator: Random numbers.

    """

    def __init__(
        self, size: int, memory: int, per_client: int, period: float, generator: torch.Generator
    ) -> None:
        self._rows = torch.zeros(size, len(_COLUMNS))
        self._used = 0
        self._seen = 0
        self._memory = memory
        self._per_client = per_client
        self._period = period
        self._counts = torch.zeros(1 << 14)
        self._counted_until = -math.inf
        self._generator = generator

    @property
    def rows(self) -> Tensor:
        """The rows added so far, at most `size`."""
        return self._rows[: self._used]

    def add(self, rows: Tensor, key: Tensor | None, now: float) -> None:
        """Add rows, at most `per_client` of a client in a period."""
        if key is not None:
            rows = rows[self._count(key, now) <= self._per_client]
        size = self._rows.shape[0]
        fill = min(size - self._used, rows.shape[0])
        self._rows[self._used : self._used + fill] = rows[:fill]
        self._used += fill
        self._seen = min(self._seen + rows.shape[0], self._memory)
        rows = rows[fill:]
        if rows.shape[0]:
            kept = torch.rand(rows.shape[0], generator=self._generator) < size / self._seen
            rows = rows[kept]
            places = torch.randint(size, (rows.shape[0],), generator=self._generator)
            self._rows[places] = rows

    def _count(self, key: Tensor, now: float) -> Tensor:
        """Return the number of rows of each row's client in this period."""
        if now >= self._counted_until:
            self._counts.zero_()
            self._counted_until = now + self._period
        slots = key.flatten() & (self._counts.shape[0] - 1)
        self._counts.index_add_(0, slots, torch.ones(slots.shape[0]))
        return self._counts[slots]


class _Present:
    """The last rows of a surge.

    Args:
        size: Number of rows that are kept.

    """

    def __init__(self, size: int) -> None:
        self._rows = torch.zeros(size, len(_COLUMNS))
        self._used = 0
        self._at = 0

    @property
    def rows(self) -> Tensor:
        """The rows added so far, at most `size`."""
        return self._rows[: self._used]

    def clear(self) -> None:
        """Remove all rows."""
        self._used = self._at = 0

    def add(self, rows: Tensor) -> None:
        """Add rows, which replace the oldest ones."""
        size = self._rows.shape[0]
        rows = rows[-size:]
        self._rows[(torch.arange(rows.shape[0]) + self._at) % size] = rows
        self._at = (self._at + rows.shape[0]) % size
        self._used = min(size, self._used + rows.shape[0])


class _Load:
    """Detects surges by the rate of requests.

    Args:
        surge: Rate of a surge as a multiple of the usual rate.
        warm_up: Seconds in which any rate is usual.
        growth: Most growth of the usual rate in an hour, 0.5 is by half.

    """

    def __init__(self, surge: float, warm_up: float, growth: float) -> None:
        self._surge, self._warm_up, self._growth = surge, warm_up, growth
        self.usual = 0.0
        self.calm = 0.0
        """Seconds without a surge so far."""
        self._begin: float | None = None
        self._count = 0
        self._rate = 0.0
        self._until = -math.inf
        self.surging = False

    def count(self, requests: int, now: float) -> bool:
        """Count new requests; return whether there is a surge."""
        if self._begin is None:
            self._begin = now
        self._count += requests
        elapsed = now - self._begin
        if self._is_much(self._count / max(elapsed, _WINDOW)):
            self.surging, self._until = True, now + _AFTER
        if elapsed >= _WINDOW:
            rate = self._count / elapsed
            # averaged over a second, so that one burst is not learned as usual
            self._rate += (rate - self._rate) * min(1.0, elapsed)
            self._begin, self._count = now, 0
            self._learn(elapsed)
            self.surging = self.surging and (now < self._until or self._is_much(self._rate))
        return self.surging

    def _is_much(self, rate: float) -> bool:
        """Return whether a rate is above the usual one, and not by chance."""
        noise = 4 * math.sqrt((self.usual + 1) / _WINDOW)
        return self.calm >= self._warm_up and rate > self._surge * self.usual + noise

    def _learn(self, elapsed: float) -> None:
        """Learn the usual rate: fast at the start, then slowly, and upwards very slowly."""
        if self.surging:
            return
        self.calm += elapsed
        if self.calm < self._warm_up:
            self.usual += (self._rate - self.usual) * min(1.0, elapsed / 2)
        elif self._rate > self.usual:
            growth = 0.15 if self.calm < 60 else self._growth / 3600
            self.usual = min(self._rate, self.usual * (1 + growth * elapsed))
        else:
            self.usual += (self._rate - self.usual) * min(1.0, elapsed / 600)


class FloodDetector(nn.Module):
    """Scores requests by how likely their client is part of a flood.

        detector = FloodDetector()

        @webtorch.infer
        def score(
            client: Float32[Tensor, "batch 31"], key: Int64[Tensor, "batch 1"]
        ) -> Float32[Tensor, "batch 1"]:
            return detector(client, key)

    In calm times it keeps a sample of the people: rows that describe clients. When many more
    requests come than usual, a small network learns to distinguish the current requests from that
    sample. It cannot distinguish the people among them, who are as before, so its score is high for
    the clients that the surge consists of. All but the share `blocked` of the sample score below
    0.5. Without a surge, and in a surge of more of the same people, scores are 0 or low.

    A flood must not teach it that floods are normal. The sample

    - adds no rows during a surge, nor in the 30 seconds after its last peak;
    - adds at most `per_client` rows of a client in `period` seconds, however many it sends;
    - is replaced over `memory` rows, so that a day of people outweighs minutes of others;
    - may have up to about 7 % of rows that are like the flood: denying these is worth it then.

    The usual rate grows by the share `growth` in an hour at most, but in the first minute. Requests
    in the first `warm_up` seconds are taken for normal: a detector that is started in the middle of
    a flood takes it for the site's traffic.

    Each worker has a detector of its own, which learns from the worker's requests.

    Args:
        blocked: Share of the sample that may score above 0.5 in a surge; by default 0.003.
        surge: Rate of a surge as a multiple of the usual rate; by default 1.4.
        warm_up: Seconds in which any rate is usual; by default 6.
        tempo_after: Calm seconds after which a client's pace is used, too; by default 120. Before
            that, most people of the sample have come seconds ago, and their pace differs from that
            of those who stay.
        size: Rows of the sample, and of the current requests; by default 2048.
        memory: Rows over which the sample is replaced; by default 1 000 000.
        per_client: Most rows of a client in a period; by default 30.
        period: Seconds; by default 60.
        growth: Most growth of the usual rate in an hour, 0.5, the default, is by half.
        clock: Returns seconds; by default time.monotonic.

    """

    def __init__(
        self,
        *,
        blocked: float = 0.003,
        surge: float = 1.4,
        warm_up: float = 6.0,
        tempo_after: float = 120.0,
        size: int = 2048,
        memory: int = 1_000_000,
        per_client: int = 30,
        period: float = 60.0,
        growth: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(0)
        self._people = _People(size, memory, per_client, period, self._generator)
        self._present = _Present(size)
        self._load = _Load(surge, warm_up, growth)
        self._blocked, self._tempo_after, self._clock = blocked, tempo_after, clock
        self._next_lesson = -math.inf
        self._used_columns = 1 - _TEMPO
        self._begin_surge()

    @property
    def surging(self) -> bool:
        """Whether there is a surge."""
        return self._load.surging

    @property
    def usual_rate(self) -> float:
        """The usual rate of the site, requests per second."""
        return self._load.usual

    def forward(self, client: Tensor, key: Tensor | None = None) -> Tensor:
        """Learn from requests and score them.

        Args:
            client: The feature `client`, float32 `[batch, 31]`.
            key: The feature `key`, int64 `[batch, 1]`; without it the rows of a client in the
                sample are not limited.

        Returns:
            Scores from 0 to 1, float32 `[batch, 1]`; requests above 0.5 are to be denied.

        """
        described = _describe(client)
        now = self._clock()
        before = self._load.surging
        if not self._load.count(client.shape[0], now):
            self._people.add(described, key, now)
            return client.new_zeros(client.shape[0], 1)

        if not before:
            self._begin_surge()
        self._present.add(described)
        if now >= self._next_lesson and len(self._present.rows) >= 64 and len(self._people.rows):
            self._next_lesson = now + _TICK
            with torch.inference_mode(False), torch.enable_grad():
                self._learn()
        return torch.sigmoid(self.network(described * self._used_columns) - self._threshold)

    def _begin_surge(self) -> None:
        """Start with an untrained network: a surge differs from the last one."""
        self._present.clear()
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = nn.Sequential(nn.Linear(len(_COLUMNS), 24), nn.ReLU(), nn.Linear(24, 1))
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.02, weight_decay=0.02)
        self._threshold = math.inf
        self._next_lesson = -math.inf
        self._lessons = 0
        self._used_columns = 1 - _TEMPO * (self._load.calm < self._tempo_after)

    def _learn(self) -> None:
        """Train the network to distinguish current requests from people, and set the threshold."""
        people = self._people.rows * self._used_columns
        present = self._present.rows * self._used_columns
        labels = torch.cat([torch.zeros(_LESSON), torch.ones(_LESSON)])
        self._lessons += 1
        for _ in range(24 if self._lessons <= 4 else 6):
            rows = torch.cat([self._draw(people), self._draw(present)])
            loss = binary_cross_entropy_with_logits(self.network(rows).squeeze(1), labels)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
        with torch.no_grad():
            self._threshold = self._line(self.network(people), self.network(present))

    def _line(self, people: Tensor, present: Tensor) -> float:
        """Return the logit above which requests are denied.

        It denies the share `blocked` of the sample, or a larger one if that denies so many more
        current requests that it is worth it: then the sample has rows of the flood.
        """
        parts = torch.tensor([self._blocked, *(each for each in _PARTS if each > self._blocked)])
        lines = torch.quantile(people.flatten(), 1 - parts) + _MARGIN
        denied = (present > lines).float().mean(0)
        return float(lines[(denied - _WORTH * parts).argmax()])

    def _draw(self, rows: Tensor) -> Tensor:
        """Return random rows for a step."""
        return rows[torch.randint(rows.shape[0], (_LESSON,), generator=self._generator)]
