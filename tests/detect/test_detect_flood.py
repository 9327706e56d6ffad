"""webtorch.detect: floods in synthetic traffic, row by row."""

import math
import random

import pytest
import torch

from webtorch.detect import FloodDetector

torch.set_num_threads(1)  # as in a worker; small tensors

PAGE, ASSET, API, NEWS = 3, 9, 12, 5  # kinds of targets


class Site:
    """A detector, its clock, and clients whose rows it gets."""

    def __init__(self, **options):
        self.now = 1000.0
        self.detector = FloodDetector(clock=lambda: self.now, warm_up=5, **options)
        self.random = random.Random(1)
        self.steps = 0
        self.milliseconds: float | None = None
        """How long answers take; None: the detector gets no rows of the site."""

    def client(self, requests, shares):
        """Make a row of `client` from the number of requests and the shares of kinds."""
        row = [0.0] * 31
        row[0] = math.log(1 + requests)
        row[8] = 0.5
        for kind, share in shares.items():
            row[15 + kind] = share + self.random.gauss(0, 0.02)
        return row

    def person(self, number):
        """Make a row of a reader of pages, with their assets."""
        return self.reader(number, PAGE, ASSET)

    def reader(self, number, page, asset):
        """Make a row of a reader of pages and assets of these kinds."""
        requests = 1 + number % 9
        share = 1 / requests if requests < 5 else 0.2
        return self.client(requests, {page: share, asset: 1 - share})

    def newcomer(self, number):
        """Make a row of a person who came for a page of another kind."""
        return self.reader(number, NEWS, ASSET)

    def attacker(self, number, kind=PAGE):
        """Make a row of a client that requests one kind only."""
        return self.client(2 + number % 9, {kind: 1.0})

    def step(self, people, attackers=0, row=None, key=None, person=None):
        """Let a tenth of a second go by, with so many requests; return their scores."""
        self.steps += 1
        self.now += 0.1
        rows = [(person or self.person)(self.steps * 7 + number) for number in range(people)]
        rows += [(row or self.attacker)(self.steps * 5 + number) for number in range(attackers)]
        count = len(rows)
        keys = torch.arange(count) + 1000 * (self.steps % 50)
        keys[people:] = keys[people:] + 100_000 if key is None else key
        site = None
        if self.milliseconds is not None:
            site = torch.zeros(count, 8)
            site[:, 0] = math.log(1 + 10 * count)
            site[:, 6] = math.log(1 + self.milliseconds) + 1e-5 * self.steps
        scores = self.detector(torch.tensor(rows), keys.unsqueeze(1), site)
        assert scores.shape == (count, 1)
        return scores[:people], scores[people:]

    def run(self, seconds, people, attackers=0, **options):
        """Let seconds go by; return the parts of people and attackers that are denied."""
        denied, of = torch.zeros(2), torch.zeros(2)
        for _ in range(round(seconds * 10)):
            for index, scores in enumerate(self.step(people, attackers, **options)):
                denied[index] += (scores > 0.5).sum()
                of[index] += len(scores)
        return tuple((denied / of.clamp(min=1)).tolist())


@pytest.fixture
def site():
    """A site that has seen twenty seconds of people."""
    made = Site()
    assert made.run(20, 10) == (0, 0)
    return made


def test_flood_denied_people_allowed(site):
    site.run(1.5, 10, 60)
    people, attackers = site.run(5, 10, 60)
    assert people <= 0.01
    assert attackers > 0.95


def test_floods_of_another_kind_are_denied(site):
    site.run(1.5, 10, 60, row=lambda number: site.attacker(number, API))
    people, attackers = site.run(5, 10, 60, row=lambda number: site.attacker(number, API))
    assert people <= 0.01
    assert attackers > 0.95


def test_more_people_are_not_denied(site):
    assert site.run(10, 60)[0] <= 0.02
    assert site.detector.surging


def test_flood_is_not_learned_as_normal(site):
    sample = site.detector._calm.people.rows.clone()
    usual = site.detector.usual_rate
    site.run(40, 10, 60)
    assert site.detector.usual_rate == usual
    assert torch.equal(site.detector._calm.people.rows, sample)
    people, attackers = site.run(5, 10, 60)
    assert people <= 0.01
    assert attackers > 0.95

    # after it people are learned again, and the next flood is known at once
    site.run(40, 10)
    assert not site.detector.surging
    site.run(1.5, 10, 60)
    people, attackers = site.run(3, 10, 60)
    assert people <= 0.01
    assert attackers > 0.95


