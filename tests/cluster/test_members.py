"""Who takes part: hosts that come, go, stop, have another secret, id or clock."""

import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cluster_hosts import (
    SECRET,
    CommandError,
    Host,
    do_all,
    errors_of,
    running_hosts,
    settings_of,
    stop_server,
)
from nginx import wait_for
from webtorch._cluster import membership
from webtorch._cluster.coordinator import Coordinator, join_address, resolve
from webtorch._cluster.membership import MAX_ABOUT, MAX_SKEW, Lighthouse
from webtorch._cluster.seal import Ring

OTHER = b"another secret of 32 bytes or more"


@pytest.fixture(scope="module", autouse=True)
def server():
    yield
    stop_server()


@pytest.fixture(scope="module")
def trio():
    """Three hosts, all of them members of one group when a test begins."""
    with running_hosts(settings_of(3, timeout=3)) as hosts:
        hosts[0].do("serve")
        yield hosts


@pytest.fixture
def group(trio):
    do_all(trio, "beat", {})
    assert do_all(trio, "join", 3) == [("a", "b", "c")] * 3
    return trio


def same_mean(hosts: list[Host]) -> None:
    ones = [1.0] * len(hosts)
    means = [mean for mean, _ in do_all(hosts, "mean", 0, 10_000, ones)]
    assert all(torch.equal(mean, means[0]) for mean in means)


def test_heartbeats_go_on_until_the_next_round(monkeypatch):
    """Also with an interval that is longer than a host is else thought to be idle."""
    monkeypatch.setattr(membership, "_IDLE_BEATS", 0.0)
    settings = replace(settings_of(1)[0], interval=3600, coordinator=("a..b", 1))
    host = Lighthouse(settings, Ring("a", [SECRET]), "1")
    beats = []
    host._client = SimpleNamespace(heartbeat=lambda *_: beats.append(1))
    try:
        host.beat({})
        # and a name that is malformed ends no thread
        wait_for(lambda: len(beats) > 2 and host.problem, "heartbeats")
        assert all(thread.is_alive() for thread in host._threads)
    finally:
        host.close()
    assert "'a..b' is not a name of a host" in host.problem


def test_members_are_the_same_at_all_hosts(group):
    for host in group:
        host.do("beat", {"steps": len(host.settings.id), "name": host.settings.id})
    views = do_all(group, "members")
    assert len({view.digest for view in views}) == 1
    assert len({view.generation for view in views}) == 1
    assert [member.about["name"] for member in views[0].members] == ["a", "b", "c"]
    assert [member.address for member in views[1].members] == [h.settings.address for h in group]
    assert all(view.service == group[0].settings.address for view in views)
    # another answer for each time that all have asked, of the same generation
    again = do_all(group, "members")[0]
    assert again.digest != views[0].digest and again.generation == views[0].generation
    assert do_all(group, "connect") == ["kept"] * 3
    same_mean(group)


def test_group_is_made_anew_if_one_has_lost_it(group):
    group[1].do("close")
    do_all(group, "members")
    assert do_all(group, "connect") == ["new"] * 3
    same_mean(group)


def test_stopped_host_is_left_and_comes_back(group):
    """It stops in an exchange; gloo itself would wait for it for ever."""
    group[2].signal(signal.SIGSTOP)
    others = group[:2]
    for host in others:
        host.begin("exchange", b"message")
    errors = errors_of(others)
    assert {error.kind for error in errors} == {"GroupError"}
    # the second one to notice it may hear that the first one has closed the group
    assert "c" in {error.member for error in errors}
    assert do_all(others, "join", 2) == [("a", "b")] * 2
    same_mean(others)
    group[2].signal(signal.SIGCONT)
    group[2].begin("exchange", b"message")
    assert errors_of(group[2:])[0].kind == "GroupError"
    assert do_all(group, "join", 3) == [("a", "b", "c")] * 3
    same_mean(group)


def test_killed_host_is_left(group):
    extra = Host(replace(group[0].settings, id="d", address=group[0].settings.address + "9"))
    try:
        assert do_all([*group, extra], "join", 4) == [("a", "b", "c", "d")] * 4
        for host in group:
            host.begin("mean", 0, 10_000, [1.0] * 4)
    finally:
        extra.kill()
    assert {error.kind for error in errors_of(group)} == {"GroupError"}
    assert do_all(group, "join", 3) == [("a", "b", "c")] * 3
    same_mean(group)


def test_host_that_leaves_is_not_waited_for(group):
    extra = Host(replace(group[0].settings, id="d", address=group[0].settings.address + "9"))
    try:
        do_all([*group, extra], "join", 4)
        extra.do("leave")
        assert do_all(group, "join", 3) == [("a", "b", "c")] * 3
        with pytest.raises(CommandError, match="UnreachableError: this host has left"):
            extra.do("members")
    finally:
        extra.kill()


