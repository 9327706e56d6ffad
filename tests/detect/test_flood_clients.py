"""webtorch.detect: what the flood detector knows of clients, and of the site's load."""

import math
import random

import pytest
import torch

from webtorch.detect._flood_clients import Known, People
from webtorch.detect._flood_load import Health, Load, health_of

SLOW, FAST = 0.8, 1.5  # requests per second of a person
COMMON = torch.tensor([2.5, 1.2])


@pytest.fixture
def known():
    """Return what is known of client 7, a person, and 9, many people with one address."""
    made = Known(2)
    key = torch.tensor([[7], [9]])
    for second in range(20):
        rates = torch.tensor([[FAST, SLOW], [400.0, 380.0]])
        made.learn(key, rates, torch.tensor([[0.8, 0.2], [0.85, 0.15]]), 100.0 + second)
    return made


@pytest.mark.parametrize(
    ("key", "rates", "shares", "steady"),
    [
        (7, (FAST, SLOW), (0.8, 0.2), True),
        (7, (FAST * 1.2, SLOW * 1.5), (0.6, 0.4), True),
        (7, (2.5, 1.2), (0.8, 0.2), True),
        (7, (FAST * 4, SLOW), (0.8, 0.2), False),
        (7, (FAST, SLOW * 4), (0.8, 0.2), False),
        (7, (FAST, SLOW), (0.1, 0.9), False),
        (9, (420.0, 390.0), (0.85, 0.15), True),
        (8, (FAST, SLOW), (0.8, 0.2), False),
        (7 + (1 << 14), (FAST, SLOW), (0.8, 0.2), False),  # the slot of another client
    ],
)
def test_known_clients_are_steady_if_they_do_as_before(known, key, rates, shares, steady):
    found = known.steady(
        torch.tensor([[key]]), torch.tensor([rates]), torch.tensor([shares]), math.inf, COMMON
    )
    assert found.tolist() == [steady]


def test_known_clients_came_before_the_surge(known):
    rates, shares = torch.tensor([[FAST, SLOW]]), torch.tensor([[0.8, 0.2]])
    assert not known.steady(torch.tensor([[7]]), rates, shares, 99.0, COMMON)
    assert known.steady(torch.tensor([[7]]), rates, shares, 100.0, COMMON)


def test_known_client_keeps_its_slot_until_it_is_gone(known):
    key, rates = torch.tensor([[7 + (1 << 14)]]), torch.tensor([[9.0, 9.0]])
    shares = torch.tensor([[0.5, 0.5]])
    known.learn(key, rates, shares, 200.0)
    assert not known.steady(key, rates, shares, math.inf, COMMON)
    known.learn(key, rates, shares, 1000.0)
    assert known.steady(key, rates, shares, math.inf, COMMON)


def test_people_before_a_surge():
    people = People(1, 100, 1000, 30, 60.0, torch.Generator().manual_seed(0))
    for second in range(50):
        people.add(torch.tensor([[float(second)]]), None, float(second))
    assert people.before(9.0, 5, 100).flatten().sort().values.tolist() == list(range(10))
    assert people.before(1.0, 5, 100).flatten().sort().values.tolist() == list(range(5))
    assert len(people.before(math.inf, 5, 20)) == 20


def load_after(seconds, rate):
    """Return the load after so many seconds of a rate, which is a function of the second."""
    load = Load(1.4, 6.0, 0.5)
    for tenth in range(round(seconds * 10)):
        load.count(round(rate(tenth / 10) / 10), tenth / 10)
    return load


def test_load_onset_of_a_ramp():
    load = load_after(500, lambda second: 150 + max(0, second - 300) * 0.8)
    assert load.surging
    assert 290 <= load.onset() <= 350


def test_load_onset_of_a_sudden_surge():
    load = load_after(310, lambda second: 150 if second < 300 else 900)
    assert load.surging
    assert 280 <= load.onset() <= 300


def test_load_onset_is_unknown_at_first():
    assert load_after(10, lambda second: 150).onset() == math.inf


def test_load_usual_rate_falls_fast_at_first():
    assert load_after(200, lambda second: 900 if second < 10 else 300).usual < 350


