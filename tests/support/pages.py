"""Pages of the documentation, whose blocks tests run as they stand there."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import requests

from nginx import BINARY, DEADLINE, MODULE, ROOT, free_port, release_port, wait_for


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a language in a page, by its path from the root."""
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def block(page: str, language: str) -> str:
    """Return the only block of a language."""
    (found,) = blocks(page, language)
    return found


def files(page: str) -> list[tuple[str, str]]:
    """Return the blocks that are whole files: their first line is a comment with the name."""
    found = []
    for language in ("python", "nginx"):
        for text in blocks(page, language):
            if match := re.match(r"# ([\w-]+\.(?:py|conf))\n", text):
                found.append((match[1], text))
    return found


class Reader:
    """Somebody who follows a page word by word.

    Files are written, commands are run in their order, and figures that the page promises are
    compared with what the commands have printed: after a line `accuracy 0.97`, the words
    "`accuracy` is at least **0.9**" hold. After "It prints" the whole output follows. Ports from
    8000 on are other ones.

    Args:
        page: Its path from the root.
        directory: An empty directory that workers may read.

    """

    def __init__(self, page: str, directory: Path) -> None:
        self.output = ""
        self.promises = 0
        self._text = (ROOT / page).read_text()
        self._directory = directory
        self._ports: dict[str, int] = {}
        self._printed: dict[str, float] = {}
        self._server: subprocess.Popen[str] | None = None
        self._log = directory / "server.log"
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(directory),
            "WEBTORCH_SERVE_NGINX": BINARY.path,
            "WEBTORCH_RUN_NGINX": BINARY.path,
        }
        if BINARY.load_module:
            self._environment["WEBTORCH_SERVE_MODULE"] = str(MODULE)
            self._environment["WEBTORCH_RUN_MODULE"] = str(MODULE)

    def follow(self) -> None:
        """Do what the page says, from its first line to the last one."""
        try:
            first, *others = re.split(r"^```(\w*)\n(.*?)^```\n", self._text, flags=re.M | re.S)
            self._check(first)
            before = first
            for language, text, prose in zip(*[iter(others)] * 3, strict=True):
                if language == "sh":
                    self._run(self._with_ports(text))
                elif match := re.match(r"# ([\w-]+\.(?:py|conf))\n", text):
                    file = self._directory / match[1]
                    file.write_text(self._with_ports(text))
                    file.chmod(0o644)
                elif before.rstrip().endswith("It prints"):
                    assert self.output == self._with_ports(text)
                    self.promises += 1
                elif before.rstrip().endswith("It has lines like"):
                    self._find(text)
                    self.promises += 1
                self._check(prose)
                before = prose
            self._stop()
        finally:
            self._end()

    def _with_ports(self, text: str) -> str:
        def other(match: re.Match[str]) -> str:
            if match[0] not in self._ports:
                self._ports[match[0]] = free_port()
            return str(self._ports[match[0]])

        return re.sub(r"\b80\d\d\b", other, text)

    def _run(self, commands: str) -> None:
        # the packages are there
        commands = re.sub(r"^(?:pip|apt-get) install .*\n", "", commands, flags=re.M)
        if re.match(r"webtorch (?:serve|run) ", commands):
            self._stop()
            self._start(commands)
            return
        with self._reload(commands):
            done = subprocess.run(
                ["bash", "-euc", commands],
                cwd=self._directory,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=2 * DEADLINE,
                check=False,
            )
        # 3: the event loop was blocked for a time, as it may be on a slow machine
        allowed = (0, 3) if "webtorch status" in commands else (0,)
        assert done.returncode in allowed, f"{done.args}{done.stderr}{self._log.read_text()}"
        self.output = done.stdout
        for name, value in re.findall(r"^(\w+) (-?\d+\.?\d*)$", done.stdout, re.M):
            self._printed[name] = float(value)

    def _start(self, command: str) -> None:
        port = self._with_ports("8000")
        address = f"http://127.0.0.1:{port}/"
        self._environment["WEBTORCH_SERVE_PORT"] = port
        with self._log.open("w") as log:
            self._server = server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._directory,
                env=self._environment,
                stdout=log,
                stderr=log,
                text=True,
            )

        def answers() -> bool:
            assert server.poll() is None, self._log.read_text()
            with contextlib.suppress(requests.RequestException):
                return bool(requests.get(address, timeout=DEADLINE).status_code)
            return False

        wait_for(answers, lambda: f"an answer, {self._log.read_text()}")

    @contextlib.contextmanager
    def _reload(self, commands: str) -> Iterator[None]:
        """Wait, after a block that reloads nginx, until the old workers have exited."""
        pid = self._directory / "nginx.pid"
        if "kill -HUP" not in commands:
            yield
            return
        children = Path("/proc", pid.read_text().strip(), "task", pid.read_text().strip())
        old = set((children / "children").read_text().split())
        yield
        wait_for(
            lambda: not old & set((children / "children").read_text().split()),
            lambda: f"new workers, {self._log.read_text()}",
        )

    def _find(self, text: str) -> None:
        """Find lines in what was printed last; fractions may be others."""
        for line in text.splitlines():
            pattern = re.sub(r"\b0\\\.\d+", r"[01]\\.\\d+", re.escape(line))
            assert re.search(rf"^{pattern}$", self.output, re.M), f"{line} in {self.output}"

    def _check(self, prose: str) -> None:
        """Compare the promises of a piece of text with what was printed."""
        name = ""
        for word, bound, figure in re.findall(
            r"`(\w+)`|\bat (least|most)\s+\*\*([\d.]+)\*\*", prose
        ):
            if word:
                name = word if word in self._printed else name
                continue
            value = self._printed[name]
            held = value >= float(figure) if bound == "least" else value <= float(figure)
            assert held, f"{name} is {value}, not at {bound} {figure}"
            self.promises += 1

    def _stop(self) -> None:
        """Stop the server as Ctrl-C does."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(DEADLINE)
            log = self._log.read_text()
            assert not re.search(r"\[(?:crit|alert|emerg)\]|Traceback", log), log
            self._server = None

    def _end(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(DEADLINE)
        for port in self._ports.values():
            release_port(port)