def test_hosts_that_are_no_members(group):
    """Another secret, a clock that is far off, an id of another host: each is told why."""
    here = group[0].settings
    stranger = Host(replace(here, id="s", address=here.address + "7", secrets=(OTHER,)))
    late = Host(replace(here, id="t", address=here.address + "8"))
    double = Host(replace(here, id="b", address=here.address + "9"))
    hosts = [*group, stranger, late]
    try:
        late.do("shift_clock", MAX_SKEW * 2)
        group[1].do("shift_clock", 60)
        do_all(hosts, "ask")
        wait_for(lambda: seen(group[0], rejected={"s", "t"}), "two that are no members")
        assert seen(group[1], ids=("a", "b", "c"))
        wait_for(lambda: seen(stranger, ids=("s",)), "a host that is alone")
        wait_for(lambda: seen(late, text="clock differs by 300 s"), "a late host")
        do_all([stranger, late], "leave")
        wait_for(lambda: seen(group[0], ids=("a", "b", "c"), rejected=set()), "those that left")
        double.do("ask")
        wait_for(lambda: seen(double, text="that of another host"), "an id that is taken")
        wait_for(lambda: seen(group[0], ids=("a", "b", "c"), rejected={"b"}), "the older host")
        assert seen(group[1], ids=("a", "b", "c"))
    finally:
        do_all(group, "halt")
        group[1].do("shift_clock", -60)
        for host in (stranger, late, double):
            host.kill()
    same_after(group)


def same_after(group: list[Host]) -> None:
    assert do_all(group, "join", 3) == [("a", "b", "c")] * 3
    same_mean(group)


def seen(
    host: Host,
    ids: tuple[str, ...] | None = None,
    rejected: set[str] | None = None,
    text: str | None = None,
    service: str | None = None,
) -> bool:
    """Return whether the last answer to a host is such."""
    last = host.do("last")
    if isinstance(last, str):
        return text is not None and text in last
    return (
        text is None
        and ids in (None, last.ids)
        and service in (None, last.service)
        and (rejected is None or rejected == last.rejected.keys())
    )


def test_secrets_are_changed_one_host_after_the_other():
    first, second, third = settings_of(3)
    settings = [
        replace(first, secrets=(OTHER, SECRET)),
        replace(second, secrets=(SECRET, OTHER)),
        replace(third, secrets=(OTHER, SECRET)),
    ]
    with running_hosts(settings) as hosts:
        hosts[0].do("serve")
        do_all(hosts, "join", 3)
        same_mean(hosts)


def test_coordinator_moves(tmp_path):
    """The service goes where the name leads to; hosts find it there."""
    names = tmp_path / "names"
    settings = settings_of(3, timeout=2)
    names.write_text(settings[0].address)
    with running_hosts(settings) as hosts:
        do_all(hosts, "use_names", str(names))
        do_all(hosts, "serve")
        do_all(hosts, "join", 3)
        names.write_text(settings[1].address)
        wait_for(lambda: hosts[1].do("is_running") and not hosts[0].do("is_running"), "the move")

        do_all(hosts, "ask")

        def at(index: int) -> bool:
            place = settings[index].address
            return all(seen(host, ids=("a", "b", "c"), service=place) for host in hosts)

        wait_for(lambda: at(1), "the second one")
        # a name without an address leaves the service where it is
        names.write_text("")
        wait_for(lambda: "no address" in str(hosts[0].do("trouble")), "a name without address")
        assert hosts[1].do("is_running") and at(1)
        # its host is gone, and the name is elsewhere
        hosts[1].do("stop")
        names.write_text(settings[2].address)
        wait_for(lambda: at(2), "the third one")


def test_members_without_coordinator():
    (settings,) = settings_of(1, timeout=0.5)
    member = Lighthouse(settings, Ring("test", settings.secrets), "1")
    try:
        with pytest.raises(Exception, match="coordinator 127") as caught:
            member.members()
        assert type(caught.value).__name__ == "UnreachableError"
        with pytest.raises(ValueError, match="at most 16384"):
            member.beat({"text": "x" * MAX_ABOUT})
    finally:
        member.close()
        member.close()


def test_coordinator_tells_why_it_does_not_run():
    (settings,) = settings_of(1)
    first, second = Coordinator(settings), Coordinator(settings)
    try:
        first.start()
        wait_for(lambda: first.is_running, "the first one")
        second.start()
        wait_for(lambda: second.problem is not None, "the reason")
        assert "in use" in str(second.problem) and not second.is_running
        first.stop()
        wait_for(lambda: second.is_running and second.problem is None, "the second one")
    finally:
        first.stop()
        second.stop()
        second.stop()


def test_addresses():
    assert resolve("127.0.0.1", 1) == ["127.0.0.1"]
    assert join_address("::1", 7610) == "[::1]:7610"
    assert join_address("10.0.0.1", 7610) == "10.0.0.1:7610"
