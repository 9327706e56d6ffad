"""Fixtures: servers for a test or for a module, with checks of logs, processes and descriptors."""

import ctypes
import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO

import pytest

from backends import Backends
from echo import EchoServer
from fields import build
from gate import Gate
from nginx import BINARY, ROOT, Nginx, quit_cleanly, running, wait_for

StartNginx = Callable[..., Nginx]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests be run with another nginx."""
    parser.addoption("--nginx", metavar="PATH", help="an nginx of ./build.sh static")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the nginx."""
    if path := config.getoption("--nginx"):
        BINARY.path = os.path.abspath(path)
        BINARY.load_module = ""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Leave bytes out of names: archives have the time in them, and all processes need the same."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the collector rest meanwhile, and off what is made: all of it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests first that run alone, then those of clusters, which wait for much of their time."""

    def place(item: pytest.Item) -> int:
        if is_serial(item):
            return 0
        return 1 if item.nodeid.startswith("tests/cluster/") else 2

    items.sort(key=place)


def is_serial(item: pytest.Item | None) -> bool:
    """Return whether a test is marked "serial"."""
    return item is not None and item.get_closest_marker("serial") is not None


_alone: list[IO[str]] = []
"""The lock of a test that runs alone, if the next one is such a test, too."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Let a test marked "serial" run when no other one does, in any process of this tree."""
    lock = _alone.pop() if _alone else lock_tests(alone=is_serial(item))
    try:
        return (yield)
    finally:
        if is_serial(item) and is_serial(nextitem):
            # all others wait already
            _alone.append(lock)
        else:
            lock.close()


def lock_tests(alone: bool) -> IO[str]:
    """Wait until no other test runs, or none that runs alone."""
    locks = ROOT / "build"
    locks.mkdir(exist_ok=True)
    running = open(locks / "tests.lock", "w")  # noqa: SIM115 - closed after the test
    with open(locks / "tests.queue", "w") as queue:
        # the test that waits for the lock holds the queue, so that no later one overtakes it
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    return running


def look_after(server: Nginx) -> Iterator[Nginx]:
    """Watch a running server over a test: its log, its workers and their descriptors."""
    seen = len(server.log().splitlines())
    before = server.descriptors()

    yield server

    if server.process.poll() is not None:
        return

    unexpected = server.unexpected_in_log()
    assert not unexpected, "\n".join(server.log().splitlines()[seen:])

    def count(descriptors: list[str]) -> int:
        # a worker may have been on its way to its event loop when they were counted before
        return sum("[event" not in each for each in descriptors)

    def is_as_before() -> bool:
        now = server.descriptors()
        return all(count(now[pid]) <= count(before[pid]) for pid in before if pid in now)

    wait_for(is_as_before, lambda: f"{before} to be all that is open, not {server.descriptors()}")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Build the C of ngx_webtorch/features, without nginx."""
    return build(tmp_path_factory.mktemp("features"))


@pytest.fixture
def start() -> Iterator[StartNginx]:
    """Start servers for one test, with the arguments of Nginx."""
    servers: list[Nginx] = []
    watches: list[Iterator[Nginx]] = []

    def start_one(*args: object, expected: tuple[str, ...] = (), **options: object) -> Nginx:
        server = Nginx(*args, **options)  # type: ignore[arg-type]
        server.expected_in_log += expected
        servers.append(server)
        server.start()
        watch = look_after(server)
        next(watch)
        watches.append(watch)
        return server

    try:
        yield start_one
        for watch in watches:
            next(watch, None)
        for server in servers:
            quit_cleanly(server)
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def configured() -> Iterator[StartNginx]:
    """Make servers that are not started, to check their configuration."""
    servers: list[Nginx] = []

    def configure_one(*args: object, **options: object) -> Nginx:
        servers.append(Nginx(*args, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield configure_one
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def idle_server() -> Iterator[Nginx]:
    """Start one server that serves nothing, for all tests of a process."""
    with running(Nginx()) as server:
        yield server


@pytest.fixture
def reconfigured(idle_server: Nginx) -> StartNginx:
    """Change the files of a running server, to check that it refuses them."""

    def reconfigure(server: str = "", app: str = "", http: str = "") -> Nginx:
        idle_server.write_app(app)
        idle_server.configure(server=server, http=http)
        return idle_server

    return reconfigure


@pytest.fixture(scope="module")
def shared_server(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    """Start one server for a module, of its SERVER, APP and HTTP."""
    module = request.module
    with running(Nginx(module.SERVER, module.APP, http=getattr(module, "HTTP", ""))) as server:
        yield server


@pytest.fixture
def server(shared_server: Nginx) -> Iterator[Nginx]:
    """The module's server, watched over a test."""
    yield from look_after(shared_server)


@pytest.fixture
def gate(server: Nginx) -> Gate:
    """Return the gate of the module's server, which has GATE_APP and GATE_SERVER."""
    return Gate(server)


@pytest.fixture
def backends(request: pytest.FixtureRequest) -> Iterator[Backends]:
    """Start three servers to be balanced, or as many as the module's BACKENDS says."""
    servers = Backends(getattr(request.module, "BACKENDS", 3))
    yield servers
    servers.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    """Make a directory that workers can write to."""
    # not below pytest's directory, which workers of another user may not enter
    path = Path(tempfile.mkdtemp(prefix="webtorch-"))
    path.chmod(0o777)
    yield path

    def is_gone() -> bool:
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    wait_for(is_gone, "the directory, which workers may still write to, to go")


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    """Start a server that answers what it is sent."""
    with EchoServer() as server:
        yield server
