"""Which host is too slow for rounds with most others."""

import math
import time

import pytest
import torch

from cluster_guests import MemberHost, Site
from cluster_threads import Memory, settings
from nginx import free_port, release_port, wait_for
from webtorch._cluster.interfaces import Member, View
from webtorch._cluster.seal import Ring
from webtorch._cluster.speeds import (
    LEAST,
    PAUSE,
    PROBE,
    SlowLinksError,
    Speeds,
    _Link,
    is_fast,
    limit,
    size_of_round,
    without_slow,
)


def view_of(*told, guest="auto"):
    members = [
        Member(f"web-{index}", "127.0.0.1", 7610, {"slow": each, "guest": guest})
        for index, each in enumerate(told)
    ]
    return View(1, tuple(members), "digest")


def speeds_of(**rates):
    own, ring = settings("web-0"), Ring("test", ())
    found = Speeds(own, ring)
    found._links = {id: _Link(own, ring, Member(id, "", 1)) for id in rates}
    for id, rate in rates.items():
        found._links[id].rate = rate
    found._started = time.monotonic()
    return found


def test_host_that_is_slow_to_most_others_leaves():
    view = view_of(["web-2"], ["web-2"], [])
    for own in ("web-0", "web-1"):
        found, slow = without_slow(view, own)
        assert (found.ids, slow) == (("web-0", "web-1"), {"web-2"})
    with pytest.raises(SlowLinksError, match="its links are slow to most other hosts"):
        without_slow(view, "web-2")
    # half of the others are not most of them
    for told in ((["web-2"], [], []), (["web-1"], ["web-0"], [])):
        view = view_of(*told)
        assert without_slow(view, "web-2") == (view, frozenset())


@pytest.mark.parametrize("told", [None, "web-2", [3, None], ["web-9"], [["web-2"]], ["web-0"]])
def test_malformed_reports_of_hosts(told):
    view = view_of(told, told, told)
    if told == ["web-0"]:
        assert without_slow(view, "web-1")[1] == {"web-0"}
    else:
        assert without_slow(view, "web-2") == (view, frozenset())


def test_host_with_guest_off_stays():
    view = view_of(["web-2"], ["web-2"], [], guest="off")
    assert without_slow(view, "web-2") == (view, frozenset())


def test_two_hosts_are_left():
    view = view_of(["web-1", "web-2"], ["web-0", "web-2"], ["web-0", "web-1"])
    assert without_slow(view, "web-0") == (view, frozenset())
    view = view_of(["web-1"], ["web-0"])
    assert without_slow(view, "web-0") == (view, frozenset())


def test_slow_link_depends_on_best_link_and_round_size():
    size = 10_000_000
    speeds = speeds_of(a=1e8, b=6e5, c=None)
    assert speeds.slow(size) == ["b"]
    # a round of 1 MB takes 1.7 s
    assert speeds.slow(1_000_000) == []
    # all links are so
    assert speeds_of(a=5e5, b=6e5).slow(size) == []
    # a round without it says nothing
    speeds.forget_if_here(["a", "c"])
    assert speeds.slow(size) == ["b"]
    speeds.forget_if_here(["a", "b", "c"])
    assert speeds.slow(size) == []
    speeds = speeds_of(a=1e8, b=6e5)
    speeds.drop({"b"})
    assert speeds.slow(size) == []
    assert speeds_of().slow(size) == []
    assert limit(settings("a")) == LEAST
    assert limit(settings("a", interval=10.0)) == 20.0


def test_probe_that_goes_on_shows_that_its_link_is_slow():
    size = 10_000_000
    speeds = speeds_of(a=1e8, b=None)
    link = speeds._links["b"]
    link._since = time.monotonic() - 1
    assert speeds.slow(size) == []
    link._since = time.monotonic() - 4
    assert link.most() == pytest.approx(PROBE / 2, rel=0.1)
    assert speeds.slow(size) == ["b"]
    # it may be that of this host
    speeds._links["a"].rate = None
    assert speeds.slow(size) == []


def test_host_that_is_slower_than_others_is_not_waited_for_until_links_are_known():
    size = 10_000_000
    own = settings("web-0")
    assert Speeds(own, Ring("test", ())).patience(size) == LEAST
    assert speeds_of(a=1e8, b=None).patience(size) == LEAST
    assert speeds_of(a=1e8, b=6e5).patience(size) == LEAST
    # something else is slow: it is not waited for again after a pause
    speeds = speeds_of(a=1e8, b=1e8)
    assert speeds.patience(size) == math.inf
    speeds._started -= PAUSE
    assert speeds.patience(size) == LEAST
    speeds.measure([])
    speeds._links = speeds_of(a=1e8, b=1e8)._links
    speeds._started -= PAUSE
    assert speeds.patience(size) == math.inf
    # fast rounds of all hosts
    speeds.forget_if_here(["a", "b"])
    assert speeds.patience(size) == LEAST


def test_guest_tries_the_group_with_most_links_and_a_margin():
    own = settings("a")
    assert is_fast([1e7, 1e7, None], 8_000_000, own)
    assert not is_fast([1e7, None], 8_000_000, own)
    assert not is_fast([5e6, 5e6], 8_000_000, own)
    assert not is_fast([], 1, own)


def test_size_of_a_round():
    memory = Memory("m", {"a": torch.zeros(8192), "n": torch.zeros(9, dtype=torch.int64)})
    assert size_of_round({"m": memory}, "none") == 2 * 4 * 8192
    assert size_of_round({"m": memory}, "int8") == 2 * (8192 + 8)


def test_links_are_measured():
    port = free_port()
    site = Site(port)
    try:
        for name in ("web-1", "web-2"):
            MemberHost(site, name, lambda: {"m": Memory("m", {"a": torch.zeros(3)})})
        own = site.settings("web-0")
        away = Member("web-3", own.address, port)
        speeds = Speeds(own, site.ring)

        def measured():
            speeds.forget()
            speeds.measure([*site.members, away], 30.0)
            return len([each for each in speeds.rates() if each]) == 2

        # they listen in threads
        wait_for(measured, "two links")
        assert sorted(speeds._links) == ["web-1", "web-2", "web-3"]
        assert speeds._links["web-3"].rate is None
        assert speeds.slow(1) == []
    finally:
        site.close()
        release_port(port)
