"""webtorch_reload: code that changes on disk is imported anew, while the old one serves."""

import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

log = logging.getLogger("webtorch")

POLL = 0.5
"""Seconds between looks at the files."""

Signature = tuple[int, int]
"""Of a file: its time of change in nanoseconds since 1970, its size in bytes."""


class Watcher(threading.Thread):
    """Looks whether files of the user's modules have changed, and calls `swap` then.

    Made before they are imported.

    Args:
        roots: the directories that these modules are in.
        swap: imports them anew; what it raises is logged, and the old modules are left.

    """

    def __init__(self, roots: Iterable[str], swap: Callable[[], None]) -> None:
        super().__init__(name="webtorch reload", daemon=True)
        # as modules have them in __file__
        self._roots = tuple(root.rstrip("/") + "/" for root in roots)
        self._swap = swap
        self._begun = time.time_ns()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Look until told to stop."""
        # what was written after the modules began to be imported may not be what was imported
        seen = {path: it for path, it in self._signatures().items() if it[0] < self._begun}
        while not self._stopping.wait(POLL):
            now = self._signatures()
            if now != seen:
                self._reload(sorted(str(path) for path, _ in now.items() - seen.items()))
                # modules that are imported now may be others; what was written meanwhile is new
                seen = self._signatures() | now

    def _reload(self, changed: list[str]) -> None:
        before = self._modules()
        for name in before:
            del sys.modules[name]
        importlib.invalidate_caches()
        try:
            self._swap()
        except BaseException as error:
            for name in self._modules():
                del sys.modules[name]
            sys.modules.update(before)
            log.error("%s: the old code goes on", ", ".join(changed), exc_info=error)
        else:
            log.warning("%s: the new code is served", ", ".join(changed))

    def _modules(self) -> dict[str, ModuleType]:
        found = {}
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.startswith(self._roots):
                found[name] = module
        return found

    def _signatures(self) -> dict[Path, Signature]:
        found = {}
        for module in self._modules().values():
            path = Path(str(module.__file__))
            try:
                status = path.stat()
            except OSError:  # between an editor's removing and its writing
                continue
            found[path] = status.st_mtime_ns, status.st_size
        return found
