"""The orders of operators: files that cannot be read change nothing."""

import os
from types import SimpleNamespace

import pytest

from nginx import wait_for
from webtorch._worker.control import follower
from webtorch._worker.control.follower import Follower
from webtorch._zone.orders import FILE, LOCK, DamagedOrdersError, Ordered, Orders

DAMAGED = ["", "{", "[]", '{"number": 3}', '{"number": [], "loaded": [], "unloaded": []}']


def freeze(ordered):
    return Ordered(frozen=ordered.frozen | {"xor"})


@pytest.mark.parametrize("number", range(len(DAMAGED)))
def test_damaged_orders_are_kept(tmp_path, number):
    orders = Orders(tmp_path)
    assert orders.read() == Ordered()
    assert orders.change(freeze) == orders.read() == Ordered(1, frozen=frozenset({"xor"}))
    path = tmp_path / FILE
    path.write_text(DAMAGED[number])
    with pytest.raises(DamagedOrdersError, match=f"{FILE} is damaged"):
        orders.read()
    with pytest.raises(DamagedOrdersError, match="correct it, or remove it"):
        orders.change(freeze)
    assert path.read_text() == DAMAGED[number]
    path.unlink()
    assert orders.read() == Ordered()


def test_orders_are_on_the_disk_or_not_there(tmp_path, monkeypatch):
    orders = Orders(tmp_path)
    synced = []
    sync = os.fsync

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    ordered = orders.change(freeze)
    # the name, too
    assert synced == [str(tmp_path / f"{FILE}.tmp"), str(tmp_path)]

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        orders.change(freeze)
    assert {path.name for path in tmp_path.iterdir()} == {FILE, LOCK}
    assert orders.read() == ordered


def test_freeze_while_versions_are_loaded_is_not_undone(tmp_path):
    """It came from another host: what was read before would be taken for an order of this one."""
    orders = Orders(tmp_path)
    orders.change(lambda _: Ordered(loaded=frozenset({"xor@2"})))
    frozen = []
    state = SimpleNamespace(name="xor", set_frozen=frozen.append)
    loader = SimpleNamespace(follow=lambda *_: orders.change(freeze))
    followed = []
    workers = SimpleNamespace(set_followed=followed.append)
    Follower(orders, loader, lambda: [state], workers).follow()
    # the number is that of the versions, and what is written after it is polled
    assert (frozen, followed) == ([True], [1])


def test_worker_that_cannot_read_orders_tries_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(follower, "POLL", 0.001)
    orders = Orders(tmp_path)
    frozen, followed, forgotten = [], [], []
    state = SimpleNamespace(name="xor", set_frozen=frozen.append)
    loader = SimpleNamespace(follow=lambda *_: None, forget=lambda: forgotten.append(1))
    workers = SimpleNamespace(set_followed=followed.append)
    thread = Follower(orders, loader, lambda: [state], workers)
    orders.change(freeze)
    thread.follow()
    assert (frozen, followed) == ([True], [1])

    read = orders.read
    tries = []

    def fail():
        tries.append(1)
        if len(tries) < 5:
            raise OSError(24, "Too many open files")
        return read()

    orders.change(lambda ordered: Ordered(ordered.number, unloaded=frozenset({"xor@2"})))
    monkeypatch.setattr(orders, "read", fail)
    assert thread.unloaded() == frozenset()
    thread.start()
    wait_for(lambda: len(followed) == 2, "the orders")
    wait_for(lambda: forgotten, "a poll")
    thread.stop()
    assert (frozen, followed) == ([True, False], [1, 2])
    assert thread.unloaded() == {"xor@2"}
    assert caplog.text.count("could not be followed") == 1
