"""Workers exit while threads still run: without a crash, and with what exits have to do."""

import concurrent.futures
import re
import signal

import pytest

from nginx import wait_for

COMPUTE = """
import threading, torch, webtorch

def compute():
    model = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(8)])
    while True:
        model(torch.randn(64, 64)).square().mean().backward()
        torch.randn(32, 32).matmul(torch.randn(32, 32)).softmax(0).sort()

for _ in range(2):
    threading.Thread(target=compute, daemon=True).start()

@webtorch.handler
def f(request):
    return "served"
"""

# what it writes is in a buffer of C until the process exits
APP = """
import ctypes, pathlib, threading, webtorch

libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fputs.argtypes = ctypes.c_char_p, ctypes.c_void_p
here = pathlib.Path(__file__).parent
if not webtorch.is_check():
    file = libc.fopen(str(here / "buffered").encode(), b"w")

@webtorch.handler
def f(request):
    libc.fputs(b"a line", file)
    return "served"

@webtorch.handler
def hang(request):
    (here / "hanging").touch()
    threading.Event().wait()
"""

SERVER = """
access_log access.log combined buffer=64k;
location = /f { webtorch_handler app:f; }
location = /hang { webtorch_handler app:hang mode=thread; }
"""


def test_workers_exit_while_threads_compute(start):
    server = start("location = /f { webtorch_handler app:f; }", COMPUTE, workers=8)
    for _ in range(4):
        assert server.get("/f").text == "served"
        server.reload()
    codes = re.findall(r"worker process \d+ exited with code (\d+)", server.log())
    assert len(codes) >= 24
    assert set(codes) == {"0"}
    assert "exited on signal" not in server.log()


@pytest.mark.parametrize("main", ["", "master_process off;"])
def test_buffers_of_c_and_nginx_are_written(configured, main):
    server = configured(SERVER, APP, main=main)
    (server.prefix / "app").chmod(0o777)
    server.start()
    assert server.get("/f").text == "served"
    assert server.quit() == 0
    assert "GET /f " in (server.prefix / "access.log").read_text()
    assert (server.prefix / "app" / "buffered").read_text() == "a line"
    assert not (server.prefix / "nginx.pid").exists()


@pytest.mark.parametrize("main", ["", "master_process off;"])
def test_exit_during_a_call(configured, main):
    server = configured(SERVER, APP, main=main)
    (server.prefix / "app").chmod(0o777)
    server.start()
    with concurrent.futures.ThreadPoolExecutor(1) as clients:
        hanging = clients.submit(server.get, "/hang")
        wait_for((server.prefix / "app" / "hanging").exists, "the call to begin")
        assert server.get("/f").text == "served"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(100) == 0
        assert hanging.exception()
    assert "GET /f " in (server.prefix / "access.log").read_text()
    assert not (server.prefix / "nginx.pid").exists()
    assert not server.unexpected_in_log()
