"""What C wants beside calls: models for logs, traces for Python's logging; it touches cffi."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from webtorch._core import trace_context
from webtorch._core.errors import HTTPError
from webtorch._handlers.functions import HandlerKind
from webtorch._models.model import Model
from webtorch._models.model_versions import chosen
from webtorch._native import ffi, lib
from webtorch._worker.models.served_versions import models_in
from webtorch._worker.telemetry import spans
from webtorch._worker.telemetry.batch_traces import Ids

_TRACE = lib.WEBTORCH_WATCH_TRACE
_SPANS = lib.WEBTORCH_WATCH_SPANS
_MODELS = lib.WEBTORCH_WATCH_MODELS

runners: dict[int, Any] = {}
"""The runner of each handler, by its number."""

# of each handler: its function, which may be replaced, and the models that it uses
_used: dict[int, tuple[Any, Sequence[Model]]] = {}


def prepare() -> None:
    """Find the models of all functions, which may take milliseconds."""
    for number in [*runners]:
        _models_of(number)


def run(call: Callable[..., None], slot: int, generation: int, rows: int, batch: Any) -> None:
    """Run a batch, a webtorch_batch_t, and do what C asks for beside that.

    Args:
        call: `run` of the handler's runner, which gets all that follows.
        slot: Number of the slot.
        generation: Generation of the slot's buffers.
        rows: Number of rows.
        batch: The batch.

    """
    watch = batch.watch
    span = None
    if watch & _TRACE:
        runner = runners[batch.handler]
        traces = Ids(batch, runner.handler.kind == HandlerKind.HANDLER)
        token = trace_context.current.set(traces)
        span = spans.begin(runner.name, batch) if watch & _SPANS else None
    try:
        if span:
            with span:
                call(slot, generation, rows, batch)
        else:
            call(slot, generation, rows, batch)
    finally:
        if watch & _TRACE:
            if span:
                span.end()
            trace_context.current.reset(token)
            traces.close()
        if watch & _MODELS:
            write_models(batch)


def write_models(batch: Any) -> None:
    """Write steps and versions of the models that a batch has used, a webtorch_batch_t."""
    steps: list[str] = []
    versions: list[str] = []
    # the version may have been unloaded
    with contextlib.suppress(HTTPError):
        for model in map(chosen, _models_of(batch.handler)):
            steps.append(str(model.state.steps))
            versions.append(model.version)
    _write(batch.steps, steps)
    _write(batch.versions, versions)


def _models_of(number: int) -> Sequence[Model]:
    function = runners[number].handler
    found = _used.get(number)
    if found is None or found[0] is not function:
        models = sorted(models_in(function), key=lambda model: model.name)
        found = _used[number] = function, models
    return found[1]


def _write(text: Any, values: Sequence[str]) -> None:
    """Write values to a text of C, as many as it has room for."""
    line = ", ".join(values).encode()[: lib.WEBTORCH_WATCH_LEN - 1] + b"\0"
    ffi.memmove(text, line, len(line))
