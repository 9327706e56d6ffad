"""The functions that C calls, which ngx_webtorch_api.h describes.

The nginx module imports this file in its workers. Structures of C are read and written here and in
the runners; the rest of the package does not know them.
"""

import faulthandler
import gc
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from webtorch._core.process import is_check
from webtorch._handlers import batches
from webtorch._metrics import cells, rewards
from webtorch._models import model_versions
from webtorch._native import ffi, lib
from webtorch._worker.cluster.settings import read_settings
from webtorch._worker.loading.loader import (
    describe_failure,
    load_handler,
    prepare_handlers,
    reload_handlers,
)
from webtorch._worker.models.native_nets import natives
from webtorch._worker.process import environment, programs
from webtorch._worker.runners.coroutines import Loop
from webtorch._worker.runners.generator_runner import GeneratorRunner
from webtorch._worker.runners.policy_runner import PolicyRunner
from webtorch._worker.runners.posting import Posting
from webtorch._worker.runners.request_runner import RequestRunner
from webtorch._worker.runners.tensor_runner import TensorRunner
from webtorch._worker.telemetry import batch_logs, log, shared_cells, shared_rewards, spans
from webtorch._worker.threads.worker_threads import StorageSettings, WorkerSettings, WorkerThreads
from webtorch._zone.shared_state import refresh_all
from webtorch.balancer import PolicyError

STDERR = 2
"""Descriptor of the standard error output."""

SWITCH_INTERVAL = 0.001
"""Seconds that a thread of Python may keep the GIL when the event loop or a handler wants it."""

_VERSION_SET = lib.WEBTORCH_VERSION_SET
_WATCH_MODELS = lib.WEBTORCH_WATCH_MODELS

# `run` of each handler's runner, by the number of the handler
_run: dict[int, Callable[[int, int, int, Any], None]] = {}

# runners of policies, by the number of the handler
_policies: dict[int, PolicyRunner] = {}

# runners of handlers under `async def`, by the number of the handler
_coroutines: dict[int, RequestRunner] = {}

# runners of handlers that yield, under `def`
_generators: list[GeneratorRunner] = []

# runners of functions of tensors, by the number of the handler
_tensor_runners: dict[int, TensorRunner] = {}

_posting = Posting(_tensor_runners, _run)

_process: WorkerThreads | None = None
_watches_models = False
_loop: Loop | None = None


def _on_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Log an error of the bridge itself; C gets the function's error value."""
    log.log_exception("an error in the bridge:", error)


# --- the process ---


@ffi.def_extern(onerror=_on_error)
def ngx_webtorch_py_init(settings: Any) -> None:
    global _process, _loop, _watches_models
    # A crash writes a traceback. nginx makes descriptor 2 a copy of its error log, also when it
    # reopens its logs, and never closes it; the log's own descriptor gets another number then, and
    # the old number may become a client's connection.
    faulthandler.enable(STDERR, all_threads=False)
    if settings.stack_signal:
        faulthandler.register(settings.stack_signal, STDERR, all_threads=True)
    if settings.slow_signal:
        faulthandler.register(settings.slow_signal, STDERR, all_threads=False)
    sys.setswitchinterval(SWITCH_INTERVAL)
    if settings.check:
        # it is killed when handlers are imported, torch._dynamo takes a third less time
        gc.disable()
    environment.install(_strings(settings.environment))
    programs.install()
    _watches_models = bool(settings.watch & _WATCH_MODELS)
    checkpoints = settings.checkpoint
    _process = WorkerThreads(
        WorkerSettings(
            check=bool(settings.check),
            worker=settings.worker,
            generation=settings.generation,
            zone=bool(lib.ngx_webtorch_zone_exists()),
            checkpoints=Path(os.fsdecode(ffi.string(checkpoints))) if checkpoints else None,
            interval=settings.interval / 1000,
            keep=settings.keep,
            store=_store(settings),
            reload=bool(settings.reload),
            roots=sys.path[: settings.npath],
            cluster=read_settings(settings.cluster),
            threads=settings.threads,
            owner=bool(settings.owner),
        ),
        reload_handlers,
    )
    _loop = Loop(_coroutines, _posting, settings.threads)
    if not settings.check:
        batches.batches = _posting
        cells.source = shared_cells.open_cells
        rewards.report = shared_rewards.report
        # in a forked child nothing computes batches, and no thread unlocks what it leaves locked
        os.register_at_fork(after_in_child=_forget_workers)


