"""Guests of rounds: each of their steps counts once, whatever happens to them and to members."""

import contextlib
import dataclasses
import random
import time
from types import SimpleNamespace

import pytest
import torch

from cluster_guests import GuestHost, MemberHost, layout_of, made_site, make_own, offered, start
from cluster_threads import Crash, Memory, run, run_until_settled
from webtorch._cluster.guest_rounds import Visits
from webtorch._cluster.guests import MAX_GUESTS, Contribution, Guests, chosen, combined
from webtorch._cluster.interfaces import ClusterError, Member, Outer
from webtorch._cluster.lineage import first
from webtorch._cluster.rollout import Rollout
from webtorch._cluster.rounds import Round
from webtorch._cluster.sealed_calls import CallError
from webtorch._worker.cluster.guest import Guest


@pytest.fixture
def site():
    with made_site() as found:
        yield found


def weights(host):
    return {float(each) for tensor in host.memory.weights.values() for each in tensor.unique()}


def counted(host, guest):
    """Return the steps of a guest in a member's anchor."""
    share = host.memory.state.anchor.shares.get(f"guest/{guest.memory.state.memory}")
    return share.steps if share else 0


def contribution(host, number, steps=1, of=(0, ""), layout="l"):
    change = torch.zeros(4 + 8, dtype=torch.uint8)
    integers = torch.zeros(0, dtype=torch.int64)
    return Contribution(host, number, steps, of, layout, change, 8, integers)


# --- decisions ---


def test_guests_one_member_of_two_adds_a_contribution():
    offers = {0: {"g/1": [3, 5]}, 1: {"g/1": [4, 7], "h/1": [1, 1]}, 2: {"g/1": [4, 7]}}
    found = {0: {}, 1: {"g/1": [4, 7], "h/1": [1, 1]}, 2: {}}
    assert chosen(offers, ["web-0/1"]) == found
    # a guest that is a member again contributes itself
    assert chosen(offers, ["h/1"])[1] == {"g/1": [4, 7]}


@pytest.mark.parametrize("offer", [[1], [1, 0], [0, 1], [1, 1.0], [True, 1], "12", None])
def test_guests_malformed_offers(offer):
    with pytest.raises(ClusterError, match="malformed"):
        chosen({0: {"g/1": offer}}, [])


def test_guests_too_many():
    many = {f"g/{index}": [1, 1] for index in range(MAX_GUESTS + 1)}
    with pytest.raises(ClusterError, match="too many"):
        chosen({0: many}, [])
    guests = Guests()
    for index in range(MAX_GUESTS):
        assert guests.hold("m", contribution(f"g/{index}", 1))
    assert not guests.hold("m", contribution("g/x", 1))
    assert guests.hold("m", contribution("g/0", 2))
    assert guests.offer("m", first("", 0), "l")["g/0"].number == 2


def test_guests_what_is_counted_or_of_another_epoch_or_layout_is_dropped():
    guests = Guests()
    anchor = first("", 0).follow("", {"g/1": (2, 1)})
    guests.hold("m", contribution("g/1", 2))
    guests.hold("m", contribution("h/1", 1))
    guests.hold("m", contribution("i/1", 1, of=(1, "x")))
    guests.hold("m", contribution("j/1", 1, layout="other"))
    assert [*guests.offer("m", anchor, "l")] == ["h/1"]
    guests.refuse("m", guests.offer("m", anchor, "l").values())
    assert not guests.offer("m", anchor, "l")
    assert (guests.refused("m", "h/1"), guests.refused("m", "g/1")) == (1, 0)


def test_guests_mean_is_weighted():
    own = torch.full((8,), 3.0)
    change = contribution("g/1", 1, 6)
    # a scale of 2 / 127, and numbers of 127
    change.change[:4] = torch.tensor([2.0 / 127]).view(torch.uint8)
    change.change[4:] = 127
    found = combined(own, 8.0, [change], float)
    assert found.tolist() == pytest.approx([(2 * 3.0 + 6 * 2.0) / 8] * 8)
    assert combined(found, 0.0, [], float) is found


