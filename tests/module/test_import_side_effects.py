"""Modules that take a port or a lock at import, beside the workers that have it."""

import pytest

from nginx import free_port, release_port

PORT = """
import socket, webtorch

def listen(options=()):
    s = socket.socket()
    for option in options:
        s.setsockopt(socket.SOL_SOCKET, option, 1)
    s.bind(("127.0.0.1", {port}))
    s.listen()
    return s

@webtorch.handler
def f(request): return str(webtorch.is_check())
"""

LOCK = """
import fcntl, webtorch
file = open("{lock}", "a")
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

@webtorch.handler
def f(request): return "locked"
"""

SERVER = "location = /f { webtorch_handler app:f; }"


@pytest.fixture
def port():
    port = free_port()
    yield port
    release_port(port)


def test_port_that_is_bound_by_workers_alone(start, port):
    app = PORT.format(port=port) + "if not webtorch.is_check(): s = listen([socket.SO_REUSEPORT])"
    server = start(SERVER, app)
    assert server.get("/f").text == "False"
    status, output = server.check()
    assert status == 0, output
    server.reload()
    assert server.get("/f").text == "False"


def test_port_that_the_check_binds(start, port):
    app = PORT.format(port=port)
    server = start(SERVER, app + "s = listen()")
    status, output = server.check()
    assert status == 1
    line = next(line for line in output.splitlines() if "[emerg]" in line)
    number = 1 + app.split("s.bind")[0].count("\n")
    assert "Address already in use" in line
    assert f"app.py, line {number})" in line
    assert 'leave it out here by "if not webtorch.is_check():"' in line
    assert "SO_REUSEPORT" in line


def test_port_that_an_old_worker_has(start, port):
    app = PORT.format(port=port)
    server = start(SERVER, app + "if not webtorch.is_check(): s = listen()")
    server.reload()
    line = server.wait_for_log('webtorch handler "app:f": .*Address already in use.*')[0]
    assert "share it, for example a port with SO_REUSEPORT" in line
    assert server.get("/f").status_code == 503


def test_lock_of_a_file(start, tmp_path_factory):
    server = start(SERVER, "import webtorch\n@webtorch.handler\ndef f(request): return 'old'")
    lock = server.prefix / "app" / "lock"
    lock.touch()
    lock.chmod(0o666)
    server.write_app(LOCK.format(lock=lock))
    server.reload()
    assert server.get("/f").text == "locked"
    status, output = server.check()
    assert status == 1
    assert "webtorch.is_check()" in output


def test_is_check_is_false_outside_nginx():
    import webtorch

    assert not webtorch.is_check()


def test_garbage_is_collected_in_workers_but_not_in_the_check(start):
    app = """
    import gc, webtorch
    assert gc.isenabled() != webtorch.is_check()

    @webtorch.handler
    def f(request): return str(gc.isenabled())
    """
    assert start(SERVER, app).get("/f").text == "True"
