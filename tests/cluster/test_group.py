"""Exchanges of groups of processes, over gloo."""

import math
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cluster_hosts import (
    CommandError,
    Host,
    do_all,
    running_hosts,
    settings_of,
    stop_server,
    vector,
)
from nginx import wait_for
from webtorch._cluster import formats
from webtorch._cluster.group import GlooGroup
from webtorch._cluster.interfaces import GroupError, Member, View
from webtorch._cluster.links import MAX_TAG, tag_of

WEIGHTS = [3.0, 0.0, 5.0]


@pytest.fixture(scope="module", autouse=True)
def server():
    yield
    stop_server()


def view_of(hosts: list[Host], digest: str = "d", generation: int = 1) -> View:
    each = [host.settings for host in hosts]
    members = tuple(Member(s.id, s.address, s.port, {"group": digest}) for s in each)
    return View(generation, members, digest)


@pytest.fixture(scope="module", params=["none", "bf16", "int8"])
def group(request):
    with running_hosts(settings_of(3, compress=request.param)) as hosts:
        do_all(hosts, "connect", view_of(hosts))
        yield hosts


def expected(count: int, weights: list[float]) -> torch.Tensor:
    parts = [vector(rank, count).double() * weight for rank, weight in enumerate(weights)]
    return sum(parts) / sum(weights)


@pytest.mark.parametrize("count", [1, 4095, 70_000, 1_000_003])
def test_mean_is_the_same_at_all_hosts(group, count):
    means = [mean for mean, _ in do_all(group, "mean", 0, count, WEIGHTS)]
    assert all(torch.equal(mean, means[0]) for mean in means)
    error = (means[0].double() - expected(count, WEIGHTS)).abs().max()
    limit = {"none": 1e-6, "bf16": 0.03, "int8": 0.05}[group[0].settings.compress]
    assert error < limit
    carried = group[0].do("carried")
    assert carried[0] > 0 and carried[1] > 0


def test_exchange_that_fails_uses_its_number(monkeypatch):
    """What seals another message must not be used again."""
    numbers = []

    def seal(channel, data, number):
        numbers.append(number)
        return data

    def fail():
        raise GroupError("it has failed")

    monkeypatch.setattr("webtorch._cluster.group.seal", seal)
    receipt = SimpleNamespace(wait=fail)
    links = SimpleNamespace(
        rank=0, ids=("a", "b"), others=[1], to_all=None,
        send=lambda *_, **__: None, receive=lambda *_, **__: receipt,
    )  # fmt: skip
    host = GlooGroup(links, settings_of(1)[0], View(1, (Member("a", "", 1), Member("b", "", 1))))
    for _ in range(2):
        with pytest.raises(GroupError):
            host.exchange(b"one")
    assert numbers == [0, 2]


def test_member_that_is_slower_than_others_is_not_waited_for():
    """The others know it at once: an error that is kept does not keep connections."""
    with running_hosts(settings_of(3)) as hosts:
        do_all(hosts, "connect", view_of(hosts))
        # the first waits for the second, and then for the third, which is not there yet
        hosts[0].begin("failing_mean", 70_000, 0.3)
        hosts[1].begin("failing_mean", 70_000, math.inf)
        text, member = hosts[0].result()
        assert member == "c" and text.startswith("nothing came from c for 0.")
        # it has the timeout, 30 s, as the first one it waits for may be as slow as all are
        hosts[2].begin("failing_mean", 70_000, 0.3)
        for host in hosts[1:]:
            text, _ = host.result(20)
            assert text.startswith("the connection to ") and text.endswith(" was closed")


def unsent(host: Host) -> int:
    """Return the bytes that connections of a host hold, as other ends have not taken them."""
    files = Path(f"/proc/{host.process.pid}/fd").iterdir()
    own = {os.readlink(file) for file in files}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(line[4].split(":")[0], 16) for line in lines if f"socket:[{line[9]}]" in own)


def test_host_that_is_killed_within_a_message():
    """Gloo does not wake those that wait for the message; the timeout is 30 s."""
    size = 64 << 20
    with running_hosts(settings_of(2)) as hosts:
        do_all(hosts, "connect", view_of(hosts))
        hosts[0].do("expect_message", 1, size)
        # it reads nothing: so the other one has sent a part of the message when it is killed
        hosts[0].signal(signal.SIGSTOP)
        hosts[1].do("send_message", 0, size)
        known = []

        def is_stuck() -> bool:
            known.append(unsent(hosts[1]))
            return known[-1] > 0 and known[-5:] == [known[-1]] * 5

        wait_for(is_stuck, "a message that is on its way")
        hosts[1].kill()
        hosts[0].signal(signal.SIGCONT)
        hosts[0].begin("wait_for_message")
        with pytest.raises(CommandError, match="the connection to b was closed"):
            hosts[0].result(20)
        assert hosts[0].do("has_begun")