# --- numbers ---


def test_guest_is_counted_once(site):
    one, two, guest = start(site)
    assert guest.visits.ids == ["web-0", "web-1"]
    for steps in range(1, 5):
        guest.memory.train(steps)
        one.memory.train(2)
        guest.turn()
        run_until_settled([one, two])
        guest.turn()
    assert counted(one, guest) == counted(two, guest) == 10
    assert guest.memory.uncounted == 0
    guest.turn_until_taken()
    assert weights(one) == weights(two) == weights(guest) == {20.0}
    assert one.memory.state.anchor == guest.memory.state.anchor
    assert guest.memory.all_steps == 20


def test_guest_whose_contribution_two_members_have(site):
    one, two, guest = start(site)
    guest.memory.train(3)
    for member in site.members:
        guest.restart(member)
        guest.turn()
    host = f"guest/{guest.memory.state.memory}"
    for member in (one, two):
        assert offered(member) == [host]
    run_until_settled([one, two])
    run_until_settled([one, two])
    assert counted(one, guest) == 3
    assert weights(one) == weights(two) == {5.0}
    # it came twice, and comes again
    guest.visits._sent.clear()
    guest.turn()
    run_until_settled([one, two])
    assert counted(two, guest) == 3
    assert guest.memory.uncounted == 0


def test_guest_of_a_member_that_dies(site):
    one, two, guest = start(site)
    guest.memory.train(3)
    guest.restart(site.members[1])
    guest.turn()
    # its process: what it had of guests is lost
    two.start()
    run_until_settled([one, two])
    assert counted(one, guest) == 0
    for _ in range(5):
        with_error = False
        try:
            guest.turn()
        except CallError:
            with_error = True
        run_until_settled([one, two])
    assert not with_error
    assert counted(one, guest) == counted(two, guest) == 3
    assert weights(one) == {5.0}


def test_guest_of_a_member_whose_host_dies(site):
    """In the middle of a round that the other one completes, or not."""
    one, two, guest = start(site)
    guest.memory.train(3)
    guest.restart(site.members[1])
    guest.turn()
    run([one, two], choose=lambda number: [0] if number == 4 else [])
    two.reception.close()
    site.members.pop()
    for _ in range(4):
        try:
            guest.turn()
        except ClusterError:
            time.sleep(0)
        run_until_settled([one])
    assert counted(one, guest) == 3
    assert weights(one) == {5.0}


def test_guest_process_that_dies(site):
    one, two, guest = start(site)
    guest.memory.train(3)
    guest.turn()
    guest.start()
    guest.memory.train(2)
    guest.turn()
    run_until_settled([one, two])
    guest.turn()
    run_until_settled([one, two])
    guest.turn()
    assert counted(one, guest) == 5
    assert guest.memory.uncounted == 0
    guest.turn_until_taken()
    assert weights(guest) == weights(one) == {7.0}


def test_guest_when_weights_are_put_into_place_meanwhile(site):
    one, two, guest = start(site)
    before = guest.memory.state.anchor.of
    one.memory.replace(100.0, 50)
    run([one, two])
    run_until_settled([one, two])
    # of the epoch before: it is not sent, and what a member still has of it is dropped
    guest.memory.train(3)
    guest.turn()
    host = f"guest/{guest.memory.state.memory}"
    assert one.guests.hold("m", contribution(host, 1, 3, before, layout_of(one.memory)))
    run_until_settled([one, two])
    guest.turn_until_taken()
    assert weights(guest) == weights(one) == {100.0}
    assert counted(one, guest) == 0
    guest.memory.train(2)
    for _ in range(2):
        guest.turn()
        run_until_settled([one, two])
    assert counted(two, guest) == 2
    assert weights(two) == {102.0}


