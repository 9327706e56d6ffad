"""Checkpoints: the models in the zone as safetensors files, and back.

A model's files are in a directory of its name. Those that are written here are named by the number
of steps. Any other safetensors file there is one, too: it is taken when it is put there, and at a
start if its time of change is later than when the last one was written here.
"""

import contextlib
import functools
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from webtorch import __version__
from webtorch._state import Block
from webtorch._zone.layout import Layout
from webtorch._zone.shared_state import SharedState

log = logging.getLogger("webtorch")

CHUNK = 1 << 20
"""Bytes that are copied, summed and written at a time: the rest of a model may change meanwhile."""

MAX_HEADER = 100_000_000
"""Bytes, as safetensors itself has it."""

MAX_STEPS = 2**63

POLL = 1.0
"""Seconds between looks for files, and for whether the worker that writes them lives."""


class DamagedError(Exception):
    """A file is not a checkpoint, or not of this model."""


@dataclass(frozen=True)
class Found:
    """A file of a model."""

    path: Path
    sequence: int
    """Of those that were written here; 0: by somebody else."""
    time: float
    """Of its content, seconds since 1970."""
    put: int
    """When it was put there, by the time of change of its inode, nanoseconds."""


@dataclass(frozen=True)
class Loaded:
    """What was read from a file."""

    tensors: Mapping[str, Tensor]
    steps: int | None
    seen: int = 0


class Checkpoints:
    """The files of all models.

    Args:
        root: their directory.
        keep: how many of a model are left, of those that were written here.

    """

    def __init__(self, root: Path, keep: int) -> None:
        self._root = root
        self._keep = keep

    def directory(self, name: str) -> Path:
        """Return where the files of a model are."""
        return self._root / quote(name, safe=" ").replace(".", "%2E")

    def files(self, name: str) -> list[Found]:
        """Return the files of a model, the youngest first.

        Those that are written here are in the order of their numbers, whatever the clock did.
        """
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.directory(name).glob("*.safetensors"):
                # one that has gone, or is none, is no reason not to look at the others
                with contextlib.suppress(OSError):
                    if path.is_file():
                        found.append(_look(path))
        ours = sorted((f for f in found if f.sequence), key=lambda f: f.sequence, reverse=True)
        others = sorted((f for f in found if not f.sequence), key=lambda f: f.time, reverse=True)
        saved = ours[0].time if ours else 0.0
        return [
            *(file for file in others if file.time > saved),
            *ours,
            *(file for file in others if file.time <= saved),
        ]

    def load(self, shared: SharedState) -> Loaded | None:
        """Read the youngest file of a model that is whole and fits; tell of those that do not."""
        files = self.files(shared.name)
        seen = max((file.put for file in files), default=0)
        for file in files:
            try:
                loaded = read(file.path, shared)
            except Exception as error:
                log.error('model "%s": %s is not used: %s', shared.name, file.path, error)
            else:
                log.info('model "%s" is as in %s', shared.name, file.path)
                return replace(loaded, seen=seen)
        return None

    def save(self, shared: SharedState) -> None:
        """Write a model's file, if it has made steps since the last one, and drop old ones.

        Raises:
            OSError: if it cannot be written; what was there before is left.
            ValueError: if its weights are not finite, which nobody would want to go on with.

        """
        with shared.pinned() as block:
            if block.counters.steps == block.counters.saved:
                return

            directory = self.directory(shared.name)
            if not directory.exists():
                directory.mkdir(mode=0o700)
                _sync_directory(self._root)

            memory, steps = _stable(shared, block)
            tensors = shared.layout.views(memory)
            if not all(_is_finite(tensors[key]) for key in shared.parameters):
                raise ValueError("its weights are not finite")

            ours = [file for file in self.files(shared.name) if file.sequence]
            sequence = ours[0].sequence + 1 if ours else 1
            path = directory / f"{steps:012}.safetensors"
            write(path, shared.layout, memory, _metadata(shared, steps, sequence))
            block.counters.saved = steps

        for file in [file for file in ours if file.path != path][self._keep - 1 :]:
            file.path.unlink(missing_ok=True)


