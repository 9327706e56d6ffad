"""Requests that make a batch fail are found, and the others are served."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from webtorch._models.training import progress
from webtorch._schema import strings
from webtorch._schema.missing import Masked
from webtorch._schema.schema import TensorSpec

Run = Callable[[Sequence[Any], int], Sequence[Any]]
"""Runs a function on rows of a batch, whose number is the second argument."""


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one request in a batch."""

    first: int
    """Index of its first row."""
    rows: int
    """Number of its rows."""


def isolate(
    run: Run,
    specs: Sequence[TensorSpec],
    inputs: Sequence[Any],
    spans: Sequence[Span],
    failure: BaseException,
) -> tuple[Sequence[Any], dict[int, BaseException]]:
    """Find the requests that make a batch fail, and serve the others.

    Halves of the batch are run, then halves of those that fail. Nothing is run again after a
    failure that followed a training step: no sample is trained on twice. An axis that only outputs
    have has one size in a batch: where parts of the batch differ in one, the requests that did not
    fail are run again together.

    Args:
        run: Runs the function.
        specs: The outputs.
        inputs: The inputs of all rows.
        spans: The rows of each request.
        failure: The exception that the whole batch raised.

    Returns:
        The outputs of all rows, with zeros or empty strings for failed requests, and the exceptions
        of these by index. There are no outputs if all failed.

    """
    total = sum(span.rows for span in spans)
    halving = _Halving(run, specs, inputs, spans, total)
    halving.halve(0, len(spans), failure)
    failures = halving.failures
    if halving.is_alike:
        return halving.outputs, failures

    others = [index for index in range(len(spans)) if index not in failures]
    if halving.is_trained:
        differ = TypeError("it returned tensors of several sizes for the parts of a batch")
        return [], failures | dict.fromkeys(others, differ)
    try:
        spans = [spans[index] for index in others]
        return _run_together(run, specs, inputs, spans, total), failures
    except BaseException as error:
        return [], failures | dict.fromkeys(others, error)


class _Halving:
    """Runs halves of a batch of `total` rows; the arguments are those of `isolate`."""

    def __init__(
        self,
        run: Run,
        specs: Sequence[TensorSpec],
        inputs: Sequence[Any],
        spans: Sequence[Span],
        total: int,
    ) -> None:
        self._run = run
        self._specs = specs
        self._inputs = inputs
        self._spans = spans
        self._total = total
        self.outputs: list[Any] = []
        self.failures: dict[int, BaseException] = {}
        self.is_alike = True
        """Whether the outputs of all parts have the same axes."""
        self.is_trained = False
        """Whether a part has made a training step."""

    def halve(self, begin: int, end: int, failure: BaseException) -> None:
        """Run each half of some requests that have failed together."""
        if end - begin == 1:
            self.failures[begin] = failure
            return
        middle = (begin + end) // 2
        self._attempt(begin, middle)
        self._attempt(middle, end)

    def _attempt(self, begin: int, end: int) -> None:
        first = self._spans[begin].first
        last = self._spans[end - 1].first + self._spans[end - 1].rows
        progress.begin()
        try:
            results = self._run(_rows_of(self._inputs, range(first, last)), last - first)
        except BaseException as error:
            if progress.has_stepped():
                self.failures.update(dict.fromkeys(range(begin, end), error))
            else:
                self.halve(begin, end, error)
            return
        self.is_trained = self.is_trained or progress.has_stepped()
        if not self.outputs:
            self.outputs.extend(_blank(self._specs, results, self._total))
        for output, result in zip(self.outputs, results, strict=True):
            if strings.shape(output)[1:] == strings.shape(result)[1:]:
                output[first:last] = result
            else:
                self.is_alike = False


def _run_together(
    run: Run, specs: Sequence[TensorSpec], inputs: Sequence[Any], spans: Sequence[Span], total: int
) -> Sequence[Any]:
    """Run some requests of a batch of `total` rows; the outputs of the others are zeros."""
    rows = [row for span in spans for row in range(span.first, span.first + span.rows)]
    results = run(_rows_of(inputs, rows), len(rows))
    outputs = _blank(specs, results, total)
    for output, result in zip(outputs, results, strict=True):
        for index, row in enumerate(rows):
            output[row] = result[index]
    return outputs


def _blank(specs: Sequence[TensorSpec], results: Sequence[Any], rows: int) -> list[Any]:
    """Return zeros and empty strings in the shapes of a call's results, but for `rows` rows."""
    blank: list[Any] = []
    for spec, result in zip(specs, results, strict=True):
        if isinstance(result, Tensor):
            blank.append(result.new_zeros(rows, *result.shape[1:]))
        else:
            blank.append(strings.full(spec.dtype, (rows, *strings.shape(result)[1:])))
    return blank


def _rows_of(inputs: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """Return copies of rows of the inputs: a handler may change them, and they may run again."""

    def take(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[rows.start : rows.stop].clone() if isinstance(rows, range) else value[rows]
        if value is None:
            return None
        if isinstance(value, Masked):
            return Masked(take(value.values), take(value.mask))
        return [copy.deepcopy(value[row]) for row in rows]

    return [*map(take, inputs)]
