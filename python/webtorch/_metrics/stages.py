"""Stages of a pipeline within one handler: their calls, rows, time, and what leaves them."""

import functools
import inspect
import math
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from types import TracebackType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from webtorch._core.trace_context import has_spans
from webtorch._metrics.cells import SECONDS, MetricKind, Wanted, own_cells
from webtorch._schema import callables

_Function = TypeVar("_Function", bound=Callable[..., Any])

_BOUNDS = [round(bound * 1e6) for bound in SECONDS]
# the cells of ngx_webtorch_metrics_stage_t after the buckets
_SUM, _ROWS, _ERRORS, _SAMPLES, _WEIGHT, _MEAN = range(len(SECONDS) + 1, len(SECONDS) + 7)

# that of Tensor is a function of Python, which takes five times as long; 0 without an axis
_length: Callable[[Tensor], int] = cast(Any, Tensor.__base__).__len__

MAX_WEIGHT = 20
"""Samples that the averages of a stage are about."""

BINS = 10
"""Quantiles of the reference, in which a distance compares shares."""

MAX_REFERENCE = 1_000_000
"""Elements of a reference that are looked at."""


class _Reference:
    """Quantiles of a tensor, and which share of it is in each bin between them."""

    def __init__(self, x: Tensor) -> None:
        x = _numbers(x)
        x = x[torch.isfinite(x)]
        if not x.numel():
            raise ValueError("a reference needs a finite element")
        x = x[:: math.ceil(x.numel() / MAX_REFERENCE)]
        self._edges = torch.quantile(x, torch.linspace(0, 1, BINS + 1)[1:-1])
        self._shares = self._count(x)

    def _count(self, x: Tensor) -> Tensor:
        bins = torch.bucketize(x, self._edges)
        counts = torch.bincount(bins, minlength=BINS).float()
        # no share is 0, of which there is no logarithm
        return (counts / x.numel()).clamp(min=1e-4)

    def distance(self, x: Tensor) -> float:
        """Return the population stability index of a tensor."""
        shares = self._count(x)
        return float(((shares - self._shares) * (shares / self._shares).log()).sum())


class _Stage:
    """The cells of a stage in this process."""

    def __init__(self, name: str) -> None:
        self.name = name
        cells = own_cells(Wanted(MetricKind.STAGE, name))
        self.ints = cells.ints
        self.floats = cells.floats
        self.reference: _Reference | None = None

    def sample(self, x: Tensor) -> None:
        """Add a tensor to the averages."""
        numbers = _numbers(x)
        if not numbers.numel():
            return
        finite = numbers[torch.isfinite(numbers)]
        found = (
            float(finite.mean()) if finite.numel() else math.nan,
            float(finite.std(correction=0)) if finite.numel() else math.nan,
            float(torch.isnan(numbers).float().mean()),
            float((numbers == 0).float().mean()),
            self.reference.distance(finite) if self.reference and finite.numel() else 0.0,
        )
        weight = self.ints[_WEIGHT] = min(self.ints[_WEIGHT] + 1, MAX_WEIGHT)
        for place, number in enumerate(found, _MEAN):
            old = self.floats[place]
            # NaN: no sample had a finite element
            if weight == 1 or math.isnan(old):
                self.floats[place] = number
            elif not math.isnan(number):
                self.floats[place] = old + (number - old) / weight
        self.ints[_SAMPLES] += 1


_stages: dict[str, _Stage] = {}

open_span: Callable[[str], Any] | None = None
"""Begins the span of a stage, or returns None; it does not raise. None if no call has had one."""


def _stage(name: str) -> _Stage:
    found = _stages.get(name)
    if found is None:
        if not name:
            raise ValueError("a stage needs a name")
        found = _stages.setdefault(name, _Stage(name))
    return found


