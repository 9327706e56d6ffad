"""webtorch.detect: how much of a surge is denied so that the site bears the rest."""

import pytest

from webtorch.detect._flood_shed import Shedding


class Site:
    """A site that bears so many requests per second, and what it is sent."""

    def __init__(self, bears, rate, fails=True):
        self.bears, self.rate, self.fails = bears, rate, fails
        self.now = 0.0
        self.shedding = Shedding(self.now)
        self.seen = 0.0

    def run(self, seconds, most=1.0):
        """Let seconds go by; return the shares that were denied."""
        shares = []
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            share = self.shedding.share
            shares.append(share)
            sent = self.rate * (1 - share)
            failing = max(0.0, 1 - self.bears / max(sent, 1e-9))
            # an average over 256 answers
            self.seen += min(1.0, sent / 10 / 256) * (failing - self.seen)
            self.shedding.count(round(sent / 10), self.now, self.seen > 0.1)
            self.shedding.adapt(self.now, share, self.seen * self.fails, most)
        return shares


def test_shedding_nothing_while_the_site_is_well():
    assert not any(Site(1000, 900).run(30))


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("rate", [400, 1000, 4000])
def test_shedding_what_the_site_does_not_bear(rate, fails):
    site = Site(300, rate, fails)
    excess = 1 - 300 / rate
    assert not any(site.run(1))
    site.run(14)
    shares = site.run(30)
    assert excess - 0.1 < sum(shares) / len(shares) < excess + 0.15


def test_shedding_falls_when_there_is_less():
    site = Site(300, 1000)
    site.run(20)
    site.rate = 200
    assert site.run(40)[-1] == 0


def test_shedding_at_most_the_excess():
    assert max(Site(0, 1000).run(30, most=0.4)) == 0.4


def test_shedding_waits_for_answers():
    site = Site(10, 60)
    shares = site.run(8)
    assert len(set(shares)) <= 3