def test_guest_that_is_a_member_again(site):
    """Also if a member still has what it contributes itself."""
    one, two, guest = start(site)
    guest.memory.train(3)
    guest.turn()
    run_until_settled([one, two, guest])
    assert weights(one) == weights(guest) == {5.0}
    run_until_settled([one, two, guest])
    assert counted(one, guest) == 3
    assert len({host.memory.state.anchor.key for host in (one, two, guest)}) == 1


def test_guest_follows_orders(site):
    one, two, guest = start(site)
    one.memory.frozen = True
    run([one, two])
    guest.turn()
    assert guest.memory.frozen


def test_guest_that_starts_follows_what_members_were_started_with(site):
    one, two = [MemberHost(site, f"web-{index}", make_own(index)) for index in range(2)]
    for host in (one, two):
        host.memory.frozen = True
    run_until_settled([one, two])
    guest = GuestHost(site, "guest", make_own("guest"))
    guest.turn()
    assert guest.memory.frozen and guest.memory.state.frozen
    assert not guest.memory.state.fresh
    # it knows orders now; what it is told later is one
    for host in (one, two):
        host.memory.frozen = False
    run_until_settled([one, two])
    guest.turn()
    assert not guest.memory.frozen


def test_guest_with_other_rules(site, caplog):
    one, two, guest = start(site)
    settings = dataclasses.replace(guest.settings, outer=Outer("nesterov", 0.7, 0.5))
    guest.visits.close()
    guest.visits = Visits(settings, lambda: guest.models, site.ring, site.members)
    guest.memory.train(3)
    for _ in range(3):
        guest.turn()
        run_until_settled([one, two])
    assert not offered(one) and not offered(two)
    assert guest.memory.uncounted == 3
    assert caplog.text.count("the model has outer=average protocol=") == 1


def test_guest_turn_that_ends_is_sent_again(site):
    one, two, guest = start(site)
    visits = guest.visits
    guest.memory.train(3)
    checks = iter(range(1000))
    # after the request and its answer, in the contribution
    visits._is_over = lambda: next(checks) > 3
    visits._leave_member()
    with pytest.raises(CallError, match="it was ended here"):
        guest.turn()
    assert not offered(one) and not offered(two)
    assert guest.memory.state.pending
    visits._is_over = lambda: False
    guest.turn()
    run_until_settled([one, two])
    guest.turn()
    assert counted(one, guest) == 3


def test_guest_learns_new_addresses_of_members(site, monkeypatch):
    one, _, guest = start(site)
    visits = guest.visits
    guest.turn()
    moved = [dataclasses.replace(each, port=each.port + 1) for each in site.members]
    own = Member("guest", guest.settings.address, 1)
    one.reception.admit([*moved, own])
    visits._know([[each.id, each.address, each.port] for each in [*moved, own]])
    assert sorted(visits._members, key=lambda each: each.id) == moved
    # the guest itself is no news
    before = visits._members
    visits._know([[each.id, each.address, each.port] for each in [*moved, own]])
    assert visits._members is before
    # each time another address of the coordinator's name
    monkeypatch.setattr("webtorch._cluster.guest_rounds.resolve", lambda *_: ["::1", "::2"])
    found = []
    for _ in range(2):
        visits._place = len(moved) + (len(moved) + 1) * len(found)
        found.append(visits._first().address)
    assert found == ["::1", "::2"]


def test_guest_that_no_member_answers_is_logged(site, caplog):
    settings = site.settings("guest")
    guest = Guest(settings, site.ring, SimpleNamespace(count_failure=lambda: None))
    guest._fail(ClusterError("it is away"))
    assert "no member has answered" not in caplog.text
    guest._answered -= 7 * settings.timeout
    for _ in range(2):
        guest._fail(ClusterError("it is away"))
    assert caplog.text.count("no member has answered this guest for 14 s: it is away") == 1
    for _ in range(2):
        guest._note_answer()
    assert caplog.text.count("a member answers this guest again") == 1


