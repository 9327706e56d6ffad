"""A detector of the clients of a flood, learned from a site's own traffic without labels."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from webtorch.detect._flood_calm import Calm
from webtorch.detect._flood_load import Health, Load, health_of
from webtorch.detect._flood_rows import CLIENT_COLUMNS as CLIENT_COLUMNS
from webtorch.detect._flood_surge import Settings, State, Surge


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
    0.5. Without a surge scores are 0. People who come for something new are not distinguished by
    that, but by what they do besides.

    With `site` scores are 0, too, until the site suffers in this surge: until it answers four times
    later than usual, or fails for a tenth of the requests more; and from five minutes after it has
    last suffered. So a crowd that the site can serve is served, and a flood that does not matter.
    If it suffers although what is distinguished is denied, more scores are high, until it is well:
    those of the clients that are most like the surge, and of alike ones by lot. That is at most
    what is above the usual rate.

    With `key` clients are known that were there before the surge. As long as one requests what it
    did then, and not much faster, it is steady: it scores 0, and the network does not learn from
    it. All steady clients together may send what is not yet a surge. Requests without a key, of
    which the rows are zeros, score 0.

    A flood must not teach it that floods are normal. The sample

    - adds no rows during a surge, nor in the 30 seconds after its last peak;
    - in a surge is used without the rows since the rate began to rise, up to 15 minutes before,
      and without those of the last second before it was noticed;
    - adds at most `per_client` rows of a client in `period` seconds, however many it sends;
    - is replaced over `memory` rows, so that a day of people outweighs minutes of others;
    - may have up to about 7 % of rows that are like the flood: denying these is worth it then.

    The usual rate grows by the share `growth` in an hour at most, but in the first minute. Requests
    in the first `warm_up` seconds are taken for normal: a detector that is started in the middle of
    a flood takes it for the site's traffic.

    Each worker has a detector of its own, which learns from the worker's requests.

    Args:
        blocked: Share of the sample that may score 0.5 and more in a surge; by default 0.003.
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
        self._calm = Calm(4 * size, memory, per_client, period, self._generator)
        self._health = Health()
        self._load = Load(surge, warm_up, growth)
        self._settings = Settings(blocked, surge, tempo_after, size)
        self._clock = clock
        self._now = -math.inf
        self._surge: Surge | None = None

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
                sample are not limited, no client is known, and lots are of requests.
            site: The feature `site`, float32 `[batch, 8]`; without it all surges count as floods.

        Returns:
            Scores from 0 to 1, float32 `[batch, 1]`; requests of 0.5 and more are to be denied.

        """
        count = client.shape[0]
        if not count:
            return client.new_zeros(0, 1)
        # no clock that went back, which would make rates of nothing
        now = self._now = max(self._clock(), self._now)
        health = None if site is None else health_of(site)
        suffers = health is not None and self._health.suffers(health)
        surging = self._load.count(count, now, suffers)
        if health is not None:
            self._health.learn(health, count, now, surging)
        if not surging:
            self._surge = None
            self._calm.add(client, key, now)
            return client.new_zeros(count, 1)

        if self._surge is None:
            with torch.inference_mode(False):
                self._surge = Surge(self._calm, self._load, self._settings, now, self._generator)
        failing = None if site is None else self._health.failing
        state = State(suffers or site is None, failing)
        return self._surge.score(client, key, now, state).unsqueeze(1)
