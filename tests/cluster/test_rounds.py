"""Rounds of hosts: each step counts once, whatever ends a round."""

import itertools
import logging
import random
from collections.abc import Sequence

import pytest
import torch

import cluster_threads
from cluster_threads import Adding, Crash, Host, Memory, chance, run, run_until_settled
from webtorch._cluster import state_transfer
from webtorch._cluster.interfaces import GroupError, Outer
from webtorch._cluster.rounds import Rounds
from webtorch._cluster.single_host import Alone


def model(value: float = 0.0, steps: int = 0, **others: bool) -> Memory:
    weights = {
        "a": torch.full((3,), value),
        "b": torch.full((), value, dtype=torch.float64),
        "n": torch.full((2,), int(value), dtype=torch.int64),
    }
    model.counter += 1
    return Memory(f"memory{model.counter}", weights, steps, **others)


model.counter = 0


def make(count: int, kind: type[Rounds] = Rounds, **others) -> list[Host]:
    return [Host(f"web-{index}", lambda: {"m": model(**others)}, kind) for index in range(count)]


def values(host: Host) -> list[float]:
    return [float(each) for tensor in host.memory.weights.values() for each in tensor.view(-1)]


def anchors(hosts: list[Host]) -> set[str]:
    return {host.memory.state.anchor.key for host in hosts}


# --- the algorithm ---


def test_rounds_average_is_weighted_by_steps():
    one, two = hosts = make(2)
    one.memory.train(1, 4.0)
    two.memory.train(3, 8.0)
    run_until_settled(hosts)
    mean = (1 * 4.0 + 3 * 24.0) / 4
    # integers add up
    assert values(one) == values(two) == [mean, 28.0, 28.0] + [mean] * 3
    for host in hosts:
        assert host.memory.all_steps == 4
        assert host.memory.uncounted == 0
        assert host.memory.state.members == ("web-0", "web-1")
    assert len(anchors(hosts)) == 1


def test_rounds_nothing_without_steps():
    hosts = make(2)
    run_until_settled(hosts)
    before = anchors(hosts)
    results = run(hosts)
    assert all(result.models == 0 for result in results.values())
    assert anchors(hosts) == before


def test_rounds_training_meanwhile_is_kept():
    one, two = hosts = make(2, Adding)
    run_until_settled(hosts)
    one.memory.train(5)
    one.memory.happen = lambda what: one.memory.train() if what == "contents" else None
    run(hosts)
    one.memory.happen = lambda _: None
    assert one.memory.uncounted > 0
    assert values(one)[0] == one.memory.steps
    assert values(two)[0] == 5
    run_until_settled(hosts)
    assert values(one) == values(two) == [one.memory.steps] * 6


def test_rounds_first_values_are_of_the_lowest_id():
    hosts = [
        Host(f"web-{index}", lambda: {"m": model(10.0 + 7 * index)}, Adding)  # noqa: B023
        for index in range(3)
    ]
    hosts[2].memory.train(2)
    run_until_settled(hosts)
    assert {tuple(values(host)) for host in hosts} == {(12.0,) * 6}


def test_rounds_first_values_are_of_the_most_steps():
    hosts = [
        Host(f"web-{index}", lambda: {"m": model(index, 100 * index)}, Adding)  # noqa: B023
        for index in range(3)
    ]
    run_until_settled(hosts)
    assert {tuple(values(host)) for host in hosts} == {(2.0,) * 6}
    assert {host.memory.all_steps for host in hosts} == {200}


def test_rounds_host_joins():
    hosts = make(2, Adding)
    hosts[0].memory.train(5)
    run_until_settled(hosts)
    new = Host("web-9", lambda: {"m": model(77.0, 1000)}, Adding)
    new.memory.train(3)
    hosts[0].memory.optimizer.fill_(7)
    hosts[1].memory.optimizer.fill_(5)
    run_until_settled([*hosts, new])
    # that of a member; others keep their own
    assert new.memory.optimizer.tolist() == [7] * 3
    assert hosts[1].memory.optimizer.tolist() == [5] * 3
    assert values(new) == [8.0] * 6
    assert new.memory.all_steps == hosts[0].memory.all_steps == 8


