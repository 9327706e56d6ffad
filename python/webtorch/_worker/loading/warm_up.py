"""Calls of functions before a worker takes requests, for networks that are compiled."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from webtorch._handlers.functions import HandlerKind
from webtorch._models.compiled import compiling
from webtorch._models.model import models
from webtorch._schema.missing import Masked
from webtorch._schema.schema import Schema, TensorSpec
from webtorch._worker.models.served_versions import models_of
from webtorch._worker.runners.tensor_runner import TensorRunner

log = logging.getLogger("webtorch")

_AXIS = 16
"""The size of variable axes."""


def warm_up(runners: Sequence[Any]) -> None:
    """Call functions under `@webtorch.infer` that use a model that is compiled, with rows of zeros.

    The code that is made for several rows is that for most numbers of rows. An exception of a
    function is logged: it may not like zeros.

    Args:
        runners: The runners of all handlers.

    """
    compiled = {model.name for model in models.values() if model.is_compiled}
    if not compiled:
        return
    with compiling():
        for runner in runners:
            if (
                isinstance(runner, TensorRunner)
                and not runner.is_offloaded
                and runner.handler.kind == HandlerKind.INFER
                and compiled & models_of(runner.handler)
            ):
                _call(runner)


def _call(runner: TensorRunner) -> None:
    schema = runner.handler.schema
    largest = runner.max_batch if schema.batched else 1
    for rows in sorted({1, min(2, largest), min(16, largest), largest}, reverse=True):
        try:
            runner.compute([_rows(spec, schema, rows) for spec in schema.inputs], rows)
        except Exception as error:
            log.warning(
                'handler "%s": a call with %d rows of zeros, for torch.compile, raised %s: %s',
                runner.name,
                rows,
                type(error).__name__,
                error,
            )
            return


def _rows(spec: TensorSpec, schema: Schema, rows: int) -> Any:
    """Return rows of zeros, or of empty strings."""
    shape = [rows] * schema.batched + [
        size if isinstance(size, int) else _AXIS for size in spec.shape
    ]
    if isinstance(spec.dtype, torch.dtype):
        values = torch.zeros(shape, dtype=spec.dtype)
        if spec.has_mask:
            return Masked(values, torch.zeros(shape, dtype=torch.bool))
        return values
    return _strings(spec.dtype(), shape)


def _strings(value: Any, shape: Sequence[int]) -> Any:
    for size in reversed(shape):
        value = [value] * size
    return value
