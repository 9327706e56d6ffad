"""Changes of files, as polls find them."""

from pathlib import Path

Signature = tuple[int, int]
"""A file's modification time in nanoseconds since 1970, and its size in bytes."""


def signature(path: Path) -> Signature | None:
    """Return the signature of a file; None: it is not there, as while an editor replaces it."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