def test_guest_weights_that_are_not_finite_are_not_sent(site):
    one, two, guest = start(site)
    guest.memory.train(3)
    guest.memory.weights["a"].fill_(float("nan"))
    guest.turn()
    run_until_settled([one, two])
    guest.turn()
    assert weights(one) == {2.0}
    assert guest.memory.uncounted == 0


def test_guest_with_a_model_that_members_do_not_have(site):
    """Its other models go on, and it may be a member again."""
    one, two, guest = start(site)
    visits = guest.visits
    memory = guest.memory
    guest.models["x"] = Memory("memory-x", {"a": torch.zeros(3)})
    memory.train(3)
    guest.turn()
    run_until_settled([one, two])
    guest.turn_until_taken()
    assert one.memory.state.anchor.shares[f"guest/{memory.state.memory}"].steps == 3
    visits._settings = dataclasses.replace(guest.settings, guest="auto")
    visits._is_returning = True
    assert visits.may_return()


@pytest.mark.parametrize("what", ["replaced", "unknown", "unloaded"])
def test_guest_anchor_on_its_way_for_nothing(site, what):
    """Anchors of other models come after it, and links are measured."""
    one, two, guest = start(site)
    visits = guest.visits
    one.memory.train(2)
    run_until_settled([one, two])
    visits._fetch_at = 0.0
    guest.turn()
    assert visits._fetch
    if what == "replaced":
        guest.memory.replace(7.0, 1)
    elif what == "unknown":
        one.models.clear()
        two.models.clear()
    else:
        guest.models.clear()
    guest.turn()
    assert visits._fetch is None
    assert not visits._parted


def test_guest_of_members_whose_code_has_changed(site):
    """What they have of a guest is of the layout before."""
    one, two, guest = start(site)
    hosts = [one, two]
    guest.memory.train(3)
    for member in site.members:
        guest.restart(member)
        guest.turn()
    for host in hosts:
        host.models["m"] = Memory(f"other-{host.id}", {"b": torch.zeros(7)})
        host.memory.train()
    # as the anchor of a fresh one, to which those would be added
    assert one.memory.state.anchor.of == (0, "")
    for host in run(hosts).values():
        assert isinstance(host, Round), host
    run_until_settled(hosts)
    assert weights(one) == weights(two) == {2.0}


def test_guest_takes_no_anchor_of_another_layout(site):
    one, two, guest = start(site)
    one.memory.train(2)
    run_until_settled([one, two])
    visits = guest.visits
    visits._fetch_at = 0.0
    guest.turn()
    visits._fetch.join()
    assert visits._fetch.anchor
    # as many bytes
    other = Memory("other", {"b": torch.zeros(5000), "n": torch.zeros(2, dtype=torch.int64)})
    guest.models["m"] = other
    visits._take_fetched("m", other, Round())
    assert visits._fetch is None
    assert other.state.fresh and weights(guest) == {0.0}


def test_guest_that_exits_takes_no_anchors(site):
    """They would take the time in which the last steps are to be counted."""
    one, two, guest = start(site)
    guest.memory.train(3)
    guest.turn()
    guest.visits.close()
    guest.visits = Visits(
        guest.settings, lambda: guest.models, site.ring, site.members, takes_anchors=False
    )
    guest.memory.train(4)
    for _ in range(3):
        one.memory.train()
        run_until_settled([one, two])
        guest.turn()
        assert guest.visits._fetch is None
    assert guest.memory.uncounted == 0
    assert counted(one, guest) == 7


def test_guest_of_members_that_make_no_steps(site):
    """They have no anchor of a round, but are those of the cluster."""
    one, two = [MemberHost(site, f"web-{index}", make_own(index)) for index in range(2)]
    guest = GuestHost(site, "guest", make_own("guest"))
    with pytest.raises(CallError, match="no anchor yet"):
        guest.turn()
    run_until_settled([one, two])
    assert one.memory.state.fresh
    guest.memory.train(3)
    for _ in range(4):
        guest.turn()
        run_until_settled([one, two])
    assert counted(one, guest) == counted(two, guest) == 3
    guest.turn_until_taken()
    assert weights(one) == weights(two) == weights(guest) == {3.0}


