"""Hosts of real servers, one of which is a guest."""

import pytest

from cluster_nginx import Hosts
from nginx import wait_for


def members(hosts, index):
    return hosts.about(index)["members"]


def is_counted(hosts, steps, which):
    return all(hosts.about(index)["steps"] == steps for index in which)


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
