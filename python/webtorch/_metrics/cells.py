"""Cells of 8 bytes, in which this process counts; in nginx's workers all of them are added up.

A cell is changed by `cells[i] += n`. No thread of Python runs between the read and the write: the
interpreter passes the GIL on at calls of functions and at the ends of loops only.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SECONDS = (
    *(50e-6, 100e-6, 250e-6, 500e-6),
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds of the buckets of all histograms of seconds."""


class MetricKind(enum.IntEnum):
    """Metrics, as C numbers them."""

    COUNTER = 0
    HISTOGRAM = 1
    SUM = 2
    MAX = 3
    MIN = 4
    MEAN = 5
    MODEL = 6
    STAGE = 7


@dataclass(frozen=True)
class Wanted:
    """A metric."""

    kind: MetricKind
    name: str
    labels: str = ""
    """As they are written, `a="1",b="2"`."""
    help: str = ""
    bounds: Sequence[float] = ()


class Cells:
    """Cells of a metric, as integers and as floats.

    Args:
        memory: 8 bytes for each.

    """

    __slots__ = ("floats", "ints")

    def __init__(self, memory: memoryview) -> None:
        self.ints = memory.cast("Q")
        self.floats = memory.cast("d")


source: Callable[[Wanted, int], memoryview | None] | None = None
"""Returns the memory of cells that workers share; None outside nginx."""

# those of ngx_webtorch_metrics_custom.h
_COUNTS = {MetricKind.COUNTER: 1, MetricKind.MODEL: 10, MetricKind.STAGE: len(SECONDS) + 11}


def _size(wanted: Wanted) -> int:
    count = (
        len(wanted.bounds) + 2
        if wanted.kind == MetricKind.HISTOGRAM
        else _COUNTS.get(wanted.kind, 2)
    )
    return 8 * count


def local_cells(wanted: Wanted) -> Cells:
    """Return cells of this process alone."""
    return Cells(memoryview(bytearray(_size(wanted))))


def own_cells(wanted: Wanted) -> Cells:
    """Return the cells of a metric; those of this process alone if workers share none."""
    memory = source(wanted, _size(wanted)) if source else None
    return local_cells(wanted) if memory is None else Cells(memory)