def test_tags_of_two_kinds_never_meet():
    """Also long after numbers have come to the last tag."""
    for number in (0, MAX_TAG - 4, 3 * MAX_TAG):
        numbers = range(number, number + 8)
        assert all(tag_of(each) % 2 != each % 2 and 0 < tag_of(each) < MAX_TAG for each in numbers)


def test_mean_of_no_steps_is_zero(group):
    means = [mean for mean, _ in do_all(group, "mean", 0, 1000, [0.0, 0.0, 0.0])]
    assert all(torch.equal(mean, torch.zeros(1000)) for mean in means)


@pytest.mark.parametrize("compress", ["none", "bf16", "int8"])
def test_formats_of_the_largest_numbers_are_finite(compress):
    values = torch.tensor([torch.finfo(torch.float32).max, -3.4e38, 1.0])
    found = formats.decode(formats.encode(values, compress), 3, compress)
    assert found[:2] == pytest.approx(values[:2], rel=0.01)


def test_mean_with_rest_loses_nothing(group):
    """What rounding leaves goes into later rounds: many means are right where one is not."""
    count, ones = 50_000, [1.0, 1.0, 1.0]
    wanted = expected(count, ones)

    def error(fill: float | None, times: int) -> float:
        means = [mean for mean, _ in do_all(group, "mean", 0, count, ones, fill, times)]
        assert all(torch.equal(mean, means[0]) for mean in means)
        return float((means[0].double() - wanted).abs().max())

    if group[0].settings.compress == "none":
        assert error(0.0, 2) < 1e-5
    else:
        assert error(0.0, 24) < error(None, 24) / 4


def test_mean_of_a_host_without_steps_keeps_its_rest(group):
    """What it could not contribute goes into a later round, but for the part it sums up."""
    count = 30_000
    results = do_all(group, "mean", 0, count, WEIGHTS, 0.25)
    own = results[1][1]
    assert ((own == 0.25).sum() >= count // 3) and torch.equal(results[0][0], results[1][0])
    # others contributed theirs with their differences; what is left is of this round's rounding
    assert results[0][1].abs().max() < 0.1


def test_exchange_and_totals(group):
    for turn in range(3):
        sent = [f"{turn} of {host.settings.id}".encode() * (turn * 400 + 1) for host in group]
        for host, message in zip(group, sent, strict=True):
            host.begin("exchange", message)
        assert [host.result() for host in group] == [sent] * 3
    assert do_all(group, "exchange", b"") == [[b""] * 3] * 3
    totals = do_all(group, "total", 70_000)
    assert all(torch.equal(total, torch.arange(70_000) * 6) for total in totals)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_state_to_one_host(group, size):
    data = vector(7, size // 4 + 1).numpy().tobytes()[:size]
    group[2].begin("send_state", 1, data)
    group[1].begin("receive_state", 2, size)
    assert group[1].result() == data
    group[2].result()
    assert do_all(group, "exchange", b"after") == [[b"after"] * 3] * 3


@pytest.mark.parametrize("compress", ["none", "bf16", "int8"])
@pytest.mark.parametrize("count", [1, 4096, 10_001])
def test_format_round_trip(compress, count):
    values = vector(1, count) * 100
    data = formats.encode(values, compress)
    assert len(data) == formats.size(count, compress)
    error = (formats.decode(data, count, compress) - values).abs().max()
    assert error <= {"none": 0, "bf16": 2, "int8": 3}[compress]


def test_format_int8_of_extreme_values():
    values = torch.tensor([0.0, 1e-40, 3e38, -3e38]).repeat_interleave(formats.BLOCK)
    result = formats.decode(formats.encode(values, "int8"), len(values), "int8")
    assert torch.isfinite(result).all()
    assert torch.allclose(result, values)


@pytest.mark.parametrize("hosts", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("count", [1, 5000, 3_000_000])
def test_pieces_cover_a_vector(hosts, count):
    ends = [0]
    for piece in formats.pieces(count, hosts):
        assert piece.bounds[0] == ends[-1] and len(piece.bounds) == hosts + 1
        assert all(piece.size(rank) <= formats.part_size(hosts) for rank in range(hosts))
        assert list(piece.bounds) == sorted(piece.bounds)
        ends.append(piece.bounds[-1])
    assert ends[-1] == count
    assert len(ends) - 1 == math.ceil(count / (formats.part_size(hosts) * hosts))


def test_one_host_alone():
    with running_hosts(settings_of(1)) as hosts:
        hosts[0].do("connect", view_of(hosts))
        mean, _ = hosts[0].do("mean", 0, 100, [2.0])
        assert torch.equal(mean, vector(0, 100))
        assert hosts[0].do("exchange", b"x") == [b"x"]
