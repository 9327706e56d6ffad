"""The wheel in dist/, if `./build.sh wheel` has built it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nginx import ROOT

WHEELS = sorted((ROOT / "dist").glob("webtorch-*.whl"))
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"

pytestmark = pytest.mark.skipif(not WHEELS, reason="./build.sh wheel has not been run")


def tag(wheel: Path) -> str:
    return wheel.name.split("-")[2]


@pytest.mark.parametrize("wheel", WHEELS, ids=tag)
def test_wheel_contents(wheel):
    _, _, python, abi, platform = wheel.stem.split("-")
    assert python == abi == tag(wheel)
    system = platform.removesuffix("_x86_64")
    assert f"`{system}`" in (ROOT / "docs/install.md").read_text()
    assert wheel.stat().st_size < 25_000_000
    names = zipfile.ZipFile(wheel).namelist()
    inside = [name for name in names if name.startswith("webtorch/_nginx/")]
    assert any(name.endswith(".so") for name in inside)
    for library in ("nginx", "libcrypt1", "libssl3", "libpcre2-8-0", "zlib1g", "libsimdjson14"):
        assert f"webtorch/_nginx/licenses/{library}" in inside
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.skipif(TAG not in map(tag, WHEELS), reason="of another Python")
def test_wheel_nginx(tmp_path: Path):
    (own,) = [wheel for wheel in WHEELS if tag(wheel) == TAG]
    with zipfile.ZipFile(own) as wheel:
        wheel.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "webtorch", "nginx", "-V"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for option in ("http_ssl_module", "http_v2_module", "threads", "webtorch"):
        assert option in done.stderr
