"""Weights that are put into place at a host come to the others one after the other."""

import dataclasses
import itertools
import json
import logging

import pytest
import torch

from cluster_threads import Adding, Host, Memory, run, run_until_settled
from webtorch._cluster import rollout
from webtorch._cluster.interfaces import ClusterError, Rolling
from webtorch._cluster.rollout import GOOD, Decision, Holding, Rollout, begin, decide, merge, order
from webtorch._cluster.rollout_judge import Figures, Trial, Watch, judge
from webtorch._cluster.single_host import Alone

OLD, NEW, NEWER = (1, "web-0/a/1"), (2, "web-1/b/1"), (3, "web-2/c/1")
RECORD = Rollout(*NEW, hosts=1, pause=30.0, size=4)


def holdings(*found):
    """Return what hosts have: an epoch, or one with a verdict, or one of a host that is fresh."""
    made = {}
    for rank, each in enumerate(found):
        of, verdict, fresh = (*each, False)[:3] if isinstance(each[0], tuple) else (each, "", False)
        made[rank] = Holding(f"web-{rank}", of, fresh, verdict)
    return made


# --- decisions ---


def test_rollout_hosts_take_it_in_turn():
    assert decide(None, holdings(OLD, NEW)) == Decision(None)
    found = decide(RECORD, holdings(OLD, (NEW, ""), OLD, OLD))
    assert (found.new, found.back) == ({1}, set())
    found = decide(RECORD, holdings(OLD, (NEW, GOOD), OLD, OLD))
    assert found.new == {0, 1}
    # the next ones come when all are good
    found = decide(RECORD, holdings((NEW, ""), (NEW, GOOD), OLD, OLD))
    assert found.new == {0, 1}
    found = decide(RECORD, holdings((NEW, GOOD), (NEW, GOOD), OLD, OLD))
    assert found.new == {0, 1, 2}
    pairs = dataclasses.replace(RECORD, hosts=2)
    assert decide(pairs, holdings(OLD, (NEW, GOOD), OLD, OLD)).new == {0, 1, 2}
    # the last ones are there: one team again
    found = decide(RECORD, holdings((NEW, GOOD), (NEW, GOOD), (NEW, GOOD), OLD))
    assert found == Decision(RECORD, frozenset(range(4)))
    found = decide(RECORD, holdings(*4 * [(NEW, GOOD)]))
    assert found.rollout and found.rollout.stage == "done"


def test_rollout_host_that_is_killed_is_not_waited_for():
    assert decide(RECORD, holdings((NEW, GOOD), OLD)).new == {0, 1}
    assert decide(RECORD, holdings((NEW, GOOD), OLD, OLD)).new == {0, 1}
    # nobody here has it: the others go on, and its host may come back
    assert decide(RECORD, holdings(OLD, OLD)) == Decision(RECORD)


def test_rollout_host_that_is_alone_proves_nothing():
    for found in (holdings((NEW, GOOD)), holdings((NEW, GOOD), (NEW, GOOD))):
        decision = decide(RECORD, found)
        assert decision.rollout and decision.rollout.stage == "going"
    small = dataclasses.replace(RECORD, size=1)
    assert decide(small, holdings((NEW, GOOD))).rollout == small
    decision = decide(small, holdings((NEW, GOOD), (NEW, GOOD)))
    assert decision.rollout and decision.rollout.stage == "done"


def test_rollout_stops_at_a_host_that_is_worse():
    found = decide(RECORD, holdings(OLD, (NEW, "errors: 9 of 20"), OLD))
    assert found.new == {1}
    stopped = found.rollout
    assert stopped and (stopped.stage, stopped.host) == ("stopped", "web-1")
    assert stopped.reason == "errors: 9 of 20"
    # whatever it says later
    again = decide(stopped, holdings(OLD, (NEW, GOOD), OLD))
    assert again.new == {1} and again.rollout == dataclasses.replace(stopped, size=4)
    for each, stage in (("promote", "promoted"), ("rollback", "withdrawn")):
        ordered = order(stopped, each, "web-9")
        assert ordered and (ordered.stage, ordered.host) == (stage, "web-9")
        found = decide(ordered, holdings(OLD, (NEW, GOOD), OLD))
        assert found.new == (set() if each == "rollback" else {0, 1, 2})
        assert found.back == ({1} if each == "rollback" else set())
        # an order for what has ended
        assert order(ordered, "promote", "web-8") == ordered
    assert order(stopped, "", "web-9") == stopped
    assert order(None, "promote", "web-9") is None


