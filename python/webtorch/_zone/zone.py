"""The zone of nginx's workers as models see it; with _bridge.py the only one that touches cffi."""

from typing import Any

import torch
from torch import Tensor

from webtorch._native import ffi, lib
from webtorch._state import BusyError, Counters
from webtorch._zone.layout import Layout

MAX_NAME = lib.WEBTORCH_MODEL_LEN - 1

_FIND = lib.WEBTORCH_FIND
_FIND_OR_MAKE = lib.WEBTORCH_FIND_OR_MAKE
_MAKE = lib.WEBTORCH_MAKE


class ZoneBlock:
    """A block of C's; see `webtorch._state.Block`."""

    def __init__(self, found: Any) -> None:
        self._id = found.id
        self.fresh = bool(found.fresh)
        self.memory = _memory(found.data, found.size)
        # a pointer to what C has: steps that other workers count are seen
        self.counters: Counters = found.counters
        self.before: tuple[Layout, Tensor, Counters] | None = None
        if found.old_layout:
            # of the same version of this package, as C sees to it
            layout = Layout.read(bytes(ffi.buffer(found.old_layout, found.old_len)))
            self.before = layout, _memory(found.old_data, layout.size), found.old_counters

    def ready(self) -> None:
        """Show it to others."""
        self.before = None
        lib.ngx_webtorch_block_ready(self._id)

    def discard(self) -> None:
        """Give it up."""
        lib.ngx_webtorch_block_discard(self._id)

    def is_same(self, other: "ZoneBlock") -> bool:
        """Tell whether both are one: numbers are not used again while a process uses a block."""
        return bool(self._id == other._id)

    def supersede(self) -> None:
        """Let nobody find blocks of this name with another layout."""
        lib.ngx_webtorch_block_supersede(self._id)

    def detach(self) -> None:
        """Tell that this process does not use it any more."""
        lib.ngx_webtorch_block_detach(self._id)

    def count_step(self) -> None:
        """Count a step."""
        lib.ngx_webtorch_block_step(self._id)

    def keep(self) -> None:
        """Keep a copy."""
        lib.ngx_webtorch_block_snapshot(self._id)

    def commit(self) -> None:
        """Let the copy go."""
        lib.ngx_webtorch_block_commit(self._id)

    def restore(self) -> None:
        """Put the copy back."""
        lib.ngx_webtorch_block_restore(self._id)


class NginxZone:
    """The memory of `webtorch_zone`; see `webtorch._state.Zone`."""

    SAME_STEPS = lib.WEBTORCH_SAME_STEPS

    def find(self, name: str, layout: Layout, undo: bool) -> ZoneBlock | None:
        """Return the youngest block of a name and layout; raise BusyError."""
        return self._attach(name, layout, undo, _FIND)

    def attach(self, name: str, layout: Layout, undo: bool) -> ZoneBlock:
        """Return the youngest block of a name and layout, or a fresh one."""
        return self._make(name, layout, undo, _FIND_OR_MAKE)

    def replace(self, name: str, layout: Layout, undo: bool) -> ZoneBlock:
        """Return a fresh block, which takes the place of others of its name."""
        return self._make(name, layout, undo, _MAKE)

    def lock(self) -> None:
        """Wait until no other worker trains in strict order, and let none begin."""
        lib.ngx_webtorch_training_lock()

    def unlock(self) -> None:
        """Let others train."""
        lib.ngx_webtorch_training_unlock()

    def elect(self) -> bool:
        """Tell whether the calling thread is the one of all workers that writes files."""
        return bool(lib.ngx_webtorch_saver_elect())

    def resign(self) -> None:
        """Let another one write files."""
        lib.ngx_webtorch_saver_resign()

    def is_leaving(self) -> bool:
        """Tell whether this worker shuts down."""
        return bool(lib.ngx_webtorch_exiting())

    def _make(self, name: str, layout: Layout, undo: bool, how: int) -> ZoneBlock:
        if len(name.encode()) > MAX_NAME:
            raise ValueError(f'the name of model "{name}" is longer than {MAX_NAME} bytes')
        block = self._attach(name, layout, undo, how)
        if block is None:
            size = layout.size * (2 if undo else 1)
            raise MemoryError(f'webtorch_zone has no room for the {size} bytes of model "{name}"')
        return block

    def _attach(self, name: str, layout: Layout, undo: bool, how: int) -> ZoneBlock | None:
        found = ffi.new("webtorch_block_t *")
        failed = lib.ngx_webtorch_block_attach(
            name.encode(), layout.key, len(layout.key), layout.size, undo, how, found
        )
        if failed > 0:
            raise BusyError
        if failed:
            return None
        try:
            return ZoneBlock(found)
        except BaseException:
            if found.fresh:
                lib.ngx_webtorch_block_discard(found.id)
            raise


def _memory(data: Any, size: int) -> Tensor:
    """Return memory of the zone, which is mapped for as long as the process lives."""
    if size == 0:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(ffi.buffer(data, size), dtype=torch.uint8)