def test_guest_takes_no_weights_on_trial(site):
    """It goes to a member without them, and takes them when all have them."""
    one, two, guest = start(site)
    visits = guest.visits
    visits._patience = 0.1
    old, (epoch, _) = weights(guest), one.memory.state.anchor.of
    of = (epoch + 1, "web-0/memory-0/1")
    rollout = Rollout(*of, hosts=1, pause=30.0, size=2)
    state = one.memory.state
    trial = dataclasses.replace(state.anchor, epoch=of[0], origin=of[1])
    for each in (one, two):
        # both, so that it cannot be another one
        each.memory.write(dataclasses.replace(state, anchor=trial, rollout=rollout))
    for _ in range(8):
        guest.turn()
        time.sleep(0.05)
        assert visits._fetch is None
    assert guest.memory.state.anchor.epoch == epoch and weights(guest) == old
    done = rollout.change("done")
    for each in (one, two):
        each.memory.write(dataclasses.replace(state, anchor=trial, rollout=done))
    guest.turn_until_taken()
    assert guest.memory.state.anchor.of == of


def test_guest_leaves_a_member_that_has_another_layout(site):
    one, two, guest = start(site)
    visits = guest.visits
    visits._patience = 0.2
    first_ = {"web-0": one, "web-1": two}[visits._call.other]
    second = two if first_ is one else one
    first_.models["m"] = Memory("memory-other", {"a": torch.zeros(3)})
    guest.memory.train(3)
    guest.turn()
    assert visits._call.other == first_.id
    # that one again, perhaps, by its name or the coordinator's
    for _ in range(8):
        time.sleep(0.25)
        guest.turn()
        if offered(second):
            break
    assert offered(second) == [f"guest/{guest.memory.state.memory}"]


@pytest.mark.parametrize("seed", range(6))
def test_guests_faults_at_random(site, seed):
    """Rounds fail, processes are killed, and guests change members: each step counts once."""
    random_ = random.Random(seed)
    one, two, guest = start(site)
    hosts = [one, two]

    def crash(_):
        if random_.random() < 0.01:
            raise Crash

    guest.memory.happen = crash
    for _ in range(60):
        host = random_.choice([one, two, guest])
        host.memory.train(random_.randint(1, 3))
        what = random_.random()
        if what < 0.15:
            guest.restart(random_.choice(site.members))
        elif what < 0.25:
            random_.choice(hosts).start()
        elif what < 0.3:
            guest.start()
        elif what < 0.4:
            # it tries the group for a round
            run([one, two, guest])
        try:
            guest.turn()
        except ClusterError:
            continue
        failing = random_.randint(0, 12)
        ranks = random_.choice([[], [0], [1], [0, 1]])
        run(hosts, lambda number, at=failing, ranks=ranks: ranks if number == at else [])
    guest.memory.happen = lambda _: None
    for _ in range(6):
        run_until_settled(hosts)
        try:
            guest.turn()
        except ClusterError:
            continue
    run_until_settled(hosts)
    guest.turn_until_taken()
    made = sum(host.memory.steps for host in (one, two, guest))
    assert guest.memory.uncounted == 0
    assert [host.memory.all_steps for host in (one, two, guest)] == [made] * 3
    assert weights(one) == weights(two) == weights(guest) == {float(made)}


def test_guest_that_was_one_before_a_reload(site):
    """With `guest=off` it is none any more."""
    _, _, host = start(site)
    for guest in ("auto", "off"):
        state = host.memory.state
        host.memory.write(dataclasses.replace(state, guest=True))
        found = Guest(dataclasses.replace(host.settings, guest=guest), site.ring, None)
        found.resume(lambda: contextlib.nullcontext(host.models))
        assert found.is_there == host.memory.state.guest == (guest == "auto")
        found.close()
