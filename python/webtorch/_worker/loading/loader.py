"""Loading of handlers, at the start of a worker and when code changes on disk."""

import os
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import webtorch
from webtorch._device import devices
from webtorch._handlers import lookup
from webtorch._handlers.functions import Handler, HandlerKind, TensorFunction
from webtorch._handlers.lookup import HandlerNotFoundError
from webtorch._models import compiled, model_state
from webtorch._models.model import models
from webtorch._models.model_versions import VersionError
from webtorch._native import ffi, lib
from webtorch._schema import callables
from webtorch._schema.schema import SignatureError
from webtorch._streams.generations import GenerateFunction
from webtorch._streams.resumable import ResumableFunction
from webtorch._streams.streams import StreamFunction
from webtorch._worker.exchange import hints
from webtorch._worker.exchange.schema_writer import read_captures, write_schema, write_values
from webtorch._worker.loading.warm_up import warm_up
from webtorch._worker.models.served_versions import ServedFunction, models_of, versions
from webtorch._worker.runners.device_runner import tensor_runner
from webtorch._worker.runners.generation_runner import OPEN, OpenRunner
from webtorch._worker.runners.generator_runner import GeneratorRunner
from webtorch._worker.runners.request_runner import RequestRunner
from webtorch._worker.runners.stream_life_runner import LIFE, LifeRunner
from webtorch._worker.runners.tensor_runner import TensorRunner
from webtorch._worker.telemetry.log import log_exception
from webtorch._zone.shared_state import retire_all_but
from webtorch.balancer import PolicyError

Runner = TensorRunner | RequestRunner | LifeRunner

# their messages are complete without a traceback
_EXPLAINED = (SignatureError, HandlerNotFoundError, PolicyError, VersionError)

_PACKAGE = str(Path(webtorch.__file__).parent) + os.sep
_TORCH = str(Path(torch.__file__).parent) + os.sep
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")

_runners: list[Runner] = []

_shadows: set[Runner] = set()
"""Those that compute copies of requests alone."""

_users: tuple[dict[str, Any], dict[str, set[str]]] | None = None
"""Handlers by their names, and the names of the models that each of them uses."""


def load_handler(name: str, schema: Any) -> Runner:
    """Import a handler and describe it.

    Args:
        name: `module:function`.
        schema: A webtorch_schema_t, all of it zero but what C sets before.

    Raises:
        Exception: It cannot be served; `describe_failure` says why.

    """
    default = ffi.string(schema.device).decode()
    max_batch = schema.max_batch
    offloaded = bool(schema.offloaded)
    # what describes the handler is compared with what the check found
    schema.device = b""
    schema.max_batch = 0
    schema.offloaded = 0
    if name.endswith(LIFE):
        return _load_life(name, schema)
    if name.endswith(OPEN):
        return _load_open(name, schema)

    before = set(models)
    handler: Handler | None = None
    try:
        with models.importing():
            handler = _find(name)
        if schema.stream & lib.WEBTORCH_STREAM_RESUME:
            handler = _resumable(handler)
        _require_version(name, schema, handler)
        device = _device_of(handler, default)
        write_schema(schema, handler, device)
        runner: Runner
        if isinstance(handler, TensorFunction):
            runner = tensor_runner(name, handler, device, offloaded=offloaded)
            runner.max_batch = max_batch
        else:
            kind = GeneratorRunner if handler.is_generator else RequestRunner
            runner = kind(name, handler, read_captures(schema))
    except SignatureError as error:
        models.discard(models.keys() - before)
        raise (_placed(error, handler) if handler else error) from error.__cause__
    except BaseException:
        models.discard(models.keys() - before)
        raise

    _runners.append(runner)
    if schema.shadow:
        _shadows.add(runner)
    return runner


def _device_of(handler: Handler, default: str) -> str:
    """Return the device that a function runs on, `cuda:1`; empty: the CPU.

    Args:
        handler: The function.
        default: What the configuration says; streams and functions of requests run on the CPU.

    Raises:
        SignatureError: It is not there.

    """
    if handler.kind not in (HandlerKind.INFER, HandlerKind.TRAIN) or not isinstance(
        handler, TensorFunction
    ):
        return ""
    try:
        return devices.resolve(handler.device or default, model_state.announces)
    except devices.DeviceError as error:
        raise SignatureError(str(error)) from None


def _require_version(name: str, schema: Any, handler: Handler) -> None:
    """Load the version that the directive names: of a model, or of all that the function uses.

    Raises:
        SignatureError: Calls of the handler cannot choose one.
        VersionError: There is no such version.

    """
    spec = ffi.string(schema.model).decode(errors="surrogateescape")
    if not spec:
        return
    if isinstance(handler, StreamFunction) or getattr(handler, "is_generator", False):
        raise SignatureError('"model=" is for functions that answer a request at once')
    if spec.startswith("@"):
        versions.require_of(name, handler, spec[1:])
    else:
        versions.require(spec)


def tensor_functions(*, shadows: bool = True) -> list[ServedFunction]:
    """Return the functions of tensors that directives name, each once.

    Args:
        shadows: Whether those are among them that are only shadows.

    """
    found = {
        runner.name: ServedFunction(runner.name, runner.handler)
        for runner in reversed(_runners)
        if isinstance(runner.handler, TensorFunction) and (shadows or runner not in _shadows)
    }
    return [*reversed(found.values())]


