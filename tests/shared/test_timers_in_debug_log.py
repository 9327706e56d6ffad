"""Timers of the module in the debug log, where nginx reads the data of their events."""

import subprocess

import pytest

from nginx import BINARY, wait_for

APP = """
import webtorch
from jaxtyping import Float32
from torch import Tensor


@webtorch.infer
def double(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return 2 * x
"""

HTTP = """
    webtorch_zone models:1m;
    webtorch_worker_memory 2000m;
    upstream doubles {
        webtorch_balancer;
        zone doubles 256k;
        server 127.0.0.1:PORT;
    }
"""

SERVER = """
    location = /double { webtorch_handler app:double max_delay=1ms timeout=10s; }
    location = /balanced { proxy_pass http://doubles/double; }
"""


def is_debug_build() -> bool:
    done = subprocess.run([BINARY.path, "-V"], capture_output=True, text=True, check=True)
    return "--with-debug" in done.stderr


def test_requests_and_reload_with_the_debug_log(configured):
    if not is_debug_build():
        pytest.skip("this nginx writes no debug log")
    server = configured(SERVER, APP, main="error_log debug.log debug;", workers=2)
    server.configure(http=HTTP.replace("PORT", str(server.port)))
    server.start()
    workers = server.workers()

    def check_answers() -> None:
        for path in ("/double", "/balanced"):
            assert server.post(path, [[1.0]]).json() == [[2.0]]

    check_answers()
    assert server.workers() == workers

    server.reload()
    check_answers()
    wait_for(lambda: len(server.children()) == 2, "the old workers to exit")
    check_answers()

    log = (server.prefix / "debug.log").read_text(errors="replace")
    assert "event timer add: -1: " in log
    assert server.quit() == 0
    assert not server.unexpected_in_log()
