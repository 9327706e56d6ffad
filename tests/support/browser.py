"""Chromium, which is asked for what a page shows."""

import contextlib
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

from nginx import DEADLINE, wait_for


class Page:
    """A page in a browser.

    Args:
        client: A connection to its debugger.

    """

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self._numbers = itertools.count(1)

    def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._client.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._client.recv(DEADLINE))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, script: str, *, gesture: bool = False) -> Any:
        """Return the value of an expression; with a gesture as if the user had clicked."""
        found = self._call(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
            userGesture=gesture,
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")


@contextlib.contextmanager
def open_page(url: str, directory: Path, *options: str) -> Iterator[Page]:
    """Open a page in a browser with a profile in a directory.

    Args:
        url: Address of the page.
        directory: An empty directory.
        options: Further ones of Chromium.

    """
    chromium = shutil.which("chromium")
    assert chromium, "./build.sh test installs Chromium"
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",  # it does not work for root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={directory}/profile",
        "--remote-debugging-port=0",
        "--remote-allow-origins=*",
        *options,
        url,
    ]
    port = directory / "profile/DevToolsActivePort"
    with open(directory / "chromium.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: port.exists() and "\n" in port.read_text(), "Chromium")
        debugger = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json"

        def find() -> str | None:
            pages = requests.get(debugger, timeout=DEADLINE).json()
            found = [page for page in pages if page["url"] == url]
            return found[0]["webSocketDebuggerUrl"] if found else None

        with connect(wait_for(find, url), open_timeout=DEADLINE) as client:
            page = Page(client)
            state = "document.readyState + document.URL"
            wait_for(lambda: page.evaluate(state) == f"complete{url}", url)
            yield page
    finally:
        process.terminate()
        process.wait(DEADLINE)
