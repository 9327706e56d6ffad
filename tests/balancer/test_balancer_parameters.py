"""webtorch_balancer beside the stock parameters and directives of upstreams."""

import threading
from collections import Counter

import pytest

from backends import LOCATION, Backends, ask, ask_until
from nginx import wait_for


def names(answers):
    return Counter(answer.server for answer in answers)


@pytest.mark.parametrize("zone", ["", "zone u 256k;"])
def test_servers_are_all_used(start, backends, zone):
    server = start(LOCATION, http=backends.upstream(f"{zone} webtorch_balancer;"))
    answers = ask(server, 300)
    assert {answer.status for answer in answers} == {200}
    assert set(names(answers)) == {"0", "1", "2"}


@pytest.mark.serial
def test_slow_server_gets_less(start, backends):
    for backend, delay in zip(backends, (0.005, 0.005, 0.1), strict=True):
        backend.delay = delay
    server = start(LOCATION, http=backends.upstream("zone u 256k; webtorch_balancer;"))
    ask(server, 100)
    backends.forget()
    ask(server, 300)
    assert backends[2].total < 40


@pytest.mark.serial
def test_weights(start, backends):
    backends[0].delay = backends[1].delay = backends[2].delay = 0.05
    server = start(LOCATION, http=backends.upstream(_0="weight=8"))
    ask(server, 300, at_once=16)
    assert backends[0].total > 1.5 * max(backends[1].total, backends[2].total)


def test_servers_that_are_down_are_not_used(start, backends):
    server = start(LOCATION, http=backends.upstream(_1="down"))
    ask(server, 60)
    assert backends[1].total == 0


def test_backup_servers_are_for_when_all_others_fail(start, backends):
    server = start(
        LOCATION,
        http=backends.upstream(_2="backup", _0="fail_timeout=1s", _1="fail_timeout=1s"),
    )
    ask(server, 60)
    assert backends[2].total == 0

    backends.stop(backends[0])
    backends.stop(backends[1])
    answers = ask(server, 60)
    assert names(answers) == {"2": 60}

    backends.restart(backends[0])
    ask_until(server, lambda answer: answer.server == "0")


def test_backup_servers_are_used_when_the_others_answer_errors(start, backends):
    server = start(LOCATION, http=backends.upstream(_2="backup"))
    ask(server, 60)
    backends[0].status = backends[1].status = 500
    ask_until(server, lambda answer: answer.server == "2")
    assert names(ask(server, 100))["2"] > 90


def test_backup_servers_that_are_gone_are_not_waited_for(start, backends):
    server = start(LOCATION, http=backends.upstream(_2="backup"))
    ask(server, 60)
    for backend in backends:
        backends.stop(backend)
    assert {answer.status for answer in ask(server, 60)} == {502}
    backends.restart(backends[0])
    assert len(ask_until(server, lambda answer: answer.status == 200)) < 50


def test_max_conns(start, backends):
    for backend in backends:
        backend.delay = 0.3
    server = start(
        LOCATION,
        http=backends.upstream("zone u 256k; webtorch_balancer;", _0="max_conns=1", _1="down"),
    )
    answers = ask(server, 12, at_once=12)
    assert {answer.status for answer in answers} == {200}
    assert backends[0].most_at_once == 1
    assert backends[2].most_at_once > 1


def test_connections_are_kept_alive(start, backends):
    server = start(LOCATION, http=backends.upstream("webtorch_balancer; keepalive 8;"))
    answers = ask(server, 200)
    assert {answer.status for answer in answers} == {200}
    connections = sum(len(backend._open) for backend in backends)
    assert 0 < connections <= 8


def test_max_fails_0_ejects_no_server(start, backends):
    every = {f"_{number}": "max_fails=0" for number in range(3)}
    server = start(LOCATION, http=backends.upstream(**every))
    backends[0].status = 500
    answers = ask(server, 400)
    assert "probe" not in {answer.reason for answer in answers if answer.status == 500}
    assert {answer.status for answer in answers} == {200, 500}


def test_single_server(start):
    servers = Backends(1)
    try:
        server = start(LOCATION, http=servers.upstream())
        assert {answer.reason for answer in ask(server, 20)} == {"only"}
        servers[0].status = 500
        assert {answer.status for answer in ask(server, 20)} == {500}
        servers.stop(servers[0])
        assert {answer.status for answer in ask(server, 20)} == {502}
        servers[0].status = 200
        servers.restart(servers[0])
        assert {answer.status for answer in ask(server, 20)} == {200}
    finally:
        servers.close()


def test_variables(start, backends):
    server = start(
        LOCATION + 'location = /none { return 200 "$webtorch_upstream_reason!"; }',
        http=backends.upstream(),
    )
    ask_until(server, lambda answer: answer.reason == "cost")
    answer = ask(server, 1)[0]
    assert 0.0 < answer.score < 10.0
    assert server.get("/none").text == "!"


def test_variables_after_internal_redirect(start, backends):
    location = """
        location / {
            proxy_pass http://u;
            proxy_intercept_errors on;
            error_page 404 /replaced;
        }
        location = /replaced { return 200 "$webtorch_upstream_reason $webtorch_upstream_score"; }
    """
    server = start(location, http=backends.upstream())
    for backend in backends:
        backend.status = 404
    reason, score = server.get("/").text.split()
    assert reason in ("cost", "peak")
    assert 0.0 < float(score) < 10.0


def test_client_abort_releases_inflight(start, backends):
    for backend in backends:
        backend.delay = 0.5
    server = start(LOCATION, http=backends.upstream("zone u 256k; webtorch_balancer;"))

    def go_away():
        with server.connection() as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: u\r\n\r\n")

    threads = [threading.Thread(target=go_away) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for backend in backends:
        backend.delay = 0.0
    wait_for(lambda: ask(server, 1)[0].score < 0.2, "the load to be forgotten")