def test_rounds_large_states_let_others_know_that_they_go_on(monkeypatch):
    """A host that has no part in it waits for an exchange for the timeout at most."""
    monkeypatch.setattr(state_transfer, "PIECE", 64)
    groups = []
    connect = cluster_threads.ThreadGroup

    def note(*arguments):
        groups.append(connect(*arguments))
        return groups[-1]

    monkeypatch.setattr(cluster_threads, "ThreadGroup", note)

    def make_large(value: float) -> dict[str, Memory]:
        memory = Memory("x", {"a": torch.full((1000,), value)})
        memory.optimizer = torch.full((9000,), int(value), dtype=torch.uint8)
        return {"m": memory}

    hosts = [Host(f"web-{index}", lambda: make_large(3), Adding) for index in range(2)]
    hosts[0].memory.train(5)
    run_until_settled(hosts)
    groups.clear()
    late = [Host(f"web-{index}", lambda: make_large(7), Adding) for index in (5, 6)]
    run([*hosts, *late])
    assert len(groups) == 4
    # each turn moves more, unless it took long
    assert {group.exchanges for group in groups} <= set(range(8, 16))
    assert 0 < max(group.most for group in groups) <= 8192
    run_until_settled([*hosts, *late])
    for host in late:
        assert host.memory.weights["a"].tolist() == [8.0] * 1000
        assert host.memory.optimizer.tolist() == [3] * 9000


def test_rounds_state_that_was_cut_goes_on(monkeypatch):
    """From any host that has it, and also if another worker continues."""
    monkeypatch.setattr(state_transfer, "PIECE", 64)
    sent: list[tuple[str, int]] = []
    send = cluster_threads.ThreadGroup.send_state

    def note(group, to, data):
        sent.append((group.ids[group.rank], len(data)))
        send(group, to, data)

    monkeypatch.setattr(cluster_threads.ThreadGroup, "send_state", note)
    hosts = [
        Host(f"web-{index}", lambda: {"m": Memory("x", {"a": torch.arange(5e3)})}, Adding)
        for index in range(2)
    ]
    hosts[1].memory.train(3)
    run_until_settled(hosts)
    sent.clear()
    late = Host("web-5", lambda: {"m": Memory("y", {"a": torch.rand(5000)})}, Adding)
    results = run([*hosts, late], lambda number: range(3) if number == 6 else ())
    assert {type(result) for result in results.values()} == {GroupError}
    cut = sum(size for _, size in sent)
    assert 0 < cut < 20_000 and {host for host, _ in sent} == {"web-0"}
    sent.clear()
    late.start()
    run([hosts[1], late])
    # the optimizer's state, which the source changes, is moved as a whole
    size = len(late.memory.optimizer)
    assert {host for host, _ in sent} == {"web-1"}
    assert 20_000 - cut + size <= sum(size for _, size in sent) <= 20_000 - cut + size + 64
    run_until_settled([*hosts, late])
    assert late.memory.weights["a"].tolist() == hosts[0].memory.weights["a"].tolist()


def test_rounds_host_that_was_away():
    hosts = make(3, Adding)
    run_until_settled(hosts)
    for _ in range(4):
        for host in hosts:
            host.memory.train(2)
        run(hosts[:2])
    assert hosts[2].memory.uncounted == 8
    run_until_settled(hosts)
    assert [values(host) for host in hosts] == [[24.0] * 6] * 3
    assert {host.memory.all_steps for host in hosts} == {24}


def test_rounds_alone():
    (host,) = make(1, Adding)
    host.memory.train(4)
    for _ in range(2):
        host.rounds.run(Alone("web-0", 7))
    assert host.memory.uncounted == 0
    assert host.memory.state.anchor.steps == 4
    assert host.memory.state.generation == 7


