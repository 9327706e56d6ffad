"""The traceback of a worker that crashes goes to the error log, and nowhere else."""

import contextlib
import signal

import pytest

from nginx import wait_for

APP = """
import ctypes
import webtorch

@webtorch.handler
def crash(request):
    ctypes.string_at(0)
"""

SERVER = "location = /crash { webtorch_handler app:crash mode=thread; }"

ALIVE = b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n"

TRACEBACK = "Fatal Python error: Segmentation fault"


@pytest.mark.parametrize("main", ["", "error_log syslog:server=127.0.0.1:9;"])
def test_crash_traceback_after_log_rotation(start, main):
    server = start(SERVER, APP, main=main, expected=("exited on signal 11", "exited while"))
    log = server.prefix / "error.log"
    log.rename(server.prefix / "error.log.1")
    server.process.send_signal(signal.SIGUSR1)
    (worker,) = server.workers()
    wait_for(lambda: "error.log.1" not in str(server.descriptors()), "the log to be reopened")

    with contextlib.ExitStack() as stack:
        # one of them gets the number of the log's old descriptor
        connections = [stack.enter_context(server.connection()) for _ in range(8)]
        for connection in connections:
            connection.sendall(ALIVE)
            answer = b""
            while not answer.endswith(b"alive"):
                answer += connection.recv(1000)
        crashing = stack.enter_context(server.connection())
        crashing.sendall(b"POST /crash HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        for connection in [*connections, crashing]:
            assert connection.recv(1000) == b""

    wait_for(lambda: TRACEBACK in server.log(), "a traceback in the new log")
    assert TRACEBACK not in (server.prefix / "error.log.1").read_text()
    wait_for(lambda: server.workers() not in ([], [worker]), "a new worker")
