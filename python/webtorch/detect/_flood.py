"""A detector of the clients of a flood, learned from a site's own traffic without labels."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from webtorch.detect._flood_clients import Known, People, Present
from webtorch.detect._flood_load import Health, Load, health_of

CLIENT_COLUMNS = 31
"""Columns of the feature `client`."""

_REQUESTS, _AGE, _FAST, _SLOW, _ERRORS, _FAILURES = 0, 1, 2, 3, 11, 12
_COLUMNS = torch.tensor([_REQUESTS, _ERRORS, 9, 10, *range(13, CLIENT_COLUMNS), _FAST, _SLOW, 5, 6])
_SHARES = slice(2, 2 + 20)  # of described columns
_RATES = slice(-4, -2)
_TEMPO = torch.zeros(len(_COLUMNS))
_TEMPO[-4] = _TEMPO[-2:] = 1  # rate_fast, gap_mean, gap_deviation
_SEVERAL = math.log(1 + 6)  # log of 6 requests; above it the number does not count

_TICK, _LATER_TICK = 0.1, 0.3  # seconds between two lessons in a surge, in the first and later ones
_FIRST = 100  # lessons
_LESSON = 256  # rows of each kind in a step
_MARGIN = 0.3  # distance of the threshold above the logits of the people
_MARGIN_ROWS = 300.0  # added to it, divided by the rows of the sample: few rows say less
_PARTS = (0.01, 0.02, 0.04, 0.07)  # shares of the sample that may be denied if that is worth it
_WORTH = 15.0  # share of current requests to be denied / share of the sample that it costs
_BURST = 10.0  # seconds of the usual rate that steady clients may send at once
_AFTER_SUFFERING = 300.0  # seconds that requests are denied after the site has suffered
_COMMON = 0.95  # share of the sample whose rates any known client may have
_FEW = 256  # rows of the sample that are used at least, even if the surge may have begun


def _describe(client: Tensor) -> Tensor:
    """Return the columns that describe the kind of a client, float32 `[batch, 26]`.

    The age of a client is not among them, and failures are subtracted from errors: they are the
    site's, and in a flood all clients have them. The slow rate is that over the client's age and
    ten seconds, so that it is about the same for those who have just come and for those who stay.
    """
    described = client.index_select(1, _COLUMNS)
    described[:, 0].clamp_(max=_SEVERAL)
    described[:, 1] -= client[:, _FAILURES]
    age = client[:, _AGE].expm1() + 10
    described[:, -3] = (client[:, _SLOW].expm1() / -(-age / 60).expm1()).log1p()
    return described


class FloodDetector(nn.Module):
    """Scores requests by how likely their client is part of a flood.

        detector = FloodDetector()

        @webtorch.infer
        def score(
            client: Float32[Tensor, "batch 31"],
            key: Int64[Tensor, "batch 1"],
            site: Float32[Tensor, "batch 8"],
        ) -> Float32[Tensor, "batch 1"]:
            return detector(client, key, site)

    In calm times it keeps a sample of the people: rows that describe clients. When many more
    requests come than usual, a small network learns to distinguish the current requests from that
    sample. It cannot distinguish the people among them, who are as before, so its score is high for
    the clients that the surge consists of. All but the share `blocked` of the sample score below
    0.5. Without a surge scores are 0.

    With `site` they are 0, too, until the site suffers in this surge: until it answers four times
    later than usual, or fails for a tenth of the requests more; and from five minutes after it has
    last suffered. So a crowd that the site can serve is served, and a
    flood that does not matter.

    With `key` clients are known that were there before the surge. As long as one requests what it
    did then, and not much faster, it is steady: it scores 0, and the network does not learn from
    it. All steady clients together may send what is not yet a surge.

    A flood must not teach it that floods are normal. The sample

    - adds no rows during a surge, nor in the 30 seconds after its last peak;
    - in a surge is used without the rows since the rate began to rise, up to 15 minutes before;
    - adds at most `per_client` rows of a client in `period` seconds, however many it sends;
    - is replaced over `memory` rows, so that a day of people outweighs minutes of others;
    - may have up to about 7 % of rows that are like the flood: denying these is worth it then.

    The usual rate grows by the share `growth` in an hour at most, but in the first minute. Requests
    in the first `warm_up` seconds are taken for normal: a detector that is started in the middle of
    a flood takes it for the site's traffic.

    Each worker has a detector of its own, which learns from the worker's requests.

    Args:
        blocked: Share of the sample that may score above 0.5 in a surge; by default 0.003.
        surge: Rate of a surge as a multiple of the usual rate; by default 1.4. For a site that
            suffers it is 1.1.
        warm_up: Seconds in which any rate is usual; by default 6.
        tempo_after: Calm seconds after which the network gets a client's fast rate and the gaps
            between its requests, too; by default 120. Before that, most people of the sample have
            come seconds ago, and their pace differs from that of those who stay.
        size: Rows of the current requests, and at most of the sample that the network learns from;
            four times as many are kept. By default 2048.
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
        self._people = People(len(_COLUMNS), 4 * size, memory, per_client, period, self._generator)
        self._present = Present(len(_COLUMNS), size)
        self._known = Known(_SHARES.stop - _SHARES.start)
        self._health = Health()
        self._load = Load(surge, warm_up, growth)
        self._blocked, self._tempo_after, self._clock = blocked, tempo_after, clock
        self._size, self._surge = size, surge
        self._suffered = -math.inf  # when the site suffered last in this surge
        self._room = self._room_at = 0.0  # requests of steady clients; and when they were these
        self._next_lesson = self._now = -math.inf
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

    def forward(
        self, client: Tensor, key: Tensor | None = None, site: Tensor | None = None
    ) -> Tensor:
        """Learn from requests and score them.

        Args:
            client: The feature `client`, float32 `[batch, 31]`.
            key: The feature `key`, int64 `[batch, 1]`; without it the rows of a client in the
                sample are not limited, and no client is known.
            site: The feature `site`, float32 `[batch, 8]`; without it all surges count as floods.

        Returns:
            Scores from 0 to 1, float32 `[batch, 1]`; requests above 0.5 are to be denied.

        """
        if not len(client):
            return client.new_zeros(0, 1)
        described = _describe(client)
        # no clock that went back, which would make rates of nothing
        now = self._now = max(self._clock(), self._now)
        before = self._load.surging
        health = None if site is None else health_of(site)
        suffers = health is not None and self._health.suffers(health)
        surging = self._load.count(client.shape[0], now, suffers)
        if health is not None:
            self._health.learn(health, client.shape[0], now, surging)
        if not surging:
            self._learn_calm(described, key, now)
            return client.new_zeros(client.shape[0], 1)

        if not before:
            self._begin_surge()
        if suffers or site is None:
            self._suffered = now
        is_denied = now - self._suffered <= _AFTER_SUFFERING
        self._load.is_borne = not is_denied
        steady = self._steady(described, key, now)
        self._present.add(described[~steady])
        if now >= self._next_lesson and len(self._present.rows) >= 64 and len(self._calm_rows):
            self._next_lesson = now + (_TICK if self._lessons < _FIRST else _LATER_TICK)
            with torch.inference_mode(False), torch.enable_grad():
                self._learn()
        if not is_denied:
            return client.new_zeros(client.shape[0], 1)
        scores = torch.sigmoid(self.network(described * self._used_columns) - self._threshold)
        return scores.masked_fill(steady.unsqueeze(1), 0)

    def _learn_calm(self, described: Tensor, key: Tensor | None, now: float) -> None:
        """Learn what people are like without a surge."""
        self._people.add(described, key, now)
        if key is not None:
            self._known.learn(key, described[:, _RATES].expm1(), described[:, _SHARES], now)

    def _steady(self, described: Tensor, key: Tensor | None, now: float) -> Tensor:
        """Return which rows are of known clients that do as before.

        All of them together may send what is not yet a surge.
        """
        none = torch.zeros(described.shape[0], dtype=torch.bool)
        rate = self._surge * self._load.usual
        self._room = min(self._room + (now - self._room_at) * rate, _BURST * rate)
        self._room_at = now
        if key is None:
            return none
        rates = described[:, _RATES].expm1()
        steady = self._known.steady(key, rates, described[:, _SHARES], self._onset, self._common)
        steady &= steady.cumsum(0) <= self._room
        self._room -= float(steady.sum())
        return steady

    def _begin_surge(self) -> None:
        """Start with an untrained network: a surge differs from the last one."""
        self._present.clear()
        self._suffered = -math.inf
        self._room = self._room_at = 0.0
        self._onset: float = self._load.onset()
        self._calm_rows: Tensor = self._people.before(self._onset, _FEW, self._size)
        self._common: Tensor = torch.zeros(2)
        if len(self._calm_rows):
            self._common = self._calm_rows[:, _RATES].expm1().quantile(_COMMON, 0)
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network: nn.Module = nn.Sequential(
                nn.Linear(len(_COLUMNS), 24), nn.ReLU(), nn.Linear(24, 1)
            )
        self._optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.02, weight_decay=0.02)
        self._threshold: float = math.inf
        self._next_lesson = -math.inf
        self._lessons: int = 0
        seen = min(self._load.calm, self._onset - self._load.started)
        self._used_columns = 1 - _TEMPO * (seen < self._tempo_after)

    def _learn(self) -> None:
        """Train the network to distinguish current requests from people, and set the threshold."""
        people = self._calm_rows * self._used_columns
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
        lines = lines + _MARGIN_ROWS / people.shape[0]
        denied = (present > lines).float().mean(0)
        return float(lines[(denied - _WORTH * parts).argmax()])

    def _draw(self, rows: Tensor) -> Tensor:
        """Return random rows for a step."""
        return rows[torch.randint(rows.shape[0], (_LESSON,), generator=self._generator)]
