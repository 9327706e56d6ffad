"""The nginx to run: the one of the package, or the system's with the module."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from webtorch.cli import _bundled
from webtorch.cli._errors import CommandError

MODULE = "ngx_http_webtorch_module.so"
SYSTEM = ("/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/nginx/sbin/nginx")
MODULES = (
    # of a source tree that the package is linked from
    Path(__file__).parents[3] / "build/modules",
    Path("/usr/lib/nginx/modules"),
    Path("/usr/share/nginx/modules"),
    Path("/etc/nginx/modules"),
)
MIME_TYPES = (_bundled.DIRECTORY / "mime.types", Path("/etc/nginx/mime.types"))


@dataclass(frozen=True)
class Nginx:
    """An nginx that can be run.

    Attributes:
        command: The words that its options follow.
        version: For example (1, 26, 2).
        module: The module to load; None: it is inside.
        mime_types: Its file of content types, if there is one.

    """

    command: tuple[str, ...]
    version: tuple[int, ...]
    module: Path | None
    mime_types: Path | None

    @property
    def is_bundled(self) -> bool:
        """Whether it runs in the interpreter of the package."""
        return self.command[0] == sys.executable


def find(path: str | None = None, module: str | None = None) -> Nginx:
    """Find an nginx.

    Args:
        path: An nginx that the user has chosen.
        module: A module for it that the user has chosen.

    Raises:
        CommandError: There is none, or no module for it.

    """
    mime_types = next((file for file in MIME_TYPES if file.is_file()), None)
    if path is None and module is None and _bundled.library():
        command = (sys.executable, "-m", "webtorch", "nginx")
        version, _ = _inspect(command)
        return Nginx(command, version, None, mime_types)

    found = path or shutil.which("nginx") or next(filter(shutil.which, SYSTEM), None)
    if found is None or shutil.which(found) is None:
        raise CommandError(
            f"there is no nginx{f' {found}' if found else ''}: install the wheel of WebTorch that "
            "has one, or nginx and the module."
        )
    version, options = _inspect((found,))
    if module is None and re.search(r"--add-module=\S*webtorch", options):
        return Nginx((found,), version, None, mime_types)
    candidates = [Path(module)] if module else [directory / MODULE for directory in MODULES]
    file = next((one.resolve() for one in candidates if one.is_file()), None)
    if file is None:
        looked = " and ".join(map(str, candidates))
        raise CommandError(f"{found} needs {MODULE}, which is not in {looked}: see --module.")
    return Nginx((found,), version, file, mime_types)


def _inspect(command: tuple[str, ...]) -> tuple[tuple[int, ...], str]:
    """Return the version of an nginx and its build options."""
    try:
        done = subprocess.run(
            [*command, "-V"], capture_output=True, text=True, check=False, timeout=60
        )
    except OSError as error:
        raise CommandError(f"{command[0]} cannot be run: {error.strerror}.") from error
    text = done.stderr + done.stdout
    version = re.search(r"nginx version: \S+/(\d+(?:\.\d+)+)", text)
    if version is None:
        raise CommandError(f"{' '.join(command)} is not an nginx:\n{text.rstrip()}")
    return tuple(map(int, version[1].split("."))), text