def test_few_clients_cannot_fill_the_sample():
    site = Site(per_client=20, period=1e6)
    # below what counts as a surge: 3 of 13 requests are one client's, from the start
    site.run(60, 10, 3, key=7)
    rows = site.detector._calm.people.rows
    assert len(rows) > 1000
    poisoned = (rows[:, 6 + PAGE] > 0.9) & (rows[:, 0] > math.log(2.5))
    assert 0 < poisoned.sum() <= 20

    site.run(1.5, 10, 60)
    assert site.run(3, 10, 60)[1] > 0.95


def test_slow_ramp_does_not_become_usual(site):
    site.run(60, 10)
    usual = site.detector.usual_rate
    for attackers in range(1, 5):
        site.run(20, 10, attackers)
    assert site.detector.usual_rate < 1.1 * usual


def test_earlier_samples_outweigh_minutes_of_poison():
    site = Site(size=500, memory=100_000)
    site.run(120, 10)
    site.run(12, 10, 3)  # below a surge; 360 rows among 13 thousand
    rows = site.detector._calm.people.rows
    poisoned = (rows[:, 6 + PAGE] > 0.9) & (rows[:, 0] > math.log(2.5))
    assert 0 < poisoned.sum() < 0.05 * len(rows)


def test_unknown_site_is_not_judged():
    site = Site()
    assert site.run(4, 10, 60) == (0, 0)


def well_site():
    """A site that has seen people for a minute, and answers within 20 ms."""
    made = Site()
    made.milliseconds = 20
    assert made.run(60, 10) == (0, 0)
    return made


def test_flood_that_the_site_bears_is_not_denied():
    site = well_site()
    assert site.run(20, 10, 60) == (0, 0)
    assert site.detector.surging
    site.milliseconds = 300
    site.run(3, 10, 60)
    assert site.run(5, 10, 60)[1] > 0.95


def test_nothing_is_denied_long_after_the_site_has_suffered():
    site = well_site()
    site.milliseconds = 300
    site.run(5, 10, 60)
    site.milliseconds = 20
    assert site.run(20, 10, 60)[1] > 0.95
    site.run(300, 10, 60)
    assert site.run(5, 10, 60) == (0, 0)


def test_slow_site_at_the_usual_rate_denies_nothing():
    site = well_site()
    site.milliseconds = 2000
    assert site.run(60, 10) == (0, 0)


def test_people_who_come_for_something_new_in_a_flood_are_allowed(site):
    def person(number):
        return site.newcomer(number) if number % 3 else site.person(number)

    site.run(1.5, 30, 60, person=person)
    people, attackers = site.run(5, 30, 60, person=person)
    assert people <= 0.01
    assert attackers > 0.95


def test_crowd_that_came_just_before_the_surge_was_noticed_is_allowed():
    """Its first requests are not in the sample, or they would be all that is known of its page."""
    site = Site()
    site.run(8, 10)
    site.run(0.6, 10, 8, row=lambda number: site.client(1, {NEWS: 1.0}))
    assert not site.detector.surging
    crowd = {"person": lambda number: site.reader(4 + number % 5, NEWS, ASSET)}
    site.run(1.5, 30, 60, **crowd)
    people, attackers = site.run(5, 30, 60, **crowd)
    assert people <= 0.01
    assert attackers > 0.95


def test_flood_of_something_new_is_denied(site):
    """What is new excuses nothing else: people load assets with it."""
    site.run(1.5, 30, 60, person=site.newcomer, row=lambda number: site.attacker(number, NEWS))
    people, attackers = site.run(
        5, 30, 60, person=site.newcomer, row=lambda number: site.attacker(number, NEWS)
    )
    assert people <= 0.01
    assert attackers > 0.95


def test_new_content_on_a_slow_site_is_not_denied():
    """Assets have another directory after a release, and caches are cold."""
    site = well_site()
    release = {"person": lambda number: site.reader(number, PAGE, API)}
    site.milliseconds = 400
    assert site.run(20, 10, **release) == (0, 0)
    denied, _ = site.run(20, 13, **release)
    assert site.detector.surging
    assert denied < 0.3 / 1.3
    site.milliseconds = 20
    site.run(10, 13, **release)
    assert site.run(10, 13, **release)[0] <= 0.02


