"""Prints the packages of the tests that this environment lacks in any version.

It sees those of another Python, for example Debian's, which are to stay as they are: an extra
that needs another version of one of them is left out.
"""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

# packaging itself may be one of those that lack
from pip._vendor.packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
BENCHMARKS = {"bench", "uvloop"}


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def unmet(wanted):
    version = installed(wanted.name)
    return version and not wanted.specifier.contains(version, prereleases=True)


def main():
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([^=#\s]+)(==.*)$", lock, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]

    for extra, texts in project["optional-dependencies"].items():
        if extra in BENCHMARKS:
            continue
        options = [Requirement(text) for text in texts]
        if refused := [option for option in options if unmet(option)]:
            needs = ", ".join(f"{one}, not {installed(one.name)}" for one in refused)
            print(f'left out "{extra}", which needs {needs}', file=sys.stderr)
        else:
            wanted += options

    lacking = {}
    for one in wanted:
        if one.name != "webtorch" and installed(one.name) is None:
            extras = f"[{','.join(one.extras)}]" if one.extras else ""
            lacking[f"{one.name}{extras}{pins.get(one.name, '')}"] = True
    print("\n".join(lacking))


main()
