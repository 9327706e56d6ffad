"""Checkpoints in object storage, which all hosts of a cluster share.

A file has the name *epoch*`-`*generation*: that of an anchor, which is the same at all hosts. So
any host may write it, and one does. The epoch grows with weights that do not follow from those of
the file before: they were put into place, or all hosts have begun again.
"""

import hashlib
import json
import logging
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from torch import Tensor

from webtorch._cluster.lineage import Anchor
from webtorch._zone import checkpoint
from webtorch._zone.blocks import Blocks
from webtorch._zone.bucket import Bucket, BucketError, MissingError
from webtorch._zone.checkpoint import MAX_HEADER, Checkpoints, Loaded
from webtorch._zone.interfaces import Contents, all_steps
from webtorch._zone.shared_state import SharedState

_Result = TypeVar("_Result")

log = logging.getLogger("webtorch")

AWAY = 30.0
"""Seconds for which models that are loaded do not ask a store that was away."""

_NAME = re.compile(r"(\d{6})-(\d{12})\.safetensors")

_SHARE = 0.9
"""A host leaves it to another one that has written within this share of the interval."""

_HEAD = 1 << 16
"""Bytes that are read at once of a file whose metadata are looked for."""


@dataclass(frozen=True, order=True)
class Stored:
    """A file of a model, in the order of their age."""

    epoch: int
    generation: int
    time: datetime

    @property
    def name(self) -> str:
        """Its name."""
        return _name(self.epoch, self.generation)


@dataclass(frozen=True)
class _Version:
    """The weights that a file would have."""

    key: str
    """Differs if the weights do."""
    epoch: int
    """Of the anchor, which is 0 again when all hosts have begun again."""
    generation: int
    hosts: frozenset[str]
    """Memories of hosts that have contributed: two versions with one in common are of a life."""
    steps: int

    def write(self) -> dict[str, str]:
        """Return what the metadata of a file have of it."""
        return {
            "key": self.key,
            "anchor": str(self.epoch),
            "hosts": json.dumps(sorted(self.hosts)),
        }


@dataclass(frozen=True)
class _Known:
    """What is known of a file that another host may have written."""

    key: str
    epoch: int
    hosts: frozenset[str]
    steps: int

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> "_Known":
        """Read what `_Version.write` has returned; of another program's file nothing is known."""
        try:
            hosts = json.loads(metadata["hosts"])
            key, epoch, steps = metadata["key"], metadata["anchor"], metadata["step"]
            return cls(str(key), int(epoch), frozenset(map(str, hosts)), int(steps))
        except (KeyError, ValueError, TypeError):
            return cls("", 0, frozenset(), 0)


