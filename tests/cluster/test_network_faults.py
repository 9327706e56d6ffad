"""Hosts of real servers in network namespaces, whose links are cut and become slow."""

import pytest

from cluster_spaces import SpaceHosts
from hosts import hosts_or_skip
from nginx import wait_for


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
