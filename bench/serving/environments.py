"""Installs the peers, each in a folder of its own, outside the repository."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Environment:
    """What a peer needs.

    Args:
        packages: Python packages with their versions, for a virtual environment with PyTorch.
        debian: Packages of Debian, which are unpacked and not installed.

    """

    packages: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()


ENVIRONMENTS = {
    "fastapi": Environment(("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "orjson")),
    "granian": Environment(("granian==2.8.7", "orjson", "uvloop")),
    "litserve": Environment(("litserve==0.2.19",)),
    "mosec": Environment(("mosec==0.9.8", "msgspec")),
    "bentoml": Environment(("bentoml==1.4.40", "orjson")),
    "ray": Environment(("ray[serve]==2.60.0", "orjson")),
    "pytriton": Environment(("nvidia-pytriton==0.7.0",)),
    "lua": Environment(
        debian=(
            "libnginx-mod-http-lua",
            "libnginx-mod-http-ndk",
            "libluajit2-5.1-2",
            "lua-resty-core",
            "lua-resty-lrucache",
            "lua-cjson",
        )
    ),
}


def install(name: str, cache: Path, python: str) -> str:
    """Install a peer unless it is there; return why it cannot be, or nothing.

    Args:
        name: One of `ENVIRONMENTS`.
        cache: Folder of all environments.
        python: Interpreter for virtual environments.

    """
    wanted = ENVIRONMENTS[name]
    folder = cache / name
    stamp = folder / ".installed"
    key = "\n".join((python, TORCH, *wanted.packages, *wanted.debian))
    if stamp.exists() and stamp.read_text() == key:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"installing {name} in {folder}", file=sys.stderr, flush=True)
    try:
        if wanted.packages:
            _run([python, "-m", "venv", folder])
            pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "-q"]
            # before the others, so that none of these chooses another build
            _run([*pip, "install", TORCH, "numpy"])
            _run([*pip, "install", TORCH, *wanted.packages])
        if wanted.debian:
            _run(["apt-get", "download", *wanted.debian], cwd=folder)
            for package in folder.glob("*.deb"):
                _run(["dpkg", "-x", package, folder / "root"])
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        reasons = [line for line in lines if line.startswith(("ERROR", "E:", "error"))] or lines
        return reasons[-1] if reasons else f"{error.cmd[0]} has failed"
    stamp.write_text(key)
    return ""


def _run(command: "list[str | Path]", cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, capture_output=True, text=True)
