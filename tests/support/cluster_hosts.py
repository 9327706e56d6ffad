"""Hosts of a cluster as processes of their own, each at an address of 127.0.0.0/8.

A process imports PyTorch once, and each host is forked from it.
"""

import itertools
import multiprocessing
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from webtorch._cluster import coordinator, membership
from webtorch._cluster.coordinator import Coordinator
from webtorch._cluster.group import GlooGroup, connect
from webtorch._cluster.interfaces import (
    ClusterError,
    GroupError,
    Settings,
    TakenIdError,
    UnreachableError,
    View,
)
from webtorch._cluster.membership import Lighthouse
from webtorch._cluster.seal import Ring

_numbers = itertools.count()

MESSAGE = 1 << 20
"""A tag that no other message of a test has."""

SECRET = b"this is a secret of 32 bytes....."


def address(host: int, net: int) -> str:
    return f"127.{os.getpid() % 250 + 1}.{net}.{host + 1}"


def settings_of(count: int, **changes: Any) -> list[Settings]:
    """Return settings of hosts `a`, `b`, ...; the first one's address is the coordinator's."""
    net = next(_numbers)
    first = Settings(
        name="test",
        id="a",
        coordinator=(address(0, net), 7610),
        address=address(0, net),
        secrets=(SECRET,),
        interval=0.1,
        timeout=30,
    )
    return [
        replace(first, id=chr(ord("a") + index), address=address(index, net), **changes)
        for index in range(count)
    ]