def test_rounds_lineages_become_one(caplog, monkeypatch):
    # what is rounded on the wire is the difference of a round
    group = cluster_threads.ThreadGroup
    monkeypatch.setattr(group, "wire", torch.bfloat16, raising=False)
    hosts = [
        Host(f"web-{index}", lambda: {"m": model(float(1 << 40))}, Rounds) for index in range(4)
    ]
    run_until_settled(hosts)
    for _ in range(3):
        for host in hosts[:2]:
            host.memory.train(1, 1.0)
        for host in hosts[2:]:
            host.memory.train(3, 5.0)
        run(hosts[:2])
        run(hosts[2:])
    first, second = values(hosts[0]), values(hosts[3])
    assert len(anchors(hosts)) == 2
    # all have prepared it, and none knows that the others have
    run(hosts, lambda number: range(4) if number == 4 else ())
    assert len(anchors(hosts)) == 2
    assert "have become one" not in caplog.text
    run_until_settled(hosts)
    # by the steps since they parted, 6 and 18; integers, too, each of them exactly
    assert values(hosts[1])[0] == pytest.approx((6 * first[0] + 18 * second[0]) / 24)
    assert second[1] - first[1] == 84
    assert values(hosts[1])[1] == first[1] + 63
    assert caplog.text.count("have become one, with 6 and 18 steps since they parted") == 4
    assert {host.memory.all_steps for host in hosts} == {24}
    numbers = [host.memory.state.anchor.number for host in hosts]
    run_until_settled(hosts)
    assert [host.memory.state.anchor.number for host in hosts] == numbers


def test_rounds_nesterov():
    one, two = hosts = [
        Host(f"web-{index}", lambda: {"m": model(momentum=True)}, Rounds) for index in range(2)
    ]
    for host in hosts:
        host.outer = Outer("nesterov", 0.7, 0.5)
        host.start()
    run_until_settled(hosts)
    expected = momentum = 0.0
    for step in (2.0, 6.0):
        one.memory.train(1, step)
        two.memory.train(1, step)
        run_until_settled(hosts)
        momentum = 0.5 * momentum + step
        expected += 0.7 * (step + 0.5 * momentum)
        assert values(one)[0] == values(two)[0] == pytest.approx(expected)
    late = Host("web-5", lambda: {"m": model(momentum=True)}, Rounds)
    late.outer = one.outer
    late.start()
    run_until_settled([*hosts, late])
    assert late.memory.momentum(late.memory.state.slot)[0] == pytest.approx(momentum)


def test_rounds_other_settings_are_refused():
    hosts = make(2)
    hosts[1].outer = Outer("nesterov", 0.7, 0.5)
    hosts[1].start()
    for result in run(hosts).values():
        assert isinstance(result, GroupError)
        assert 'host "web-1" has other settings' in str(result) or "web-0" in str(result)


def test_rounds_not_finite_is_not_contributed(caplog):
    one, two = hosts = make(2, Adding)
    one.memory.train(5)
    run_until_settled(hosts)
    two.memory.train(3)
    two.memory.weights["a"][1] = float("nan")
    one.memory.train(1)
    run_until_settled(hosts)
    assert values(one) == values(two) == [6.0] * 6
    assert {host.memory.all_steps for host in hosts} == {6}
    assert (
        "weights that are not finite: it takes those of the last round, and 3 steps are lost"
        in (caplog.text)
    )


class Overflowing(Rounds):
    """Rounds whose outer optimizer makes too much of a difference."""

    def _advance(self, mean, weights, momentum):
        return mean * 1e38


