"""What rounds need of a model in the zone: it survives the worker that does them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn, optim

from memory_zone import Zone
from webtorch._cluster import flat
from webtorch._cluster.digests import digest
from webtorch._cluster.store import Applying, Pending
from webtorch._zone import rounds_store
from webtorch._zone.orders import DamagedOrdersError
from webtorch._zone.rounds_store import RoundsKind
from webtorch._zone.shared_state import SharedState


class Crash(BaseException):
    """The worker was killed."""


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1000.0))
        self.small = nn.Parameter(torch.ones(7, dtype=torch.float16))
        self.register_buffer("calls", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.bool))

    def forward(self):
        return self.weight.sum()


def make(zone, strict=False, momentum=False, kind=optim.SGD):
    network = Network()
    optimizer = kind([network.weight], lr=1.0)
    return network, SharedState(
        zone, "m", network, optimizer, strict, Path(__file__), None, 0, RoundsKind(momentum)
    )


def store_of(shared):
    return shared.rounds_store(shared.blocks)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(rounds_store, "_PIECE", 64)


def test_rounds_store_begins_with_the_weights():
    network, shared = make(Zone(), momentum=True)
    state = store_of(shared).state
    assert (state.anchor.steps, state.anchor.number, state.mark) == (0, 0, 0)
    for region in (0,):
        assert torch.equal(store_of(shared).tensors(region)["weight"], network.weight)
    assert state.anchor.digest == digest(store_of(shared), 0)
    assert store_of(shared).momentum(0).shape == (1007,)
    assert store_of(shared).made() == 0
    shared.step(-network())
    assert store_of(shared).made() == 1
    assert shared.steps == 1
    # another worker finds what there is
    _, other = make(shared.zone, momentum=True)
    assert store_of(other).state == state


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), DamagedOrdersError("it is damaged")]
)
def test_order_that_cannot_be_written_is_in_force(error, caplog):
    _, shared = make(Zone())
    store = store_of(shared)

    def order(*_):
        raise error

    store.order = order
    store.set_frozen(True)
    assert shared.frozen
    assert f"a restart will not know it: {error}" in caplog.text


def test_rounds_store_writes_states_as_a_whole():
    _, shared = make(Zone())
    store = store_of(shared)
    for number in range(5):
        state = replace(
            store.state, number=number, pending=Pending(number, 3), members=("a", "b"), time=1.5
        )
        store.write(state)
        assert store_of(shared).state == state
    with pytest.raises(ValueError, match="bytes of a state of rounds"):
        store.write(replace(state, members=("x" * 70_000,)))
    assert store_of(shared).state == state


def begin_apply(shared, reference):
    """Prepare a new anchor, of other weights, that the weights are to follow."""
    store = store_of(shared)
    made = store.take_snapshot()
    slot = 1 - store.state.slot
    for key, tensor in store.tensors(slot).items():
        base = shared.views(shared.blocks)[key]
        tensor.copy_(base + 5 if tensor.dtype is not torch.bool else ~base)
    anchor = store.state.anchor.follow(digest(store, slot), {"x": (1, 12)})
    state = replace(
        store.state,
        anchor=anchor,
        slot=slot,
        changes=store.state.changes + 1,
        applying=Applying(reference, made, store.state.changes + 1),
    )
    store.write(state)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("reference", ["anchor", "snapshot", "none"])
def test_rounds_store_change_of_weights_is_made_once(strict, reference, monkeypatch):
    """The worker is killed in the middle of each piece."""
    follow = rounds_store._follow
    for killed in range(40):
        network, shared = make(Zone(), strict)
        shared.step(-network())
        begin_apply(shared, reference)
        with torch.no_grad():
            network.weight += 100
        left = [killed]

        def cut(weights, sources, left=left):
            left[0] -= 1
            if left[0] != -1:
                follow(weights, sources)
                return
            half = len(weights.view(-1)) // 2
            follow(weights.view(-1)[:half], [each.view(-1)[:half] for each in sources])
            raise Crash

        monkeypatch.setattr(rounds_store, "_follow", cut)
        is_killed = False
        try:
            store_of(shared).apply()
        except Crash:
            is_killed = True
        monkeypatch.setattr(rounds_store, "_follow", follow)
        _, other = make(shared.zone, strict)
        for _ in range(2):
            assert store_of(other).apply() == 1
        first = torch.arange(1000.0) + 1
        # the step is contained in the snapshot, and is not in the anchor
        expected = {"anchor": first + 6 + 100, "snapshot": first + 5 + 100, "none": first + 5}
        assert torch.equal(network.weight, expected[reference]), killed
        assert network.small.tolist() == [6.0] * 7
        assert network.calls.tolist() == [5] * 3
        assert network.seen.tolist() == [True] * 2
        if not is_killed:
            break
    assert killed >= (4 if strict else 18)


@pytest.mark.parametrize("strict", [False, True])
def test_rounds_store_optimizer_of_another_host(strict):
    """In strict order a worker that is killed in the middle leaves none of it."""
    network, shared = make(Zone(), strict, kind=optim.Adam)
    shared.step(-network())
    store = store_of(shared)
    before = store.copy_optimizer_state()
    assert before.data_ptr() != store.optimizer_state().data_ptr()
    other = torch.full_like(before, 1)

    class Cut:
        @classmethod
        def __torch_function__(cls, *_):
            store.optimizer_state()[: len(other) // 2].fill_(1)
            raise Crash

    with pytest.raises(Crash):
        store.take_optimizer_state(Cut())
    if strict:
        assert torch.equal(store.optimizer_state(), before)
    store.take_optimizer_state(other)
    assert torch.equal(store.copy_optimizer_state(), other)


def test_rounds_store_optimizer_that_is_not_finite():
    network, shared = make(Zone(), kind=optim.Adam)
    shared.step(-network())
    found = {
        key: tensor
        for key, tensor in shared.views(shared.blocks).items()
        if key not in dict(network.state_dict())
    }
    moment = next(tensor for tensor in found.values() if tensor.shape == (1000,))
    moment[:3] = torch.tensor([float("nan"), float("inf"), 5.0])
    store_of(shared).repair_optimizer()
    assert moment[:3].tolist() == [0, 0, 5]
    assert bool(moment[3:].all())


@pytest.mark.parametrize("strict", [False, True])
def test_rounds_store_change_is_completed_after_other_steps(strict):
    """The worker is killed when the weights have changed, and before that is in the state."""
    network, shared = make(Zone(), strict)
    begin_apply(shared, "none")
    assert store_of(shared).apply() == 0
    for _ in range(3):
        shared.step(-network())
    _, other = make(shared.zone, strict)
    assert store_of(other).apply() == 0
    assert store_of(other).made() == 3


def test_rounds_store_large_tensors_change_in_pieces(monkeypatch):
    monkeypatch.setattr(flat, "PIECE", 64)
    follow, sizes = rounds_store._follow, set()

    def note(weights, sources):
        sizes.add(weights.numel())
        follow(weights, sources)

    monkeypatch.setattr(rounds_store, "_follow", note)
    network, shared = make(Zone(), strict=True)
    begin_apply(shared, "anchor")
    store_of(shared).apply()
    assert max(sizes) == 64
    assert torch.equal(network.weight, torch.arange(1000.0) + 5)


def test_rounds_store_steps_of_others():
    network, shared = make(Zone())
    shared.step(-network())
    begin_apply(shared, "anchor")
    store = store_of(shared)
    store.apply()
    store.write(replace(store.state, applying=None, mark=0))
    store.publish()
    assert shared.steps == 13
    assert store.others_made() == 12
    shared.step(-network())
    assert shared.steps == 14
    # fewer than were made here, for example of a checkpoint that was dropped
    store.write(replace(store.state, mark=20))
    store.publish()
    assert shared.steps == 2 + 12 - 20 + (1 << 64) * (2 + 12 < 20)
    assert store.others_made() == -8


def test_rounds_store_other_weights():
    network, shared = make(Zone())
    shared.step(-network())
    views = {key: tensor.clone() for key, tensor in shared.views(shared.blocks).items()}
    shared.replace(views, 40, None)
    assert shared.refresh()
    assert store_of(shared).replaced() == 1
    # a round that was about to change the weights does not change these
    begin_apply(shared, "anchor")
    before = network.weight.clone()
    assert store_of(shared).state.replaced == 0
    store_of(shared).apply()
    assert torch.equal(network.weight, before)
