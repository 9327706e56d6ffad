"""Prints requirements.lock: what this environment has, and what the other extras would add to it.

The environment is that of the tests, which lacks what bench/ alone needs.  Packages that are
not installed keep the version that the lock has, unless pyproject.toml no longer allows it.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = "# What the tests and bench/ install. After a change: ./build.sh lock"
ROOT = Path(__file__).parents[1]


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    return subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


def pins(text):
    # without the local version, which says only where a wheel is from
    found = re.findall(r"^([^=#\s]+)==([^+\s]+)", text, re.MULTILINE)
    return {canonicalize_name(name): (name, version) for name, version in found}


def refused(project, pinned):
    extras = project["optional-dependencies"].values()
    for text in sum(extras, project["dependencies"]):
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        if name in pinned and not wanted.specifier.contains(pinned[name][1], prereleases=True):
            yield name


def lines(pinned):
    return [
        f"{name}=={version}" for name, version in sorted(pinned, key=lambda pin: pin[0].lower())
    ]


def added(extras, constraints):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(constraints))
        file.flush()
        report = pip(
            *("install", "--dry-run", "--report", "-", "--no-build-isolation"),
            *("--constraint", file.name, "--editable", f".[{','.join(extras)}]"),
        )
    for item in json.loads(report)["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if name != "webtorch":
            yield name, version.partition("+")[0]


def main():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = pins(pip("freeze", "--all", "--exclude-editable", "--exclude", "pip"))
    locked = pins((ROOT / "requirements.lock").read_text())
    for name in set(refused(project, locked)):
        del locked[name]

    missing = added(project["optional-dependencies"], lines({**locked, **installed}.values()))
    print("\n".join([HEADER, *lines([*installed.values(), *missing])]))


main()