def calls(site, number):
    """Make a row of a client that calls an API."""
    return site.client(6, {API: 1.0})


def test_known_clients_are_spared_and_new_ones_are_not():
    site = well_site()
    for _ in range(100):
        site.step(10, 1, row=lambda number: calls(site, number), key=7)
    site.milliseconds = 400
    flood = {"row": lambda number: calls(site, number)}
    site.run(3, 10, 60, **flood)
    assert site.run(5, 10, 60, **flood)[1] > 0.95
    assert not any((site.step(10, 1, key=7, **flood)[1] > 0.5).any() for _ in range(20))


def test_known_clients_may_send_no_surge():
    site = well_site()
    flood = {"row": lambda number: calls(site, number), "key": torch.arange(60)}
    for each in range(60):
        site.step(10, 1, row=flood["row"], key=each)
    site.run(10, 10)
    site.milliseconds = 400
    site.run(20, 10, 60, **flood)
    assert site.run(5, 10, 60, **flood)[1] > 0.7


def test_clients_are_known_after_some_requests():
    site = well_site()
    first = {"row": lambda number: site.client(1, {API: 1.0}), "key": 7}
    for _ in range(20):
        site.step(10, 1, **first)
    site.milliseconds = 400
    site.run(3, 10, 60, row=lambda number: calls(site, number))
    denied = [
        (site.step(10, 1, row=lambda number: calls(site, number), key=7)[1] > 0.5).any()
        for _ in range(20)
    ]
    assert sum(denied) > 10


def test_flood_of_a_second_kind_after_a_calm_minute_is_denied():
    site = well_site()
    for kind in (PAGE, API):
        site.milliseconds = 400
        flood = {"row": lambda number, kind=kind: site.attacker(number, kind)}
        site.run(3, 10, 60, **flood)
        people, attackers = site.run(5, 10, 60, **flood)
        assert people <= 0.01
        assert attackers > 0.95
        site.milliseconds = 20
        site.run(90, 10)
        assert not site.detector.surging


def test_more_than_a_site_bears_is_denied_client_by_client():
    """Nothing distinguishes these clients, and the site suffers until half are denied."""
    site = well_site()
    denied, of = torch.zeros(60), torch.zeros(60)
    share = 0.0
    for turn in range(400):
        site.milliseconds = 400 if share < 0.5 else 20
        chosen = torch.arange(60)
        _, scores = site.step(0, 60, row=site.person, key=chosen)
        is_denied = (scores > 0.5).flatten()
        share += 0.1 * (float(is_denied.float().mean()) - share)
        if turn >= 300:
            denied += is_denied
            of += 1
    shares = denied / of
    assert 0.35 < shares.mean() < 0.75
    assert (shares < 0.2).sum() + (shares > 0.8).sum() > 40


def test_more_than_a_site_bears_is_denied_request_by_request_without_keys():
    """Of clients that are alike, and whose keys are not there, no more than the excess."""
    made = Site()
    made.milliseconds = 20
    detector, made.detector = made.detector, None
    made.detector = lambda client, key, site: detector(client, None, site)
    row = torch.tensor(made.person(1)).tolist()
    alike = {"person": lambda number: row}
    assert made.run(120, 10, **alike) == (0, 0)
    made.milliseconds = 400
    denied, _ = made.run(30, 13, **alike)
    assert 0.05 < denied < 0.5


def test_requests_without_a_key_are_not_judged_and_say_nothing(site):
    empty = torch.zeros(10, 31), torch.zeros(10, 1, dtype=torch.int64), torch.zeros(10, 8)
    for _ in range(20):
        site.now += 0.1
        assert not site.detector(*empty).any()
    assert (site.detector._calm.people.rows[:, 0] > 0).all()
    site.run(1.5, 10, 60)
    assert site.run(3, 10, 60)[1] > 0.95
    assert not site.detector(*empty).any()


def test_empty_batches_have_no_scores(site):
    empty = torch.zeros(0, 31), torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, 8)
    assert site.detector(*empty).shape == (0, 1)