def test_rounds_not_finite_optimizer_is_repaired(caplog):
    """Else its moments would make the weights of all later steps so."""
    one, two = hosts = make(2, Adding)
    run_until_settled(hosts)
    one.memory.optimizer.fill_(9)
    for _ in range(3):
        one.memory.train(1)
        one.memory.weights["a"][0] = float("nan")
        run_until_settled(hosts)
    assert caplog.text.count("are not finite") == 1
    assert one.memory.optimizer.tolist() == [0] * 3
    one.memory.train(1)
    run_until_settled(hosts)
    assert values(two) == [1.0] * 6
    one.memory.weights["a"][0] = float("nan")
    one.memory.train(1)
    run_until_settled(hosts)
    assert caplog.text.count("are not finite") == 2


def test_rounds_mean_that_is_not_finite_is_nobodys_anchor(caplog):
    one, two = hosts = make(2, Adding)
    one.memory.train(5)
    run_until_settled(hosts)
    # finite in its own dtype, but not in the one in which it is averaged
    two.memory.train(1)
    two.memory.weights["b"].fill_(1.5e308)
    run_until_settled(hosts)
    assert values(one) == values(two) == [5.0] * 6
    assert caplog.text.count("has weights that are not finite") == 1
    before = anchors(hosts)
    for host in hosts:
        host.kind = Overflowing
        host.start()
        host.memory.train(1, 100.0)
    assert {result.lost for result in run(hosts).values()} == {1}
    assert caplog.text.count("has a mean with others that is not finite: it takes those of") == 2
    assert values(one) == values(two) == [5.0] * 6
    assert anchors(hosts) == before
    for host in hosts:
        host.kind = Adding
        host.start()
        host.memory.train(1)
    run_until_settled(hosts)
    assert values(one) == values(two) == [7.0] * 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rounds_masks_that_are_not_finite_stay(dtype, caplog):
    """What becomes finite at a host is contributed as it is."""
    inf, nan = float("inf"), float("nan")

    def make_mask() -> dict[str, Memory]:
        mask = torch.tensor([-inf, inf, nan, inf, 0.0], dtype=dtype)
        return {"m": Memory("x", {"mask": mask})}

    hosts = [Host(f"web-{index}", make_mask, Adding) for index in range(2)]
    for _ in range(2):
        for host in hosts:
            host.memory.train(1)
            host.memory.weights["mask"][3] = 7
        run_until_settled(hosts)
    for host in hosts:
        found = host.memory.weights["mask"]
        assert found[:2].tolist() == [-inf, inf] and bool(found[2].isnan())
        assert found[4] == 4 and bool(found[3].isfinite())
        assert host.memory.all_steps == 4
    assert not caplog.records


def test_rounds_replaced_weights_are_taken_by_all(caplog):
    caplog.set_level(logging.WARNING)
    hosts = make(3, Adding)
    hosts[0].memory.train(5)
    run_until_settled(hosts)
    hosts[1].memory.replace(100.0, 40)
    hosts[1].memory.train(1)
    run(hosts)
    hosts[0].memory.train(2)
    run_until_settled(hosts)
    assert [values(host) for host in hosts] == [[101.0] * 6] * 3
    assert {host.memory.all_steps for host in hosts} == {41}
    assert "2 steps are dropped: other weights were put into place" in caplog.text


def test_rounds_orders_are_those_of_all(caplog):
    """Also for hosts that come later, whatever they found at their start."""
    caplog.set_level(logging.WARNING)
    hosts = make(2)
    run(hosts)
    assert not caplog.records
    for ordered, frozen in ((0, True), (1, False), (1, True), (0, False), (1, True)):
        hosts[ordered].memory.set_frozen(frozen)
        run(hosts)
        assert [host.memory.frozen for host in hosts] == [frozen] * 2
    text = 'model "m" is frozen, as ordered at host "web-'
    assert caplog.text.count(text) == 3
    hosts[0].memory.set_frozen(False)
    late = Host("web-8", lambda: {"m": model()}, Rounds)
    late.memory.set_frozen(True)
    run([*hosts, late])
    assert not any(host.memory.frozen for host in [*hosts, late])

    # all begin anew, and one finds an order
    hosts = make(3)
    hosts[1].memory.set_frozen(True)
    run(hosts)
    assert all(host.memory.frozen for host in hosts)
    hosts[2].memory.set_frozen(False)
    run(hosts)
    assert not any(host.memory.frozen for host in hosts)


