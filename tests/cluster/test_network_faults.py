"""Hosts of real servers in network namespaces, whose links are cut and become slow."""

import subprocess
from dataclasses import replace
from threading import Thread

import pytest

from cluster_spaces import SpaceHosts
from cluster_threads import settings
from hosts import address, hosts_or_skip
from nginx import wait_for
from webtorch._cluster.interfaces import Member
from webtorch._cluster.probes import Probes


@pytest.fixture(scope="module")
def network():
    with hosts_or_skip(3) as found:
        yield found


def test_hosts_that_are_cut_off(network):
    network.links(1e9, 0.005)
    with SpaceHosts(network, "interval=100ms timeout=3s") as hosts:
        for index in range(3):
            hosts.train(index, 3)
        hosts.wait_until_counted(9)

        # both sides train on; the one that sees no coordinator makes no rounds
        network.cut(2)
        hosts.train(0, 2)
        hosts.train(2, 4)
        hosts.wait_until_counted(11, [0, 1])
        wait_for(lambda: hosts.about(2)["members"] == ["web-2"], "a host to be alone")
        assert hosts.about(2)["uncounted"] == 4
        network.heal(2)
        hosts.wait_until_counted(15)

        # it hears the others, which do not hear it
        network.cut(1, one_way=True)
        hosts.train(1, 3)
        hosts.train(2, 3)
        hosts.wait_until_counted(18, [0, 2])
        network.heal(1)
        hosts.wait_until_counted(21)

        # the coordinator is cut off: nobody stops, and nothing is lost
        network.cut(0)
        for index in range(3):
            hosts.train(index, 2)
        wait_for(lambda: hosts.about(1)["members"] == ["web-1"], "a host to be alone")
        network.heal(0)
        hosts.wait_until_counted(27)

        # a link that loses packets and is slow: rounds take longer
        network.link(1, 2e6, 0.05, 0.02)
        for index in range(3):
            hosts.train(index, 2)
        hosts.wait_until_counted(33)
        network.link(1)
        assert hosts.about(0)["calls"] == 33


class LargeHosts(SpaceHosts):
    """Hosts of a model whose exchange takes a second on a slow link."""

    def make(self, index, server, app, workers):
        return super().make(index, server, app.replace("2000", "600_000"), workers)

    def http(self, index):
        return super().http(index).replace("models:4m", "models:32m")


def sent(network, host):
    """Return the bytes that a host has sent."""
    command = network.command(host, ["cat", "/proc/self/net/dev"])
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return sum(int(line.split()[9]) for line in text.splitlines() if "net0" in line)


def test_host_that_is_killed_in_an_exchange(network):
    """Others go on before the timeout, and have nothing of the round in which it was killed."""
    network.links(1e9, 0.005)
    # longer than what the test waits for
    with LargeHosts(network, "interval=100ms timeout=300s") as hosts:
        for index in range(3):
            hosts.train(index, 3)
        hosts.wait_until_counted(9)
        for lost in (2, 1):
            kill_in_exchange(hosts, lost)
            hosts.servers[lost].start()
            made = hosts.about(0)["steps"]
            hosts.train(lost, 1)
            hosts.wait_until_counted(made + 1)
            assert hosts.about(lost)["calls"] == made + 1


def kill_in_exchange(hosts, lost):
    """Kill a host when it has sent a third of what it sends in a round."""
    network = hosts.network
    network.links(2e7, 0.005)
    made = hosts.about(0)["steps"]
    before = sent(network, lost)
    for index in range(3):
        hosts.train(index, 2)
    wait_for(lambda: sent(network, lost) > before + 1_000_000, "an exchange")
    hosts.kill(lost)
    network.links(1e9, 0.005)
    others = [index for index in range(3) if index != lost]
    hosts.wait_until_counted(made + 4, others)
    assert hosts.about(0)["calls"] == made + 4


def test_probes_of_hosts(network):
    """A host is reachable if it answers, though nothing listens there."""
    members = [Member(f"web-{index}", address(index), 7610) for index in range(3)]
    probes = Probes(replace(settings("web-0"), address=address(0), timeout=2.0))
    network.cut(0, [2], one_way=True)

    def begin() -> None:
        network.enter(0)
        probes.begin(members)

    thread = Thread(target=begin)
    thread.start()
    thread.join()
    try:
        wait_for(lambda: probes.unreachable == ["web-2"], "a host that cannot be reached")
        network.heal(0)
        wait_for(lambda: not probes.unreachable, "it to be reached")
        wait_for(lambda: probes._thread is None, "the thread to end")
    finally:
        network.heal(0)
        probes.close()


def test_hosts_between_which_is_a_cut(network):
    """Both see the coordinator; one of them is left out until they reach each other."""
    with SpaceHosts(network, "interval=100ms timeout=2s") as hosts:
        for index in range(3):
            hosts.train(index, 3)
        hosts.wait_until_counted(9)
        network.cut(1, [2])
        for index in range(3):
            hosts.train(index, 2)
        hosts.wait_until_counted(13, [0, 1])
        wait_for(lambda: hosts.about(2)["members"] == ["web-2"], "a host to be alone")
        assert hosts.about(2)["uncounted"] == 2
        hosts.servers[2].wait_for_log("continues alone: there is no connection to web-1")
        network.heal(1)
        hosts.wait_until_counted(15)
        assert hosts.about(2)["calls"] == 15
