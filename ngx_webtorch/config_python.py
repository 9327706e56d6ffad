"""Print how the build embeds the interpreter that runs this file.

Prints shell assignments; where something is missing, prints what to do and
fails.  Read by config (any build) and by build.sh.  With WEBTORCH_HOSTED=1 in
the environment no library is needed: nginx will be one of the interpreter.
"""

import os
import shlex
import sys
import sysconfig
from pathlib import Path

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


def fail(problem, remedy):
    sys.exit(f"error: WebTorch cannot embed {sys.executable}: {problem}.\n       {remedy}.")


def library_directory(library):
    # LIBDIR is where Python was installed to first; one that was moved there
    # as a whole keeps its library below its prefix.
    candidates = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib"]
    for directory in candidates:
        if directory and Path(directory, library).exists():
            return directory
    looked = " and ".join(dict.fromkeys(filter(None, candidates)))
    fail(
        f"{library} is not in {looked}",
        f"Install the development files of Python {VERSION} (Debian: python{VERSION}-dev)",
    )


def include_directory():
    directory = sysconfig.get_path("include")
    if not Path(directory, "Python.h").exists():
        fail(
            f"there is no Python.h in {directory}",
            f"Install the development files of Python {VERSION} (Debian: python{VERSION}-dev)",
        )
    return directory


def main():
    if sys.version_info < (3, 11):  # noqa: UP036 - this is what enforces it
        fail(f"it is Python {VERSION}", "Choose Python 3.11 or newer")
    if os.environ.get("WEBTORCH_HOSTED") == "1":
        values = {"include": include_directory(), "exe": sys.executable}
    else:
        values = embedding()
    for key, value in values.items():
        print(f"ngx_webtorch_python_{key}={shlex.quote(value)}")


def embedding():
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        fail(
            "it was built without a shared libpython",
            "Build it with --enable-shared (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared), "
            "or choose another interpreter, such as Debian's /usr/bin/python3",
        )
    name = f"python{sysconfig.get_config_var('LDVERSION')}"
    return {
        "include": include_directory(),
        "libdir": library_directory(f"lib{name}.so"),
        "lib": name,
        "exe": sys.executable,
    }


main()
