"""The version is in one place, and those of other packages are in the lock."""

import re
import tomllib

from packaging.requirements import Requirement

import webtorch
from nginx import ROOT


def test_version_of_changes():
    first = (ROOT / "CHANGES").read_text().split("\n\n")[0]
    assert f"WebTorch {webtorch.__version__} " in first


def test_version_of_module():
    config = (ROOT / "build/nginx/objs/ngx_auto_config.h").read_text()
    assert re.findall(r'#define NGX_WEBTORCH_VERSION +"(.*)"', config) == [webtorch.__version__]


def test_lock_has_all_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lock = dict(re.findall(r"^([^=#\s]+)==(.*)$", (ROOT / "requirements.lock").read_text(), re.M))
    for text in sum(extras, project["dependencies"]):
        wanted = Requirement(text)
        if wanted.name != "webtorch":
            assert wanted.name in lock, f"{wanted.name} is not in requirements.lock"
            assert wanted.specifier.contains(lock[wanted.name], prereleases=True), text
