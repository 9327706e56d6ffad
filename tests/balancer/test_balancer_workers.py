"""webtorch_balancer over reloads and deaths: estimates are kept, one worker learns."""

import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

from backends import LOCATION, ask, ask_until
from nginx import wait_for

UPSTREAM = "zone u 256k; webtorch_balancer;"

LEARNS = r'\[info\] (\d+)#\d+: webtorch: this worker learns for upstream "u"'


def learners(server):
    return [int(pid) for pid in re.findall(LEARNS, server.log())]


def test_estimates_are_kept_over_reloads(start, backends):
    backends[1].delay = 0.2
    server = start(LOCATION, http=backends.upstream(UPSTREAM), workers=2)
    ask(server, 100)
    server.reload()
    backends.forget()
    answers = ask(server, 100)
    assert {answer.status for answer in answers} == {200}
    assert backends[1].total <= 3


def test_new_server_joins_at_a_reload(start, backends):
    for backend in backends:
        backend.delay = 0.02
    server = start(LOCATION, http=backends.upstream(UPSTREAM))
    ask(server, 100)
    backends.add("3").delay = 0.02
    server.configure(http=backends.upstream(UPSTREAM))
    server.reload()
    ask_until(server, lambda _: backends[3].total > 10)


def test_workers_have_the_policy_that_was_checked(start, backends):
    server = start(LOCATION, http=backends.upstream(UPSTREAM), workers=2)
    wait_for(lambda: learners(server), "a learner")
    assert {answer.status for answer in ask(server, 10)} == {200}
    assert "[error]" not in server.log()


def test_learner_replaced_when_its_worker_crashes(start, backends):
    server = start(
        LOCATION,
        http=backends.upstream(UPSTREAM),
        workers=2,
        expected=("exited on signal 9",),
    )
    first = wait_for(lambda: learners(server), "a learner")
    assert len(first) == 1
    ask_until(server, lambda answer: answer.reason == "cost")
    os.kill(first[0], signal.SIGKILL)
    second = wait_for(lambda: learners(server)[1:], "another learner")
    assert second[0] != first[0]
    wait_for(lambda: len(server.workers()) == 2, "a new worker")
    answers = ask(server, 100)
    assert {answer.status for answer in answers} == {200}
    assert {answer.reason for answer in answers} == {"cost"}


def test_inflight_of_crashed_worker_released(start, backends):
    for backend in backends:
        backend.delay = 0.02
    server = start(
        LOCATION, http=backends.upstream(UPSTREAM), expected=("exited on signal 9",), workers=1
    )
    ask(server, 100)
    before = ask(server, 1)[0].score

    for backend in backends:
        backend.hangs = True
    connections = [server.connection() for _ in range(60)]
    sockets = [connection.__enter__() for connection in connections]
    try:
        for s in sockets:
            s.sendall(b"GET / HTTP/1.1\r\nHost: u\r\n\r\n")
        wait_for(lambda: sum(len(b._open) for b in backends) >= 60, "requests in flight")
        old = server.workers()
        os.kill(old[0], signal.SIGKILL)
        wait_for(lambda: server.workers() and server.workers() != old, "a new worker")
    finally:
        for connection in connections:
            connection.__exit__(None, None, None)
    for backend in backends:
        backend.hangs = False
    wait_for(lambda: server.get("/alive").ok, "the new worker to serve")
    assert ask(server, 1)[0].score < 10 * before


def test_workers_do_not_wait_for_each_other(start, backends):
    # each request is meant for the backup servers, which are this nginx, and asks the others first
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    gone = "".join(f"server 127.0.0.1:{backend.port} max_fails=1;" for backend in backends)
    for backend in backends:
        backends.stop(backend)
    server = start(
        "location / { proxy_pass http://u; proxy_http_version 1.0; }",
        http=f"""
            keepalive_requests 100000;
            upstream u {{ {UPSTREAM} {gone} server 127.0.0.1:{port} backup; }}
            server {{ listen 127.0.0.1:{port}; return 200 backup; }}
        """,
        workers=4,
    )
    ask_until(server, lambda answer: answer.server == "backup")

    def send(_):
        with server.connection() as s:
            for _ in range(60):
                s.sendall(b"GET / HTTP/1.1\r\nHost: u\r\n\r\n" * 50)
                received = b""
                while received.count(b"HTTP/1.1 ") < 50 or not received.endswith(b"backup"):
                    received += s.recv(65536)
                    assert not re.search(rb"HTTP/1.1 [^2].*\r\n", received)

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(send, range(24)))


def test_learner_ends_with_its_configuration(start, backends):
    server = start(LOCATION, http=backends.upstream(UPSTREAM))
    wait_for(lambda: learners(server), "a learner")
    server.reload()
    wait_for(lambda: learners(server)[1:], "the new worker to learn")
    ask_until(server, lambda answer: answer.reason == "cost")
