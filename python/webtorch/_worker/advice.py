"""Advice on exceptions of users' code whose text does not show what nginx has to do with them."""

import errno
import re

from webtorch import _process
from webtorch._worker import access

# of what another process has: a port, the lock of a file, a file that must be new
_TAKEN = {errno.EADDRINUSE, errno.EAGAIN, errno.EBUSY, errno.EEXIST, errno.ETXTBSY}

_OF_THREADS = re.compile(
    r"\b(same|another|other|different|main|wrong) thread\b|\bcreated in a thread\b|\bin thread '",
    re.IGNORECASE,
)


def on_import(error: BaseException) -> str | None:
    """Return what to do about an exception that a module raised while it was imported.

    Returns:
        A text, or None if there is nothing to add to the exception.

    """
    if complaint := access.complaint_about(error):
        return complaint
    number = error.errno if isinstance(error, OSError) else None
    if number not in _TAKEN and "locked" not in str(error):
        return None
    if _process.is_check():
        return (
            "if a worker has it: this import only checks the configuration, beside the workers "
            'that run; leave it out here by "if not webtorch.is_check():", and let the old and the '
            "new workers share it, for example a port with SO_REUSEPORT"
        )
    return (
        "if a worker has it: each worker imports the module, and workers of the old configuration "
        "exit after new ones have started; share it, for example a port with SO_REUSEPORT"
    )


def on_call(error: BaseException) -> str | None:
    """Return what to do about an exception that a handler raised.

    Returns:
        A text, or None if there is nothing to add to the exception.

    """
    if not _OF_THREADS.search(str(error)):
        return None
    return (
        "an object that is bound to its thread was used in another one: modules are imported in "
        "the event loop's thread, and mode=auto runs calls there or in the handler's thread; use "
        "threads=1, and create the object in a call of that handler"
    )
