"""A real nginx with the module, configured inline, for tests."""

import contextlib
import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import requests

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "build/modules/ngx_http_webtorch_module.so"


@dataclass
class Binary:
    """The nginx under test: Debian's with the module, or one that the module is built into."""

    path: str = "/usr/sbin/nginx"
    load_module: str = f"load_module {MODULE};"


BINARY = Binary()

DEADLINE = 120.0
"""Seconds that anything waited for may take on a slow machine."""

T = TypeVar("T")

CONFIGURATION = """\
{load_module}
{main}
worker_processes {workers};
pid {prefix}/nginx.pid;
error_log {prefix}/error.log info;

events {{
    worker_connections 2048;
}}

http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    webtorch_path {prefix}/app;
{http}
    server {{
        listen 127.0.0.1:{port};
{server}
        location = /alive {{ return 200 "alive"; }}
    }}
}}
"""


def wait_for(condition: Callable[[], T | None], what: str | Callable[[], str]) -> T:
    """Poll until a condition holds, and return what it gave; fail after the deadline."""
    end = time.monotonic() + DEADLINE
    while True:
        used = time.thread_time()
        if result := condition():
            return result
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what if isinstance(what, str) else what()}")
        # a condition that takes long leaves the processor to what is waited for
        time.sleep(max(0.01, 4 * (time.thread_time() - used)))


PORTS = range(20000, 32000)
"""Below those that the kernel gives to clients, so that no connection takes one."""

_reservations: dict[int, socket.socket] = {}


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on.

    It is reserved until `release_port` or the end of the process: other processes that run tests
    get other ports, even before the server listens.
    """
    first = random.randrange(len(PORTS))
    for port in chain(PORTS[first:], PORTS[:first]):
        # a name is bound by one process at a time and freed by the kernel when that ends
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reservation.bind(f"\0webtorch-test-port-{port}")
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
        else:
            _reservations[port] = reservation
            return port
    raise AssertionError("there is no free port")


def release_port(port: int) -> None:
    """Let other processes have a port of `free_port`."""
    if reservation := _reservations.pop(port, None):
        reservation.close()


def seconds_of_threads(pid: int) -> float:
    """Add up the processor time of all threads but the event loop's."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(pid):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            total += int(fields[11])
    return total / 100


def body_of(tensor: str) -> bytes:
    """Write a Torch7 tensor given as words in one line, a `|` for each newline."""
    return tensor.replace("|", "\n").encode()