def test_rollout_given_up_with_no_host_to_go_back_to():
    ordered = order(RECORD, "rollback", "web-0")
    assert ordered and ordered.void == (NEW,)
    fresh = ((0, ""), "", True)
    assert decide(ordered, holdings((NEW, GOOD), fresh)).back == set()
    assert decide(ordered, holdings((NEW, GOOD), fresh, OLD)).back == {0}


def test_rollout_given_up_when_all_hosts_have_it():
    """They keep it, and a host that comes late takes it."""
    stopped = dataclasses.replace(RECORD.change("stopped", "web-2", "loss: 3"), size=3)
    ordered = order(stopped, "rollback", "web-0")
    assert ordered
    found = decide(ordered, holdings(*3 * [(NEW, GOOD)]))
    kept = found.rollout
    assert kept and (kept.stage, kept.void) == ("done", ())
    assert (found.new, found.back) == ({0, 1, 2}, set())
    # what the late one knows of it is older
    late = merge((kept, ordered))
    assert late == merge((ordered, kept)) == kept
    found = decide(late, holdings((NEW, GOOD), (NEW, GOOD), (NEW, ""), OLD))
    assert (found.new, found.back) == ({0, 1, 2, 3}, set())
    # one that is only cut off may have others
    found = decide(ordered, holdings((NEW, GOOD), (NEW, GOOD)))
    assert found == Decision(ordered)
    assert decide(ordered, holdings((NEW, GOOD), (NEW, GOOD), OLD)).back == {0, 1}
    # as one is that was started alone
    alone = dataclasses.replace(ordered, size=1)
    assert decide(alone, holdings((NEW, GOOD))) == Decision(alone)


def test_rollout_host_that_has_just_started():
    """It takes what the others have had before, or what there is."""
    fresh = ((0, ""), "", True)
    assert decide(RECORD, holdings(OLD, (NEW, ""), fresh)).new == {1}
    assert decide(RECORD, holdings((NEW, ""), fresh)).new == {0, 1}
    found = decide(RECORD, holdings((NEW, ""), fresh, (NEWER, "")))
    assert found.new == {0}


def test_rollout_hosts_whose_giver_takes_the_new_weights_keep_theirs():
    """Also if those that have been given up are all that is left of their team."""
    record = dataclasses.replace(RECORD, epoch=NEWER[0], origin=NEWER[1], void=(NEW,))
    found = decide(record, holdings(OLD, (NEW, ""), (NEW, ""), (NEWER, GOOD)))
    assert (found.new, found.back) == ({0, 3}, set())
    fresh = ((0, ""), "", True)
    found = decide(record, holdings(OLD, (NEW, ""), fresh, (NEWER, GOOD)))
    assert (found.new, found.back) == ({0, 3}, set())
    # another one has the old weights
    found = decide(record, holdings(OLD, (NEW, ""), OLD, (NEWER, GOOD)))
    assert (found.new, found.back) == ({0, 3}, {1})
    # in their turn
    found = decide(record, holdings((NEWER, GOOD), (NEW, ""), (NEW, ""), (NEWER, GOOD)))
    assert (found.new, found.back) == ({0, 1, 3}, set())


def test_rollout_of_other_weights_takes_the_place_of_one():
    newer = begin(RECORD, NEWER, Rolling(1, 5.0), 3)
    assert newer == Rollout(*NEWER, 1, 5.0, 3, void=(NEW,))
    found = decide(newer, holdings(OLD, (NEW, GOOD), (NEWER, "")))
    # the host of the other one goes back with those that have not got it
    assert (found.new, found.back) == ({2}, {1})
    assert decide(newer, holdings((NEW, GOOD), (NEWER, ""))).back == set()
    # at once: nothing is rolled out any more
    ended = begin(RECORD, NEWER, None, 3)
    assert ended and (ended.stage, ended.host, ended.void) == ("withdrawn", "web-2", (NEW,))
    assert begin(None, NEWER, None, 3) is None
    done = RECORD.change("done")
    assert begin(done, NEWER, Rolling(1, 5.0), 3) == Rollout(*NEWER, 1, 5.0, 3)


