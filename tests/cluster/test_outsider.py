"""Someone without the secret who reaches the ports: no member, no change, no weights."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
import torch

from cluster_hosts import Host, do_all, running_hosts, settings_of, stop_server
from nginx import wait_for
from webtorch._cluster.membership import _torchft

_EVERYTHING = 3
"""ETH_P_ALL"""

GARBAGE = [
    b"\0" * 64,
    b"\xff" * 4096,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    os.urandom(1 << 16),
    b"x",
    b"",
]


@pytest.fixture(scope="module", autouse=True)
def server():
    yield
    stop_server()


@pytest.fixture(scope="module")
def group():
    with running_hosts(settings_of(3, timeout=4)) as hosts:
        hosts[0].do("serve")
        do_all(hosts, "join", 3)
        yield hosts


def listening(address: str) -> list[int]:
    """Return the TCP ports at which somebody listens on an address."""
    wanted = socket.inet_aton(address)[::-1].hex().upper()
    with open("/proc/net/tcp") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    local = [line[1].split(":") for line in lines if line[3] == "0A"]
    return [int(port, 16) for place, port in local if place == wanted]


def test_hosts_listen_on_their_addresses_only(group):
    for index, host in enumerate(group):
        ports = listening(host.settings.address)
        # gloo's, and at the first one the service's; the store is there while a group is made
        assert len(ports) == (2 if index == 0 else 1), ports
        assert (7610 in ports) == (index == 0) and 7611 not in ports
    assert not {7610, 7611} & set(listening("0.0.0.0"))


def test_garbage_to_all_ports(group):
    kept = []
    for host in group:
        for port in listening(host.settings.address):
            for data in GARBAGE:
                connection = socket.create_connection((host.settings.address, port), 10)
                kept.append(connection)
                try:
                    connection.sendall(data)
                except OSError:
                    # it was not wanted
                    connection.close()
    assert do_all(group, "exchange", b"still") == [[b"still"] * 3] * 3
    # also while a group is made
    do_all(group, "close")
    assert do_all(group, "join", 3) == [("a", "b", "c")] * 3
    means = [mean for mean, _ in do_all(group, "mean", 0, 100_000, [1.0] * 3)]
    assert all(torch.equal(mean, means[0]) for mean in means)
    for connection in kept:
        connection.close()


@pytest.mark.parametrize(
    "entry",
    [None, {}, {"entry": "{}", "mac": "00"}, {"entry": 1, "mac": []}, {"entry": "x", "mac": "é"}],
)
def test_forged_member(group, entry):
    """The service takes whoever asks; hosts do not."""
    first = group[0].settings
    forger = _torchft().LighthouseClient(f"http://{first.address}:7610", timedelta(seconds=10))
    answers = []

    def join() -> None:
        for _ in range(3):
            answers.append(forger.quorum("x", timedelta(seconds=60), address="x", data=entry))

    thread = threading.Thread(target=join)
    do_all(group, "ask")
    thread.start()

    def rejected() -> bool:
        last = group[1].do("last")
        return not isinstance(last, str) and "x" in last.rejected and last.ids == ("a", "b", "c")

    wait_for(rejected, "the forger's entry")
    thread.join(60)
    do_all(group, "halt")
    assert answers
    assert do_all(group, "join", 3) == [("a", "b", "c")] * 3


def test_replayed_entry_is_no_other_host(group):
    """The forger has a member's entry, which everybody can read, and sends it as its own."""
    first = group[0].settings
    forger = _torchft().LighthouseClient(f"http://{first.address}:7610", timedelta(seconds=10))
    do_all(group, "ask")
    answer = forger.quorum("x", timedelta(seconds=60), data={})
    stolen = next(each.data for each in answer.participants if each.replica_id.startswith("b/"))
    forger.quorum("x", timedelta(seconds=60), data=stolen)

    def rejected() -> bool:
        last = group[2].do("last")
        return not isinstance(last, str) and last.ids == ("a", "b", "c") and not last.rejected

    wait_for(rejected, "the forger's end")
    do_all(group, "halt")
    assert do_all(group, "join", 3) == [("a", "b", "c")] * 3


@contextmanager
def recording() -> Iterator[list[bytes]]:
    """Record all that goes over the loopback interface."""
    try:
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING))
    except PermissionError:
        pytest.skip("recording needs CAP_NET_RAW")
    sniffer.bind(("lo", 0))
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    sniffer.settimeout(0.2)
    packets: list[bytes] = []
    done = threading.Event()

    def record() -> None:
        while not done.is_set():
            try:
                packets.append(sniffer.recv(1 << 17))
            except TimeoutError:
                continue

    thread = threading.Thread(target=record)
    with closing(sniffer):
        thread.start()
        try:
            yield packets
        finally:
            done.set()
            thread.join()


def has_pattern(packets: list[bytes], pattern: bytes) -> bool:
    return any(pattern in packet for packet in packets)


def test_recorded_traffic_has_no_weights(group: list[Host]):
    """Weights, messages and addresses of gloo are not in it; what is sent without a seal is."""
    count = 50_000
    pattern = b"known bytes of weights, known bytes of weights. "
    do_all(group, "close")
    with recording() as packets:
        do_all(group, "join", 3)
        before = len(packets)
        do_all(group, "constant", pattern, count)
        do_all(group, "exchange", pattern * 100)
        group[0].begin("send_state", 1, pattern * 1000)
        group[1].begin("receive_state", 0, 1000 * len(pattern))
        assert group[1].result() == pattern * 1000
        group[0].result()
        sent = group[0].do("carried")[0]
        wait_for(lambda: sum(map(len, packets[before:])) > sent, "the group's packets")
        assert not has_pattern(packets, pattern[:16])

        listener = socket.create_server((group[0].settings.address, 0))
        with listener, socket.create_connection(listener.getsockname()) as plain:
            plain.sendall(pattern)
            wait_for(lambda: has_pattern(packets, pattern[:16]), "the bytes without a seal")
