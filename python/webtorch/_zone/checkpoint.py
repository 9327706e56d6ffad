"""Checkpoints: the models in the zone as safetensors files.

The files of a model are in a directory of its name. Those that are written here are named by the
number of steps. Any other safetensors file in the directory is a checkpoint, too: it is loaded when
it is put there, and at a start if its modification time is later than that of the last checkpoint
written here.
"""

import contextlib
import functools
import json
import logging
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from webtorch import __version__
from webtorch._metrics.counts import Counts
from webtorch._zone.blocks import Blocks
from webtorch._zone.files import sync_directory, written
from webtorch._zone.interfaces import Contents, all_steps
from webtorch._zone.layout import Layout
from webtorch._zone.orders import locked
from webtorch._zone.shared_state import SharedState

log = logging.getLogger("webtorch")

CHUNK = 1 << 20
"""Bytes copied, summed and written at a time: the rest of a model may change meanwhile."""

MAX_HEADER = 100_000_000
"""Bytes of a header, the limit of the safetensors library."""

MAX_STEPS = 2**63

OTHERS = (".pt", ".pth")
"""Endings of files that PyTorch writes, which are not read here."""


class DamagedError(Exception):
    """A file is not a checkpoint of this model, or it is damaged."""


class NotFiniteError(ValueError):
    """The weights of a model are not finite: training could not continue from them."""


@dataclass(frozen=True)
class Found:
    """A file of a model."""

    path: Path
    sequence: int
    """Number among the files written here, from 1; 0: the file was written by another program."""
    time: float
    """When its content was written, seconds since 1970."""
    put: int
    """When it was put there: the change time of its inode, nanoseconds since 1970."""


@dataclass(frozen=True)
class Loaded:
    """The tensors of a file; see `webtorch._zone.interfaces.Loaded`."""

    tensors: Mapping[str, Tensor]
    steps: int | None
    seen: int = 0


def folder(name: str) -> str:
    """Return the name of the folder of a model's files."""
    # a version has no characters but those of file names
    model, at, version = name.partition("@")
    return f"{quote(model, safe=' ').replace('.', '%2E')}{at}{version}"


class Checkpoints:
    """The files of all models.

    Args:
        root: The directory of their directories, which exists.
        keep: Number of files of a model that are kept, of those written here; at least 1.

    """

    def __init__(self, root: Path, keep: int) -> None:
        self._root = root
        self._keep = keep
        self._refused: dict[str, str] = {}

    def directory(self, name: str) -> Path:
        """Return the directory of a model's files."""
        return self._root / folder(name)

    def names(self) -> list[str]:
        """Return the names of models and versions that have files."""
        found = []
        with contextlib.suppress(OSError):
            for path in sorted(self._root.iterdir()):
                if any(path.glob("*.safetensors")):
                    found.append(unquote(path.name))
        return found

    def files(self, name: str) -> list[Found]:
        """Return the files of a model, the youngest first.

        Files written here are in the order of their numbers, even if the clock was set back.
        """
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.directory(name).glob("*.safetensors"):
                # a file that is gone or unreadable does not keep the others from being found
                with contextlib.suppress(OSError):
                    if path.is_file():
                        found.append(_inspect(path))
        ours = sorted((f for f in found if f.sequence), key=lambda f: f.sequence, reverse=True)
        others = sorted((f for f in found if not f.sequence), key=lambda f: f.time, reverse=True)
        saved = ours[0].time if ours else 0.0
        return [
            *(file for file in others if file.time > saved),
            *ours,
            *(file for file in others if file.time <= saved),
        ]

    def others(self, name: str) -> list[Path]:
        """Return files of a model's directory with weights that are not in safetensors files."""
        with contextlib.suppress(OSError):
            return [path for path in self.directory(name).iterdir() if path.suffix in OTHERS]
        return []

    def load(self, model: Contents) -> Loaded | None:
        """Read the youngest file of a model that is whole and fits; log those that do not."""
        files = self.files(model.name)
        seen = max((file.put for file in files), default=0)
        self._refused.pop(model.name, None)
        for file in files:
            try:
                loaded = read(file.path, model)
            except Exception as error:
                self._refused.setdefault(model.name, f"{file.path} is not used: {error}")
                log.error('model "%s": %s is not used: %s', model.name, file.path, error)
            else:
                log.info('model "%s" is as in %s', model.name, file.path)
                return replace(loaded, seen=seen)
        return None

    def describe_missing(self, name: str) -> str:
        """Say why `load` has found none: the reason of the youngest file."""
        missing = f"there are no safetensors files in {self.directory(name)}"
        return self._refused.get(name, missing)

    def save(self, shared: SharedState, always: bool = False) -> bool:
        """Write a checkpoint if the model has made steps since the last one; delete old ones.

        Args:
            shared: The state of the model.
            always: Whether to write one in any case, which takes the place of no other one.

        Returns:
            Whether one was written.

        Raises:
            OSError: The file cannot be written; earlier files are kept.
            NotFiniteError: The weights are not finite.

        """
        with shared.pinned() as blocks:
            counters = blocks.counters
            if all_steps(counters) == counters.saved and not always:
                return False
            with locked(self._root):
                self._save(shared, blocks, always)
        return True

    def _save(self, shared: SharedState, blocks: Blocks, always: bool) -> None:
        directory = self.directory(shared.name)
        if not directory.exists():
            directory.mkdir(mode=0o700)
            sync_directory(self._root)

        tensors, steps = stable(shared, blocks)
        refuse_not_finite(shared, tensors)

        ours = [file for file in self.files(shared.name) if file.sequence]
        sequence = ours[0].sequence + 1 if ours else 1
        path = directory / f"{steps:012}.safetensors"
        if always and path.exists():
            # for example after a roll back: the same steps, other weights
            path = directory / f"{steps:012}{sequence:06}.safetensors"
        write(path, shared.layout, tensors, metadata_of(shared, steps, sequence))
        blocks.counters.saved = steps
        Counts(shared.name).save()

        for file in [file for file in ours if file.path != path][self._keep - 1 :]:
            file.path.unlink(missing_ok=True)


