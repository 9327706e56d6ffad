"""The zone of nginx's workers; it touches cffi, as `_worker` does."""

from typing import Any

import torch
from torch import Tensor

from webtorch._native import ffi, lib
from webtorch._zone.interfaces import BusyError, Counters, Wanted
from webtorch._zone.layout import Layout

MAX_NAME = lib.WEBTORCH_MODEL_LEN - 1
"""Bytes of a model's name."""

_FIND = lib.WEBTORCH_FIND
_FIND_OR_MAKE = lib.WEBTORCH_FIND_OR_MAKE
_MAKE = lib.WEBTORCH_MAKE


class ZoneBlock:
    """A block of C's; see `webtorch._zone.interfaces.Block`."""

    def __init__(self, found: Any) -> None:
        self._id = found.id
        self.fresh = bool(found.fresh)
        self.memory = _memory(found.data, found.size)
        # a pointer into the zone: steps that other workers count are seen
        self.counters: Counters = found.counters
        self.previous: tuple[Layout, Tensor, Counters] | None = None
        if found.old_layout:
            # written by the same version of this package: C compares the versions
            layout = Layout.read(bytes(ffi.buffer(found.old_layout, found.old_len)))
            self.previous = layout, _memory(found.old_data, layout.size), found.old_counters

    def ready(self) -> None:
        """Make it visible to other workers."""
        self.fresh = False
        self.previous = None
        lib.ngx_webtorch_block_ready(self._id)

    def discard(self) -> None:
        """Free it."""
        lib.ngx_webtorch_block_discard(self._id)

    def is_same(self, other: Any) -> bool:
        """Compare two blocks: an id is not used again while a process uses its block."""
        return isinstance(other, ZoneBlock) and bool(self._id == other._id)

    def supersede(self, optimizer: "ZoneBlock | None") -> None:
        """Hide earlier blocks of a model and its optimizer."""
        lib.ngx_webtorch_block_supersede(self._id, _id(optimizer))

    def detach(self) -> None:
        """Release this process's use of the block."""
        lib.ngx_webtorch_block_detach(self._id)

    def retire(self) -> None:
        """Hide the block, and have all workers refresh."""
        lib.ngx_webtorch_block_retire(self._id)

    def count_step(self) -> None:
        """Count an optimizer step."""
        lib.ngx_webtorch_block_step(self._id)

    def is_strict(self) -> bool:
        """Return whether workers use it that train in strict order."""
        return bool(lib.ngx_webtorch_block_strict(self._id))

    def snapshot(self, optimizer: "ZoneBlock | None") -> None:
        """Take copies of both."""
        lib.ngx_webtorch_block_snapshot(self._id, _id(optimizer))

    def commit(self) -> None:
        """Drop the copies."""
        lib.ngx_webtorch_block_commit(self._id)

    def restore(self) -> None:
        """Restore the copies."""
        lib.ngx_webtorch_block_restore(self._id)


class NginxZone:
    """The memory of `webtorch_zone`; see `webtorch._zone.interfaces.Zone`."""

    SAME_STEPS = lib.WEBTORCH_SAME_STEPS

    def find(self, wanted: Wanted) -> ZoneBlock | None:
        """Return the youngest block that fits.

        Raises:
            BusyError: Another worker fills a block.

        """
        return self._attach(wanted, _FIND)

    def attach(self, wanted: Wanted) -> ZoneBlock:
        """Return the youngest block that fits, or a fresh one.

        Raises:
            MemoryError: The zone has no room for it.
            ValueError: The name is too long.

        """
        return self._make(wanted, _FIND_OR_MAKE)

    def replace(self, wanted: Wanted) -> ZoneBlock:
        """Return a fresh block, which replaces others that fit when it is ready.

        Raises:
            MemoryError: The zone has no room for it.
            ValueError: The name is too long.

        """
        return self._make(wanted, _MAKE)

    def lock(self) -> None:
        """Wait until no other worker trains in strict order, and keep others from it."""
        lib.ngx_webtorch_training_lock()

    def unlock(self) -> None:
        """Release the lock."""
        lib.ngx_webtorch_training_unlock()

    def elect(self) -> bool:
        """Return whether the calling thread is the one of all workers that writes files."""
        return bool(lib.ngx_webtorch_saver_elect())

    def resign(self) -> None:
        """Let another worker write files."""
        lib.ngx_webtorch_saver_resign()

    def elect_uploader(self) -> bool:
        """Return whether the calling thread is the one of all workers that writes to storage."""
        return bool(lib.ngx_webtorch_uploader_elect())

    def resign_uploader(self) -> None:
        """Let another worker write to storage."""
        lib.ngx_webtorch_uploader_resign()

    def elect_rounds(self) -> bool:
        """Return whether the calling thread is the one of all workers that does rounds."""
        return bool(lib.ngx_webtorch_rounds_elect())

    def resign_rounds(self) -> None:
        """Let another worker do rounds."""
        lib.ngx_webtorch_rounds_resign()

    def join(self, joined: bool) -> None:
        """Note whether the models of this host are those of its cluster."""
        lib.ngx_webtorch_rounds_join(joined)

    def is_last(self) -> bool:
        """Note that this worker has made its last step; return whether all workers have."""
        return bool(lib.ngx_webtorch_rounds_last())

    def set_followed(self, number: int) -> None:
        """Record the number of the last order that this worker has followed."""
        lib.ngx_webtorch_orders_followed(number)

    def count_behind(self, number: int) -> int:
        """Return how many workers that serve have not followed an order."""
        return int(lib.ngx_webtorch_orders_behind(number))

    def is_leaving(self) -> bool:
        """Return whether this worker shuts down."""
        return bool(lib.ngx_webtorch_exiting())

    def _make(self, wanted: Wanted, how: int) -> ZoneBlock:
        if len(wanted.name.encode()) > MAX_NAME:
            raise ValueError(f'the name of model "{wanted.name}" is longer than {MAX_NAME} bytes')
        block = self._attach(wanted, how)
        if block is None:
            size = wanted.layout.size * (2 if wanted.undo else 1)
            raise MemoryError(
                f'webtorch_zone has no room for the {size} bytes of model "{wanted.name}"'
            )
        return block

    def _attach(self, wanted: Wanted, how: int) -> ZoneBlock | None:
        name = ffi.new("char[]", wanted.name.encode())
        layout = ffi.new("char[]", wanted.layout.key)
        asked = ffi.new(
            "webtorch_wanted_t *",
            {
                "name": name,
                "kind": wanted.kind,
                "undo": wanted.undo,
                "layout": layout,
                "layout_len": len(wanted.layout.key),
                "size": wanted.layout.size,
            },
        )
        found = ffi.new("webtorch_block_t *")
        failed = lib.ngx_webtorch_block_attach(asked, how, found)
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


def _id(block: ZoneBlock | None) -> int:
    return int(lib.WEBTORCH_NO_BLOCK if block is None else block._id)


def _memory(data: Any, size: int) -> Tensor:
    """Return memory of the zone as uint8; it is mapped for as long as the process lives."""
    if size == 0:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(ffi.buffer(data, size), dtype=torch.uint8)
