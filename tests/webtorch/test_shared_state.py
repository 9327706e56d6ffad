"""Blocks of the zone while several threads of a worker use them."""

import itertools
import threading

import pytest
import torch
from torch import nn, optim

from memory_zone import Zone
from webtorch import Model
from webtorch._models import model_state
from webtorch._zone import shared_state
from webtorch._zone.shared_state import refresh_all

names = (f"state-{n}" for n in itertools.count())


@pytest.fixture
def state(monkeypatch):
    monkeypatch.setattr(model_state, "zone", Zone())
    return Model(next(names), nn.Linear(1, 1)).state


def weights(state):
    return {key: torch.full_like(value, 7) for key, value in state.copy()[0].items()}


def test_blocks_that_two_threads_have_pinned(state):
    with state.pinned() as old:
        with state.pinned():
            pass
        state.replace(weights(state), 5, None)
        assert state.steps == 0
        with state.pinned() as new:
            assert new.counters.steps == 5
        assert refresh_all()
        assert (state.steps, old.tensors.detached) == (5, 0)
        # its use while it was pinned, before the state was bound to it
        assert new.tensors.detached == 1
        # a retired state leaves the blocks that no thread has pinned
        with state.pinned():
            state.retire()
            assert refresh_all()
            assert state.uses(new.tensors)
            assert state.uses(old.tensors)
        assert (old.tensors.detached, new.tensors.detached) == (0, 1)
    assert old.tensors.detached == 1
    assert refresh_all()
    assert not state.uses(new.tensors)
    assert new.tensors.detached == 2


def test_retired_state_hides_blocks_that_it_does_not_use_yet(state):
    old = state.blocks.tensors
    state.replace(weights(state), 5, None)
    with state.pinned() as new:
        pass
    state.retire()
    assert old.hidden
    assert new.tensors.hidden


def test_blocks_are_left_before_they_are_freed(state):
    found = []

    def note(block):
        # it is called for the models of other tests in this process, too
        now = (state.uses(block), block.detached)
        if found[-1:] != [now]:
            found.append(now)

    old = state.blocks.tensors
    state.replace(weights(state), 5, None)
    assert refresh_all(lambda: note(old))
    assert found == [(False, 0)] and old.detached == 1

    found.clear()
    new = state.blocks.tensors
    before = new.detached
    state.retire()
    assert refresh_all(lambda: note(new))
    assert found == [(True, before), (False, before)] and new.detached == before + 1


def test_event_loop_does_not_wait_for_threads_that_attach(state):
    state.replace(weights(state), 5, None)
    is_held, is_over = threading.Event(), threading.Event()

    def hold():
        with shared_state._lock:
            is_held.set()
            is_over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    assert not refresh_all()
    assert state.steps == 0
    is_over.set()
    thread.join()
    assert refresh_all()
    assert state.steps == 5


def test_frozen_model_keeps_no_graph_of_a_training_call(monkeypatch):
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(1, 1)
            self.register_buffer("mean", torch.zeros(1))

        def forward(self, x):
            self.mean = self.mean + self.line(x).mean(0)
            return self.line(x)

    monkeypatch.setattr(model_state, "zone", Zone())
    model = Model(next(names), Running(), lambda p: optim.SGD(p, lr=0.1))
    model.state.set_frozen(True)
    for _ in range(2):
        model.step(model(torch.ones(1, 1)).sum())
    assert model.steps == 0
    assert model._evaluation.module.mean is model.module.mean
    assert not model.module.mean.requires_grad
