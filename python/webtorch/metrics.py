"""Metrics of an application, which `webtorch_status` adds up over all workers.

    from webtorch import metrics

    words = metrics.counter("app_words_total", "Words of all texts.", labels=["language"])
    words.labels(language="en").inc(12)

They are made where modules are imported. Names and labels are those of Prometheus. With
`webtorch_metrics off`, and outside nginx, they count in this process alone. So does a metric whose
type or bounds are others than when nginx was started, until it is started again; the error log
says so.
"""

import contextlib
import itertools
import logging
import math
import re
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from webtorch._metrics.cells import SECONDS, Cells, MetricKind, Wanted, local_cells, own_cells

__all__ = ["Counter", "Gauge", "Histogram", "counter", "gauge", "histogram"]

MAX_CHILDREN = 1000
"""How many combinations of labels a metric may have in a worker."""

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SUFFIXES = ("_total", "_count", "_sum", "_bucket", "_created", "_info")
# a zero byte would end the labels in C
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\0": " "})

log = logging.getLogger("webtorch")

_Child = TypeVar("_Child")


class Counter:
    """A number that only grows."""

    def __init__(self, cells: Cells) -> None:
        self._floats = cells.floats

    def inc(self, amount: float = 1) -> None:
        """Add to it.

        Args:
            amount: At least 0.

        Raises:
            ValueError: The amount is negative or not finite.

        """
        # adding a tensor would release the GIL between the read and the write
        number = float(amount)
        if not 0 <= number < math.inf:
            raise ValueError(f"a counter cannot grow by {amount}")
        self._floats[0] += number


class Gauge:
    """A value that can go up and down, per worker; it is removed when its worker exits."""

    def __init__(self, cells: Cells) -> None:
        self._ints = cells.ints
        self._floats = cells.floats

    def set(self, number: float) -> None:
        """Set the value of this worker.

        Args:
            number: The new value; any int or float.

        """
        self._floats[1] = float(number)
        self._ints[0] = 1

    def inc(self, amount: float = 1) -> None:
        """Add to the value of this worker, which begins as 0.

        Args:
            amount: By default 1; it may be negative.

        """
        number = float(amount)
        self._floats[1] += number
        self._ints[0] = 1

    def dec(self, amount: float = 1) -> None:
        """Subtract from the value of this worker.

        Args:
            amount: By default 1.

        """
        self.inc(-amount)


