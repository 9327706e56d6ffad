"""Cells in the memory that workers share, see `webtorch._metrics.cells`."""

import logging

from webtorch._metrics.cells import Wanted
from webtorch._native import ffi, lib

# of a key and of the text of a metric in C, the latter with a zero byte
_MAX_KEY = 256
_MAX_HELP = 127

_told: set[str] = set()

log = logging.getLogger("webtorch")


def open_cells(wanted: Wanted, size: int) -> memoryview | None:
    """Return the memory of a metric's cells in this worker; None if it is not counted."""
    name = wanted.name.encode()
    labels = wanted.labels.encode("utf-8", "replace")
    if len(name) + len(labels) > _MAX_KEY:
        if wanted.name not in _told:
            _told.add(wanted.name)
            log.error("metric %s has labels of more than %d bytes", wanted.name, _MAX_KEY)
        return None
    cells = lib.ngx_webtorch_metrics_open(
        wanted.kind,
        name,
        labels,
        _cut(wanted.help),
        ffi.new("double[]", list(wanted.bounds)) if wanted.bounds else ffi.NULL,
        len(wanted.bounds),
    )
    return None if cells == ffi.NULL else memoryview(ffi.buffer(cells, size))


def _cut(text: str) -> bytes:
    """Return what fits of a text, without a part of a character."""
    cut = text.encode("utf-8", "replace")[:_MAX_HELP]
    return cut.decode("utf-8", "ignore").encode()
