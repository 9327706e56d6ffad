"""Advice on exceptions of users' code whose text does not show what nginx has to do with them."""

import asyncio
import errno
import re

from webtorch._core import process
from webtorch._worker.process import permissions

# of what another process has: a port, the lock of a file, a file that must be new
_TAKEN = {errno.EADDRINUSE, errno.EAGAIN, errno.EBUSY, errno.EEXIST, errno.ETXTBSY}

_HINTS = {
    "does not require grad": (
        "gradients are recorded in functions under @webtorch.train alone, and there neither within "
        "no_grad() nor of what detach() returns"
    ),
    "Expected more than 1 value per channel": (
        "batch normalization is trained on two rows or more, and this call had one: use "
        "nn.LayerNorm or nn.GroupNorm, or train only if there are more rows"
    ),
}
"""What to do about errors of PyTorch, by a part of their text."""

_OF_THREADS = re.compile(
    r"\b(same|another|other|different|main|wrong) thread\b|\bcreated in a thread\b|\bin thread '",
    re.IGNORECASE,
)


def on_import(error: BaseException) -> str | None:
    """Return what to do about an exception that a module raised while it was imported.

    Returns:
        A text, or None if there is nothing to add to the exception.

    """
    if complaint := permissions.complaint_about(error):
        return complaint
    if isinstance(error, SystemExit):
        return (
            "a module with handlers is imported by nginx, so it must not exit: what parses "
            'arguments or runs a program belongs below if __name__ == "__main__":'
        )
    if isinstance(error, ImportError) and "no known parent package" in str(error):
        return (
            "a relative import is one within a package: let webtorch_path name the directory "
            "above it, and the handler be package.module:function"
        )
    number = error.errno if isinstance(error, OSError) else None
    if number not in _TAKEN and "locked" not in str(error):
        return None
    if process.is_check():
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
    text = str(error)
    if hint := next((hint for part, hint in _HINTS.items() if part in text), None):
        return hint
    if isinstance(error, AttributeError) and isinstance(error.obj, asyncio.Future):
        return (
            "await it before its values are used, as a coroutine does with what batched() returns"
        )
    if type(error).__name__ == "HTTPException":  # of Starlette, FastAPI or Werkzeug
        return "webtorch.HTTPError(status, detail) is answered to the client, no other exception"
    if not _OF_THREADS.search(text):
        return None
    if "signal" in text:
        return (
            "handlers of signals are those of the main thread, and calls run in others: set them "
            "while the module is imported"
        )
    if "event loop" in text:
        return 'use asyncio.run(), or "async def" for the handler, which runs in a loop of asyncio'
    return (
        "an object that is bound to its thread was used in another one: modules are imported in "
        "the event loop's thread, and mode=auto runs calls there or in the handler's thread; use "
        "threads=1, and create the object in a call of that handler"
    )
