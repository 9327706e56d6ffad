"""The thread of webtorch_reload: code that changes on disk is imported again."""

import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from webtorch._core.files import Signature, signature

log = logging.getLogger("webtorch")

POLL = 0.5
"""Seconds between polls of the files."""


class Reloader(threading.Thread):
    """Polls the files of the user's modules, and calls `reload` when one has changed.

    It is made before these modules are imported. They serve until `reload` returns.

    Args:
        roots: The directories of the user's modules.
        reload: Imports them again. An exception is logged, and the old modules are restored.

    """

    def __init__(self, roots: Iterable[str], reload: Callable[[], None]) -> None:
        super().__init__(name="webtorch reload", daemon=True)
        # in the form of a module's __file__
        self._roots = tuple(root.rstrip("/") + "/" for root in roots)
        self._reload = reload
        self._begun = time.time_ns()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Poll until `stop` is called."""
        # a file written after the imports began may differ from what was imported
        seen = {path: found for path, found in self._signatures().items() if found[0] < self._begun}
        while not self._stopping.wait(POLL):
            now = self._signatures()
            if now != seen:
                self._import_again(sorted(str(path) for path, _ in now.items() - seen.items()))
                # other modules may be imported now; files written meanwhile count as changed
                seen = self._signatures() | now

    def _import_again(self, changed: list[str]) -> None:
        before = self._modules()
        for name in before:
            del sys.modules[name]
        importlib.invalidate_caches()
        try:
            self._reload()
        except BaseException as error:
            for name in self._modules():
                del sys.modules[name]
            sys.modules.update(before)
            log.error("%s: the old code is still served", ", ".join(changed), exc_info=error)
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
            if now := signature(path):
                found[path] = now
        return found
