"""How many requests of a surge must be denied for a site to bear the rest."""

import math

_STEP = 0.5  # seconds, at least
_ANSWERS = 256  # after a step, until the site's averages have followed it: they are over 256
_LONGEST = 5.0  # seconds that a step waits for these
_MORE, _LESS = 0.1, 0.02  # of the share, in a step
_LATER_MORE = 0.05  # once the site has been well
_LEARNED = 0.1  # of the share, that is denied by evidence more: it is a step, too
_PATIENCE = 1.0  # seconds in which the evidence against clients may do alone


class Shedding:
    """The share of judged requests to be denied while a site suffers in a surge.

    What the evidence against clients denies may be too little, and is so at first. Then the share
    grows until the site is well, and falls slowly.

    Args:
        now: Seconds of the clock.

    """

    def __init__(self, now: float) -> None:
        self.share = 0.0
        self._more = _MORE
        self._next = now + _STEP
        self._settled_at = -math.inf
        self._answers = 0
        self._well_at = now
        self._suffered = False
        self._denied = 0.0

    def count(self, answers: int, now: float, suffers: bool) -> None:
        """Count requests that are not denied, and whether the site suffers."""
        self._answers += answers
        if self._answers >= _ANSWERS or now >= self._settled_at:
            self._suffered |= suffers
        else:
            self._next = now + _STEP

    def adapt(self, now: float, denied: float, failing: float, most: float) -> None:
        """Adapt the share, if it is time to.

        Args:
            now: Seconds of the clock.
            denied: Share of judged requests that are denied at present.
            failing: Share of the others that fail, more than usual.
            most: Highest share.

        """
        self.share = min(self.share, most)
        if denied > max(self._denied, self.share) + _LEARNED:
            self._denied = denied
            self._settle(now)
            self._next = now + _STEP
        if now < self._next:
            return
        if not self._suffered:
            self._well_at = now
            if self.share:
                self._more = _LATER_MORE
            self.share = max(0.0, self.share - _LESS)
        elif now - self._well_at < _PATIENCE:
            return
        else:
            more = max(self._more, failing * (1 - denied))
            self.share = min(max(self.share, denied) + more, most)
            self._settle(now)
        self._next, self._suffered = now + _STEP, False

    def _settle(self, now: float) -> None:
        """Wait until the site's averages have followed a step."""
        self._answers, self._settled_at = 0, now + _LONGEST
        self._suffered = False
