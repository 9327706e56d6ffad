"""Nets that C evaluates itself, set by a thread while the event loop lets C forget them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import webtorch.testing._native  # noqa: F401 - stands for C
from webtorch._worker.models import native_nets as module
from webtorch._worker.models.native_nets import Natives, _write_tables, lib
from webtorch.detect import FieldClassifier, SiteGuard


class Native:
    """C's functions for nets."""

    def __init__(self) -> None:
        self.net: object = None
        self.fields = 0
        self.calls: list[bool] = []
        self.before = lambda: None

    def __getattr__(self, name: str) -> object:
        return getattr(lib, name)

    def ngx_webtorch_native_use(self, handler: int, native: int) -> int:
        return 0

    def ngx_webtorch_native_set(self, native: int, net: object, learned: object) -> int:
        self.before()
        self.calls.append(bool(net))
        self.net = net or self.net
        if not self.net:
            return lib.WEBTORCH_NATIVE_MISSING
        self.fields = int(module.ffi.cast("intptr_t", learned.fields))
        return lib.WEBTORCH_NATIVE_SET

    def ngx_webtorch_native_clear(self, native: int) -> None:
        self.net, self.fields = None, 0


@pytest.fixture
def native(monkeypatch) -> Native:
    native = Native()
    monkeypatch.setattr(module, "lib", native)
    monkeypatch.setattr(module, "is_check", lambda: False)
    return native


@pytest.fixture
def guard() -> SiteGuard:
    return SiteGuard(FieldClassifier.pretrained(), 64)


@pytest.fixture
def natives(native, guard) -> Natives:
    natives = Natives()
    natives.add(0, SimpleNamespace(name="app:score", handler=SimpleNamespace(native=guard)))
    natives.refresh()
    return natives


def move(guard: SiteGuard) -> int:
    """Move a table as a block of the zone is replaced; return where it is then."""
    keys = guard.fields.table.keys
    keys.data = keys.clone()
    return keys.data_ptr()


def test_native_net_is_copied_again_when_c_has_none(native, natives, guard):
    assert native.net and native.calls == [True]
    place = move(guard)
    natives.check_moved()
    assert not native.net
    natives.refresh()
    assert native.net and native.fields == place
    # weights that C has are not copied
    place = move(guard)
    natives.refresh()
    assert native.calls == [True, False, True, False] and native.fields == place


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("fields", 0, "power of two"),
        ("marks", 3, "power of two"),
        ("counts", 32, "sizes than those of their keys"),
        ("scores", 128, "sizes than those of their keys"),
        ("levels", 2048, "sizes than those of their keys"),
    ],
)
def test_tables_of_other_sizes(guard, name, size, message):
    tables = guard.net().tables
    short = getattr(tables, name)[:size].contiguous()
    with pytest.raises(ValueError, match=message):
        _write_tables(replace(tables, **{name: short}))


def test_tables_that_move_while_they_are_set(native, natives, guard):
    places = []

    def move_meanwhile():
        native.before = lambda: None
        places.append(move(guard))
        natives.check_moved()

    move(guard)
    native.before = move_meanwhile
    natives.refresh()
    assert places and not native.net and not native.fields
    natives.refresh()
    assert native.net and native.fields == places[0]