class Histogram:
    """How often numbers were below each of several bounds, and their sum."""

    def __init__(self, cells: Cells, bounds: Sequence[float]) -> None:
        self._ints = cells.ints
        self._floats = cells.floats
        self._bounds = bounds
        self._sum = len(bounds) + 1

    def observe(self, number: float) -> None:
        """Count a number.

        Args:
            number: In the unit of the bounds, seconds by default; NaN is above all bounds.

        """
        value = float(number)
        place = bisect_left(self._bounds, value) if value == value else len(self._bounds)
        self._ints[place] += 1
        self._floats[self._sum] += value

    @contextlib.contextmanager
    def time(self) -> Iterator[None]:
        """Observe the seconds that a block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - start)


class Labelled(Generic[_Child]):
    """A metric with labels: one number, or histogram, for each combination of their values."""

    def __init__(self, metric: "_Metric", names: Sequence[str]) -> None:
        self._metric = metric
        self._names = tuple(names)
        self._set = frozenset(names)
        self._children: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._is_full = False

    def __getattr__(self, name: str) -> Any:
        """Say that a combination has to be chosen first."""
        if name.startswith("_"):
            raise AttributeError(name)
        first = f"{self._metric.name} has labels, choose their values first"
        raise AttributeError(f"{first}: .labels({self._names[0]}=...).{name}", name=name, obj=self)

    def labels(self, **values: object) -> _Child:
        """Return what counts for a combination of values, which are written as `str()` does.

        There may be 1000 combinations in a worker. What is counted for others is lost, and the
        error log says so.

        Raises:
            ValueError: The names are not those of the metric.

        """
        if values.keys() != self._set:
            raise ValueError(f"the labels of {self._metric.name} are {', '.join(self._names)}")
        key = tuple(str(values[name]) for name in self._names)
        child = self._children.get(key)
        if child is None:
            with self._lock:
                child = self._children.get(key) or self._add(key)
        found: _Child = child
        return found

    def _add(self, key: tuple[str, ...]) -> Any:
        text = ",".join(
            f'{name}="{value.translate(_ESCAPES)}"'
            for name, value in zip(self._names, key, strict=True)
        )
        wanted = self._metric.wanted(text)
        if len(self._children) < MAX_CHILDREN:
            child = self._children[key] = self._metric.make(own_cells(wanted))
            return child
        if not self._is_full:
            self._is_full = True
            log.error("metric %s has too many combinations of labels", self._metric.name)
        return self._metric.make(local_cells(wanted))


class _Metric:
    """A name and what it counts."""

    def __init__(self, kind: MetricKind, name: str, help: str, bounds: Sequence[float]) -> None:
        self.kind = kind
        self.name = name
        self.help = help
        self.bounds = tuple(bounds)

    def wanted(self, labels: str = "") -> Wanted:
        return Wanted(self.kind, self.name, labels, self.help, self.bounds)

    def make(self, cells: Cells) -> Any:
        if self.kind == MetricKind.COUNTER:
            return Counter(cells)
        if self.kind == MetricKind.HISTOGRAM:
            return Histogram(cells, self.bounds)
        return Gauge(cells)


def _open(metric: _Metric, labels: Sequence[str]) -> Any:
    name = metric.name
    if not _NAME.fullmatch(name) or name.startswith("webtorch_"):
        raise ValueError(f'"{name}" cannot be the name of a metric')
    if (metric.kind == MetricKind.COUNTER) != name.endswith("_total"):
        raise ValueError(f'"{name}": the names of counters, and of nothing else, end with "_total"')
    if metric.kind != MetricKind.COUNTER and name.endswith(_SUFFIXES):
        raise ValueError(f'"{name}": this end of the name has a meaning of its own')
    for label in labels:
        if not _NAME.fullmatch(label) or label in ("le", "quantile") or label.startswith("__"):
            raise ValueError(f'"{label}" cannot be the name of a label')
    if labels:
        return Labelled(metric, labels)
    return metric.make(own_cells(metric.wanted()))


def counter(name: str, help: str = "", *, labels: Sequence[str] = ()) -> Any:
    """Return a counter: the sum of what all workers have counted since nginx started.

    Args:
        name: It ends with `_total`, and does not begin with `webtorch_`.
        help: What it counts, at most 127 bytes.
        labels: Names of labels; their values are chosen by `labels(name=value)`.

    Returns:
        A `Counter` or, with labels, what returns one for each combination.

    Raises:
        ValueError: The name or a label is malformed.

    """
    return _open(_Metric(MetricKind.COUNTER, name, help, ()), labels)


_GAUGES = {
    "sum": MetricKind.SUM,
    "max": MetricKind.MAX,
    "min": MetricKind.MIN,
    "mean": MetricKind.MEAN,
}


def gauge(name: str, help: str = "", *, labels: Sequence[str] = (), aggregate: str = "sum") -> Any:
    """Return a gauge.

    Args:
        name: It does not begin with `webtorch_`.
        help: What it is, at most 127 bytes.
        labels: Names of labels.
        aggregate: How those of several workers become one: `"sum"`, `"max"`, `"min"` or `"mean"`.

    Returns:
        A `Gauge` or, with labels, what returns one for each combination.

    Raises:
        ValueError: An argument is malformed.

    """
    if aggregate not in _GAUGES:
        raise ValueError(f'"{aggregate}" is none of {", ".join(_GAUGES)}')
    return _open(_Metric(_GAUGES[aggregate], name, help, ()), labels)


def histogram(
    name: str, help: str = "", *, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
) -> Any:
    """Return a histogram.

    Args:
        name: It does not begin with `webtorch_`.
        help: What it measures, at most 127 bytes.
        labels: Names of labels.
        buckets: At most 32 upper bounds, each higher than the one before. The default is for
            seconds, from 50 µs to 60 s.

    Returns:
        A `Histogram` or, with labels, what returns one for each combination.

    Raises:
        ValueError: An argument is malformed.

    """
    numbers = [float(bound) for bound in buckets]
    in_order = all(low < high for low, high in itertools.pairwise(numbers))
    if not 0 < len(numbers) <= 32 or not in_order or not all(map(math.isfinite, numbers)):
        raise ValueError(f"histogram {name}: buckets are 1 to 32 numbers, each above the last")
    return _open(_Metric(MetricKind.HISTOGRAM, name, help, numbers), labels)
