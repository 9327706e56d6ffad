"""The environment of Python code: that of nginx's workers."""

import os
from collections.abc import Iterable

# of the master, before it imports the modules of webtorch_preload
_original = dict(os.environb)


def install(variables: Iterable[bytes]) -> None:
    """Make `os.environ` and the environment of C the same.

    It has nginx's variables, PATH of the master, without which compilers do not run, and what
    modules have changed that the master imports.

    Args:
        variables: The environment that nginx leaves to a worker, as `NAME=value`.

    """
    environ = os.environb
    changed = {name: value for name, value in environ.items() if _original.get(name) != value}
    removed = _original.keys() - environ.keys()

    new = {b"PATH": _original.get(b"PATH", os.fsencode(os.defpath))}
    for variable in variables:
        name, _, value = variable.partition(b"=")
        new[name] = value
    new |= changed

    for name in environ.keys() - new.keys():
        del environ[name]
    environ.update({name: value for name, value in new.items() if name not in removed})
    for name in removed:
        os.unsetenv(name)