def test_rollout_hosts_know_the_same_afterwards():
    stopped = RECORD.change("stopped", "web-1", "loss: 3")
    promoted = stopped.change("promoted", "web-2")
    done = RECORD.change("done")
    newer = Rollout(*NEWER, 2, 1.0)
    for each, expected in (
        ((None, None), None),
        ((None, RECORD), RECORD),
        ((stopped, RECORD), stopped),
        ((promoted, stopped, None), promoted),
        ((done, stopped), stopped),
        ((newer, stopped), dataclasses.replace(newer, void=(NEW,))),
        ((newer, promoted), newer),
        ((newer, RECORD.change("withdrawn")), dataclasses.replace(newer, void=(NEW,))),
        ((dataclasses.replace(RECORD, size=9), stopped), dataclasses.replace(stopped, size=9)),
    ):
        assert merge(each) == merge(each[::-1]) == expected
        assert expected is None or merge((expected, *each)) == expected


def test_rollout_messages():
    text = rollout.write(RECORD.change("withdrawn", "web-1", "x" * 9999))
    assert rollout.write(rollout.read(text)) == text
    assert rollout.read(rollout.write(None)) is None
    sound = json.loads(text)
    for key, value in (
        ("stage", "x"),
        ("hosts", 0),
        ("epoch", -1),
        ("epoch", "1"),
        ("pause", "1"),
        ("void", [[1]]),
        ("void", [[1, 2]]),
        ("void", 17 * [[1, "a"]]),
        ("reason", "x" * 513),
        ("host", 1),
    ):
        with pytest.raises(ClusterError, match="a rollout is malformed"):
            rollout.read(json.dumps({**sound, key: value}))
    for text in ("{", "[]", "{}", "[" * 100_000):
        with pytest.raises(ClusterError, match="a rollout is malformed"):
            rollout.read(text)


# --- verdicts ---


def test_judge():
    none = Figures()
    before = Figures(1000, 20, 1000, 400.0)
    long = 1e6
    for after, age, expected in (
        (none, 1, ""),
        (none, 29, ""),
        (none, 30, ""),
        # a host without requests is not waited for too long
        (none, 300, GOOD),
        (Figures(19, 19, 0, 0.0), 1, ""),
        (Figures(20, 1, 0, 0.0), 1, ""),
        (Figures(20, 1, 0, 0.0), 30, GOOD),
        (Figures(20, 2, 0, 0.0), 1, "errors: 2 of 20 requests failed, 20 of 1000 before"),
        (Figures(100, 7, 0, 0.0), long, GOOD),
        (Figures(100, 8, 0, 0.0), long, "errors: 8 of 100 requests failed, 20 of 1000 before"),
        (Figures(20, 0, 19, 1e9), 30, GOOD),
        (Figures(20, 0, 20, 12.0), 30, GOOD),
        (Figures(20, 0, 20, 12.1), 1, "loss: 0.605 in the mean of 20 steps, 0.4 before"),
        (Figures(20, 0, 20, float("nan")), 1, "loss: nan in the mean of 20 steps, 0.4 before"),
    ):
        assert judge(before, after, age, 30.0) == expected, after
    few = Figures(19, 19, 19, 19.0)
    assert judge(few, Figures(20, 2, 20, 1e9), 1, 30.0) == (
        "errors: 2 of 20 requests failed, there were few before"
    )
    # a loss may be negative
    negative = Figures(0, 0, 100, -100.0)
    assert judge(negative, Figures(0, 0, 20, -10.0), 1, 30.0) == ""
    assert judge(negative, Figures(0, 0, 20, -9.0), 1, 30.0).startswith("loss: -0.45")


