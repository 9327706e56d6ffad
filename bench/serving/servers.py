"""How each server is started, and what a request to it looks like."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
APPS = HERE / "apps"
PORT = 3941
NGINX = "/usr/sbin/nginx"
JSON, RAW = "application/json", "application/octet-stream"

CONFIGURATION = """
{modules}
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log;
{main}
events {{ worker_connections 4096; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_buffer_size 1m;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
{locations}
    }}
}}
"""

WEBTORCH = """
        location = /xor { webtorch_handler webtorch_app:xor; }
        location = /mlp { webtorch_handler webtorch_app:mlp; }
        # a step for each request, as all others make
        location = /train { webtorch_handler webtorch_app:train max_batch=1; }
        location = /beginning { webtorch_handler webtorch_app:beginning; }
"""
LUA = "".join(
    f"        location = /{name} {{ content_by_lua_block {{ nets.{name}() }} }}\n"
    for name in ("xor", "mlp", "mlp_binary", "train", "beginning")
)


@dataclass(frozen=True)
class Request:
    """A body, and where and how it is sent."""

    path: str
    body: bytes
    headers: dict[str, str]


class Peer:
    """A server that is measured; it starts when it is entered.

    Args:
        cache: Folder of the environments.

    """

    name = ""
    """What the table says."""
    environment = ""
    """Its key in `ENVIRONMENTS`; empty: none is needed."""
    lacks: dict[str, str] = {}  # noqa: RUF012
    """Why it has no such row."""

    def __init__(self, cache: Path) -> None:
        self.home = cache / self.environment
        self.start_seconds = 0.0

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def variables(self) -> dict[str, str]:
        """Return more variables of its environment."""
        return {}

    def request(self, kind: str, x: np.ndarray) -> Request:
        """Return the request of a row: xor, mlp, mlp_binary, train or beginning."""
        if kind in ("mlp_binary", "beginning"):
            return Request(f"/{kind}", x.tobytes(), {"Content-Type": RAW})
        return Request(f"/{kind}", json.dumps(x.tolist()).encode(), {"Content-Type": JSON})

    def numbers(self, kind: str, answer: bytes) -> np.ndarray:
        """Return the numbers of an answer."""
        if kind in ("mlp_binary", "beginning"):
            return np.frombuffer(answer, np.float32)
        return np.array(json.loads(answer), dtype=np.float32).ravel()

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{PORT}{path}"

    def post(self, request: Request, timeout: float = 30) -> bytes:
        """Send a request; return the answer's body."""
        sent = urllib.request.Request(self.url(request.path), request.body, request.headers)
        with urllib.request.urlopen(sent, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body

    def __enter__(self) -> "Peer":
        self.prefix = Path(tempfile.mkdtemp(prefix="webtorch-serving-"))
        self.prefix.chmod(0o755)
        probe = self.request("xor", np.array([[0.25, 0.75]], np.float32))
        begin = time.perf_counter()
        with open(self.prefix / "output", "wb") as output:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.prefix,
                env={
                    **os.environ,
                    "PYTHONPATH": str(APPS),
                    "OMP_NUM_THREADS": "1",
                    "PATH": f"{self.home}/bin:{os.environ['PATH']}",
                    **self.variables(),
                },
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._wait(probe, begin + 180)
        except BaseException:
            self._stop()
            raise
        self.start_seconds = time.perf_counter() - begin
        return self

    def _wait(self, probe: Request, end: float) -> None:
        while True:
            try:
                self.post(probe, 5)
                return
            except (OSError, urllib.error.HTTPError) as error:
                if self._process.poll() is not None or time.perf_counter() > end:
                    ended = self._process.poll() is not None
                    text = (self.prefix / "output").read_text(errors="replace").strip()
                    last = text.splitlines()[-1] if ended and text else str(error)
                    raise RuntimeError(f"it does not start: {last}") from None
                time.sleep(0.01)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        processes = self.processes()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # some leave processes of theirs
        for pid, start in processes.items():
            if _start_of(pid) == start:
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.prefix, ignore_errors=True)

    def processes(self) -> dict[int, str]:
        """Return the processes that it consists of, with when each of them began."""
        children: dict[int, list[int]] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    stat = Path(entry.path, "stat").read_text()
                except OSError:
                    continue
                parent = int(stat.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
        found, queue = {}, [self._process.pid]
        while queue:
            pid = queue.pop()
            if start := _start_of(pid):
                found[pid] = start
            queue += children.get(pid, [])
        return found

    def megabytes(self) -> float:
        """Add up the proportional set size of its processes."""
        kilobytes = 0
        for pid in self.processes():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            kilobytes += sum(
                int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")
            )
        return kilobytes / 1024


def _start_of(pid: int) -> str | None:
    """Return the time at which a process began, unlike its pid it is not reused."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


class WebTorch(Peer):
    """This project, with Debian's nginx."""

    name = "WebTorch"

    def command(self) -> list[str]:
        conf = self.prefix / "nginx.conf"
        conf.write_text(
            CONFIGURATION.format(
                modules=f"load_module {ROOT}/build/modules/ngx_http_webtorch_module.so;",
                prefix=self.prefix,
                main="",
                http=f"webtorch_path {APPS}; webtorch_intraop_threads 1;",
                port=PORT,
                locations=WEBTORCH,
            )
        )
        return [NGINX, "-p", f"{self.prefix}/", "-c", str(conf), "-g", "daemon off;"]

    def request(self, kind: str, x: np.ndarray) -> Request:
        found = super().request(kind, x)
        # one function has both formats
        return Request(found.path.removesuffix("_binary"), found.body, found.headers)


class FastApi(Peer):
    """FastAPI with uvicorn, uvloop and httptools."""

    name = "FastAPI, uvicorn"
    environment = "fastapi"

    def command(self) -> list[str]:
        options = ["--no-access-log", "--loop", "uvloop", "--http", "httptools"]
        options += ["--port", str(PORT), "--log-level", "warning", "--backlog", "4096"]
        return [f"{self.home}/bin/python", "-m", "uvicorn", "fastapi_app:app", *options]


class Granian(Peer):
    """Granian with its own interface."""

    name = "Granian, RSGI"
    environment = "granian"

    def command(self) -> list[str]:
        options = ["--interface", "rsgi", "--port", str(PORT), "--workers", "1"]
        options += ["--loop", "uvloop", "--log-level", "warning", "--backlog", "4096"]
        return [f"{self.home}/bin/granian", *options, "granian_app:app"]


class LitServe(Peer):
    """LitServe."""

    name = "LitServe"
    environment = "litserve"
    lacks = {  # noqa: RUF012
        "mlp-binary": "bodies are JSON or forms",
        "body": "bodies are JSON or forms",
    }

    def command(self) -> list[str]:
        return [f"{self.home}/bin/python", str(APPS / "litserve_app.py"), str(PORT)]


class Mosec(Peer):
    """mosec, with batches."""

    name = "mosec"
    environment = "mosec"

    def command(self) -> list[str]:
        options = ["--port", str(PORT), "--address", "127.0.0.1", "--timeout", "60000"]
        options += ["--capacity", "4096", "--log-level", "error"]
        return [f"{self.home}/bin/python", str(APPS / "mosec_app.py"), *options]


class BentoMl(Peer):
    """BentoML, with batches."""

    name = "BentoML"
    environment = "bentoml"

    def command(self) -> list[str]:
        options = ["--port", str(PORT), "--host", "127.0.0.1", "--backlog", "4096"]
        options += ["--working-dir", str(APPS)]
        return [f"{self.home}/bin/bentoml", "serve", "bentoml_app:Serving", *options]

    def variables(self) -> dict[str, str]:
        return {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(self.prefix / "bentoml")}

    def request(self, kind: str, x: np.ndarray) -> Request:
        found = super().request(kind, x)
        path = found.path if kind in ("xor", "mlp") else f"/raw{found.path}"
        return Request(path, found.body, found.headers)


class RayServe(Peer):
    """Ray Serve with one replica, with batches."""

    name = "Ray Serve"
    environment = "ray"

    def command(self) -> list[str]:
        return [f"{self.home}/bin/python", str(APPS / "ray_app.py"), str(PORT)]

    def variables(self) -> dict[str, str]:
        return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(self.prefix)}


