"""webtorch_balancer's processes: pids that are used again, crashes in policies, one process."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import LOCATION, Backends, ask, ask_until
from nginx import wait_for

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")

LEARNS = r'\[info\] (\d+)#\d+: webtorch: this worker learns for upstream "u"'

APP = """
    import ctypes
    import time
    from pathlib import Path

    from webtorch.balancer import Policy

    class Slow(Policy):
        def __init__(self):
            super().__init__()
            time.sleep(1)

    class Crashing(Policy):
        def round(self, samples):
            if Path(__file__).with_name("crash").exists():
                ctypes.string_at(0)
"""


@pytest.fixture
def backends():
    servers = Backends(3)
    yield servers
    servers.close()


@contextlib.contextmanager
def process_with_pid(pid: int) -> Iterator[None]:
    """Run a process with a pid that is free; other processes start at the same time."""
    for _ in range(1000):
        LAST_PID.write_text(str(pid - 1))
        with subprocess.Popen(["sleep", "120"]) as process:
            try:
                if process.pid == pid:
                    yield
                    return
            finally:
                process.kill()
    pytest.fail(f"no process got pid {pid}")


@pytest.fixture
def may_choose_pids():
    try:
        LAST_PID.write_text(LAST_PID.read_text())
    except OSError as error:
        pytest.skip(f"pids cannot be chosen here: {error}")


@pytest.mark.usefixtures("may_choose_pids")
def test_pid_of_killed_worker_used_again(start, backends):
    for backend in backends:
        backend.delay = 0.02
    server = start(
        LOCATION,
        APP,
        http=backends.upstream("zone u 256k; webtorch_balancer app:Slow;"),
        expected=("exited on signal 9",),
    )
    server.wait_for_log(LEARNS)
    ask(server, 100)
    before = ask(server, 1)[0].score
    (old,) = server.workers()

    for backend in backends:
        backend.hangs = True
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(server.connection())
            client.sendall(b"GET / HTTP/1.1\r\nHost: u\r\n\r\n")
        wait_for(lambda: sum(len(b._open) for b in backends) >= 60, "requests in flight")
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{old}"), "the master to notice")
    for backend in backends:
        backend.hangs = False

    # the new worker waits for its policy, so that it finds the pid in use
    with process_with_pid(old):
        began = time.monotonic()
        wait_for(lambda: len(server.workers()) == 1, "a new worker")
        (new,) = server.workers()
        server.wait_for_log(LEARNS.replace(r"\d+", str(new), 1))
        assert time.monotonic() - began < 15
        assert ask(server, 1)[0].score < 10 * before


def test_crash_in_policy_leaves_traceback(start, backends):
    server = start(
        LOCATION,
        APP,
        http=backends.upstream("zone u 256k; webtorch_balancer app:Crashing;"),
        expected=("exited on signal 11",),
    )
    server.wait_for_log(LEARNS)
    (old,) = server.workers()
    crash = server.prefix / "app" / "crash"
    crash.touch()
    server.wait_for_log("Fatal Python error: Segmentation fault")
    crash.unlink()
    server.wait_for_log(r'File ".*/app/app\.py", line \d+ in round')
    wait_for(lambda: server.workers() not in ([], [old]), "a new worker")
    assert {answer.status for answer in ask(server, 20)} == {200}


def test_master_process_off(start, backends):
    server = start(
        LOCATION,
        http=backends.upstream("zone u 256k; webtorch_balancer;"),
        main="master_process off;",
    )
    server.wait_for_log(LEARNS)
    answers = ask_until(server, lambda answer: answer.reason == "cost")
    assert {answer.status for answer in answers} == {200}