def _store(settings: Any) -> StorageSettings | None:
    """Return the object storage of the settings; None if there is none."""
    if settings.store == ffi.NULL:
        return None
    endpoint = settings.endpoint
    return StorageSettings(
        url=ffi.string(settings.store).decode(),
        endpoint=ffi.string(endpoint).decode() if endpoint else None,
        interval=settings.store_interval / 1000,
        keep=settings.store_keep,
    )


@ffi.def_extern(onerror=_on_error)
def ngx_webtorch_py_start() -> None:
    if _coroutines and _loop:
        _loop.start()
    if _process:
        _process.start()
    if not is_check():
        natives.start()
        prepare_handlers()
    if _watches_models:
        batch_logs.prepare()


def _forget_workers() -> None:
    batches.batches = None
    rewards.report = None


@ffi.def_extern(error=1, onerror=_on_error)
def ngx_webtorch_py_exit() -> int:
    is_busy = bool(_loop and not _loop.stop())
    spans.stop()
    for runner in _generators:
        runner.close_all()
    if _process:
        _process.exit()
    natives.stop()
    return int(is_busy)


@ffi.def_extern()
def ngx_webtorch_py_thread(threads: int) -> None:
    torch.set_num_threads(threads)


@ffi.def_extern(error=0, onerror=_on_error)
def ngx_webtorch_py_refresh_models() -> int:
    return int(not refresh_all(natives.check_moved))


# --- handlers ---


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_load(index: int, name: Any, schema: Any, error: Any, size: int) -> int:
    text = ffi.string(name).decode()
    try:
        runner = load_handler(text, schema)
        _run[index] = runner.run
        batch_logs.runners[index] = runner
        if not ffi.string(schema.model):
            # calls of others may be for another version of the model
            natives.add(index, runner)
        if schema.slow and isinstance(runner, RequestRunner):
            runner.slow = schema.slow / 1000
        if isinstance(runner, RequestRunner) and runner.handler.is_coroutine:
            _coroutines[index] = runner
        elif isinstance(runner, GeneratorRunner):
            _generators.append(runner)
        elif isinstance(runner, TensorRunner) and not schema.shadow:
            # what is posted with batched does not wait as copies do
            _tensor_runners[index] = runner
    except BaseException as failure:
        return _refuse(text, failure, error, size)
    return 0


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_run(handler: int, slot: int, generation: int, rows: int, batch: Any) -> int:
    # in most servers requests choose no versions
    if model_versions.table and (number := batch.sizes[_VERSION_SET]):
        model_versions.using(number, _run[handler], slot, generation, rows, batch)
    else:
        _run[handler](slot, generation, rows, batch)
    return 0


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_run_watched(
    handler: int, slot: int, generation: int, rows: int, batch: Any
) -> int:
    number = batch.sizes[_VERSION_SET]
    model_versions.using(number, batch_logs.run, _run[handler], slot, generation, rows, batch)
    return 0


# --- policies of balancers ---


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_policy(index: int, name: Any, error: Any, size: int) -> int:
    text = ffi.string(name).decode()
    try:
        runner = _policies[index] = PolicyRunner(text)
    except BaseException as failure:
        return _refuse(text, failure, error, size)
    return round(runner.interval * 1000)


@ffi.def_extern(error=-1, onerror=_on_error)
def ngx_webtorch_py_learn(index: int, number: int) -> int:
    runner = _policies[index]
    try:
        runner.run(number)
    except PolicyError as failure:
        log.log_error(f'policy "{runner.name}" failed: {failure}')
        return -1
    except BaseException as failure:
        log.log_exception(f'policy "{runner.name}" failed:', failure)
        return -1
    return 0


def _strings(array: Any) -> list[bytes]:
    """Return the strings of an array that ends with NULL."""
    return [
        ffi.string(array[index])
        for index in itertools.takewhile(lambda index: array[index] != ffi.NULL, itertools.count())
    ]


def _refuse(name: str, failure: BaseException, error: Any, size: int) -> int:
    """Write the reason why a handler or a policy does not load to C's buffer of `size` bytes."""
    message = describe_failure(name, failure).encode()[: size - 1] + b"\0"
    ffi.memmove(error, message, len(message))
    return -1


log.install()
