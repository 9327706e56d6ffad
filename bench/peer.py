"""A server of another project that is measured beside WebTorch."""

import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


@contextmanager
def serving(command: Sequence[str], env: Mapping[str, str], url: str) -> Iterator[None]:
    """Run a server; its body begins when an address is answered."""
    with subprocess.Popen(command, env=env) as process:
        try:
            while True:
                try:
                    urllib.request.urlopen(url).read()
                    break
                except OSError:
                    assert process.poll() is None, f"{command} ended"
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()
