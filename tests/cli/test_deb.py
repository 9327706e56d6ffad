"""The Debian package in dist/, if `./build.sh deb` has built it, and what it is made of."""

import re
import subprocess

import pytest

import webtorch
from nginx import ROOT

NAME = "libnginx-mod-http-webtorch"
PACKAGES = sorted((ROOT / "dist").glob(f"{NAME}_*.deb"))
DEBIAN = ROOT / "packaging/debian"


@pytest.mark.skipif(not PACKAGES, reason="./build.sh deb has not been run")
def test_deb_contents():
    (package,) = PACKAGES

    def output(*options: str) -> str:
        done = subprocess.run(["dpkg-deb", *options], capture_output=True, text=True, check=True)
        return done.stdout

    depends = output("-f", str(package), "Depends")
    assert re.search(r"\bnginx-abi-[\d.]+-\d+\b", depends)
    assert output("-f", str(package), "Version").strip() == webtorch.__version__
    files = {line.split()[-1] for line in output("-c", str(package)).splitlines()}
    for file in (
        "./usr/lib/nginx/modules/ngx_http_webtorch_module.so",
        "./usr/lib/nginx/modules/libwebtorch_formats.so",
        "./usr/share/nginx/modules-available/mod-http-webtorch.conf",
        "./usr/lib/systemd/system/nginx.service.d/50-webtorch.conf",
        f"./etc/logrotate.d/{NAME}",
        f"./usr/share/doc/{NAME}/README.Debian",
        f"./usr/share/{NAME}/webtorch-{webtorch.__version__}-py3-none-any.whl",
    ):
        assert file in files


def test_deb_example_is_what_the_documentation_says():
    """The paths and the function of the five commands."""
    page = (ROOT / "docs/install.md").read_text().partition("## The Debian package")[2]
    commands = re.search(r"```sh\n(.*?)```", page, re.S)
    assert commands
    lines = commands[1].splitlines()
    assert len(lines) == 5
    # those that packaging/try_deb.sh follows
    start = (ROOT / "docs/start.md").read_text()
    assert lines[3] in start and "/opt/webtorch/bin/webtorch new /srv/app" in start
    site = (DEBIAN / "site.conf").read_text()
    assert re.findall(r"webtorch_path +(\S+);", site) == ["/srv/app"]
    (function,) = re.findall(r"webtorch_handler +app:(\w+);", site)
    template = ROOT / "python/webtorch/cli/templates/infer/app.py"
    assert f"def {function}(" in template.read_text()
    readme = (DEBIAN / f"{NAME}.README.Debian").read_text()
    assert (
        "/opt/webtorch" in readme
        and "WEBTORCH_VENV = /opt/webtorch" in (DEBIAN / "rules").read_text()
    )