def write(
    path: Path, layout: Layout, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, whole and synced to the disk, or not at all.

    Args:
        path: The file, which is replaced if it exists.
        layout: Layout of the file.
        tensors: Its tensors by name, contiguous; others may write to them meanwhile.
        metadata: Metadata of the file, to which `crc32` of the data is added.

    Raises:
        OSError: The file cannot be written.

    """
    # one name for all files, so that the draft of a worker that was killed is overwritten
    with written(path, path.with_name(".draft.tmp")) as file:
        write_to(file, layout, tensors, metadata)


def write_to(
    file: IO[bytes], layout: Layout, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file to an empty one; see `write`."""
    file.write(_framed(layout.header({**metadata, "crc32": "0" * 8})))
    crc = 0
    for chunk in _chunks(tensors[key] for key in layout.entries):
        crc = zlib.crc32(chunk, crc)
        file.write(chunk)
    file.seek(0)
    file.write(_framed(layout.header({**metadata, "crc32": f"{crc:08x}"})))


def read(path: Path, model: Contents) -> Loaded:
    """Read a safetensors file of a model.

    Raises:
        DamagedError: It is not a safetensors file, has changed since it was written, or does not
            fit the model.
        OSError: It cannot be read.

    """
    metadata = check_sum(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedError(f"it is not a safetensors file: {error}") from error

    reason = model.layout.mismatch(model.keys, tensors)
    if reason:
        raise DamagedError(f"it is of another model: {reason}")
    for key in sorted(model.parameters):
        if not _is_finite(tensors[key]):
            raise DamagedError(f'parameter "{key}" has elements that are not finite')

    # another program may have written a number
    steps = str(metadata.get("step", ""))
    known = steps.isdecimal() and int(steps) < MAX_STEPS
    return Loaded(tensors, int(steps) if known else None)


def refuse_not_finite(model: Contents, tensors: Mapping[str, Tensor]) -> None:
    """Raise an error if parameters of a model are not finite.

    Raises:
        NotFiniteError: They are not.

    """
    if not all(_is_finite(tensors[key]) for key in model.parameters):
        raise NotFiniteError(f'the weights of "{model.name}" are not finite')


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _chunks(tensors: Iterable[Tensor]) -> Iterable[bytes]:
    for tensor in tensors:
        memory = tensor.reshape(-1).view(torch.uint8)
        for begin in range(0, memory.numel(), CHUNK):
            yield bytes(memory[begin : begin + CHUNK].numpy().data)


def stable(shared: SharedState, blocks: Blocks) -> tuple[Mapping[str, Tensor], int]:
    """Return the tensors of a model and its steps; in strict order copies between two steps.

    Without an order there is no moment between steps, so they are returned as they change.
    """
    if not shared.strict and not blocks.tensors.is_strict():
        steps = all_steps(blocks.counters)
        return shared.views(blocks), steps
    with shared.locked(blocks):
        private = blocks.private()
    return shared.views(private), all_steps(private.counters)


def _framed(header: bytes) -> bytes:
    """Prefix a header with its length and pad it with spaces: data begins at a multiple of 8."""
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def metadata_of(shared: SharedState, steps: int, sequence: int) -> dict[str, str]:
    """Return the metadata of a file."""
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


def read_metadata(path: Path) -> tuple[dict[str, str], int]:
    """Return the metadata of a file and the offset of its data.

    Raises:
        DamagedError: It has no header of a safetensors file.

    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(os.fstat(file.fileno()).st_size, MAX_HEADER):
            raise DamagedError("it is not a safetensors file, or was cut off")
        try:
            header: Any = json.loads(file.read(size))
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"it is not a safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise DamagedError("it is not a safetensors file: its header is not an object")
    metadata = header.get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}, 8 + size


def check_sum(path: Path) -> dict[str, str]:
    """Compare a file with the checksum in its metadata, if there is one; return the metadata."""
    metadata, begin = read_metadata(path)
    expected = metadata.get("crc32")
    if expected is not None:
        crc = 0
        with path.open("rb") as file:
            file.seek(begin)
            while chunk := file.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
        if f"{crc:08x}" != expected:
            raise DamagedError("it was damaged since it was written: its checksum differs")
    return metadata


def _inspect(path: Path) -> Found:
    status = path.stat()
    return _found(path, status.st_ino, status.st_size, status.st_mtime, status.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def _found(path: Path, inode: int, size: int, changed: float, put: int) -> Found:
    """Describe a file; its header is read once as long as the file is the same."""
    if path.stem.isdecimal():
        with contextlib.suppress(DamagedError, KeyError, ValueError, TypeError):
            metadata, _ = read_metadata(path)
            written = datetime.fromisoformat(metadata["time"]).timestamp()
            return Found(path, int(metadata["sequence"]), written, put)
    return Found(path, 0, changed, put)
