"""Paths that the user of this process may not read.

The master imports it: a process that may not read the package can still use it.
"""

import os
import pwd
import sys
from collections.abc import Iterable
from pathlib import Path

_LINKS = 40


def closed(path: str, links: int = _LINKS) -> str | None:
    """Return the file or directory on the way to a path that this process may not read.

    Returns:
        The first one, the path itself among them; None if the path can be read, or does not exist.

    """
    for part in [*reversed(Path(path).parents), Path(path)]:
        try:
            link = os.readlink(part) if links and part.is_symlink() else None
        except OSError:
            link = None
        if link and (found := closed(str(part.parent / link), links - 1)):
            return found
        if not part.exists():
            return None
        needed = os.X_OK if part.is_dir() else 0
        if part == Path(path):
            needed |= os.R_OK
        if not os.access(part, needed):
            return str(part)
    return None


def complaint(paths: Iterable[str]) -> str | None:
    """Return who cannot read which of some paths, as a text; None if all can be read."""
    found: dict[str, str] = {}
    for path in paths:
        place = closed(path) if os.path.isabs(path) else None
        if place:
            found.setdefault(place, path)
    if not found:
        return None
    places = ", ".join(
        f'"{place}"' if place == path else f'"{place}", where "{path}" is'
        for place, path in found.items()
    )
    return f'user "{_user()}" cannot read {places}'


def complaint_about(error: BaseException) -> str | None:
    """Return who cannot read what, if that may be why an import has failed."""
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        return complaint([error.filename])
    if isinstance(error, ImportError):
        return complaint(_searched())
    return None


def _searched() -> list[str]:
    """Return where modules are looked for, but for the directory of code that PyTorch generates.

    Some versions make it when they are imported, which is before the user changes.
    """
    instantiator = sys.modules.get("torch.distributed.nn.jit.instantiator")
    generated = getattr(instantiator, "INSTANTIATED_TEMPLATE_DIR_PATH", None)
    return [path for path in sys.path if path != generated]


def package() -> str | None:
    """Return who cannot read the package itself, without which nothing can be loaded."""
    return complaint([str(Path(__file__).parents[1] / "bridge.py")])


def _user() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
