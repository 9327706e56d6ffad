"""nginx as a child of the command: start, log, reloads and stop."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from webtorch.cli._errors import CommandError
from webtorch.cli._nginx import Nginx
from webtorch.cli._parent import end_with
from webtorch.cli._terminal import Terminal
from webtorch.cli._tls import tls_context

RELOAD = 90.0
"""Seconds that new workers may take to import their functions."""

_PREFIX = "webtorch-serve-"
_LOCK = "lock"


class Server:
    """An nginx in the foreground, with a directory of its own.

    Args:
        nginx: What to run.
        terminal: Where its log goes.

    """

    def __init__(self, nginx: Nginx, terminal: Terminal) -> None:
        self._nginx = nginx
        self._terminal = terminal
        _remove_stale()
        self._prefix = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self._prefix)
        self._process: subprocess.Popen[str] | None = None
        self._log: threading.Thread | None = None
        self._interrupts = 0
        self._refused = threading.Event()

    def __enter__(self) -> "Server":
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it and remove its directory."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.terminate()
            self._process.wait()
        if self._log is not None:
            self._log.join()
        shutil.rmtree(self._prefix, ignore_errors=True)
        os.close(self._lock)

    @property
    def configuration(self) -> Path:
        """The file of the configuration."""
        return self._prefix / "nginx.conf"

    def command(self, *arguments: str) -> list[str]:
        """Return a command line for nginx."""
        prefix = ["-p", f"{self._prefix}/", "-c", str(self.configuration)]
        return [*self._nginx.command, *prefix, *arguments]

    def start(self, configuration: str) -> None:
        """Start nginx; its log goes to the terminal until it ends."""
        self.configuration.write_text(configuration)
        self._process = subprocess.Popen(
            self.command("-g", "daemon off;"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C is for the command alone, which stops nginx gracefully
            process_group=0,
            # nginx uses the directory for a moment longer than a command that is killed
            pass_fds=[self._lock],
            preexec_fn=end_with(os.getpid()),
        )
        self._log = threading.Thread(target=self._copy_log, name="log", daemon=True)
        self._log.start()

    def reload(self, configuration: str) -> bool:
        """Let new workers replace the old ones; return whether they have.

        nginx logs why it refuses a configuration, and continues with the old one.
        """
        if self._process is None or not self.is_running():
            return False
        old = self._workers()
        self._refused.clear()
        self.configuration.write_text(configuration)
        self._process.send_signal(signal.SIGHUP)
        end = time.monotonic() + RELOAD
        while self.is_running() and not self._refused.is_set() and time.monotonic() < end:
            now = self._workers()
            if now and not now & old:
                return True
            time.sleep(0.05)
        return False

    def _workers(self) -> set[int]:
        """Return the workers that accept requests."""
        assert self._process is not None
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    title = (entry / "cmdline").read_bytes()
                    if (
                        parent == self._process.pid
                        and b"worker process" in title
                        and b"shutting down" not in title
                    ):
                        found.add(int(entry.name))
        return found

    def wait(self) -> int:
        """Wait for the end of nginx; return its exit status, a signal as a negative number."""
        assert self._process is not None
        return self._process.wait()

    def is_running(self) -> bool:
        """Return whether nginx has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait_until_ready(self, url: str) -> bool:
        """Wait until a worker answers; return False if nginx has ended instead."""
        # the certificate may be of any name
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=tls_context(insecure=True)),
        )
        while self.is_running():
            try:
                with direct.open(f"{url}/", timeout=5):
                    return True
            except urllib.error.HTTPError as answer:
                answer.close()
                return True
            except OSError:
                time.sleep(0.02)
        return False

    def stop(self) -> None:
        """Stop gracefully: answers in flight are sent; at once if that was asked for before."""
        self._interrupts += 1
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if self._interrupts == 1 else signal.SIGTERM)

    @contextlib.contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Stop nginx when this process gets a signal that would end it."""

        def handle(*_: object) -> None:
            self.stop()

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # it is under nohup
            numbers.append(signal.SIGHUP)
        before = [signal.signal(number, handle) for number in numbers]
        try:
            yield
        finally:
            for number, previous in zip(numbers, before, strict=True):
                signal.signal(number, previous)

    def _copy_log(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                # workers can still log when no process reads the pipe
                with contextlib.suppress(OSError):
                    self._terminal.record(line)
                if "[emerg]" in line:
                    self._refused.set()


def _locked(directory: Path) -> int:
    """Lock a new directory; return the descriptor of the lock."""
    draft = directory / f"{_LOCK}.tmp"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    # no other command sees it without a lock
    draft.rename(directory / _LOCK)
    return descriptor


def _remove_stale() -> None:
    """Remove the directories of this user's commands that were killed, with their nginx."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = directory.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            # a directory without one may be new
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)


def find_port(host: str, port: int) -> int:
    """Return a port on which nginx can listen: the given one, or any free one for 0.

    Raises:
        CommandError: It cannot listen.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            return int(listener.getsockname()[1])
    except OSError as error:
        reason = str(error.strerror).lower()
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        hint = "--port" if port and taken else "--host"
        raise CommandError(f"cannot listen on {host}:{port} ({reason}), see {hint}.") from error