class Triton(Peer):
    """Triton by PyTriton, with batches, by the Open Inference Protocol."""

    name = "Triton, PyTriton"
    environment = "pytriton"

    def command(self) -> list[str]:
        return [f"{self.home}/bin/python", str(APPS / "triton_app.py"), str(PORT)]

    def request(self, kind: str, x: np.ndarray) -> Request:
        model = kind.removesuffix("_binary")
        path = f"/v2/models/{model}/infer"
        tensor: dict[str, Any] = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
        if kind in ("mlp_binary", "beginning"):
            tensor["parameters"] = {"binary_data_size": x.nbytes}
            outputs = [{"name": "y", "parameters": {"binary_data": True}}]
            head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
            headers = {"Content-Type": RAW, "Inference-Header-Content-Length": str(len(head))}
            return Request(path, head + x.tobytes(), headers)
        tensor["data"] = x.ravel().tolist()
        return Request(path, json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": JSON})

    def numbers(self, kind: str, answer: bytes) -> np.ndarray:
        if kind in ("mlp_binary", "beginning"):
            count = 10 if kind == "mlp_binary" else 1024
            return np.frombuffer(answer[-4 * count :], np.float32)
        return np.array(json.loads(answer)["outputs"][0]["data"], dtype=np.float32)


class Lua(Peer):
    """nginx with LuaJIT: the networks are written in Lua."""

    name = "nginx, LuaJIT"
    environment = "lua"

    def command(self) -> list[str]:
        from nets import mlp, xor

        for name, net in (("xor", xor()), ("mlp", mlp())):
            parts = [each.detach().numpy().ravel() for each in net.parameters()]
            np.concatenate(parts).astype(np.float32).tofile(self.prefix / f"{name}.f32")
        root = self.home / "root/usr"
        modules = root / "lib/nginx/modules"
        conf = self.prefix / "nginx.conf"
        libraries = root / "lib/x86_64-linux-gnu/lua/5.1/?.so"
        conf.write_text(
            CONFIGURATION.format(
                modules=f"load_module {modules}/ndk_http_module.so;"
                f"load_module {modules}/ngx_http_lua_module.so;",
                prefix=self.prefix,
                main="env SERVING_WEIGHTS;",
                http=f'lua_package_path "{APPS}/?.lua;{root}/share/lua/5.1/?.lua;;";'
                f'lua_package_cpath "{libraries};;";'
                'init_by_lua_block { nets = require "nets" }',
                port=PORT,
                locations=LUA,
            )
        )
        return [NGINX, "-p", f"{self.prefix}/", "-c", str(conf), "-g", "daemon off;"]

    def variables(self) -> dict[str, str]:
        libraries = self.home / "root/usr/lib/x86_64-linux-gnu"
        return {"SERVING_WEIGHTS": str(self.prefix), "LD_LIBRARY_PATH": str(libraries)}


PEERS: dict[str, type[Peer]] = {
    "webtorch": WebTorch,
    "fastapi": FastApi,
    "granian": Granian,
    "litserve": LitServe,
    "mosec": Mosec,
    "bentoml": BentoMl,
    "ray": RayServe,
    "triton": Triton,
    "lua": Lua,
}
