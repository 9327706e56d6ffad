"""Hosts of a cluster as real servers of this machine, each at a loopback address of its own."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from nginx import Nginx, free_port, quit_cleanly, release_port, wait_for

APP = """
    import os, threading
    import torch, webtorch
    from webtorch._core.process import instance
    from jaxtyping import Float32
    from torch import Tensor, nn, optim

    class Count(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((2000,), {value}))
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self):
            return self.weight.sum()

    # a step adds 1 to each weight
    model = webtorch.Model("count", Count(), lambda p: optim.SGD(p, lr=1.0), lock={lock})
    own = webtorch.Model("own", nn.Linear(1, 1), lambda p: optim.SGD(p, lr=1.0), cluster=False)

    @webtorch.train
    def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        model.step(-model())
        model.module.calls += 1
        return x

    @webtorch.handler
    def about(request):
        found = model.cluster
        return {{
            "pid": os.getpid(),
            "instance": instance,
            "steps": model.steps,
            "elected": any(
                each.name in ("membership", "reception") for each in threading.enumerate()
            ),
            "own": own.cluster is None,
            "weights": [float(model.module.weight[i]) for i in (0, 1999)],
            "calls": int(model.module.calls),
            **vars(found),
        }}
"""

SERVER = """
    location = /train { webtorch_handler app:train max_batch=1; }
    location = /about { webtorch_handler app:about; }
    location = /status { webtorch_status; }
    location = /ready { webtorch_health ready; }
    location /v2/ { webtorch_inference_protocol; }
"""

SECRET = "0123456789abcdef0123456789abcdef\n"

_nets = iter(range(1, 250))


class Hosts:
    """Servers that form a cluster.

    Args:
        count: How many there are.
        settings: Parameters of `webtorch_cluster`.
        lock: Whether they train in strict order.
        workers: Workers of each.

    """

    def __init__(
        self,
        count: int,
        settings: str = "interval=100ms timeout=3s",
        lock: bool = True,
        workers: int = 2,
    ) -> None:
        self._settings = settings
        self._lock = lock
        self._workers = workers
        self._net = f"127.{os.getpid() % 200 + 20}.{next(_nets)}"
        self._port = free_port()
        self.servers: list[Nginx] = []
        self.made: list[int] = []
        for _ in range(count):
            self.add()

    def __enter__(self) -> "Hosts":
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for server in self.servers:
                    quit_cleanly(server)
        finally:
            self._stop()

    def _stop(self) -> None:
        for server in self.servers:
            server.stop()
        release_port(self._port)

    def add(self) -> Nginx:
        """Make one more host."""
        index = len(self.servers)
        server = self.make(
            index, SERVER, APP.format(value=float(index), lock=self._lock), self._workers
        )
        server.expected_in_log += ["exited on signal 9"]
        secret = server.prefix / "secret"
        secret.touch(0o600)
        secret.write_text(SECRET)
        server.configure(http=self.http(index))
        self.servers.append(server)
        self.made.append(0)
        return server

    def make(self, index: int, server: str, app: str, workers: int) -> Nginx:
        """Return a host's server, which is not started."""
        return Nginx(server, app, workers=workers)

    def http(self, index: int) -> str:
        """Return the directives of a host."""
        return (
            f"webtorch_zone models:4m; webtorch_cluster test id=web-{index} secret=secret "
            f"coordinator={self._net}.1:{self._port} address={self._net}.{index + 1} "
            f"port={self._port} {self._settings};"
        )

    def kill(self, index: int) -> None:
        """Kill all of a host: what is in its memory is lost."""
        server = self.servers[index]
        workers = [pid for pid, _ in server.children()]
        for pid in (server.process.pid, *workers):
            os.kill(pid, signal.SIGKILL)
        server.process.wait()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "its end")

    def elected(self, index: int) -> int:
        """Return the worker of a host that does rounds."""
        found: list[int] = []

        def find() -> bool:
            about = self.about(index)
            found[:] = [about["pid"]] if about["elected"] else []
            return bool(found)

        wait_for(find, "a worker that does rounds")
        return found[0]

    def is_up(self, index: int) -> bool:
        """Return whether a host answers."""
        try:
            return bool(self.servers[index].get("/about").ok)
        except requests.RequestException:
            return False

    def train(self, index: int, times: int = 1) -> None:
        """Have a host make steps; each must be answered with 200."""
        for _ in range(times):
            answer = self.servers[index].post("/train", [[1.0]])
            assert answer.status_code == 200, answer.text
            self.made[index] += 1

    def about(self, index: int) -> dict[str, Any]:
        """Return what a worker of a host says."""
        found: dict[str, Any] = self.servers[index].get("/about").json()
        return found

    def wait_until_counted(self, steps: int, which: Sequence[int] | None = None) -> None:
        """Wait until all hosts have the same model, which contains so many steps."""
        hosts = [*range(len(self.servers))] if which is None else which
        ids = [f"web-{index}" for index in hosts]
        found: list[dict[str, Any]] = []

        def is_counted() -> bool:
            found[:] = [self.about(index) for index in hosts]
            return (
                all(
                    each["members"] == ids and each["uncounted"] == 0 and each["steps"] == steps
                    for each in found
                )
                and len({(*each["weights"], each["calls"]) for each in found}) == 1
            )

        wait_for(is_counted, lambda: f"{steps} steps: {found}")