class StoredCheckpoints:
    """The files of all models in a bucket; see `webtorch._zone.interfaces.Source`.

    Args:
        bucket: The bucket.
        keep: Number of files of a model that are kept; at least 1.
        interval: Seconds between two of them.
        host: Id of this host in its cluster; empty: it is in none.

    """

    def __init__(self, bucket: Bucket, keep: int, interval: float, host: str = "") -> None:
        self._bucket = bucket
        self._keep = keep
        self._interval = interval
        self._host = host
        self._memory = secrets.token_hex(8)
        self._done: dict[str, str] = {}
        self._heads: dict[str, tuple[str, _Known]] = {}
        self._away_until = 0.0

    def describe_missing(self, name: str) -> str:
        """Say why `load` has found none."""
        return f"there are no files in {self._bucket.url}/{checkpoint.folder(name)}"

    def newest(self, model: Contents) -> datetime | None:
        """Return when the youngest file of a model was written; None: none, or the store is away.

        It is logged that the store is away, and not asked for the next models.
        """
        if time.monotonic() < self._away_until:
            return None
        try:
            files = self._files(self._folder_of(model))
        except OSError as error:
            self._note_away()
            log.error("%s is away, models begin without it: %s", self._bucket.url, error)
            return None
        return files[-1].time if files else None

    def load(self, model: Contents) -> Loaded | None:
        """Read the youngest file of a model that is whole and fits; log those that do not."""
        try:
            return _again(lambda: self._load(model))
        except OSError as error:
            if isinstance(error, BucketError):
                self._note_away()
            log.error('model "%s" begins without %s: %s', model.name, self._bucket.url, error)
        return None

    def _load(self, model: Contents) -> Loaded | None:
        folder = self._folder_of(model)
        for file in reversed(self._files(folder)):
            path = f"{folder}/{file.name}"
            with tempfile.NamedTemporaryFile(suffix=".safetensors") as copy:
                self._bucket.copy(path, copy)
                copy.flush()
                try:
                    loaded = checkpoint.read(Path(copy.name), model)
                except checkpoint.DamagedError as error:
                    log.error('model "%s": %s is not used: %s', model.name, path, error)
                    continue
            log.info('model "%s" is as in %s/%s', model.name, self._bucket.url, path)
            return loaded
        return None

    def _note_away(self) -> None:
        self._away_until = time.monotonic() + AWAY

    def save(self, shared: SharedState, last: bool = False) -> bool:
        """Write the weights if they have changed and no other host has just done so.

        Args:
            shared: The state of the model.
            last: Whether they are written even if another host has written others just now.

        Returns:
            Whether a file was written.

        Raises:
            BucketError: The store is away.
            OSError: There is no room for the file on its way.
            NotFiniteError: The weights are not finite.

        """
        return _again(lambda: self._save(shared, last))

    def _save(self, shared: SharedState, last: bool) -> bool:
        with shared.pinned() as blocks:
            version = _version(shared, blocks, self._memory)
            is_on_trial = _is_on_trial(shared, blocks)
        if version is None or is_on_trial or self._done.get(shared.name) == version.key:
            return False
        folder = self._folder_of(shared)
        listing = self._bucket.list(folder)
        files = _sorted(listing.objects)
        now = None if last else listing.now
        if self._place(folder, files, version, now) is None:
            return False
        with tempfile.TemporaryFile() as draft:
            # the next rounds do not wait until it is sent
            with shared.pinned() as blocks:
                version, tensors = _contents(shared, blocks, self._memory)
                checkpoint.refuse_not_finite(shared, tensors)
                file = self._place(folder, files, version, now)
                if file is None:
                    return False
                _write(draft, shared, tensors, version, file)
            is_new = self._bucket.put_new(f"{folder}/{file.name}", draft)
        if not is_new:
            # another one has written it, or is about to: the next look says whether it is the same
            return False
        self._done[shared.name] = version.key
        self._warn_of_fewer_steps(folder, files, file, version)
        for old in self._surplus(folder, files, file):
            self._bucket.delete(f"{folder}/{old.name}")
        return True

    def _surplus(self, folder: str, files: list[Stored], new: Stored) -> list[Stored]:
        """Return which of the files before a new one are not kept.

        The youngest file of each of some epochs before is kept, and of all of them that with the
        most steps: weights of a host that has begun without the store do not replace all others.
        """
        same = [each for each in files if each.epoch == new.epoch]
        ends = [*{each.epoch: each for each in files if each.epoch != new.epoch}.values()]
        kept = {*ends, *same[max(0, len(same) + 1 - self._keep) :]}
        if not same and len(ends) > self._keep:
            # it is asked for when an epoch begins alone
            most = max(ends, key=lambda each: self._steps(folder, each))
            kept = {most, *ends[len(ends) + 1 - self._keep :]}
        return [each for each in files if each not in kept]

    def _warn_of_fewer_steps(
        self, folder: str, files: list[Stored], new: Stored, version: _Version
    ) -> None:
        """Warn if weights are not those of the file before, and have been trained less."""
        if not files or files[-1].epoch == new.epoch:
            return
        steps = self._known(folder, files[-1]).steps
        if version.steps < steps:
            log.warning(
                "%s/%s has %d steps, and %s, which is kept, has %d: it has begun without that",
                folder,
                new.name,
                version.steps,
                files[-1].name,
                steps,
            )

    def _place(
        self, folder: str, files: list[Stored], version: _Version, now: datetime | None
    ) -> Stored | None:
        """Return the file for a version; None if it is not needed."""
        time = now or datetime.min
        if not files:
            return Stored(version.epoch, version.generation, time)
        youngest = files[-1]
        known = self._known(folder, youngest)
        if known.key == version.key:
            return None
        if not known.hosts & version.hosts:
            # all hosts have begun again, perhaps from this file
            return Stored(youngest.epoch + 1, version.generation, time)
        epoch = youngest.epoch + version.epoch - known.epoch
        if (epoch, version.generation) <= (youngest.epoch, youngest.generation):
            return None
        age = (now - youngest.time).total_seconds() if now else self._interval
        if epoch == youngest.epoch and age < _SHARE * self._interval:
            return None
        return Stored(epoch, version.generation, time)

    def _known(self, folder: str, file: Stored) -> _Known:
        name, known = self._heads.get(folder, ("", None))
        if known is None or name != file.name:
            known = _Known.read(self._metadata(f"{folder}/{file.name}"))
            self._heads[folder] = file.name, known
        return known

    def _steps(self, folder: str, file: Stored) -> int:
        return _Known.read(self._metadata(f"{folder}/{file.name}")).steps

    def _metadata(self, path: str) -> Mapping[str, Any]:
        head = self._bucket.read(path, 0, _HEAD)
        size = 8 + min(int.from_bytes(head[:8], "little"), MAX_HEADER)
        if size > len(head):
            head += self._bucket.read(path, len(head), size)
        try:
            found = json.loads(head[8:size])["__metadata__"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _files(self, folder: str) -> list[Stored]:
        return _sorted(self._bucket.list(folder, brief=True).objects)

    def _folder_of(self, model: Contents) -> str:
        folder = checkpoint.folder(model.name)
        if not self._host or (isinstance(model, SharedState) and model.takes_part):
            return folder
        # other hosts have one of the same name
        return f".hosts/{self._host}/{folder}"


@dataclass(frozen=True)
class Youngest:
    """The younger one of two sources; see `webtorch._zone.interfaces.Source`."""

    stored: StoredCheckpoints
    files: Checkpoints | None

    def load(self, model: Contents) -> Loaded | None:
        """Read the youngest file that is whole and fits, of the store or the directory."""
        stored = self.stored.newest(model)
        if self.files is None:
            return self.stored.load(model) if stored else None
        files = self.files.files(model.name)
        if stored is None or (files and files[0].time > stored.timestamp()):
            return self.files.load(model)
        loaded = self.stored.load(model)
        if loaded is None:
            return self.files.load(model)
        # what is in the directory is not put there now
        return replace(loaded, seen=max((file.put for file in files), default=0))

    def describe_missing(self, name: str) -> str:
        """Say why `load` has found none."""
        found = self.stored.describe_missing(name)
        return f"{found}, and {self.files.describe_missing(name)}" if self.files else found


def _again(function: Callable[[], _Result]) -> _Result:
    """Call a function, and once more if a file that it was to read is gone.

    Another host has then written younger ones, and deleted it.
    """
    try:
        return function()
    except MissingError:
        return function()


def _version(shared: SharedState, blocks: Blocks, memory: str) -> _Version | None:
    """Return what there is to write: the anchor or, without a cluster, the weights of this host.

    None if no round has been made.
    """
    store = shared.rounds_store(blocks)
    if store is not None:
        return _version_of(store.state.anchor)
    steps, replaced = all_steps(blocks.counters), blocks.counters.replaced
    # other code may have made as many steps
    layout = hashlib.sha256(shared.layout.key).hexdigest()[:16]
    key = f"{shared.name}/{steps}/{replaced}/{layout}"
    return _Version(key, replaced, steps, frozenset({memory}), steps) if steps else None


def _is_on_trial(shared: SharedState, blocks: Blocks) -> bool:
    """Return whether other hosts are not to have the weights of this one yet.

    A host that begins with the store would have them.
    """
    store = shared.rounds_store(blocks)
    if store is None:
        return False
    state = store.state
    rollout = state.rollout
    if rollout is None or rollout.size == 1:
        return False
    is_tried = rollout.is_open and state.anchor.of == rollout.of
    return is_tried or state.anchor.of in rollout.void


def _version_of(anchor: Anchor) -> _Version | None:
    if not anchor.shares and not anchor.epoch:
        return None
    hosts = frozenset(anchor.shares) or frozenset({anchor.origin.rpartition("/")[0]})
    return _Version(anchor.key, anchor.epoch, anchor.number, hosts, anchor.steps)


def _contents(
    shared: SharedState, blocks: Blocks, memory: str
) -> tuple[_Version, Mapping[str, Tensor]]:
    """Return what is written now; there was a version before."""
    tensors, _ = checkpoint.stable(shared, blocks)
    store = shared.rounds_store(blocks)
    while True:
        version = _version(shared, blocks, memory)
        assert version is not None
        if store is None:
            return version, tensors
        slot = store.state.slot
        own = {key: tensor.clone() for key, tensor in store.tensors(slot).items()}
        if store.state.anchor.key == version.key:
            # the region of an anchor is not written to while it is one
            return version, {**tensors, **own}


def _write(
    draft: IO[bytes],
    shared: SharedState,
    tensors: Mapping[str, Tensor],
    version: _Version,
    file: Stored,
) -> None:
    metadata = checkpoint.metadata_of(shared, version.steps, 0)
    metadata |= {"epoch": str(file.epoch), "generation": str(file.generation)}
    checkpoint.write_to(draft, shared.layout, tensors, metadata | version.write())


def _name(epoch: int, generation: int) -> str:
    return f"{epoch:06}-{generation:012}.safetensors"


def _sorted(objects: Any) -> list[Stored]:
    """Return the files among objects, the youngest last."""
    found = []
    for each in objects:
        match = _NAME.fullmatch(each.name)
        if match:
            found.append(Stored(int(match[1]), int(match[2]), each.time))
    return sorted(found)