class stage:
    """A stage of a pipeline: one call of it, for `with`, or a decorator.

        with webtorch.stage("clean") as s:
            x = clean(x)
            s.leaves(x)

        @webtorch.stage("embed", sample=0.01)
        def embed(x): ...

    Calls, rows, errors and time of the stage are metrics, which `webtorch_status` shows. An object
    is for one block at a time: entered twice, it raises `RuntimeError`.

    Args:
        name: Name of the stage.
        sample: Share of calls, 0 to 1, of whose tensors it computes the mean, the standard
            deviation, the shares of NaN and zeros, and the distance from the reference.

    Raises:
        ValueError: The name is empty, or the share is not between 0 and 1.

    """

    __slots__ = ("_rate", "_rows", "_samples", "_span", "_stage", "_start")

    def __init__(self, name: str, *, sample: float = 0.0) -> None:
        if sample and not 0 < sample <= 1:
            raise ValueError(f"a share is between 0 and 1, not {sample}")
        try:
            self._stage = _stages[name]
        except KeyError:
            self._stage = _stage(name)
        self._rate = sample
        self._rows = 0
        self._samples = False
        self._span: Any = None
        self._start = 0

    @staticmethod
    def reference(name: str, x: Tensor) -> None:
        """Take a tensor as what should leave a stage, for the distance of its samples.

        The distance is the population stability index over ten quantiles of the reference: below
        0.1 nothing has changed, above 0.25 much has. Each worker takes a reference of its own, so
        it is taken where modules are imported.

        Args:
            name: Name of the stage.
            x: A tensor of numbers with any shape.

        Raises:
            ValueError: It has no finite element.

        """
        with torch.no_grad():
            _stage(name).reference = _Reference(x)

    def __enter__(self) -> "stage":
        if self._start:
            raise RuntimeError(
                f'stage "{self._stage.name}" was entered twice: each block and thread calls '
                "webtorch.stage() for itself"
            )
        if self._rate:
            self._samples = random.random() < self._rate
        if open_span is not None and has_spans.get():
            self._span = open_span(self._stage.name)
        self._start = perf_counter_ns()
        return self

    def leaves(self, x: Any) -> None:
        """Count what leaves the stage.

        Args:
            x: A tensor, whose first axis is rows, a sequence, or a tuple or mapping of tensors,
                of which the first one counts. Anything else is a row.

        """
        if type(x) is Tensor and not self._samples:
            # the usual case, which has to be fast
            self._rows += _length(x) or not x.ndim
            return
        if isinstance(x, Mapping):
            x = next(iter(x.values()), None)
        elif isinstance(x, tuple) and x and isinstance(x[0], Tensor):
            x = x[0]
        if not isinstance(x, Tensor):
            self._rows += len(x) if isinstance(x, (list, tuple)) else 1
            return
        self._rows += x.shape[0] if x.ndim else 1
        if self._samples:
            with torch.no_grad():
                self._stage.sample(x)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ints = self._stage.ints
        usec = (perf_counter_ns() - self._start) // 1000
        self._start = 0
        ints[bisect_left(_BOUNDS, usec) if usec > 50 else 0] += 1
        ints[_SUM] += usec
        if self._rows:
            ints[_ROWS] += self._rows
            self._rows = 0
        if kind is not None:
            ints[_ERRORS] += 1
        if self._span is not None:
            self._span.end(error)
            self._span = None

    def __call__(self, function: _Function) -> _Function:
        """Make each call of a function, or coroutine, a call of the stage; its result leaves."""
        name, rate = self._stage.name, self._rate
        if inspect.iscoroutinefunction(callables.run_by(function)):

            async def run_later(*args: Any, **kwargs: Any) -> Any:
                with stage(name, sample=rate) as call:
                    result = await function(*args, **kwargs)
                    call.leaves(result)
                return result

            wrapper: Any = run_later
        else:

            def run(*args: Any, **kwargs: Any) -> Any:
                with stage(name, sample=rate) as call:
                    result = function(*args, **kwargs)
                    call.leaves(result)
                return result

            wrapper = run
        decorated: Any = functools.wraps(function)(wrapper)
        found: _Function = decorated
        return found


def _numbers(x: Tensor) -> Tensor:
    return x.detach().flatten().to("cpu", torch.float32)
