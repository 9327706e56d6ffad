"""webtorch_balancer when servers fail: they are left alone, tried, and brought back."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from backends import LOCATION, ask, ask_until
from nginx import free_port, release_port

RETRIES = "proxy_next_upstream error timeout http_500; proxy_next_upstream_tries 3;"

BACKENDS = 4


@pytest.fixture
def server(start, backends):
    http = backends.upstream("zone u 256k; webtorch_balancer;")
    server = start(LOCATION, http=http)
    ask(server, 200)
    backends.forget()
    return server


def test_limited_client_ejects_none(server, backends):
    for backend in backends:
        backend.status = 429
    assert {answer.reason for answer in ask(server, 100)} <= {"cost", "peak"}


def test_fail_status_429(start, backends):
    http = backends.upstream("zone u 256k; webtorch_balancer fail_status=429,500-599;")
    server = start(LOCATION, http=http)
    ask(server, 200)
    backends[1].status = 429
    ask_until(server, lambda answer: answer.reason == "probe" and answer.status == 429)


def test_fail_status_off(start, backends):
    http = backends.upstream("zone u 256k; webtorch_balancer fail_status=off;")
    server = start(LOCATION, http=http)
    for backend in backends:
        backend.status = 500
    assert {answer.reason for answer in ask(server, 100)} <= {"cost", "peak"}


@pytest.mark.serial
@pytest.mark.parametrize("status", [302, 404])
def test_fast_refusals_do_not_attract(server, backends, status):
    for backend in backends:
        backend.delay = 0.02
    ask(server, 200)
    backends[1].status = status
    backends[1].delay = 0.0
    answers = ask(server, 300)
    assert sum(answer.status == status for answer in answers) < 60
    assert "probe" not in {answer.reason for answer in answers if answer.status == status}


def test_grpc_status_that_peers_do_not_have(start):
    ports = [free_port() for _ in range(3)]
    peers = "".join(
        f"""server {{
            listen 127.0.0.1:{port} http2;
            default_type application/grpc;
            add_header grpc-status {status};
            location / {{ return 200 {number}; }}
        }}"""
        for number, (port, status) in enumerate(zip(ports, (0, 14, 0), strict=True))
    )
    servers = "".join(f"server 127.0.0.1:{port};" for port in ports)
    server = start(
        "location / { grpc_pass grpc://u; }",
        http=f"upstream u {{ webtorch_balancer; {servers} }} {peers}",
    )
    answers = [server.get("/").text for _ in range(150)]
    for port in ports:
        release_port(port)
    assert answers.count("1") < 20


@pytest.mark.serial
def test_fast_errors_do_not_attract(server, backends):
    backends[1].status = 500
    answers = ask(server, 600)
    assert 1 <= sum(answer.status == 500 for answer in answers) <= 12
    assert backends[1].total <= 12


def test_ejected_server_probed_and_brought_back(server, backends):
    backends[1].status = 500
    ask_until(server, lambda answer: answer.reason == "probe" and answer.status == 500)
    backends[1].status = 200
    ask_until(server, lambda answer: answer.reason == "probe" and answer.server == "1")
    backends.forget()
    ask_until(server, lambda _: backends[1].total > 20)


def test_refused_connections_are_noticed_by_few(server, backends):
    backends.stop(backends[2])
    answers = ask(server, 300)
    assert {answer.status for answer in answers} == {200}
    retried = [answer for answer in answers if len(answer.tried) > 1]
    assert len(retried) <= 10

    backends.restart(backends[2])
    ask_until(server, lambda answer: answer.server == "2")


def test_retry_goes_to_another_server(start, backends):
    server = start(LOCATION + RETRIES, http=backends.upstream("zone u 256k; webtorch_balancer;"))
    for backend in list(backends)[1:]:
        backend.status = 500
    answers = ask(server, 200)
    for answer in answers:
        assert len(set(answer.tried)) == len(answer.tried)


def test_hanging_server_noticed_before_its_timeout(server, backends):
    for backend in backends:
        backend.delay = 0.02
    ask(server, 200)
    backends.forget()
    backends[3].hangs = True
    begin = time.monotonic()
    answers = ask(server, 400, at_once=16)
    assert {answer.status for answer in answers} == {200}
    if time.monotonic() - begin < 1.9:
        # no request has waited for the timeout of 2 seconds, so it did not reveal the server
        assert backends[3].total <= 16


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_answers_that_end_too_early_are_failures(start, backends, buffering):
    server = start(
        LOCATION + f"proxy_buffering {buffering};",
        http=backends.upstream("zone u 256k; webtorch_balancer;"),
        expected=("upstream prematurely closed connection",),
    )
    for backend in backends:
        backend.delay = 0.01
    ask(server, 200, at_once=16)
    backends[1].is_cut = True

    def is_cut(_):
        try:
            server.get("/")
        except requests.RequestException:
            return True
        return False

    with ThreadPoolExecutor(16) as pool:
        assert 1 <= sum(pool.map(is_cut, range(400))) <= 20


def test_failing_servers_used_if_all_fail(server, backends):
    for backend in backends:
        backend.status = 500
    answers = ask(server, 200)
    assert {answer.status for answer in answers} == {500}
    for backend in backends:
        backend.status = 200
    ask_until(server, lambda answer: answer.status == 200)


def test_recovery_after_all_servers_were_gone(server, backends):
    for backend in backends:
        backends.stop(backend)
    assert {answer.status for answer in ask(server, 60)} == {502}
    backends.restart(backends[0])
    answers = ask_until(server, lambda answer: answer.status == 200)
    assert {answer.server for answer in answers if answer.status == 200} == {"0"}
    assert len(answers) < 200


def test_errors_of_all_servers_eject_none(server, backends):
    # a bad request, wherever it goes
    for backend in backends:
        backend.status = 500
    ask(server, 100)
    for backend in backends:
        backend.status = 200
    ask(server, 400)
    backends.forget()
    answers = ask(server, 200)
    assert {answer.status for answer in answers} == {200}
    assert min(Counter(answer.server for answer in answers).values()) > 0
