"""Hosts of real servers, one of which is a guest."""

import os
import re
import signal

import pytest

from cluster_nginx import Hosts
from cluster_spaces import SpaceHosts
from hosts import hosts_or_skip
from nginx import wait_for

NUMBERS = 600_000

SOON = "import webtorch._worker.cluster.guest; webtorch._worker.cluster.guest.TRY_AGAIN = 5.0; "
"""A guest tries the group again soon."""


@pytest.fixture(scope="module")
def network():
    with hosts_or_skip(3) as found:
        yield found


def metric(server, name):
    text = server.get("/status?format=prometheus").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
    return float(found[1]) if found else None


def members(hosts, index):
    return hosts.about(index)["members"]


def is_counted(hosts, steps, which):
    return all(hosts.about(index)["steps"] == steps for index in which)


class LargeHosts(SpaceHosts):
    """Hosts of a model that takes seconds on a slow link."""

    def make(self, index, server, app, workers):
        app = app.replace("2000", str(NUMBERS)).replace("import os", SOON + "import os", 1)
        return super().make(index, server, app, workers)

    def http(self, index):
        return super().http(index).replace("models:4m", "models:32m")


def test_host_with_a_slow_link_becomes_a_guest(network):
    network.links(1e9, 0.005)
    with LargeHosts(network, "interval=100ms timeout=5s") as hosts:
        for index in range(3):
            hosts.train(index, 2)
        wait_for(lambda: is_counted(hosts, 6, range(3)), "the first steps")
        network.link(2, 5e6, 0.2)

        def is_guest():
            for index in range(2):
                hosts.train(index)
            return members(hosts, 0) == members(hosts, 1) == ["web-0", "web-1"]

        wait_for(is_guest, "a guest")
        hosts.servers[2].wait_for_log("this host is a guest now: its links are slow")
        hosts.servers[0].wait_for_log('host "web-2" is a guest now')

        # its steps are counted by the others, and theirs come to it
        hosts.train(2, 5)
        made = sum(hosts.made)
        wait_for(lambda: is_counted(hosts, made, range(3)), "the steps of a guest")
        assert metric(hosts.servers[2], "webtorch_cluster_guest") == 1
        assert metric(hosts.servers[0], "webtorch_cluster_guest") == 0
        guests = [
            metric(server, 'webtorch_cluster_host_guest{host="web-2"}')
            for server in hosts.servers[:2]
        ]
        assert 1 in guests
        assert hosts.about(2)["uncounted"] == 0

        # the worker that was a guest is killed: the next one goes on so
        os.kill(hosts.elected(2), signal.SIGKILL)
        hosts.train(2, 2)
        hosts.train(0, 1)
        made = sum(hosts.made)
        wait_for(lambda: is_counted(hosts, made, range(3)), "the steps of a guest")
        hosts.servers[2].wait_for_log("this host is a guest now: it was one before")
        assert members(hosts, 0) == ["web-0", "web-1"]

        # a fast link again: it measures that, and is a member
        network.link(2)
        hosts.servers[2].wait_for_log("this host takes part in rounds again")
        hosts.train(2, 1)
        hosts.wait_until_counted(sum(hosts.made))
        assert 'host "web-2" has come' in hosts.servers[0].log()


class Behind(Hosts):
    """Hosts, the last of which opens all connections itself."""

    def http(self, index):
        found = super().http(index)
        return found.replace("port=", "guest=always port=") if index == 2 else found


def test_guest_always():
    with Behind(3) as hosts:
        for index in range(3):
            hosts.train(index, 3)
        wait_for(lambda: is_counted(hosts, 9, range(3)), "steps of all")
        assert members(hosts, 0) == members(hosts, 2) == ["web-0", "web-1"]
        guest = hosts.servers[2]
        assert 'this host is a guest now: it has "guest=always"' in guest.log()
        assert guest.get("/ready").ok

        # the host that the coordinator's name leads to is away
        hosts.kill(0)
        hosts.train(2, 2)
        wait_for(lambda: members(hosts, 1) == ["web-1"], "a host to be alone")
        hosts.servers[0].start()
        hosts.train(1, 1)
        hosts.made[0] = 3
        wait_for(lambda: is_counted(hosts, 12, range(3)), "steps of all")
        weights = [hosts.about(index)["weights"] for index in range(3)]
        assert weights[0] == weights[1] == pytest.approx(weights[2])

        # one that shuts down contributes what it has
        hosts.train(2, 4)
        assert guest.quit() == 0
        wait_for(lambda: is_counted(hosts, 16, [0, 1]), "the last steps")
