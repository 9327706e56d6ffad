"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def written(path: Path, draft: Path) -> Iterator[BinaryIO]:
    """Open a draft, which becomes a file, synced to the disk, unless the block raises.

    Args:
        path: The file, which is replaced if it exists.
        draft: What is written until then, in the same directory; it is overwritten if it exists,
            and removed after an error.

    Raises:
        OSError: The file cannot be written.

    """
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Sync the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
