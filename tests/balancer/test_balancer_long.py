"""webtorch_balancer and requests that last for long: they do not take their servers out of use."""

import contextlib
import socket
import time

import pytest

from backends import LARGE, LOCATION, ask, ask_until
from nginx import wait_for

UPSTREAM = "zone u 256k; webtorch_balancer;"

APP = """
    import sys
    import torch

    def score(servers):
        print("in flight:", int(servers.in_flight.sum()), file=sys.stderr, flush=True)
        return torch.ones(len(servers))
"""

LONG = """
    location = /tunnel {
        proxy_pass http://u;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
    }
    location = /stream { proxy_pass http://u; proxy_buffering off; proxy_read_timeout 300ms; }
    location = /idle { rewrite ^ /stream break; proxy_pass http://u; proxy_buffering off; }
    location = /poll { proxy_pass http://u; }
    location = /large { proxy_pass http://u; proxy_max_temp_file_size 0; }
    location = /unbuffered { rewrite ^ /large break; proxy_pass http://u; proxy_buffering off; }
"""


@pytest.fixture
def server(start, backends):
    for backend in backends:
        backend.delay = 0.02
    server = start(
        LOCATION + LONG, http=backends.upstream(UPSTREAM), expected=("upstream timed out",)
    )
    ask(server, 300)
    backends.forget()
    return server


@contextlib.contextmanager
def request(server, path, buffer=0):
    with socket.socket() as s:
        if buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        s.settimeout(20)
        s.connect(("127.0.0.1", server.port))
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: u\r\nUpgrade: test\r\n\r\n".encode())
        yield s


@pytest.mark.parametrize("path", ["/tunnel", "/idle", "/poll"])
def test_idle_request_is_not_load(start, backends, path):
    http = backends.upstream("webtorch_balancer app:score;")
    server = start(LOCATION + LONG, APP, http=http)
    ask(server, 60)
    with request(server, path):
        wait_for(lambda: any(backend.long for backend in backends), "the request to come")
        seen = len(server.log())
        wait_for(
            lambda: ask(server, 2) and "in flight: 0\n" in server.log()[seen:],
            "the request to be no load",
        )


@pytest.mark.serial
def test_streams_that_time_out_eject_none(server):
    for _ in range(9):
        with request(server, "/stream") as s:
            while s.recv(1000):
                pass
    assert {answer.reason for answer in ask(server, 60)} <= {"cost", "peak"}


@pytest.mark.serial
@pytest.mark.parametrize("path", ["/large", "/unbuffered"])
def test_slow_client_is_not_a_slow_server(start, backends, path):
    backends[0].delay = 0.02
    server = start(LOCATION + LONG, http=backends.upstream(UPSTREAM, _1="down", _2="down"))
    ask_until(server, lambda answer: answer.score > 0)
    before = ask(server, 50, at_once=1)[-1].score
    for _ in range(5):
        with request(server, path, buffer=4096) as s:
            begin = time.monotonic()
            while time.monotonic() - begin < 1.0:
                assert s.recv(4096)
                time.sleep(0.01)
            received = 0
            while received < LARGE * 0.95:
                received += len(s.recv(1 << 20))
    assert ask(server, 1)[0].score < 2 * before
