"""The network that tests of hosts are made on: its links do what they say."""

import socket
import subprocess
import sys
from threading import Thread

import pytest

from hosts import Hosts, address, hosts_or_skip
from nginx import wait_for

ECHO = """
import socket, sys
listener = socket.create_server((sys.argv[1], 5000))
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(1 << 16):
            connection.sendall(data)
"""

SEND = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 5000), 60)
size = int(sys.argv[2])
start = time.monotonic()
connection.sendall(bytes(size))
got = 0
while got < size:
    got += len(connection.recv(1 << 16))
print(time.monotonic() - start)
"""

PROBE = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 5000), float(sys.argv[2]))
connection.sendall(b"x")
assert connection.recv(1) == b"x"
"""


@pytest.fixture(scope="module")
def network():
    with hosts_or_skip(3) as hosts:
        echo = hosts.command(1, [sys.executable, "-c", ECHO, address(1)])
        process = subprocess.Popen(echo, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield hosts
        process.kill()
        process.wait()
        process.stdout.close()


def reaches(hosts: Hosts, host: int, timeout: float) -> bool:
    command = [sys.executable, "-c", PROBE, address(1), str(timeout)]
    done = subprocess.run(hosts.command(host, command), stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def seconds(hosts: Hosts, size: int) -> float:
    """Return what sending so many bytes there and back takes."""
    command = hosts.command(0, [sys.executable, "-c", SEND, address(1), str(size)])
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def test_link_rate_and_delay(network):
    """Only what is never faster: a machine under load takes longer."""
    network.links(8e6, 0.1)
    assert seconds(network, 1) >= 0.1
    # a MB there and back, at the same time, at 1 MB a second
    assert seconds(network, 1_000_000) >= 1
    network.links(1e9, 0)


def test_link_cut(network):
    assert reaches(network, 0, 60)
    network.cut(0, [1])
    assert not reaches(network, 0, 0.5) and reaches(network, 2, 60)
    network.heal(0)
    assert reaches(network, 0, 60)
    network.cut(1, [0], one_way=True)
    assert not reaches(network, 0, 0.5) and reaches(network, 2, 60)
    network.heal(1)
    network.link(0, loss=1)
    assert not reaches(network, 0, 0.5)
    network.link(0)
    wait_for(lambda: reaches(network, 0, 1), "a link without losses")


def test_enter(network):
    """A thread of a test can be at a host."""
    found = []

    def look() -> None:
        network.enter(2)
        found.append([name for _, name in socket.if_nameindex()])
        with socket.create_connection((address(1), 5000), 60) as connection:
            found.append(connection.getsockname()[0])

    thread = Thread(target=look)
    thread.start()
    thread.join()
    assert "net0" in found[0] and found[1] == address(2)


def test_names_of_a_host(network, tmp_path):
    names = tmp_path / "hosts"
    names.write_text("10.77.0.1 coordinator.test\n")
    look_up = "import socket, time; print(socket.gethostbyname('coordinator.test'))"
    command = network.command(0, [sys.executable, "-c", look_up], names)
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert found.stdout == "10.77.0.1\n"
