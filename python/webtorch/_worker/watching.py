"""What C wants beside calls: models for logs, traces for Python's logging; it touches cffi."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from webtorch._errors import HTTPError
from webtorch._handlers import Kind
from webtorch._model import Model
from webtorch._native import ffi, lib
from webtorch._versions import chosen
from webtorch._worker import spans
from webtorch._worker.traces import tracing
from webtorch._worker.versions import models_in

runners: dict[int, Any] = {}
"""The runner of each handler, by its number."""

# of each handler: its function, which may be replaced, and the models that it uses
_used: dict[int, tuple[Any, Sequence[Model]]] = {}


def prepare() -> None:
    """Find the models of all functions, which may take milliseconds."""
    for number in [*runners]:
        _models_of(number)


@contextlib.contextmanager
def watching(batch: Any) -> Iterator[None]:
    """Do what C asks for beside the call of a batch, a webtorch_batch_t."""
    with contextlib.ExitStack() as stack:
        if batch.watch & lib.WEBTORCH_WATCH_MODELS:
            stack.callback(write_models, batch)
        if batch.watch & lib.WEBTORCH_WATCH_TRACE:
            is_request = runners[batch.handler].handler.kind == Kind.HANDLER
            stack.enter_context(tracing(batch, is_request))
            if batch.watch & lib.WEBTORCH_WATCH_SPANS and spans.is_loaded():
                span = spans.CallSpan(runners[batch.handler].name, batch)
                stack.callback(span.end)
                stack.enter_context(span)
        yield


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