class Peer:
    """What runs in the process of a host; each method is a command of a test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ring = Ring(settings.name, settings.secrets)
        self.instance = secrets.token_hex(8)
        self.membership = Lighthouse(settings, self.ring, self.instance)
        self.coordinator = Coordinator(settings)
        self.group: GlooGroup | None = None
        self.view = View(0, ())
        self.about: dict[str, object] = {}

    def serve(self) -> None:
        self.coordinator.start()

    def stop(self) -> None:
        self.coordinator.stop()

    def is_running(self) -> bool:
        return self.coordinator.is_running

    def trouble(self) -> str | None:
        return self.coordinator.problem

    def beat(self, about: dict[str, object] | None = None) -> None:
        if about is not None:
            self.about = about
        group = self.group.key if self.group else ""
        self.membership.beat({**self.about, "group": group})

    def members(self) -> View:
        self.beat()
        self.view = self.membership.members()
        return self.view

    def leave(self) -> None:
        self.membership.leave()

    def connect(self, view: View | None = None) -> str:
        view = view or self.view
        if self.group is not None:
            if self.group.fits(view):
                return "kept"
            self.group.close()
            self.group = None
        self.group = connect(self.settings, view, self.ring)
        return "new"

    def join(self, count: int) -> tuple[str, ...]:
        """Ask until there are so many members, and make a group of them."""
        deadline = time.monotonic() + 100
        while True:
            try:
                if len(self.members().members) == count:
                    self.connect()
                    self.exchange(b"here")
                    return self.view.ids
            except (UnreachableError, TakenIdError):
                # of a host that was killed, the service has the last request for a second
                pass
            except GroupError:
                # the answer was to a request that another host did not wait for any more
                self.close()
            assert time.monotonic() < deadline, self.view

    def ask(self) -> None:
        """Ask again and again, as rounds do; `last` is what came of it."""
        self.asks = True
        self.last_seen: View | str = ""
        self.asking = threading.Thread(target=self._ask, daemon=True)
        self.asking.start()

    def _ask(self) -> None:
        while self.asks:
            try:
                self.last_seen = self.members()
            except ClusterError as error:
                self.last_seen = f"{type(error).__name__}: {error}"

    def last(self) -> View | str:
        return self.last_seen

    def halt(self) -> None:
        """End that at once: the request that waits is left, as by a worker that exits."""
        self.asks = False
        self.membership.close()
        self.asking.join()
        self.membership = Lighthouse(self.settings, self.ring, self.instance)

    def exchange(self, message: bytes) -> list[bytes]:
        assert self.group is not None
        return self.group.exchange(message)

    def mean(
        self,
        seed: int,
        count: int,
        weights: list[float],
        fill: float | None = None,
        times: int = 1,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the mean, of several times their mean, and the rest, which is filled before."""
        assert self.group is not None
        rank = self.group.rank
        value = vector(seed + rank, count)
        # not an argument: a tensor that is sent to several processes is the same memory in them
        rest = None if fill is None else torch.full((count,), fill)
        found = torch.zeros(count)
        for _ in range(times):
            found += self.group.mean(value, weights[rank], weights, rest)
        return found / times, rest

    def failing_mean(self, count: int, patience: float) -> tuple[str, str | None]:
        """Return the error of a mean; it is kept when the group is closed."""
        assert self.group is not None
        self.group.patience = patience
        try:
            self.mean(0, count, [1.0] * len(self.group.ids))
        except GroupError as error:
            self.close()
            self.error = error
            return str(error), error.member
        raise AssertionError("it has not failed")

    def constant(self, pattern: bytes, count: int) -> None:
        """Exchange differences of which all bytes are a pattern."""
        assert self.group is not None
        data = bytearray(pattern * (count // len(pattern) + 1))[: count // 4 * 4]
        value = torch.frombuffer(data, dtype=torch.float32)
        ones = [1.0] * len(self.group.ids)
        self.group.mean(value, 1.0, ones, None)

    def total(self, count: int) -> torch.Tensor:
        assert self.group is not None
        return self.group.total(torch.arange(count) * (self.group.rank + 1))

    def send_state(self, to: int, data: bytes) -> None:
        assert self.group is not None
        self.group.send_state(to, torch.frombuffer(bytearray(b"+" + data), dtype=torch.uint8)[1:])

    def receive_state(self, source: int, size: int) -> bytes:
        assert self.group is not None
        data = torch.empty(size, dtype=torch.uint8)
        self.group.receive_state(source, data)
        return data.numpy().tobytes()

    def expect_message(self, source: int, size: int) -> None:
        """Begin to receive a message without a seal."""
        assert self.group is not None
        self.receipt = self.group._links.receive(source, size, MESSAGE)

    def wait_for_message(self) -> None:
        self.receipt.wait()

    def has_begun(self) -> bool:
        """Whether a part of the message is there."""
        return bool(self.receipt.buffer[0] == 1)

    def send_message(self, to: int, size: int) -> None:
        """Begin to send such a message."""
        assert self.group is not None
        self.group._links.send(to, torch.ones(size, dtype=torch.uint8), MESSAGE)

    def carried(self) -> tuple[int, int]:
        assert self.group is not None
        return self.group.sent, self.group.received

    def close(self) -> None:
        if self.group is not None:
            self.group.close()
            self.group = None

    def problem(self) -> str | None:
        return self.membership.problem

    def threads(self) -> int:
        return len(os.listdir("/proc/self/task"))

    def files(self) -> list[str]:
        return os.listdir("/proc/self/fd")

    def shift_clock(self, seconds: float) -> None:
        now = time.time
        vars(membership)["time"] = _Clock(lambda: now() + seconds)

    def use_names(self, path: str) -> None:
        """Resolve names as the file says: an address on each line."""

        def resolve(name: str, port: int) -> list[str]:
            found = Path(path).read_text().split()
            if not found:
                raise OSError(f"{name} has no address")
            return found

        for module in (coordinator, membership):
            vars(module)["resolve"] = resolve


class _Clock:
    def __init__(self, wall: Callable[[], float]) -> None:
        self.time = wall
        self.monotonic = time.monotonic


def vector(seed: int, count: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def _run(peer: Connection, settings: Settings) -> None:
    torch.set_num_threads(1)
    host = Peer(settings)
    while True:
        try:
            name, args = peer.recv()
        except EOFError:
            os._exit(0)
        try:
            peer.send(("value", getattr(host, name)(*args)))
        except Exception as error:
            peer.send(("error", (type(error).__name__, str(error), getattr(error, "member", None))))


class CommandError(Exception):
    """A command raised an exception."""

    def __init__(self, kind: str, text: str, member: str | None) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text
        self.member = member


class Host:
    """A host's process, as a test sees it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._peer, other = _context.Pipe()
        self.process = _context.Process(target=_run, args=(other, settings), daemon=True)
        self.process.start()
        other.close()

    def begin(self, name: str, *args: Any) -> None:
        """Let it run a command; `result` waits for its end."""
        self._peer.send((name, args))

    def result(self, timeout: float = 120) -> Any:
        assert self._peer.poll(timeout), f"{self.settings.id} does not answer"
        kind, value = self._peer.recv()
        if kind == "error":
            raise CommandError(*value)
        return value

    def do(self, name: str, *args: Any) -> Any:
        self.begin(name, *args)
        return self.result()

    def signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self._peer.close()


def do_all(hosts: list[Host], name: str, *args: Any) -> list[Any]:
    """Let all hosts run a command at the same time."""
    for host in hosts:
        host.begin(name, *args)
    return [host.result() for host in hosts]


def errors_of(hosts: list[Host]) -> list[CommandError]:
    """Return the exceptions that the commands of hosts have ended with."""
    found = []
    for host in hosts:
        try:
            value = host.result()
        except CommandError as error:
            found.append(error)
        else:
            raise AssertionError(f"{host.settings.id} returned {value}")
    return found


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["cluster_hosts"])


def stop_server() -> None:
    """End the process that hosts are forked from."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@contextmanager
def running_hosts(settings: list[Settings]) -> Iterator[list[Host]]:
    """Start hosts, of which the first one runs the membership service."""
    hosts = [Host(each) for each in settings]
    try:
        yield hosts
    finally:
        for host in hosts:
            host.kill()