def users(model: str) -> list[str]:
    """Return the names of the handlers that use a model, each once; no shadows."""
    global _users
    handlers = {runner.name: runner.handler for runner in [*_runners] if runner not in _shadows}
    if _users is None or _users[0] != handlers:
        # it takes a while to find them
        _users = handlers, {name: models_of(each) for name, each in handlers.items()}
    return [name for name, used in _users[1].items() if model in used]


def _of_versions() -> list[ServedFunction]:
    """Return those whose requests may name a version: a stream keeps that of its `open`."""
    return [each for each in tensor_functions() if not isinstance(each.function, StreamFunction)]


versions.functions = _of_versions


def _load_life(name: str, schema: Any) -> Runner:
    """Return what begins and ends the streams of a handler, which is loaded already."""
    handler = _find(name)
    if not isinstance(handler, StreamFunction):
        raise HandlerNotFoundError(f'"{name}" is not of a stream')
    schema.kind = HandlerKind.HANDLER
    write_values(schema, ())
    life: StreamFunction | ResumableFunction = handler
    if schema.stream & lib.WEBTORCH_STREAM_RESUME:
        life = _resumable(handler)
    runner = LifeRunner(name, life, read_captures(schema))
    _runners.append(runner)
    return runner


def _load_open(name: str, schema: Any) -> Runner:
    """Return what begins the generations of a handler, which is loaded already."""
    handler = _find(name)
    write_schema(schema, handler)
    runner = OpenRunner(name, handler)  # type: ignore[arg-type]
    _runners.append(runner)
    return runner


def prepare_handlers() -> None:
    """Compile what requests will need, before any is taken."""
    compiled.in_background = True
    warm_up(_runners)


def reload_handlers(unloaded: Iterable[str] = ()) -> None:
    """Import all handlers again and replace the old ones, or none of them.

    Args:
        unloaded: Versions that have files and are not loaded.

    Raises:
        SignatureError: C would have to know of the change.
        VersionError: A version that a directive names does not fit the new code.
        Exception: Importing a module raised it.

    """
    with versions.lock:
        _reload_handlers(unloaded)


def _reload_handlers(unloaded: Iterable[str]) -> None:
    with models.rebuild():
        found = [_find_again(runner) for runner in _runners]
        versions.require_again()
        for runner, handler in zip(_runners, found, strict=True):
            if not runner.handler.serves_like(handler):
                raise SignatureError(
                    f'"{runner.name}" has another signature or other options: reload nginx'
                )
        replacements = [
            runner.prepare(handler) for runner, handler in zip(_runners, found, strict=True)
        ]
    for replace in replacements:
        replace()
    versions.load_stored(unloaded)
    versions.publish()
    current = models.shared_states()
    retire_all_but(current)
    for shared in current:
        shared.supersede()


def _find_again(runner: Runner) -> Handler:
    handler = _find(runner.name)
    is_resumable = isinstance(runner.handler, ResumableFunction)
    return _resumable(handler) if is_resumable else handler


def _resumable(handler: Handler) -> ResumableFunction:
    """Return a stream whose states are in the memory that workers share.

    Raises:
        SignatureError: It is not a stream, or has states that cannot be there.

    """
    if type(handler) is not StreamFunction:
        raise SignatureError('"resume=" is for functions under @webtorch.stream')
    return ResumableFunction(handler)


def _placed(error: SignatureError, handler: Handler) -> SignatureError:
    """Return an error with the place of the function that it is about."""
    code = callables.code_of(handler)
    if code is None:
        return error
    return SignatureError(f"{error} ({code.co_filename}, line {code.co_firstlineno})")


def _find(name: str) -> Handler:
    """Import a handler that a call or a coroutine runs."""
    handler = lookup.find(name.removesuffix(LIFE).removesuffix(OPEN))
    if name.endswith(OPEN):
        if not isinstance(handler, GenerateFunction):
            raise HandlerNotFoundError(f'"{name}" is not of a generate function')
        return handler.served_as(name.removesuffix(OPEN)).opener
    if not isinstance(handler, TensorFunction):
        return handler
    try:
        handler.check_is_called()
    except SignatureError as error:
        raise _placed(error, handler) from None
    if isinstance(handler, StreamFunction):
        return handler.served_as(name.removesuffix(LIFE))
    return handler


def describe_failure(name: str, failure: BaseException) -> str:
    """Return why a handler or a policy does not load, in one line; log an unexpected reason."""
    if not isinstance(failure, _EXPLAINED):
        log_exception(f'"{name}" does not load:', failure)
    return _one_line(failure)


def _one_line(error: BaseException) -> str:
    """Return an exception as text, with the line of the user's code, and what to do about it."""
    try:
        told, hint = str(error), hints.on_import(error)
    except Exception:  # its __str__ is the user's
        told, hint = "(it has no text)", None
    text = " ".join(f"{type(error).__name__}: {told}".split())
    frames = traceback.extract_tb(error.__traceback__)
    others = (_PACKAGE, _TORCH, "<frozen", sys.base_prefix)
    user = [frame for frame in frames if not frame.filename.startswith(others)]
    # the code that has called a package, unless handlers are in one
    user = [frame for frame in user if not _INSTALLED.search(frame.filename)] or user
    if user:
        text = f"{text} ({user[-1].filename}, line {user[-1].lineno})"
    return f"{text}; {hint}" if hint else text
