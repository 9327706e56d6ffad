"""Hosts as network namespaces, with links between them that have a rate, a delay, loss and cuts.

`relay.c` makes the namespaces and carries the packets, as not all kernels have netem. It needs
CAP_NET_ADMIN and CAP_SYS_ADMIN and /dev/net/tun.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from nginx import ROOT

_NO_RIGHT = 77
_NEW_NET = 0x40000000
"""CLONE_NEWNET, for Python before 3.12"""

FAST = 1e9


def address(host: int) -> str:
    """Return the address of a host, counted from 0."""
    return f"10.77.0.{host + 1}"


class NotAllowed(Exception):
    """Network namespaces or TUN devices cannot be made here."""


class Hosts:
    """Namespaces that are there until `close`.

    Args:
        count: How many, at most 8. All links have 1 Gbit/s and no delay.

    Raises:
        NotAllowed: This process has not the right to make them.

    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._relay = subprocess.Popen(
            [_program(), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._relay.stdout is not None and self._relay.stderr is not None
        words = self._relay.stdout.readline().split()
        if words[-1:] != ["ready"]:
            error = self._relay.stderr.read().strip()
            code = self._relay.wait()
            self.close()
            if code == _NO_RIGHT:
                raise NotAllowed(error)
            raise AssertionError(error)
        self._spaces = [f"/proc/{self._relay.pid}/fd/{word}" for word in words[:-1]]

    def command(self, host: int, command: Sequence[str], names: Path | None = None) -> list[str]:
        """Return a command that runs another one at a host.

        Args:
            host: Its number.
            command: What to run.
            names: A file that it sees as /etc/hosts; written to in place, it changes there, too.

        """
        start = ["nsenter", f"--net={self._spaces[host]}", "--"]
        if names is not None:
            mount = f'mount --bind "{names}" /etc/hosts && exec "$@"'
            start += ["unshare", "--mount", "sh", "-c", mount, "sh"]
        return [*start, *command]

    def enter(self, host: int) -> None:
        """Move this thread to a host; what it opens and starts from now on is there."""
        with open(self._spaces[host]) as space:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(space.fileno(), _NEW_NET):
                raise OSError(ctypes.get_errno(), "setns")

    def link(self, host: int, rate: float = FAST, trip: float = 0.0, loss: float = 0.0) -> None:
        """Change a host's link.

        Args:
            host: Its number.
            rate: Bits a second, each way.
            trip: Seconds that a round trip to a host without delay takes.
            loss: Share of packets that are lost, each way; large ones are up to 64 KB.

        """
        self._tell(f"link {host} {rate} {trip * 5e5} {round(loss * 1e6)}")

    def links(self, rate: float, trip: float) -> None:
        """Give all hosts the same link; `trip` is the time of a round trip between two of them."""
        for host in range(self.count):
            self.link(host, rate, trip / 2)

    def cut(self, host: int, others: Iterable[int] | None = None, *, one_way: bool = False) -> None:
        """Drop all packets between a host and others; with `one_way`, those that it sends."""
        self._set_cut(host, others, one_way, 1)

    def heal(self, host: int, others: Iterable[int] | None = None) -> None:
        """Carry packets between a host and others again."""
        self._set_cut(host, others, False, 0)

    def close(self) -> None:
        """End the network; a namespace is there until its last process has ended."""
        for file in (self._relay.stdin, self._relay.stdout, self._relay.stderr):
            assert file is not None
            file.close()
        self._relay.wait(10)

    def _set_cut(self, host: int, others: Iterable[int] | None, one_way: bool, value: int) -> None:
        for other in range(self.count) if others is None else others:
            self._tell(f"cut {host} {other} {value}")
            if not one_way:
                self._tell(f"cut {other} {host} {value}")

    def _tell(self, line: str) -> None:
        assert self._relay.stdin is not None and self._relay.stdout is not None
        self._relay.stdin.write(line + "\n")
        self._relay.stdin.flush()
        assert self._relay.stdout.readline() == "ok\n", line


@contextmanager
def hosts_or_skip(count: int) -> Iterator[Hosts]:
    """Make hosts for a test, which is skipped where that is not allowed."""
    try:
        hosts = Hosts(count)
    except NotAllowed as error:
        pytest.skip(f"no network namespaces: {error}")
    try:
        yield hosts
    finally:
        hosts.close()


def _program() -> str:
    """Compile the relay, unless that is done."""
    source = Path(__file__).parent / "support/relay.c"
    program = ROOT / "build/relay"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(exist_ok=True)
        made = program.with_suffix(f".{os.getpid()}")
        compiler = os.environ.get("CC", "cc")
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([compiler, *flags, "-o", str(made), str(source)], check=True)
        made.replace(program)
    return str(program)
