"""Serves the functions of a cell of a notebook.

    %load_ext webtorch.notebook

    %%webtorch --port 8000
    import webtorch
    ...

The cell is a module of its own, which `webtorch serve` serves in other processes: it sees no names
of the notebook. When the cell is run again, the new code is served; if that is broken, the old one
still is. The options are those of `webtorch serve`. `%webtorch stop` ends the server, and so does
the end of the notebook, however that is.
"""

import atexit
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

__all__ = ["load_ipython_extension"]

_OUTCOME = re.compile(
    r"Serving app at \S+, Ctrl-C stops it\.\n|webtorch: (?:waiting for a change|app\.py: "
    r"(?:the new code is served|the old code is still served|nginx has not taken the new code))\n"
)
"""Lines by which `webtorch serve --reload` says what has become of a cell, one for each."""

_LAST = "webtorch: the application cannot be imported. Changes are served no more.\n"
"""The line after which it says no more of cells."""


class _Outcomes:
    """What has become of the cells of a server.

    It counts, so that a cell is not taken for the one before it, whose run was interrupted.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._expected = 1
        self._seen = 0
        self._has_ended = False

    def expect(self) -> None:
        """Expect one more."""
        with self._changed:
            self._expected += 1

    def read(self, line: str) -> None:
        """Take a line of the server."""
        if line == _LAST:
            self.end()
        elif _OUTCOME.fullmatch(line):
            with self._changed:
                # the code of a cell may print such a line, too
                self._seen = min(self._seen + 1, self._expected)
                self._changed.notify_all()

    def end(self) -> None:
        """Note that the server has ended."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait for all that are expected; return False if the server has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or self._seen == self._expected)
            return not self._has_ended


class _Serving:
    """The server of a notebook, if it has one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._directory: Path | None = None
        self._options: list[str] = []
        self._outcomes = _Outcomes()

    def run(self, line: str, cell: str | None = None) -> None:
        """Serve a cell, or stop.

        Args:
            line: Options of `webtorch serve`; without a cell `stop`.
            cell: Text of the module.

        Raises:
            ValueError: There is no cell, and the line is not `stop`.
            RuntimeError: The server has ended.

        """
        options = shlex.split(line)
        if cell is None:
            if options != ["stop"]:
                raise ValueError("%%webtorch is followed by a cell; %webtorch stop ends the server")
            self.stop()
            return
        if self._process is not None and (
            self._process.poll() is not None or options != self._options
        ):
            self.stop()
        if self._process is None:
            self._start(cell, options)
        else:
            assert self._directory is not None
            app = self._directory / "app.py"
            # it may be that of a run that was interrupted
            self._wait()
            if app.read_text() == cell:
                return
            self._outcomes.expect()
            self._write(app, cell)
        self._wait()

    def _start(self, cell: str, options: list[str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="webtorch-notebook-"))
        self._options = options
        self._write(self._directory / "app.py", cell)
        self._outcomes = _Outcomes()
        started = threading.Event()
        threading.Thread(target=self._follow, args=(started,), daemon=True).start()
        started.wait()
        if self._process is None:
            raise RuntimeError("webtorch serve cannot be started")

    def _follow(self, started: threading.Event) -> None:
        """Start the server and print what it does, until it ends.

        The server ends with the thread that has started it: this one, which the notebook has as
        long as it lives, and not that of a cell.
        """
        outcomes = self._outcomes
        command = [sys.executable, "-c", _PROGRAM, str(os.getpid())]
        try:
            process = self._process = subprocess.Popen(
                [*command, "serve", "app.py", "--reload", *self._options],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # an interrupt of the notebook is not for the server
                process_group=0,
            )
        finally:
            started.set()
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                # it is read also if the notebook cannot show it any more
                with contextlib.suppress(OSError, ValueError):
                    print(line, end="", flush=True)
                outcomes.read(line)
        outcomes.end()

    @staticmethod
    def _write(app: Path, cell: str) -> None:
        # the server never sees a part of it
        draft = app.with_suffix(".tmp")
        draft.write_text(cell)
        draft.replace(app)

    def _wait(self) -> None:
        """Wait until the cell is served, or until it is known that it cannot be."""
        if not self._outcomes.wait():
            self.stop()
            raise RuntimeError("webtorch serve has ended, see above")

    def stop(self) -> None:
        """End the server, if there is one; responses in flight are sent."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


_PROGRAM = f"from {__name__} import _serve; _serve()"


def _serve() -> None:
    """Run a command line that ends with the notebook; the program of the server."""
    from webtorch.cli import main
    from webtorch.cli._parent import end_with

    notebook = int(sys.argv.pop(1))
    end_with(notebook)()
    try:
        main()
    finally:
        if os.getppid() != notebook:
            shutil.rmtree(Path.cwd(), ignore_errors=True)


_serving = _Serving()
atexit.register(_serving.stop)


def load_ipython_extension(shell: Any) -> None:
    """Add the magic `%%webtorch` to a shell of IPython, for `%load_ext webtorch.notebook`."""
    shell.register_magic_function(_serving.run, "line_cell", "webtorch")


def unload_ipython_extension(shell: Any) -> None:
    """Stop the server."""
    _serving.stop()
