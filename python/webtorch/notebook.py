"""Serves the functions of a cell of a notebook.

    %load_ext webtorch.notebook

    %%webtorch --port 8000
    import webtorch
    ...

The cell is a module of its own, which `webtorch serve` serves in other processes: it sees no names
of the notebook. When the cell is run again, the new code is served; if that is broken, the old one
still is. The options are those of `webtorch serve`. `%webtorch stop` ends the server, and so does
the end of the notebook.
"""

import atexit
import contextlib
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

__all__ = ["load_ipython_extension"]

_READY = ("Ctrl-C stops it.", "the new code is served")
_FAILED = ("waiting for a change", "the old code is still served", "has not taken the new code")


class _Serving:
    """The server of a notebook, if it has one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._directory: Path | None = None
        self._options: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

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
            if app.read_text() == cell:
                return
            self._write(app, cell)
        self._wait()

    def _start(self, cell: str, options: list[str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="webtorch-notebook-"))
        self._options = options
        self._write(self._directory / "app.py", cell)
        self._lines = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "webtorch", "serve", "app.py", "--reload", *options],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # an interrupt of the notebook is not for the server
            process_group=0,
        )
        threading.Thread(target=self._copy, args=(self._process, self._lines), daemon=True).start()

    @staticmethod
    def _write(app: Path, cell: str) -> None:
        # the server never sees a part of it
        draft = app.with_suffix(".tmp")
        draft.write_text(cell)
        draft.replace(app)

    @staticmethod
    def _copy(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                print(line, end="", flush=True)
                lines.put(line)
        lines.put(None)

    def _wait(self) -> None:
        """Wait until the cell is served, or until it is known that it cannot be."""
        while (line := self._lines.get()) is not None:
            if any(text in line for text in _READY + _FAILED):
                return
        self.stop()
        raise RuntimeError("webtorch serve has ended, see above")

    def stop(self) -> None:
        """End the server, if there is one; answers in flight are sent."""
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


_serving = _Serving()
atexit.register(_serving.stop)


def load_ipython_extension(shell: Any) -> None:
    """Add the magic `%%webtorch` to a shell of IPython, for `%load_ext webtorch.notebook`."""
    shell.register_magic_function(_serving.run, "line_cell", "webtorch")


def unload_ipython_extension(shell: Any) -> None:
    """Stop the server."""
    _serving.stop()
