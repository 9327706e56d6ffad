"""The thread that saves models, with checkpoints and elections of the test."""

import errno
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from webtorch._worker.threads import saver
from webtorch._zone.files import written


class Disk:
    """Checkpoints whose disk is full until it is not."""

    is_full = True

    def save(self, shared) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def files(self, name) -> list[Path]:
        return []

    def others(self, name) -> list[Path]:
        return []


class Election:
    """The worker is elected, and leaves after some polls."""

    def __init__(self, leave) -> None:
        self.polls = 0
        self.leave = leave

    def elect(self) -> bool:
        return True

    def is_leaving(self) -> bool:
        self.polls += 1
        if self.polls > 3:
            self.leave()
        return self.polls > 3

    def resign(self) -> None:
        pass


@pytest.mark.parametrize("is_freed", [True, False])
def test_last_save_resets_what_it_saves(is_freed, monkeypatch, caplog):
    disk, failing = Disk(), set()

    class Counts(saver.Counts):
        def __init__(self, name) -> None:
            self.name = name

        def fail(self, cell, is_failing) -> None:
            (failing.add if is_failing else failing.discard)(self.name)

    def leave() -> None:
        disk.is_full = not is_freed

    monkeypatch.setattr(saver, "Counts", Counts)
    thread = saver.Saver(disk, Election(leave), lambda: [SimpleNamespace(name="m")], 10)
    thread._stopping.wait = lambda seconds: bool(failing.add("m"))
    thread._serve()
    assert failing == set()
    lines = [each.getMessage() for each in caplog.records]
    assert sum("could not be saved" in line for line in lines) == (1 if is_freed else 2)
    assert any("is saved again" in line for line in lines) == is_freed


def test_error_of_a_full_disk_names_the_file(tmp_path):
    path, draft = tmp_path / "weights", tmp_path / "weights.tmp"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # the signal of the limit is ignored by Python
        with (
            pytest.raises(OSError, match=r"weights\.tmp") as failure,
            written(path, draft) as file,
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
            file.write(bytes(65536))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.value.errno == errno.EFBIG
    assert not draft.exists() and not path.exists()


def test_draft_that_was_left_is_replaced(tmp_path):
    path, draft = tmp_path / "weights", tmp_path / "weights.tmp"
    draft.write_bytes(b"left")
    draft.chmod(0o666)
    with open(draft, "rb") as reader:
        with written(path, draft) as file:
            file.write(b"new")
        assert reader.read() == b"left"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
