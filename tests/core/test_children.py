"""Programs and processes that handlers start."""

import os
import re
import signal
from pathlib import Path

import pytest

from marks import needs_root
from nginx import wait_for

APP = """
import gc, multiprocessing, os, signal, socket, subprocess, time
import webtorch

@webtorch.handler
def status(request):
    try:
        subprocess.run(["false"], check=True)
        raised = None
    except subprocess.CalledProcessError as error:
        raised = error.returncode
    process = multiprocessing.Process(target=os._exit, args=(7,))
    process.start()
    process.join()
    codes = [
        subprocess.run(["sh", "-c", "exit 3"]).returncode,
        os.system("exit 4") >> 8,
        raised,
        process.exitcode,
    ]
    return {"found": codes}

@webtorch.handler
def terminate(request):
    process = multiprocessing.Process(target=time.sleep, args=(100,))
    process.start()
    programs = [
        subprocess.Popen(["sleep", "100"]),
        subprocess.Popen(["sleep", "100"], close_fds=False),
        subprocess.Popen(["sleep", "100"], preexec_fn=int),
    ]
    for each in [process, *programs]:
        each.terminate()
    process.join(20)
    codes = [process.exitcode, *(each.wait(20) for each in programs)]
    process.kill()
    return {"found": codes}

@webtorch.handler
def hung(request):
    try:
        with multiprocessing.Pool(1) as pool:
            pool.apply_async(time.sleep, (100,)).get(timeout=0.1)
    except multiprocessing.TimeoutError:
        pool.join()
    # its pipes are closed with the last reference, which is in a cycle
    del pool
    gc.collect()
    return "closed"

@webtorch.handler
def fork(request):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    return {"found": child}

@webtorch.handler
def forked(request):
    child = os.fork()
    if child == 0:
        return "not by the child"
    return {"found": os.waitpid(child, 0)[1]}
"""

SERVER = "".join(
    f"location = /{mode}/{name} {{ webtorch_handler app:{name} mode={mode}; }}\n"
    for name in re.findall(r"def (\w+)\(request", APP)
    for mode in ("inline", "thread")
)

MODES = pytest.mark.parametrize("mode", ["inline", "thread"])


def exists(pid: int) -> bool:
    """Return whether a process runs; one that nobody has waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@MODES
@pytest.mark.parametrize("main", ["", "master_process off;"])
def test_children_exit_statuses(start, mode, main):
    server = start(SERVER, APP, main=main)
    for _ in range(3):
        assert server.get(f"/{mode}/status").json()["found"] == [3, 4, 1, 7]


@MODES
def test_children_terminate(start, mode):
    server = start(SERVER, APP)
    assert server.get(f"/{mode}/terminate").json()["found"] == [-signal.SIGTERM] * 4
    assert server.get(f"/{mode}/hung").text == "closed"


@MODES
def test_children_have_no_sockets_of_nginx(start, mode):
    server = start(SERVER, APP)
    with server.connection() as client:
        client.sendall(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000)
        child = server.get(f"/{mode}/fork").json()["found"]

        def is_closed() -> bool:
            try:
                files = [os.readlink(file) for file in Path(f"/proc/{child}/fd").iterdir()]
            except FileNotFoundError:  # it is being closed
                return False
            return not any(re.match(r"socket:|anon_inode:", file) for file in files)

        # fork() may return in the parent first
        wait_for(is_closed, "the child to close what is nginx's")


@MODES
def test_children_that_return_exit(start, mode):
    server = start(SERVER, APP)
    assert server.get(f"/{mode}/forked").json()["found"] == 0
    assert server.get("/alive").text == "alive"


@MODES
@pytest.mark.parametrize("sent", [signal.SIGQUIT, signal.SIGTERM])
def test_children_end_with_nginx(start, mode, sent):
    server = start(SERVER, APP)
    child = server.get(f"/{mode}/fork").json()["found"]
    assert exists(child)
    server.process.send_signal(sent)
    server.process.wait(100)
    wait_for(lambda: not exists(child), "the child to end")
    server.start()
    assert server.get(f"/{mode}/forked").json()["found"] == 0


def test_children_end_with_a_killed_worker(start):
    server = start(SERVER, APP, expected=("exited on signal 9",))
    child = server.get("/thread/fork").json()["found"]
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not exists(child), "the child to end")
    wait_for(lambda: server.workers() not in ([], [worker]), "a new worker")


@needs_root
def test_children_of_workers_of_another_user(start):
    server = start(SERVER, APP, main="user www-data;")
    child = server.get("/thread/fork").json()["found"]
    server.reload()
    wait_for(lambda: not exists(child), "the child to end")
