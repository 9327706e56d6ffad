"""The nginx of the package: a shared library that runs in this interpreter."""

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / "_nginx"
"""What a wheel has: the library, nginx's files of configuration, and licences."""


def library() -> Path | None:
    """Return the library; None: the package was installed without it."""
    return next(iter(DIRECTORY.glob("nginx.*.so")), None)


def run(arguments: Sequence[str]) -> None:
    """Run nginx in this process, with the last arguments of its command line; exit with its status.

    The library finds the interpreter initialised, and its symbols in the process.
    """
    path = library()
    if path is None:
        sys.exit("webtorch: this installation of the package has no nginx of its own")

    # other modules of nginx, which a configuration may load, need the symbols of this one
    nginx = ctypes.PyDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    before = len(sys.orig_argv) - len(arguments) - 1
    sys.exit(nginx.ngx_webtorch_bundle_main(sys.executable.encode(), before))
