"""The environment of Python code, of C and of programs in workers."""

import os
import pwd
import stat
import tempfile
from collections.abc import Collection, Iterable, MutableMapping
from pathlib import Path

# of the master, before it imports the modules of webtorch_preload
_original = dict(os.environb)
_master = os.geteuid()

# directories of a user; workers cannot write to those of the user that has started nginx
_DIRECTORIES = (
    b"TORCHINDUCTOR_CACHE_DIR",
    b"TRITON_CACHE_DIR",
    b"XDG_CACHE_HOME",
    b"XDG_CONFIG_HOME",
    b"XDG_DATA_HOME",
    b"XDG_RUNTIME_DIR",
    b"XDG_STATE_HOME",
)

_PRIMITIVES = b"ONEDNN_PRIMITIVE_CACHE_CAPACITY", b"DNNL_PRIMITIVE_CACHE_CAPACITY"
"""Variables with the number of operators of oneDNN that a process keeps compiled."""

_MANY_PRIMITIVES = b"8192"
"""A network of 20 operators in batches of 1 to 256 rows has 5120, oneDNN itself keeps 1024."""


def install(variables: Iterable[bytes]) -> None:
    """Make `os.environ` and the environment of C the same.

    nginx removes variables from C's environment in its workers, Python keeps those that nginx was
    started with. Both get all of them, what nginx's directive `env` sets, and what modules have
    changed that the master imports. If workers run as another user than the master, the home
    directory and caches are those of their user.

    Args:
        variables: The environment that nginx leaves to a worker, as `NAME=value`.

    """
    environ = os.environb
    changed = {name: value for name, value in environ.items() if _original.get(name) != value}
    removed = _original.keys() - environ.keys()

    new = {b"PATH": os.fsencode(os.defpath)} | _original
    given: set[bytes] = set()
    for variable in variables:
        name, _, value = variable.partition(b"=")
        new[name] = value
        given.add(name)
    new |= changed
    if not any(name in new for name in _PRIMITIVES):
        new[_PRIMITIVES[0]] = _MANY_PRIMITIVES

    if os.geteuid() != _master:
        _adopt(new, given)
        removed |= environ.keys() - new.keys()

    environ.update({name: value for name, value in new.items() if name not in removed})
    for name in removed:
        if name in environ:
            del environ[name]
        os.unsetenv(name)


def _adopt(environ: MutableMapping[bytes, bytes], given: Collection[bytes]) -> None:
    """Make an environment that of the user of this process.

    Args:
        environ: What the user that has started nginx has.
        given: Names of the variables that nginx's directive `env` sets, which stay as they are.

    """
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid)
        name, home = user.pw_name, user.pw_dir
    except KeyError:
        name, home = str(uid), "/"
    for variable, value in ((b"HOME", home), (b"USER", name), (b"LOGNAME", name)):
        if variable not in given:
            environ[variable] = os.fsencode(value)

    for variable in _DIRECTORIES:
        if variable not in given and not _is_writable(environ.get(variable)):
            environ.pop(variable, None)

    if b"XDG_CACHE_HOME" not in environ and not _is_writable(environ[b"HOME"]):
        environ[b"XDG_CACHE_HOME"] = os.fsencode(_private_directory(f"webtorch-{name}"))
    cache = environ.get(b"XDG_CACHE_HOME", environ[b"HOME"] + b"/.cache")
    environ.setdefault(b"TORCHINDUCTOR_CACHE_DIR", cache + b"/torchinductor")


def _is_writable(directory: bytes | None) -> bool:
    """Return whether this process can write to a directory, or create it."""
    if not directory:
        return False
    path = Path(os.fsdecode(directory))
    # os.path.exists() is False for what this user cannot see, Path.exists() raises
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return os.access(path, os.W_OK | os.X_OK)


def _private_directory(name: str) -> str:
    """Return a directory for temporary files that only the user of this process can write to.

    All workers have the same one, also after a restart, unless another user has made it.
    """
    path = os.path.join(tempfile.gettempdir(), name)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        writable = stat.S_IWGRP | stat.S_IWOTH
        is_own = found.st_uid == os.geteuid() and not found.st_mode & writable
        if not (is_own and stat.S_ISDIR(found.st_mode)):
            return tempfile.mkdtemp(prefix=f"{name}-")
    return path