class Nginx:
    """An nginx process tree in a directory of its own.

    Args:
        server: text for the server block.
        app: the text of app.py, which `webtorch_path` leads to.
        http: text for the http block.
        main: text for the main context.
        workers: their number.

    """

    def __init__(
        self,
        server: str = "",
        app: str = "",
        *,
        http: str = "",
        main: str = "",
        workers: int = 1,
    ) -> None:
        # not below pytest's directory, which workers of another user may not enter
        self.prefix = Path(tempfile.mkdtemp(prefix="webtorch-"))
        self.prefix.chmod(0o755)
        self.port = free_port()
        self.expected_in_log: list[str] = []
        self._settings: dict[str, Any] = {
            "load_module": BINARY.load_module,
            "main": main,
            "workers": workers,
            "http": http,
            "server": server,
        }
        self._process: subprocess.Popen[str] | None = None
        (self.prefix / "app").mkdir()
        self.write_app(app)
        self.configure()

    # --- files ---

    def write_app(self, text: str, name: str = "app") -> None:
        """Write a module of the application."""
        path = self.prefix / "app" / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        # a file written twice in a second must not be taken for its cached bytecode
        shutil.rmtree(self.prefix / "app" / "__pycache__", ignore_errors=True)

    def configure(self, **settings: Any) -> None:
        """Write the configuration, with some settings changed."""
        self._settings |= settings
        self.conf = self.prefix / "nginx.conf"
        self.conf.write_text(
            CONFIGURATION.format(prefix=self.prefix, port=self.port, **self._settings)
        )

    def log(self) -> str:
        """Return the error log so far."""
        path = self.prefix / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def output(self) -> str:
        """Return what it printed since its last start, before it had read its configuration."""
        return (self.prefix / "output.log").read_text(errors="replace")

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Wait until the error log matches a pattern."""
        return wait_for(lambda: re.search(pattern, self.log()), f"{pattern!r} in the error log")

    # --- processes ---

    def command(self, *arguments: str) -> list[str]:
        return [BINARY.path, "-p", f"{self.prefix}/", "-c", str(self.conf), *arguments]

    def check(self) -> tuple[int, str]:
        """Run `nginx -t`; return its exit status and what it printed."""
        done = subprocess.run(
            self.command("-t"), capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stderr + done.stdout

    def start(self) -> None:
        """Start it and wait until its workers serve."""
        output = open(self.prefix / "output.log", "w")  # noqa: SIM115 - the process keeps it
        self._process = subprocess.Popen(
            self.command("-g", "daemon off;"), stdout=output, stderr=output, text=True
        )
        output.close()

        def is_alive() -> bool:
            assert self.process.poll() is None, f"nginx ended: {self.output()}{self.log()}"
            # without requests, which takes a tenth of the processor to find that nothing listens
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            with (
                contextlib.closing(connection),
                contextlib.suppress(OSError, http.client.HTTPException),
            ):
                connection.request("GET", "/alive")
                return connection.getresponse().status == 200
            return False

        wait_for(is_alive, "nginx to answer")
        if self._settings["main"].find("master_process off") < 0:
            count = self._settings["workers"]
            wait_for(lambda: len(self.workers()) == count, f"{count} workers")

    @property
    def process(self) -> "subprocess.Popen[str]":
        """The master process."""
        assert self._process is not None
        return self._process

    def workers(self) -> list[int]:
        """Return the pids of the workers that are not shutting down."""
        # another child is the check of a configuration, under the master's title
        return [
            pid
            for pid, name in self.children()
            if "worker process" in name and "shutting down" not in name
        ]

    def children(self) -> list[tuple[int, str]]:
        """Return the pids and titles of all children of the master."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    title = (entry / "cmdline").read_bytes().decode(errors="replace")
                    found.append((int(entry.name), title))
        return found

    def reload(self) -> None:
        """Reload and wait until new workers have replaced the old ones."""
        old = {pid for pid, _ in self.children()}
        self.process.send_signal(signal.SIGHUP)
        count = self._settings["workers"]
        wait_for(
            lambda: len(set(self.workers()) - old) == count and not set(self.workers()) & old,
            "new workers",
        )

    def refuse(self) -> str:
        """Reload with a configuration that must be refused; return what it logged meanwhile.

        The master has imported PyTorch already, so this is ten times as fast as `check`.
        """
        seen = len(self.log())
        self.process.send_signal(signal.SIGHUP)

        def refusal() -> str | None:
            log = self.log()[seen:]
            assert "start worker process" not in log, f"it is not refused: {log}"
            found = re.search(r"\[emerg\].*\n", log)
            return found and found[0]

        self.expected_in_log.append(re.escape(wait_for(refusal, "a refusal").strip()))
        return self.log()[seen:]

    def quit(self) -> int:
        """Stop gracefully; return the exit status."""
        self.process.send_signal(signal.SIGQUIT)
        return self.process.wait(DEADLINE)

    def stop(self) -> None:
        """Stop at once and remove the files."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                for pid, _ in self.children():
                    os.kill(pid, signal.SIGKILL)
                self._process.kill()
                self._process.wait()
                raise
        shutil.rmtree(self.prefix, ignore_errors=True)
        release_port(self.port)

    # --- requests ---

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request on a connection of its own, which is closed after the answer."""
        headers = {"Connection": "close", **options.pop("headers", {})}
        return requests.request(
            method, self.url(path), headers=headers, timeout=DEADLINE, **options
        )

    def get(self, path: str, **options: Any) -> requests.Response:
        """Send a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> requests.Response:
        """Send a POST, as JSON by default."""
        return self.request("POST", path, json=json, **options)

    def post_text(self, path: str, tensor: str, **options: Any) -> requests.Response:
        """Post a Torch7 tensor, written as for `body_of`."""
        headers = {"Content-Type": "text/plain"}
        return self.post(path, data=body_of(tensor), headers=headers, **options)

    @contextlib.contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """Open a TCP connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as s:
            yield s

    # --- what must hold after each test ---

    def descriptors(self) -> dict[int, list[str]]:
        """Return what is open in each worker."""
        found: dict[int, list[str]] = {}
        for pid in self.workers():
            found[pid] = []
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found[pid].append(f"{entry.name}: {entry.readlink()}")
        return found

    def count_descriptors(self) -> int:
        """Return how many descriptors the workers have in all."""
        return sum(len(entries) for entries in self.descriptors().values())

    def unexpected_in_log(self) -> list[str]:
        """Return lines of serious errors, except those that a test expects."""
        return [
            line
            for line in self.log().splitlines()
            if re.search(r"\[(alert|crit|emerg)\]|exited on signal|error in the bridge", line)
            and not any(re.search(pattern, line) for pattern in self.expected_in_log)
        ]


def start_time(pid: int) -> str | None:
    """Return when a process was started, in ticks since the boot; None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def peak_memory(server: Nginx) -> int:
    """Return the most KiB that the only worker has ever had in memory."""
    (pid,) = server.workers()
    (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(peak)


def quit_cleanly(server: Nginx) -> None:
    """Stop a server gracefully; what is left of it then is a leak."""
    if server.process.poll() is not None:
        return
    children = {pid: start_time(pid) for pid, _ in server.children()}
    assert server.quit() == 0, server.log()
    # another process or thread may have got the number meanwhile
    left = [pid for pid, start in children.items() if start and start_time(pid) == start]
    assert not left, f"processes {left} are left"
    assert not server.unexpected_in_log(), server.log()


@contextlib.contextmanager
def running(server: Nginx) -> Iterator[Nginx]:
    """Start a server; stop it gracefully afterwards, and check what it leaves."""
    try:
        server.start()
        yield server
        quit_cleanly(server)
    finally:
        server.stop()


@contextlib.contextmanager
def daemon(server: Nginx) -> Iterator[None]:
    """Start a server as a daemon, which alone can execute a new binary; stop the last master."""
    subprocess.run(server.command(), check=True)
    try:
        yield
    finally:
        master = int((server.prefix / "nginx.pid").read_text())
        os.kill(master, signal.SIGQUIT)
        wait_for(lambda: not os.path.exists(f"/proc/{master}"), "the master to end")
