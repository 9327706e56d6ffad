"""The load clients of bench/load/, which are compiled and pinned to a core of their own."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from server import ROOT

SERVER_CORE, CLIENT_CORE = "0", "1"


@contextmanager
def compiled(*names: str) -> Iterator[Path]:
    """Compile clients; yield the directory of the programs."""
    with tempfile.TemporaryDirectory(prefix="webtorch-load-") as directory:
        for name in names:
            source = ROOT / f"bench/load/{name}.c"
            libraries = ["-lnghttp2"] if name == "duplex" else []
            target = Path(directory, name)
            subprocess.run(["cc", "-O2", "-o", target, source, *libraries], check=True)
        yield Path(directory)


def command(programs: Path, name: str, *arguments: object) -> list[str]:
    """Return the command that runs a client on its core."""
    return ["taskset", "-c", CLIENT_CORE, str(programs / name), *map(str, arguments)]


def load(programs: Path, name: str, *arguments: object) -> dict[str, Any]:
    """Run a client to its end; return what it measured."""
    done = subprocess.run(
        command(programs, name, *arguments), stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
