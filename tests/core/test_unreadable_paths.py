"""Paths that the workers' user cannot read, and a Python that is not the module's."""

import os
import shutil
import sys

import pytest

from nginx import ROOT, Nginx

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can start workers as another user"
)

APP = """
import webtorch

@webtorch.handler
def f(request): return "f"
"""

LOCATION = "location = /f { webtorch_handler app:f; }"

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def refused(server: Nginx) -> str:
    status, output = server.check()
    assert status == 1, output
    assert "[emerg]" in output
    return output


def test_directory_of_modules(configured):
    server = configured(LOCATION, APP)
    (server.prefix / "app").chmod(0o700)
    assert f'user "nobody" cannot read "{server.prefix}/app"' in refused(server)


def test_directory_above_modules(configured):
    server = configured("location = /f { webtorch_handler other:f; }")
    inner = server.prefix / "closed/inner"
    inner.mkdir(parents=True)
    (inner / "other.py").write_text(APP)
    (server.prefix / "closed").chmod(0o700)
    (server.prefix / "link").symlink_to(inner)
    for path in (inner, server.prefix / "link"):
        server.configure(http=f"webtorch_path {path};")
        output = refused(server)
        assert f'user "nobody" cannot read "{server.prefix}/closed", where "' in output
        assert 'webtorch handler "other:f": ModuleNotFoundError' in output


def test_file_of_a_module(configured):
    server = configured(LOCATION, APP)
    (server.prefix / "app/app.py").chmod(0o600)
    output = refused(server)
    assert f'user "nobody" cannot read "{server.prefix}/app/app.py"' in output


def test_file_that_a_module_reads(configured):
    server = configured(LOCATION, "open('/etc/shadow')" + APP)
    assert 'user "nobody" cannot read "/etc/shadow"' in refused(server)


def test_missing_module_of_readable_paths(configured):
    assert "cannot read" not in refused(configured(LOCATION, "import no_such_module" + APP))


def environment(server: Nginx, version: str = f"{VERSION}.1") -> str:
    """Make a virtual environment with the packages of the tests; return its path."""
    venv = server.prefix / "closed/venv"
    packages = f"lib/python{VERSION}/site-packages"
    (venv / packages).parent.mkdir(parents=True)
    (venv / packages).symlink_to(ROOT / ".venv" / packages)
    (venv / "bin").mkdir()
    interpreter = os.path.realpath(sys.executable)
    (venv / "bin/python").symlink_to(interpreter)
    home = os.path.dirname(interpreter)
    (venv / "pyvenv.cfg").write_text(f"home = {home}\nversion = {version}\n")
    return str(venv)


def test_virtual_environment(configured):
    server = configured(LOCATION, "import wave" + APP)
    server.configure(http=f"webtorch_python {environment(server)};")
    (server.prefix / "closed").chmod(0o755)
    status, output = server.check()
    assert status == 0, output
    server.write_app("import no_such_module" + APP)
    (server.prefix / "closed").chmod(0o700)
    assert f'user "nobody" cannot read "{server.prefix}/closed", where "' in refused(server)


def test_package_itself(configured, monkeypatch):
    server = configured(LOCATION, APP)
    shutil.copytree(ROOT / "python", server.prefix / "packages")
    monkeypatch.setenv("PYTHONPATH", str(server.prefix / "packages"))
    status, output = server.check()
    assert status == 0, output
    (server.prefix / "packages").chmod(0o700)
    output = refused(server)
    assert f'user "nobody" cannot read "{server.prefix}/packages", where "' in output


@pytest.mark.parametrize("key", ["version", "version_info"])
def test_environment_of_another_python(configured, key):
    server = configured(LOCATION, APP)
    (server.prefix / "venv/bin").mkdir(parents=True)
    (server.prefix / "venv/bin/python").symlink_to("/usr/bin/python3")
    (server.prefix / "venv/pyvenv.cfg").write_text(f"home = /usr/bin\n{key} = 3.99.1\n")
    server.configure(http="webtorch_python venv;")
    message = f"is Python 3.99, but the module was built for Python {VERSION}: make the virtual"
    assert message in refused(server)


def test_interpreter_of_another_python(configured):
    server = configured(LOCATION, APP)
    (server.prefix / "python3.99").write_text("")
    (server.prefix / "python3.99").chmod(0o755)
    server.configure(http="webtorch_python python3.99;")
    assert f"is Python 3.99, but the module was built for Python {VERSION}:" in refused(server)
