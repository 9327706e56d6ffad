"""webtorch_balancer key=: requests of a kind go where they are quick, and stay where they are."""

from collections import Counter

import pytest

from backends import LOCATION, ask

HTTP = "zone u 256k; webtorch_balancer key=$arg_k;"

BACKENDS = 4


@pytest.mark.serial
def test_keys_stay_where_they_are_warm(start, backends):
    for backend in backends:
        backend.delay, backend.first_contact = 0.005, 0.1
    server = start(LOCATION, http=backends.upstream(HTTP))
    keys = [f"/?k={number}" for number in range(12)]
    for _ in range(10):
        for key in keys:
            ask(server, 2, key, at_once=2)
    homes = {key: sum(1 for backend in backends if backend.requests[key[4:]]) for key in keys}
    assert sum(homes.values()) <= 18, homes
    used = [backend.total for backend in backends]
    assert min(used) > 0, used
    assert ask(server, 1, keys[0])[0].reason == "warm"


def test_cold_request_sets_reason(start, backends):
    server = start(LOCATION, http=backends.upstream(HTTP))
    assert ask(server, 1, "/?k=new")[0].reason == "copy"


def test_request_without_key(start, backends):
    server = start(LOCATION, http=backends.upstream(HTTP))
    reasons = Counter(answer.reason for answer in ask(server, 50, "/"))
    assert set(reasons) <= {"cost", "peak"}


def test_keys_of_lost_server_move(start, backends):
    server = start(LOCATION, http=backends.upstream(HTTP))
    home = ask(server, 20, "/?k=a", at_once=1)[-1].server
    backends.stop(backends[int(home)])
    answers = ask(server, 20, "/?k=a", at_once=1)
    assert {answer.status for answer in answers} == {200}
    assert answers[-1].server != home