def test_rounds_other_layout_is_kept_out(caplog):
    hosts = make(3, Adding)
    other = Memory("x", {"a": torch.zeros(4), "n": torch.zeros(2, dtype=torch.int64)})
    hosts[1].models = {"m": other, "only here": model()}
    hosts[1].models["only here"].train(2)
    for host in hosts:
        host.models["m"].train(2)
    for _ in range(3):
        run(hosts)
    assert float(hosts[0].memory.weights["a"][0]) == float(hosts[2].memory.weights["a"][0]) == 4
    assert float(other.weights["a"][0]) == other.uncounted == 2
    assert hosts[1].models["only here"].uncounted == 0
    assert len(caplog.records) == 4
    text = 'model "m" has another layout at host "web-1", and is trained apart: "a" is '
    assert caplog.text.count(f"{text}torch.float32 [4] there, torch.float32 [3] here") == 2


def test_rounds_host_joins_a_later_epoch():
    """It has learned for the model that it joins; what was put into place at it is the next one."""
    hosts = make(2, Adding)
    for value in (10.0, 20.0):
        hosts[0].memory.replace(value, 0)
        run_until_settled(hosts)
    late = Host("web-8", lambda: {"m": model()}, Adding)
    late.memory.train(3)
    run_until_settled([*hosts, late])
    assert values(hosts[0]) == values(late) == [23.0] * 6
    assert {host.memory.all_steps for host in [*hosts, late]} == {3}
    later = Host("web-9", lambda: {"m": model()}, Adding)
    later.memory.replace(50.0, 7)
    later.memory.train(1)
    run_until_settled([*hosts, late, later])
    assert [values(host) for host in [*hosts, late, later]] == [[51.0] * 6] * 4
    assert later.memory.state.anchor.epoch == 3


def test_rounds_weights_of_two_hosts_at_a_time(caplog):
    hosts = make(3, Adding)
    run_until_settled(hosts)
    hosts[0].memory.replace(10.0, 5)
    hosts[2].memory.replace(20.0, 5)
    for _ in range(3):
        assert {result.mismatches for result in run(hosts).values()} == {0}
    assert [values(host) for host in hosts] == [[20.0] * 6] * 3
    text = 'weights that were put into place here give way to those of "web-2/'
    assert caplog.text.count(text) == 1


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.uint16, torch.int32, torch.bool]
)
def test_rounds_dtypes(dtype):
    hosts = [
        Host(
            f"web-{index}",
            lambda: {"m": Memory("x", {"a": torch.zeros(3, dtype=dtype)})},
            Adding,
        )
        for index in range(2)
    ]
    hosts[0].memory.train(5)
    hosts[1].memory.train(2)
    run_until_settled(hosts)
    expected = 1 if dtype is torch.bool else 7
    for host in hosts:
        assert host.memory.weights["a"].tolist() == [expected] * 3


# --- faults ---


