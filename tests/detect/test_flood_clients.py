"""webtorch.detect: what the flood detector knows of clients, and of the site's load."""

import math
import random

import pytest
import torch

from webtorch.detect._flood_clients import SLOTS, Known, People, Slots
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


def test_known_clients_keep_their_slots_until_they_are_gone(known):
    keys = 100 + torch.arange(4 * SLOTS).unsqueeze(1)
    rates, shares = torch.tensor([[FAST, SLOW]]), torch.tensor([[0.8, 0.2]])

    def learn_all(now):
        known.learn(keys, rates.expand(len(keys), 2), shares.expand(len(keys), 2), now)
        others = known.steady(keys, rates, shares, math.inf, COMMON)
        return int(others.sum()), bool(
            known.steady(torch.tensor([[7]]), rates, shares, 150, COMMON)
        )

    others, is_kept = learn_all(200.0)
    assert 0.9 * SLOTS < others < SLOTS and is_kept
    assert known.steady(torch.tensor([[9]]), rates, shares, math.inf, COMMON)
    known.learn(torch.tensor([[9]]), rates, shares, 500.0)
    _, is_kept = learn_all(1000.0)
    assert not is_kept
    assert known.steady(torch.tensor([[9]]), rates, shares, 150.0, COMMON)


def test_half_as_many_clients_as_slots_are_all_known():
    known = Known(2)
    rates, shares = torch.tensor([[FAST, SLOW]]), torch.tensor([[0.8, 0.2]])
    for second in range(16):
        keys = 64 * torch.arange(SLOTS // 32).unsqueeze(1) + second
        known.learn(keys, rates.expand(len(keys), 2), shares.expand(len(keys), 2), float(second))
    found = known.steady(64 * torch.arange(SLOTS // 32), rates, shares, math.inf, COMMON)
    assert found.float().mean() > 0.95


def test_known_clients_highest_rates_are_those_of_a_batch():
    known = Known(2)
    key = torch.tensor([[7], [7], [7]])
    rates = torch.tensor([[1.0, 1.0], [9.0, 9.0], [1.0, 1.0]])
    shares = torch.tensor([[0.8, 0.2]])
    known.learn(key, rates, shares.expand(3, 2), 0.0)
    fast = torch.tensor([[9.0, 9.0]])
    assert known.steady(key[:1], fast, shares, math.inf, COMMON)


def test_slots_depend_on_a_salt():
    keys = torch.arange(1000) << 40
    first, second = Slots().of(keys), Slots().of(keys)
    assert (first != second).any()
    for each in (first, second):
        assert int(each.min()) >= 0 and int(each.max()) < SLOTS
        assert len(each.unique()) > 900


def test_people_before_a_surge():
    people = People(1, 100, 1000, 30, 60.0, torch.Generator().manual_seed(0))
    for second in range(50):
        people.add(torch.tensor([[float(second)]]), None, float(second))
    assert people.before(9.0, 5, 100).flatten().sort().values.tolist() == list(range(10))
    assert people.before(1.0, 5, 100).flatten().sort().values.tolist() == list(range(5))
    assert len(people.before(math.inf, 5, 20)) == 20


def test_people_rows_of_a_client_in_a_period():
    people = People(1, 100, 1000, 30, 60.0, torch.Generator().manual_seed(0))
    for second in range(4):
        keys = torch.tensor([[7]] * 20 + [[8]])
        people.add(torch.zeros(21, 1) + keys, keys, float(second))
    assert (people.rows == 7).sum() == 30
    assert (people.rows == 8).sum() == 4
    people.add(torch.full((5, 1), 7.0), torch.tensor([[7]] * 5), 60.0)
    assert (people.rows == 7).sum() == 35


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


@pytest.mark.parametrize("seed", range(5))
def test_load_onset_of_a_sudden_surge_after_bursts(seed):
    """Few clients load many things at once, so the rate of ten seconds varies by a fifth."""
    chance = random.Random(seed)
    pages = [sum(chance.random() < 0.05 for _ in range(8)) for _ in range(3000)]

    def rate(second):
        tenth = round(second * 10)
        return 7 * sum(pages[max(0, tenth - 9) : tenth + 1]) if second < 300 else 900

    load = load_after(310, rate)
    assert load.surging
    assert 230 <= load.onset() <= 300


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
    row[0, 0] = math.log(1 + 10)
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


@pytest.mark.parametrize("row", [torch.zeros(1, 8), site_row(math.nan)])
def test_health_is_that_of_the_last_row_with_values(row):
    """A request without a key has none, and a caller's row may have any."""
    assert health_of(row) is None
    assert health_of(torch.cat([site_row(20), row])) == health_of(site_row(20))


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
