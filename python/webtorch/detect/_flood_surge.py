"""A surge: what it consists of, and what of it is denied."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from webtorch.detect._flood_calm import Calm
from webtorch.detect._flood_clients import SLOTS, Slots
from webtorch.detect._flood_load import Load
from webtorch.detect._flood_network import Network
from webtorch.detect._flood_rows import RATES, ages_of, describe, is_counted
from webtorch.detect._flood_shed import Shedding

_BURST = 10.0  # seconds of the usual rate that steady clients may send at once
_AFTER_SUFFERING = 300.0  # seconds that requests are denied after the site has suffered
_COMMON = 0.95  # share of the sample whose rates any known client may have
_FEW = 256  # rows of the sample that are used at least, even if the surge may have begun
_NOTICED = 1.0  # seconds that a sudden surge may have lasted when it is noticed: two windows
_UNKNOWN = 256  # requests by which the share of those of unknown clients is known


@dataclass(frozen=True)
class Settings:
    """What FloodDetector is made with."""

    blocked: float
    surge: float
    tempo_after: float
    size: int


@dataclass(frozen=True)
class State:
    """How the site is.

    Args:
        suffers: Whether it suffers, or that is not known.
        failing: Share of answers that fail, more than usual; None: not known.

    """

    suffers: bool
    failing: float | None


class Surge:
    """Scores the requests of a surge. A surge differs from the last one, so nothing is kept.

    Args:
        calm: What was learned before.
        load: The site's requests.
        settings: What FloodDetector is made with.
        now: Seconds of the clock.
        generator: Random numbers.

    """

    def __init__(
        self, calm: Calm, load: Load, settings: Settings, now: float, generator: torch.Generator
    ) -> None:
        calm.drop()
        self._calm, self._load, self._settings = calm, load, settings
        # what has come since then may be of the surge, however little is known of the rate before
        self._onset = min(load.onset(), now - _NOTICED)
        people = calm.people.before(self._onset, _FEW, settings.size)
        self._common = torch.zeros(2)
        if len(people):
            self._common = people[:, RATES].expm1().quantile(_COMMON, 0)
        seen = min(load.calm, self._onset - load.started)
        self._network = Network(
            people, settings.size, settings.blocked, seen >= settings.tempo_after, generator
        )
        self._shed, self._slots = Shedding(now), Slots()
        self._generator = generator
        self._suffered = -math.inf
        self._room = self._room_at = 0.0  # requests of steady clients; and when they were these
        self._unknown = 1.0  # share of requests that are judged

    def score(self, client: Tensor, key: Tensor | None, now: float, site: State) -> Tensor:
        """Learn from requests and score them, float32 `[batch]`."""
        if site.suffers:
            self._suffered = now
        is_denied = now - self._suffered <= _AFTER_SUFFERING
        self._load.is_borne = not is_denied
        described = describe(client)
        spared = self._spared(described, is_counted(client), key, now)
        luck = self._luck_of(client, key, now)
        self._network.add(described[~spared], luck[~spared])
        if site.failing is not None:
            self._shed.adapt(now, self._network.denied, site.failing, self._excess())
        with torch.inference_mode(False), torch.enable_grad():
            self._network.learn(now, self._shed.share)
        if not is_denied:
            return client.new_zeros(len(client))
        scores = self._network.scores(described, luck).masked_fill(spared, 0)
        self._shed.count(int((scores < 0.5).sum()), now, site.suffers)
        return scores

    def _luck_of(self, client: Tensor, key: Tensor | None, now: float) -> Tensor:
        """Return the lot of each row's client: 0 to 1, or one less if it came before the surge.

        Without keys each row has a lot of its own.
        """
        is_earlier = (now - ages_of(client) <= self._onset).float()
        if key is None:
            return torch.rand(len(client), generator=self._generator) - is_earlier
        return self._slots.of(key.flatten()) / SLOTS - is_earlier

    def _spared(self, described: Tensor, counted: Tensor, key: Tensor | None, now: float) -> Tensor:
        """Return which rows are not to be judged.

        These are requests without a key, and those of known clients that do as before. All of the
        latter together may send what is not yet a surge.
        """
        rate = self._settings.surge * self._load.usual
        self._room = min(self._room + (now - self._room_at) * rate, _BURST * rate)
        self._room_at = now
        if key is None:
            return ~counted
        steady = counted & self._calm.steady(described, key, self._onset, self._common)
        steady &= steady.cumsum(0) <= self._room
        known = int(steady.sum())
        self._room -= known
        weight = min(1.0, len(steady) / _UNKNOWN)
        self._unknown += weight * (1 - known / len(steady) - self._unknown)
        return steady | ~counted

    def _excess(self) -> float:
        """Return the share of judged requests that is above the usual rate."""
        rate = self._load.rate
        return min(1.0, max(0.0, rate - self._load.usual) / max(rate * self._unknown, 1e-6))