def write(path: Path, layout: Layout, memory: Tensor, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file: whole and on the disk, or not at all.

    Args:
        path: the file, replaced if it is there.
        layout: of the memory.
        memory: uint8; may be written to by others meanwhile.
        metadata: `crc32` of the data is added.

    Raises:
        OSError: if that fails.

    """
    # one for all files, so that what a worker leaves that is killed is overwritten
    draft = path.with_name(".draft.tmp")
    try:
        with draft.open("wb") as file:
            header = _framed(layout.header({**metadata, "crc32": "0" * 8}))
            file.write(header)
            crc = 0
            for begin in range(0, layout.size, CHUNK):
                chunk = bytes(memory[begin : begin + CHUNK].numpy().data)
                crc = zlib.crc32(chunk, crc)
                file.write(chunk)
            file.seek(0)
            file.write(_framed(layout.header({**metadata, "crc32": f"{crc:08x}"})))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def read(path: Path, shared: SharedState) -> Loaded:
    """Read a safetensors file of a model.

    Raises:
        DamagedError: if it is none, was changed since it was written, or is of another model.
        OSError: if it cannot be read.

    """
    metadata = _check_sum(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedError(f"it is no safetensors file: {error}") from error

    reason = shared.layout.mismatch(shared.keys, tensors)
    if reason:
        raise DamagedError(f"it is of another model: {reason}")
    for key in sorted(shared.parameters):
        if not _is_finite(tensors[key]):
            raise DamagedError(f'parameter "{key}" has elements that are not finite')

    steps = metadata.get("step", "")
    known = steps.isdecimal() and int(steps) < MAX_STEPS
    return Loaded(tensors, int(steps) if known else None)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _stable(shared: SharedState, block: Block) -> tuple[Tensor, int]:
    """Return the memory of a block and its steps: a copy between two steps, if there is an order.

    Without it there is no such moment, and writing from memory that changes does as well.
    """
    if not shared.strict:
        steps = block.counters.steps
        return block.memory, steps
    shared.zone.lock()
    try:
        return block.memory.clone(), block.counters.steps
    finally:
        shared.zone.unlock()


def _framed(header: bytes) -> bytes:
    """Put a header's length before it, and spaces behind: data begins at a multiple of 8."""
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _metadata(shared: SharedState, steps: int, sequence: int) -> dict[str, str]:
    return {
        "format": "pt",
        "webtorch": __version__,
        "torch": torch.__version__,
        "model": shared.name,
        "code": shared.code,
        "step": str(steps),
        "sequence": str(sequence),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _read_metadata(path: Path) -> tuple[dict[str, str], int]:
    """Return the metadata of a file, and where its data begins.

    Raises:
        DamagedError: if it has no header of safetensors.

    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(os.fstat(file.fileno()).st_size, MAX_HEADER):
            raise DamagedError("it is no safetensors file, or was cut off")
        try:
            header: Any = json.loads(file.read(size))
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"it is no safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise DamagedError("it is no safetensors file: its header is no object")
    metadata = header.get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}, 8 + size


def _check_sum(path: Path) -> dict[str, str]:
    """Compare a file with the sum in its metadata, if it has one; return these."""
    metadata, begin = _read_metadata(path)
    expected = metadata.get("crc32")
    if expected is not None:
        crc = 0
        with path.open("rb") as file:
            file.seek(begin)
            while chunk := file.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
        if f"{crc:08x}" != expected:
            raise DamagedError("it was damaged since it was written: its sum is another one")
    return metadata


def _look(path: Path) -> Found:
    status = path.stat()
    return _found(path, status.st_ino, status.st_size, status.st_mtime, status.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def _found(path: Path, inode: int, size: int, changed: float, put: int) -> Found:
    """Describe a file, whose header is read once for as long as the file is the same."""
    if path.stem.isdecimal():
        with contextlib.suppress(DamagedError, KeyError, ValueError, TypeError):
            metadata, _ = _read_metadata(path)
            written = datetime.fromisoformat(metadata["time"]).timestamp()
            return Found(path, int(metadata["sequence"]), written, put)
    return Found(path, 0, changed, put)


def _sync_directory(path: Path) -> None:
    """Let the names in a directory survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Election(Protocol):
    """Finds out which of all workers writes files."""

    def elect(self) -> bool:
        """Tell whether it is the calling thread."""

    def resign(self) -> None:
        """Let another one."""

    def is_leaving(self) -> bool:
        """Tell whether this worker shuts down."""


class Saver(threading.Thread):
    """Saves the models of all workers at an interval, in one worker, and takes new files.

    The others wait to take its place. Memory is written to the disk in pieces, with the GIL given
    up, so that nobody waits for it.

    Args:
        checkpoints: the files.
        election: of the worker.
        states: returns the models' states.
        interval: seconds.

    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        election: Election,
        states: Callable[[], Iterable[SharedState]],
        interval: float,
    ) -> None:
        super().__init__(name="webtorch checkpoints", daemon=True)
        self._checkpoints = checkpoints
        self._election = election
        self._states = states
        self._interval = interval
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Save once more, if this is the worker that does, and end."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Save and look for files, if it is this worker that does, until told to stop."""
        # who takes over from a dead one is late already
        pause = min(POLL, self._interval / 4)
        while True:
            # workers of a new configuration may have other models
            if not self._election.is_leaving() and self._election.elect():
                self._serve()
            if self._stopping.wait(pause):
                break
        if self._election.elect():
            self._save_all()
            self._election.resign()

    def _serve(self) -> None:
        """Be the worker that writes files, until it shuts down."""
        due = time.monotonic()
        while not self._election.is_leaving():
            self._take_new_files()
            if time.monotonic() >= due:
                # from begin to begin: what is written is as old as the begin
                due = time.monotonic() + self._interval
                self._save_all()
            if self._stopping.wait(min(POLL, max(0, due - time.monotonic()))):
                break
        self._save_all()
        self._election.resign()

    def _save_all(self) -> None:
        for shared in self._states():
            try:
                self._checkpoints.save(shared)
            except Exception as error:
                log.error('model "%s" could not be saved: %s', shared.name, error)

    def _take_new_files(self) -> None:
        """Let the workers have the weights of a file that was put into place."""
        for shared in self._states():
            try:
                self._take_new_file(shared)
            except Exception as error:
                log.error('model "%s": its files cannot be read: %s', shared.name, error)

    def _take_new_file(self, shared: SharedState) -> None:
        with shared.pinned() as block:
            known = block.counters.seen
            files = self._checkpoints.files(shared.name)
            new = [file for file in files if not file.sequence and file.put > known]
            if not new:
                return
            newest = max(new, key=lambda file: file.put)
            block.counters.seen = newest.put
        try:
            loaded = read(newest.path, shared)
            shared.replace(loaded.tensors, loaded.steps, newest.put)
        except Exception as error:
            log.error('model "%s": %s is not used: %s', shared.name, newest.path, error)
        else:
            log.warning('model "%s" has the weights of %s now', shared.name, newest.path)
