"""The environment of Python code, of C and of programs in workers."""

import os
from collections.abc import Iterable

# of the master, before it imports the modules of webtorch_preload
_original = dict(os.environb)


def install(variables: Iterable[bytes]) -> None:
    """Make `os.environ` and the environment of C the same.

    nginx removes variables from C's environment in its workers, Python keeps those that nginx was
    started with. Both get all of them, what nginx's directive `env` sets, and what modules have
    changed that the master imports.

    Args:
        variables: The environment that nginx leaves to a worker, as `NAME=value`.

    """
    environ = os.environb
    changed = {name: value for name, value in environ.items() if _original.get(name) != value}
    removed = _original.keys() - environ.keys()

    new = {b"PATH": os.fsencode(os.defpath)} | _original
    for variable in variables:
        name, _, value = variable.partition(b"=")
        new[name] = value
    new |= changed

    environ.update({name: value for name, value in new.items() if name not in removed})
    for name in removed:
        os.unsetenv(name)