@pytest.mark.parametrize("suffers", [False, True])
def test_load_of_a_site_that_suffers_is_a_surge(suffers):
    load = load_after(320, lambda second: 150)
    for tenth in range(3200, 3320):
        load.count(19, tenth / 10, suffers)
    assert load.surging == suffers


def test_load_as_usual_is_no_surge_if_the_site_suffers():
    load = load_after(320, lambda second: 150)
    for tenth in range(3200, 3220):
        load.count(14, tenth / 10, True)
    assert not load.surging


@pytest.mark.parametrize("rate", [5, 20, 150, 1000])
def test_load_as_usual_is_no_surge_by_chance(rate):
    surging = {}
    for suffers in (False, True):
        chance = random.Random(1)
        load = Load(1.4, 6.0, 0.5)
        surging[suffers] = 0
        for tenth in range(6000):
            # as many as come at random
            requests = sum(chance.random() < rate / 10 / 400 for _ in range(400))
            is_surge = load.count(requests, tenth / 10, suffers and tenth > 3000)
            surging[suffers] += is_surge
    assert surging[True] <= surging[False] + 0.05 * 3000


def test_load_of_a_site_that_suffers_soon_is_a_surge():
    load = load_after(40, lambda second: 150)
    load.count(14, 40.0, True)
    assert load.surging


def test_load_onset_of_a_second_surge():
    load = load_after(502, lambda second: 900 if 300 <= second < 340 or second >= 500 else 150)
    assert load.surging
    assert 490 <= load.onset() <= 500


def test_load_that_is_borne_becomes_usual():
    load = load_after(320, lambda second: 150)
    for is_borne in (False, True):
        usual = load.usual
        for tenth in range(36_000):
            load.is_borne = is_borne
            load.count(90, 320 + tenth / 10 + 3600 * is_borne)
        assert (load.usual > 1.4 * usual) == is_borne


def suffers_by(health, row):
    """Return whether a site suffers by two rows with new answers."""
    health.suffers(health_of(row))
    row[0, 6] += 1e-5
    return health.suffers(health_of(row))


def site_row(milliseconds, failures=0.0):
    row = torch.zeros(1, 8)
    row[0, 5], row[0, 6] = failures, math.log(1 + milliseconds)
    return row


@pytest.mark.parametrize(
    ("row", "suffers"),
    [
        (site_row(20), False),
        (site_row(40), False),
        (site_row(300), True),
        (site_row(20, 0.05), False),
        (site_row(20, 0.3), True),
    ],
)
def test_health(row, suffers):
    health = Health()
    for tenth in range(600):
        health.learn(health_of(site_row(20)), 1, tenth / 10, False)
    assert suffers_by(health, row) == suffers


def test_health_needs_new_answers():
    """If all requests are denied the averages stay as they are."""
    health = Health()
    for tenth in range(600):
        health.learn(health_of(site_row(20)), 1, tenth / 10, False)
    assert suffers_by(health, site_row(300))
    last = site_row(300)
    health.suffers(health_of(last))
    assert not health.suffers(health_of(last))


def test_health_is_not_learned_while_the_site_suffers():
    health = Health()
    for tenth in range(600):
        health.learn(health_of(site_row(20)), 1, tenth / 10, False)
    for tenth in range(600, 1200):
        health.suffers(health_of(site_row(300 + tenth % 2)))
        health.learn(health_of(site_row(300)), 1, tenth / 10, False)
    assert suffers_by(health, site_row(300))


def test_health_of_rows_that_are_no_numbers():
    health = Health()
    for tenth in range(600):
        health.learn(health_of(site_row(20)), 1, tenth / 10, False)
    health.suffers(health_of(site_row(math.nan)))
    health.learn(health_of(site_row(math.nan)), 1, 60.0, False)
    assert suffers_by(health, site_row(300))


def test_health_of_a_fast_site_may_change():
    health = Health()
    for tenth in range(600):
        health.learn(health_of(site_row(1)), 1, tenth / 10, False)
    assert not suffers_by(health, site_row(20))


def test_health_of_a_site_that_is_slower_for_good():
    health = Health()
    for second in range(60):
        health.learn(health_of(site_row(20)), 1, float(second), False)
    for second in range(60, 1800):
        health.learn(health_of(site_row(200)), 1, float(second), True)
    assert not suffers_by(health, site_row(200))
    assert suffers_by(health, site_row(2000))
