"""The port at which members answer guests and probes."""

import contextlib
import dataclasses
import hashlib
import socket
import threading
import time

import pytest

from cluster_guests import layout_of, made_site, offered, start
from nginx import wait_for
from webtorch._cluster.guests import Guests
from webtorch._cluster.interfaces import GUEST_PORT, ClusterError, OutsiderError
from webtorch._cluster.reception import MAX_CALLS, Reception
from webtorch._cluster.seal import Ring
from webtorch._cluster.sealed_calls import CallError, connect
from webtorch._cluster.teams import rules_of_guests


@pytest.fixture
def site():
    with made_site() as found:
        yield found


def ask(guest, site, member):
    """Return what a member answers over a new connection."""
    call = connect(guest.settings, site.ring, member.settings.address, member.settings.port)
    request = {"do": "ask", "model": "m", "layout": layout_of(guest.memory)}
    call.send({**request, "rules": rules_of_guests(guest.settings)})
    answer = call.receive()
    call.close()
    return answer


def test_guests_come_while_others_say_nothing(site):
    one, _, guest = start(site)
    place = one.settings.address, one.settings.port + GUEST_PORT
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(place)) for _ in range(MAX_CALLS + 2)
        ]
        assert "anchor" in ask(guest, site, one)
        # the oldest have given way, not the guest's own connection
        silent[0].settimeout(2)
        assert silent[0].recv(1) == b""
        guest.turn()


def test_guests_hello_has_a_deadline(site):
    """Also if a byte comes now and then."""
    one, _, guest = start(site)
    one.reception._settings = dataclasses.replace(one.settings, timeout=0.5)
    place = one.settings.address, one.settings.port + GUEST_PORT
    begun = time.monotonic()
    with socket.create_connection(place) as slow:
        slow.sendall((200).to_bytes(4, "little"))
        with pytest.raises(OSError):
            for _ in range(60):
                slow.sendall(b"x")
                time.sleep(0.05)
    assert time.monotonic() - begun < 2
    # and the first message, as a hello may be a recorded one
    call = connect(guest.settings, site.ring, *place[:1], one.settings.port)
    call._connection.sendall((200).to_bytes(4, "little"))
    begun = time.monotonic()
    with pytest.raises(OSError):
        for _ in range(60):
            call._connection.sendall(b"x")
            time.sleep(0.05)
    assert time.monotonic() - begun < 2
    call.close()


def test_guests_that_ask_seldom_are_not_forgotten(site):
    settings = dataclasses.replace(site.settings("web-9"), interval=90.0)
    found = Reception(settings, site.ring, Guests())
    found._last_of = {"guest": time.monotonic() - 100, "gone": time.monotonic() - 190}
    assert found.guests() == ["guest"]


def test_guests_port_that_is_taken_is_logged(site, caplog):
    settings = dataclasses.replace(site.settings("web-9"), timeout=0.1)
    place = settings.address, settings.port + GUEST_PORT
    found = Reception(settings, site.ring, Guests())
    with socket.create_server(place):
        found.start(lambda: contextlib.nullcontext({}))
        wait_for(lambda: "guests are not answered at" in caplog.text, "a line of the log")
    wait_for(lambda: "guests are answered at" in caplog.text, "another one")
    assert caplog.text.count("guests are not answered at") == 1
    found.close()


def test_guests_come_again_when_no_thread_could_be_started(site, monkeypatch, caplog):
    caplog.set_level("INFO")
    one, _, guest = start(site)
    begin = threading.Thread.start
    failed = []

    def fail(thread):
        if thread.name == "guest" and not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(ClusterError):
        ask(guest, site, one)
    assert failed
    wait_for(lambda: "a connection of a guest is closed" in caplog.text, "a line of the log")
    assert len(one.reception._calls) <= 2

    def answers():
        with contextlib.suppress(ClusterError):
            return "anchor" in ask(guest, site, one)

    wait_for(answers, "an answer")


def test_guests_without_the_secret_are_refused(site, caplog):
    one, _, guest = start(site)
    address, port = one.settings.address, one.settings.port
    ring = Ring("test", (b"another secret of 32 bytes or more",))
    with pytest.raises(ClusterError):
        connect(guest.settings, ring, address, port)
    call = connect(guest.settings, site.ring, address, port)
    call._to, call._by = call._by, call._to
    call.send({"do": "ask"})
    with pytest.raises(CallError):
        call.receive()
    assert caplog.text.count("a connection to the port of guests is refused") == 1


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "x"},
        {"do": "ask", "model": "x"},
        {"do": "ask", "model": "m", "layout": "x"},
    ],
)
def test_guests_requests_that_are_not_answered(site, request_):
    one, _, guest = start(site)
    call = connect(guest.settings, site.ring, one.settings.address, one.settings.port)
    call.send(request_)
    assert call.receive()["error"]
    call.send({"do": "ask"})
    assert call.receive()["error"]
    call.close()


@pytest.mark.parametrize(
    "changes",
    [{"number": 0}, {"steps": "1"}, {"of": [0]}, {"of": 3}, {"host": "x" * 200}, {"size": 7}],
)
def test_guests_malformed_contributions(site, changes):
    one, _, guest = start(site)
    call = connect(guest.settings, site.ring, one.settings.address, one.settings.port)
    layout = hashlib.sha256(guest.memory.layout).hexdigest()
    good = {"do": "contribute", "model": "m", "layout": layout, "host": "g/1"}
    good |= {"rules": rules_of_guests(guest.settings)}
    good |= {"number": 1, "steps": 1, "of": [0, ""]}
    size = changes.get("size", 5000 + 8 + 16)
    call.send({**good, **changes}, bytes(size))
    with pytest.raises(CallError):
        call.receive()
    assert not offered(one)
    with pytest.raises((CallError, OutsiderError)):
        call.receive()