@pytest.mark.parametrize("failing", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_rounds_error_in_each_exchange(failing):
    """Some hosts get the answers of an exchange and others do not, then others meet."""
    for number, groups in itertools.product(
        range(5), [((0, 1), ()), ((1, 2), ()), ((0, 2), (1, 2))]
    ):
        hosts = make(3, Adding)
        run_until_settled(hosts)
        for index, host in enumerate(hosts):
            host.memory.train(1 + index)
        run(hosts, lambda n: failing if n == number else ())  # noqa: B023
        for group in groups:
            for host in hosts:
                host.memory.train(10)
            run([hosts[index] for index in group])
        run_until_settled(hosts)
        made = sum(host.memory.steps for host in hosts)
        for host in hosts:
            assert values(host) == [made] * 6, (number, groups)
            assert host.memory.all_steps == made


def is_settled(hosts: Sequence[Host]) -> bool:
    """Return whether all hosts have completed the same round."""
    states = [host.memory.state for host in hosts]
    return len({state.anchor.key for state in states}) == 1 and not any(
        state.prepared for state in states
    )


@pytest.mark.parametrize("seed", range(16))
def test_rounds_faults_at_random(seed):
    """Processes are killed between any two writes, exchanges end for some hosts, memory is lost.

    Groups have most of the hosts: two that have none in common would have lineages of their own.
    """
    chances = random.Random(seed)
    hosts = make(5, Adding)
    ended = []

    def arm(armed: bool) -> None:
        for host in hosts:
            crashes = 0.03 if armed and chances.random() < 0.5 else 0.0
            host.memory.happen = chance(chances, host, crashes, 3) if armed else lambda _: None

    def choose(_: int) -> list[int]:
        if chances.random() < 0.8:
            return []
        return [rank for rank in range(5) if chances.random() < 0.5]

    for _ in range(30):
        arm(True)
        group = chances.sample(hosts, chances.choice([3, 4, 5, 5]))
        run(group, choose)
        # what only one host knows of a round is lost with it
        if is_settled(hosts) and chances.random() < 0.4:
            lost = chances.choice(hosts)
            lost.memory.happen = lambda _: None
            ended.append((lost.memory, lost.id))
            lost.models = {"m": model()}
            lost.start()
    arm(False)
    run_until_settled(hosts)

    anchor = hosts[0].memory.state.anchor
    for host in hosts:
        assert values(host) == [anchor.steps] * 6
        assert host.memory.all_steps == anchor.steps
        share = anchor.shares.get(f"{host.id}/{host.memory.state.memory}")
        assert (share.steps if share else 0) == host.memory.steps
    # of memory that is lost, at most the steps since the last round
    for memory, host in ended:
        share = anchor.shares.get(f"{host}/{memory.state.memory}")
        assert memory.steps - memory.uncounted <= (share.steps if share else 0) <= memory.steps
    alive = sum(host.memory.steps for host in hosts)
    shares = [anchor.shares.get(f"{host}/{memory.state.memory}") for memory, host in ended]
    assert anchor.steps == alive + sum(share.steps for share in shares if share)


@pytest.mark.parametrize("seed", range(6))
def test_rounds_lineages_at_random(seed):
    """Two services make groups that do not meet: steps are counted once in any case."""
    chances = random.Random(seed)
    hosts = make(4)
    for _ in range(20):
        for host in hosts:
            crashes = 0.02 if chances.random() < 0.5 else 0.0
            host.memory.happen = chance(chances, host, crashes, 3)
        order = chances.sample(hosts, 4)
        run(order[:2], lambda _: [0] if chances.random() < 0.1 else [])
        run(order[2:], lambda _: [1] if chances.random() < 0.1 else [])
    for host in hosts:
        host.memory.happen = lambda _: None
    run_until_settled(hosts)
    made = sum(host.memory.steps for host in hosts)
    assert {host.memory.all_steps for host in hosts} == {made}
    for host in hosts:
        assert values(host) == pytest.approx(values(hosts[0]), rel=1e-6)


def test_rounds_crash_at_each_write():
    """The process of one host is killed at each of the places where it can be."""
    for place in range(200):
        hosts = make(2, Adding)
        hosts[0].memory.train(3)
        hosts[1].memory.train(4)
        left = [place]

        def happen(_: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise Crash

        hosts[1].memory.happen = happen
        crashed = False
        for _ in range(3):
            crashed = crashed or any(isinstance(each, Crash) for each in run(hosts).values())
        hosts[1].memory.happen = lambda _: None
        run_until_settled(hosts)
        assert values(hosts[0]) == values(hosts[1]) == [7.0] * 6
        if not crashed:
            break
    assert place > 10
