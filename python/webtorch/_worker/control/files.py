"""Checkpoints of models, as operators name and see them."""

import logging
from typing import Any

from webtorch._core.errors import HTTPError
from webtorch._models import model_state
from webtorch._models.model import Model
from webtorch._worker.control.arguments import Body
from webtorch._zone.checkpoint import (
    Checkpoints,
    DamagedError,
    Found,
    Loaded,
    NotFiniteError,
    read,
    read_metadata,
)
from webtorch._zone.shared_state import SharedState

log = logging.getLogger("webtorch")


def get_checkpoints() -> Checkpoints:
    """Return the checkpoints of this host.

    Raises:
        HTTPError: There is no webtorch_checkpoint.

    """
    if not isinstance(model_state.source, Checkpoints):
        raise HTTPError(409, "this needs webtorch_checkpoint")
    return model_state.source


def stored_names() -> list[str]:
    """Return the keys of the models that have files."""
    return model_state.source.names() if isinstance(model_state.source, Checkpoints) else []


def list_files(model: Model) -> list[Found]:
    """Return the files of a version, the latest first."""
    source = model_state.source
    return source.files(model.key) if isinstance(source, Checkpoints) else []


def save_if_finite(shared: SharedState, always: bool = False) -> bool:
    """Write a checkpoint as `Checkpoints.save`, of weights that are worth it; log others."""
    try:
        return get_checkpoints().save(shared, always)
    except NotFiniteError as error:
        log.warning("there is no checkpoint of what is replaced or unloaded: %s", error)
        return False


def has_own(shared: SharedState) -> bool:
    """Return whether checkpoints were written."""
    return any(file.sequence for file in get_checkpoints().files(shared.name))


def read_chosen(model: Model, body: Body, shared: SharedState) -> Loaded:
    """Read the file that a roll back names, by default the one before the latest.

    Raises:
        DamagedError: It does not fit.
        HTTPError: There is none, or two members name it.
        OSError: It cannot be read.

    """
    if "file" in body and "step" in body:
        raise HTTPError(422, '"file" and "step" exclude each other', code="invalid_argument")
    files = list_files(model)
    if "file" in body:
        found = [file for file in files if file.path.name == body["file"]]
    elif "step" in body:
        found = [file for file in files if _step(file) == body["step"]]
    else:
        return _read_earlier(files, shared)
    if not found:
        raise _unknown_file(model.key)
    return _read(found[0], shared)


def _read_earlier(files: list[Found], shared: SharedState) -> Loaded:
    """Read the file before the latest one; files that were put there and refused do not count."""
    is_latest = True
    for file in files:
        if is_latest and file.sequence:
            # a checkpoint of this server has been in use: it counts, also if it is damaged now
            is_latest = False
            continue
        try:
            loaded = _read(file, shared)
        except (DamagedError, PermissionError) as error:
            if file.sequence:
                raise
            log.warning('model "%s" is not rolled back to a file: %s', shared.name, error)
            continue
        if not is_latest:
            return loaded
        is_latest = False
        del loaded
    raise _unknown_file(shared.name)


def _read(file: Found, shared: SharedState) -> Loaded:
    try:
        return read(file.path, shared)
    except FileNotFoundError:  # later checkpoints have taken its place
        raise _unknown_file(shared.name) from None
    except DamagedError as error:
        raise DamagedError(f"{file.path.name}: {error}") from error


def _unknown_file(key: str) -> HTTPError:
    return HTTPError(404, f'model "{key}" has no such checkpoint', code="unknown_file")


def _step(file: Found) -> int | None:
    try:
        # another program may have written a number
        step = str(read_metadata(file.path)[0].get("step", ""))
    except (OSError, DamagedError):
        return None
    return int(step) if step.isdecimal() else None


def describe_file(file: Found) -> dict[str, Any]:
    """Return what operators see of a file."""
    return {"file": file.path.name, "step": _step(file), "time": file.time}
