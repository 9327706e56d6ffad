"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def written(path: Path, draft: Path) -> Iterator[BinaryIO]:
    """Open a draft, which becomes a file, synced to the disk, unless the block raises.

    Only the owner can read and write it.

    Args:
        path: The file, which is replaced if it exists.
        draft: What is written until then, in the same directory; it is overwritten if it exists,
            and removed after an error.

    Raises:
        OSError: The file cannot be written.

    """
    try:
        # that of a worker that was killed may be open elsewhere, or have another mode
        draft.unlink(missing_ok=True)
        with open(draft, "xb", opener=_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            # of a write, for example to a full disk
            error.filename = str(draft)
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _private(path: str, flags: int) -> int:
    """Open a new file that only its owner can read and write: a daemon of nginx has no umask."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def sync_directory(path: Path) -> None:
    """Sync the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
