"""When a site has more requests than usual, since when, and whether it suffers."""

import math
from collections import deque
from itertools import pairwise

from torch import Tensor

_WINDOW = 0.5  # seconds over which requests are counted
_AFTER = 30.0  # seconds that a surge lasts after its last peak, at least
_MORE = 1.1  # rate of a surge of a site that suffers, as a multiple of the usual rate
_NEW = 60.0  # calm seconds in which the usual rate is hardly known
_YOUNG = 300.0  # calm seconds in which it falls fast: clients came all at once

_HISTORY = 900.0  # seconds in which the beginning of a slow surge is looked for
_SMOOTH = 10.0  # seconds over which rates of the history are averaged
_RISE = 1.15  # rate of the beginning of a surge as a multiple of the least one before
_NOISE = 3.0  # or above that one, as a multiple of the changes between two of them

_RATE, _FAILURES, _TIME = 0, 5, 6  # columns of the feature `site`
_SLOWER = math.log(4)  # a suffering site takes so many times longer
_SLOW = math.log(1 + 50)  # and 50 ms at least
_FAILING = 0.1  # or fails for so many more requests
_KNOWN = 256  # answers by which its health is known
_FOR_GOOD = 1200.0  # seconds after which a site that suffers is taken for as it is


class Load:
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
        self.started = math.inf
        """When the first request came."""
        self._begin: float | None = None
        self._count = 0
        self.rate = 0.0
        """Requests per second, averaged over a second."""
        self._until = -math.inf
        self.surging = False
        self._history: deque[tuple[float, float]] = deque()
        self._smooth_since, self._smooth_count = 0.0, 0.0
        self._mean_rate = 0.0
        self.is_borne = False
        """Whether the site bears the surge: then the usual rate grows as it does without one."""

    def count(self, requests: int, now: float, suffers: bool = False) -> bool:
        """Count new requests; return whether there is a surge.

        A site that suffers has one if there are a few more requests than usual, and at any rate
        as long as the usual one is hardly known.
        """
        if self._begin is None:
            self.started = self._begin = self._smooth_since = now
        self._count += requests
        elapsed = now - self._begin
        rate = self._count / max(elapsed, _WINDOW)
        if self.calm >= _NEW:
            # the rate of some seconds, and not by chance
            noise = 3 * math.sqrt((self.usual + 1) / _SMOOTH)
            suffers = suffers and self._mean_rate > _MORE * self.usual + noise
        suffers = suffers and self.calm >= self._warm_up
        if suffers or self._is_much(rate):
            self.surging, self._until = True, now + _AFTER
        if elapsed >= _WINDOW:
            self._next_window(now, elapsed)
        return self.surging

    def onset(self) -> float:
        """Return when the rate was last about as low as ever before this surge.

        A surge may begin long before it is one; infinity if too little has been seen.
        """
        if not self._history:
            return math.inf
        rates = [rate for _, rate in self._history]
        least = min(rates)
        # what changes from one to the next is chance: requests come in bursts
        changes = sorted(abs(after - before) for before, after in pairwise(rates))
        noise = changes[len(changes) // 2] if changes else 0.0
        low = min(max(_RISE * least, least + _NOISE * noise), self._surge * least)
        return max(at for at, rate in self._history if rate <= low)

    def _next_window(self, now: float, elapsed: float) -> None:
        rate = self._count / elapsed
        # so averaged one burst is not learned as usual
        self.rate += (rate - self.rate) * min(1.0, elapsed)
        self._mean_rate += (rate - self._mean_rate) * min(1.0, elapsed / _SMOOTH)
        if self.surging:
            self._smooth_since, self._smooth_count = now, 0.0
        else:
            self._remember(now)
        self._begin, self._count = now, 0
        self._learn(elapsed)
        self.surging = self.surging and (now < self._until or self._is_much(self.rate))

    def _remember(self, now: float) -> None:
        """Add the last seconds to the history, once they are enough, and forget old ones."""
        self._smooth_count += self._count
        if self.calm < self._warm_up:
            self._smooth_since, self._smooth_count = now, 0.0
        elif now - self._smooth_since >= _SMOOTH:
            self._history.append((now, self._smooth_count / (now - self._smooth_since)))
            self._smooth_since, self._smooth_count = now, 0.0
            while self._history[0][0] < now - _HISTORY:
                self._history.popleft()

    def _is_much(self, rate: float) -> bool:
        """Return whether a rate is above the usual one, and not by chance."""
        noise = 4 * math.sqrt((self.usual + 1) / _WINDOW)
        return self.calm >= self._warm_up and rate > self._surge * self.usual + noise

    def _learn(self, elapsed: float) -> None:
        """Learn the usual rate: fast at the start, then slowly, and upwards very slowly."""
        if self.surging:
            if self.is_borne:
                self.usual *= 1 + self._growth / 3600 * elapsed
            return
        self.calm += elapsed
        if self.calm < self._warm_up:
            self.usual += (self.rate - self.usual) * min(1.0, elapsed / 2)
        elif self.rate > self.usual:
            growth = 0.15 if self.calm < 60 else self._growth / 3600
            self.usual = min(self.rate, self.usual * (1 + growth * elapsed))
        else:
            seconds = 60 if self.calm < _YOUNG else 600
            self.usual += (self.rate - self.usual) * min(1.0, elapsed / seconds)


class Health:
    """Detects that a site suffers: it answers much later than usual, or fails more often."""

    def __init__(self) -> None:
        self._time = self._failures = 0.0
        self._seen = 0
        self._at = 0.0
        self._last = 0.0, 0.0
        self._is_bad = False
        self.failing = 0.0
        """Share of answers that fail at present, more than usual."""

    def suffers(self, found: tuple[float, float]) -> bool:
        """Return whether the site suffers, by what `health_of` has returned.

        A row with the same averages as the one before has no new answer and says nothing: if all
        requests are denied, the averages stay.
        """
        failures, time = found
        is_new, self._last = found != self._last, found
        self.failing = max(0.0, failures - self._failures)
        self._is_bad = failures > self._failures + _FAILING or time > max(
            self._time + _SLOWER, _SLOW
        )
        return self._is_bad and is_new

    def learn(self, found: tuple[float, float], answers: int, now: float, surging: bool) -> None:
        """Learn what is usual; if it suffers slowly, as it may have become slower for good.

        Args:
            found: What `health_of` has returned.
            answers: How many it stands for.
            now: Seconds of the clock.
            surging: Whether there is a surge.

        """
        weight = min(1.0, (now - self._at) / _FOR_GOOD)
        if not surging and not (self._is_bad and self._seen >= _KNOWN):
            self._seen = min(self._seen + answers, 1 << 14)
            weight = min(1.0, answers / self._seen)
        self._at = now
        failures, time = found
        self._failures += weight * (failures - self._failures)
        self._time += weight * (time - self._time)


def health_of(site: Tensor) -> tuple[float, float] | None:
    """Return the share of failures and the logarithmic time of the last row of `site`.

    Of the last row that has values; None if no row has.
    """
    found = site[-1].tolist()
    if not _is_found(found):
        rows = site[(site[:, _RATE] > 0) & site.isfinite().all(1)]
        if not len(rows):
            return None
        found = rows[-1].tolist()
    return found[_FAILURES], found[_TIME]


def _is_found(row: list[float]) -> bool:
    """Return whether a row has values: that of a request without a key has none."""
    return row[_RATE] > 0 and math.isfinite(row[_FAILURES] + row[_TIME])
