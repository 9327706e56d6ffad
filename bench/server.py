"""An nginx with the module, for benchmarks."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
PORT = 3901

BUILT_IN = os.environ.get("WEBTORCH_NGINX")
"""An nginx with the module inside, to be measured in place of Debian's."""

NGINX = BUILT_IN or "/usr/sbin/nginx"
LOAD_MODULE = "" if BUILT_IN else f"load_module {ROOT}/build/modules/ngx_http_webtorch_module.so;"

CONFIGURATION = """
{load_module}
worker_processes {workers};
{main}
pid {prefix}/nginx.pid;
error_log {prefix}/error.log;
events {{ worker_connections {connections}; {events} }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    webtorch_path {root}/bench/apps;
    # one thread: all models here are small, and the load needs the other core
    webtorch_intraop_threads 1;
    {http}
    server {{
        listen 127.0.0.1:{port} backlog=4096 {listen};
        location = /ok {{ return 200 "ok"; }}
{locations}
    }}
}}
"""


class Server:
    """Starts nginx when entered, and knows how long that took until its first answer.

    Args:
        locations: what it serves besides /ok.
        probe: a location that answers the XOR network's output, to know when it serves.
        workers: their number.
        http: text for the http block.
        environment: variables that are added to its environment.
        connections: of a worker, at most.
        listen: more parameters of the listening socket.
        events: text for the events block. By default a worker accepts all connections that wait:
            one in each round is too few for 1000, the last of which would wait for seconds.
        main: text for the main context.
        tool: a command that nginx is run by, for example valgrind.
        port: where it listens.

    """

    def __init__(
        self,
        locations: str,
        probe: str,
        workers: int = 1,
        http: str = "",
        *,
        environment: Mapping[str, str] | None = None,
        connections: int = 4096,
        listen: str = "",
        events: str = "multi_accept on;",
        main: str = "",
        tool: Sequence[str] = (),
        port: int = PORT,
    ) -> None:
        self._tool = tool
        self.workers = workers
        self.port = port
        self._environment = {**os.environ, **(environment or {})}
        self._listen = listen
        self._events = events
        self._main = main
        self._http = http
        self._connections = connections
        self._locations = locations
        self._probe = probe
        self.start_seconds = 0.0

    def __enter__(self) -> "Server":
        self._prefix = Path(tempfile.mkdtemp(prefix="webtorch-bench-"))
        self._prefix.chmod(0o755)
        conf = self._prefix / "nginx.conf"
        conf.write_text(
            CONFIGURATION.format(
                root=ROOT,
                load_module=LOAD_MODULE,
                prefix=self._prefix,
                workers=self.workers,
                port=self.port,
                locations=self._locations,
                http=self._http,
                connections=self._connections,
                listen=self._listen,
                events=self._events,
                main=self._main,
            )
        )
        self.launch()
        return self

    def launch(self) -> None:
        """Start it, in the directory that it has had before."""
        begin = time.perf_counter()
        conf = self._prefix / "nginx.conf"
        self._process = subprocess.Popen(
            [
                *self._tool,
                NGINX,
                *("-p", f"{self._prefix}/", "-c", str(conf), "-g", "daemon off;"),
            ],
            env=self._environment,
        )
        self._wait()
        self.start_seconds = time.perf_counter() - begin

    def worker_seconds(self) -> float:
        """Return the processor time of all workers, in seconds."""
        stats = [Path(f"/proc/{child}/stat").read_text() for child in self.children()]
        times = [stat.rpartition(")")[2].split()[11:13] for stat in stats]
        ticks = sum(int(time) for each in times for time in each)
        return ticks / os.sysconf("SC_CLK_TCK")

    def _wait(self) -> None:
        while self._process.poll() is None:
            try:
                assert self.post(self._probe, b"[[0.25,0.75]]")
            except OSError:
                time.sleep(0.005)
            else:
                return
        raise RuntimeError("nginx ended")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        shutil.rmtree(self._prefix)

    def post(self, path: str, body: bytes) -> bytes:
        """Send one request; return the answer's body."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url(path), body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def prefix(self) -> Path:
        """Its directory."""
        return self._prefix

    @property
    def master(self) -> int:
        """The pid of the master process."""
        return self._process.pid

    def children(self) -> list[int]:
        """Return the pids of the master's children."""
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    stat = Path(entry.path, "stat").read_text()
                except OSError:
                    continue
                if int(stat.rpartition(")")[2].split()[1]) == self.master:
                    found.append(int(entry.name))
        return found

    def kill(self) -> None:
        """Kill all of it, as a loss of power does."""
        children = self.children()
        self._process.kill()
        self._process.wait()
        for pid in children:
            os.kill(pid, signal.SIGKILL)

    def reload(self) -> None:
        """Ask for a reload."""
        self._process.send_signal(signal.SIGHUP)

    def pss_megabytes(self) -> float:
        """Add up the proportional set size of the master and its workers."""
        kilobytes = 0
        for pid in [self.master, *self.children()]:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
        return kilobytes / 1024


BACKEND = """
worker_processes 1;
pid {prefix}/backend.pid;
error_log {prefix}/error.log;
events {{ worker_connections 4096; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    server {{ {listen} location / {{ return 200 "{body}"; }} }}
}}
"""


class Backend:
    """An nginx without the module that gives one answer to all, to be proxied to.

    Args:
        ports: that it listens on.
        body: of its answers.

    """

    def __init__(self, *ports: int, body: str = "ok") -> None:
        self._listen = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
        self._body = body

    def __enter__(self) -> "Backend":
        self._prefix = Path(tempfile.mkdtemp(prefix="webtorch-bench-"))
        self._prefix.chmod(0o755)
        conf = self._prefix / "nginx.conf"
        text = BACKEND.format(prefix=self._prefix, listen=self._listen, body=self._body)
        conf.write_text(text)
        self._process = subprocess.Popen(
            [NGINX, "-p", f"{self._prefix}/", "-c", conf, "-g", "daemon off;"]
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        shutil.rmtree(self._prefix)