def test_watch_compares_with_the_time_before():
    now = 1000.0
    watch = Watch(lambda: now)
    for step in range(200):
        # one request in two fails at first
        answers = 10 * step
        assert watch.look(OLD, None, None, Figures(answers, min(answers // 2, 100))) == (None, "")
        now += 9.0
    trial, verdict = watch.look(NEW, RECORD, None, Figures(2000, 101))
    assert trial and verdict == ""
    assert trial.of == NEW and trial.began == now
    assert trial.base == Figures(1990, 100)
    # that is longer ago than what is looked back at
    assert 500 < trial.before.answers < 800 and trial.before.errors == 0
    assert Trial.read(json.loads(json.dumps(trial.write()))) == trial
    now += 30
    # another worker of the host continues
    other = Watch(lambda: now)
    assert other.look(NEW, RECORD, trial, Figures(2009, 101)) == (trial, "")
    assert other.look(NEW, RECORD, trial, Figures(2010, 101)) == (trial, GOOD)
    assert other.look(NEW, RECORD, trial, Figures(2010, 102))[1].startswith("errors: 2 of 20")
    assert other.look(NEW, RECORD.change("done"), trial, Figures(2010, 102)) == (None, "")
    # a new binary has counted from 0 on
    trial, verdict = other.look(NEW, RECORD, trial, Figures(20, 20))
    assert trial and trial.base == Figures() and verdict.startswith("errors: 20 of 20")


# --- rounds ---


def model(value: float = 0.0) -> Memory:
    weights = {"a": torch.full((3,), value), "n": torch.full((3,), int(value))}
    return Memory(f"memory{next(numbers)}", weights)


numbers = itertools.count()


def values(host: Host) -> list[float]:
    return [float(each) for tensor in host.memory.weights.values() for each in tensor]


def make_rolling(count: int, pause: float = 0.0) -> list[Host]:
    hosts = [
        Host(f"web-{index}", lambda: {"m": model()}, Adding, Rolling(1, pause))
        for index in range(count)
    ]
    run_until_settled(hosts)
    return hosts


def rounds(hosts, count):
    for _ in range(count):
        for result in run(hosts).values():
            assert not isinstance(result, BaseException), result
            assert result.mismatches == 0


def epochs(hosts):
    return [host.memory.state.anchor.epoch for host in hosts]


def stage(host):
    found = host.memory.state.rollout
    return found and found.stage


def test_rounds_hosts_take_weights_in_turn(caplog):
    caplog.set_level(logging.WARNING)
    hosts = make_rolling(3)
    hosts[1].memory.train(2)
    run_until_settled(hosts)
    hosts[2].memory.replace(100.0, 40)
    seen = []
    for _ in range(8):
        rounds(hosts, 1)
        if epochs(hosts) not in seen:
            seen.append(epochs(hosts))
    assert seen == [[0, 0, 1], [1, 0, 1], [1, 1, 1]]
    assert [values(host) for host in hosts] == [[100.0] * 6] * 3
    assert {stage(host) for host in hosts} == {"done"}
    assert {host.memory.all_steps for host in hosts} == {40}
    for text in ('of "web-2" come to 1 host at a time', 'of "web-2" are those of all hosts'):
        assert caplog.text.count(f'model "m": the weights {text}') == 3
    assert caplog.text.count('this host takes the weights of "web-2"') == 2


def test_rounds_two_epochs_go_on():
    """Each step counts once with those that have the same weights."""
    hosts = make_rolling(4, pause=1e6)
    hosts[0].memory.replace(100.0, 0)
    rounds(hosts, 3)
    for host in hosts:
        host.memory.train(2)
    rounds(hosts, 2)
    assert [values(host)[0] for host in hosts] == [102.0, 6.0, 6.0, 6.0]
    assert [host.memory.all_steps for host in hosts] == [2, 6, 6, 6]
    assert [host.memory.uncounted for host in hosts] == [0] * 4
    # one that joins takes what most have had before
    late = Host("web-9", lambda: {"m": model(7.0)}, Adding)
    late.memory.train(1)
    rounds([*hosts, late], 3)
    assert values(late) == values(hosts[1]) == [7.0] * 6
    assert stage(late) == "going"
    hosts[3].memory.order = "promote"
    hosts[3].memory.train(1)
    run_until_settled([*hosts, late])
    assert {tuple(values(host)) for host in [*hosts, late]} == {(102.0,) * 6}
    assert stage(late) == "promoted"


def test_rounds_stop_and_roll_back(caplog):
    hosts = make_rolling(3, pause=1e6)
    for host in hosts:
        host.memory.counted = Figures(100, 0, 0, 0.0)
    hosts[1].memory.train(5)
    run_until_settled(hosts)
    broken = hosts[0].memory
    broken.replace(1e6, 0)
    rounds(hosts, 2)
    broken.counted = Figures(130, 30, 0, 0.0)
    rounds(hosts, 2)
    assert {stage(host) for host in hosts} == {"stopped"}
    assert epochs(hosts) == [1, 0, 0]
    text = 'the rollout of the weights of "web-0" has stopped, as they are worse at host "web-0": '
    text += "errors: 30 of 30 requests failed, 0 of 100 before"
    assert caplog.text.count(text) == 3
    # the host that has begun it is away, and the order is given at another one
    hosts[1].memory.train(1)
    rounds(hosts[1:], 2)
    hosts[2].memory.order = "rollback"
    rounds(hosts[1:], 2)
    assert stage(hosts[1]) == "withdrawn" and stage(hosts[0]) == "stopped"
    broken.optimizer.fill_(9)
    rounds(hosts, 3)
    assert epochs(hosts) == [0, 0, 0]
    assert {tuple(values(host)) for host in hosts} == {(6.0,) * 6}
    assert broken.optimizer.tolist() == [0] * 3
    for host in hosts:
        host.memory.train(1)
    run_until_settled(hosts)
    assert {tuple(values(host)) for host in hosts} == {(9.0,) * 6}
    # the next ones are later than those that were given up
    hosts[1].memory.replace(50.0, 0)
    rounds(hosts, 1)
    assert epochs(hosts) == [0, 2, 0]


def test_rounds_rollout_is_not_known_to_be_good_by_a_host_alone():
    hosts = make_rolling(3)
    hosts[0].memory.replace(100.0, 0)
    rounds(hosts, 1)
    for _ in range(4):
        hosts[0].rounds.run(Alone("web-0", 7))
    assert stage(hosts[0]) == "going"
    # the others have not heard of it
    rounds(hosts[1:], 2)
    rounds(hosts, 1)
    assert sum(epochs(hosts)) == 2
    rounds(hosts, 4)
    assert epochs(hosts) == [1, 1, 1] and stage(hosts[2]) == "done"


def test_rounds_rollout_goes_on_without_hosts_that_are_killed():
    hosts = make_rolling(4)
    hosts[3].memory.replace(100.0, 0)
    while sum(epochs(hosts)) < 2:
        rounds(hosts, 1)
    # the one that has begun it, with its memory
    rest = hosts[:3]
    rounds(rest, 6)
    assert epochs(rest) == [1, 1, 1]
    assert {stage(host) for host in rest} == {"done"}


def test_rounds_weights_of_two_hosts_at_a_time_roll_out():
    hosts = make_rolling(3, pause=1e6)
    hosts[0].memory.replace(10.0, 5)
    hosts[2].memory.replace(20.0, 5)
    rounds(hosts, 1)
    assert epochs(hosts) == [1, 0, 1]
    rounds(hosts, 1)
    # one of them gives way
    assert [values(host)[0] for host in hosts] == [0.0, 0.0, 20.0]
    hosts[0].memory.order = "promote"
    rounds(hosts, 2)
    assert [values(host) for host in hosts] == [[20.0] * 6] * 3


def test_rounds_at_once_without_rollout():
    """A host that rolls out nothing ends the rollout of others."""
    hosts = make_rolling(3, pause=1e6)
    hosts[0].memory.replace(10.0, 5)
    rounds(hosts, 3)
    assert epochs(hosts) == [1, 0, 0]
    hosts[1].rolling = None
    hosts[1].start()
    hosts[1].memory.replace(20.0, 5)
    rounds(hosts, 3)
    assert [values(host) for host in hosts] == [[20.0] * 6] * 3
    assert {stage(host) for host in hosts} == {"withdrawn"}
