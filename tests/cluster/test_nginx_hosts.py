"""Hosts of real servers: no step is lost or counted twice."""

import os
import re
import signal

from cluster_nginx import Hosts
from nginx import daemon, wait_for


def wait_for_metric(server, name, least):
    def is_there():
        text = server.get("/status?format=prometheus").text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        return found and float(found[1]) >= least

    wait_for(is_there, f"{name} of {least}")


class Lost(Hosts):
    """Hosts whose coordinator does not answer."""

    def http(self, index):
        return super().http(index).replace(f"coordinator={self._net}.1", "coordinator=127.255.0.1")


def test_metrics_of_host_that_is_cut_off():
    """An alert needs them when there are no rounds, also if there never was one."""
    with Lost(1, "interval=100ms timeout=1s", workers=1) as hosts:
        (server,) = hosts.servers
        hosts.train(0, 5)
        wait_for_metric(server, 'webtorch_cluster_steps_uncounted{model="count"}', 5)
        wait_for_metric(server, "webtorch_cluster_last_round_seconds", 0.1)
        wait_for_metric(server, 'webtorch_cluster_rounds_total{result="alone"}', 1)
        hosts.train(0, 2)
        wait_for_metric(server, 'webtorch_cluster_steps_uncounted{model="count"}', 7)
        wait_for_metric(server, "webtorch_cluster_last_round_seconds", 2)


def test_hosts_workers_that_are_killed_and_reloads():
    with Hosts(2) as hosts:
        one, two = hosts.servers
        hosts.train(0, 5)
        hosts.train(1, 7)
        hosts.wait_until_counted(12)
        about = hosts.about(0)
        assert about["calls"] == 12
        assert about["own"]
        assert about["last_round"] > 0

        instances = [hosts.about(server)["instance"] for server in (0, 1)]
        assert instances[0] != instances[1]
        for server in (0, 1, 1):
            hosts.train(server, 2)
            os.kill(hosts.elected(server), signal.SIGKILL)
            hosts.train(1 - server, 2)
        hosts.wait_until_counted(24)
        # of a worker that has taken the place of another one, too
        assert [hosts.about(server)["instance"] for server in (0, 1)] == instances
        assert hosts.about(1)["calls"] == 24

        hosts.train(1, 3)
        two.reload()
        hosts.train(0, 3)
        hosts.train(1, 3)
        hosts.wait_until_counted(33)

        for name, least in (
            ("webtorch_cluster_members", 2),
            ("webtorch_cluster_steps_total", 10),
            ('webtorch_cluster_rounds_total{result="done"}', 3),
            ('webtorch_cluster_bytes_total{direction="sent"}', 3 * 8000),
            ('webtorch_cluster_steps_uncounted{model="count"}', 0),
            ("webtorch_cluster_last_round_seconds", 0),
            *((f'webtorch_cluster_host_up{{host="web-{index}"}}', 1) for index in (0, 1)),
            ('webtorch_cluster_host_wait_seconds{host="web-1"}', 0),
            ('webtorch_cluster_host_steps{host="web-0"}', 5),
            ('webtorch_cluster_host_steps{host="web-1"}', 7),
        ):
            wait_for_metric(one, name, least)

        # a host that shuts down contributes what it has
        hosts.train(1, 4)
        assert two.quit() == 0
        hosts.train(0, 1)
        hosts.wait_until_counted(38, [0])
        assert 'cluster "test": host "web-1" has gone' in one.log()
        wait_for_metric(one, 'webtorch_cluster_host_age_seconds{host="web-1"}', 0.001)
        gone = 'webtorch_cluster_host_up{host="web-1"} 0\n'
        wait_for(lambda: gone in one.get("/status?format=prometheus").text, gone)


def test_hosts_that_are_killed_and_join():
    with Hosts(3) as hosts:
        for index in range(3):
            hosts.train(index, 4)
        hosts.wait_until_counted(12)

        hosts.kill(2)
        hosts.train(0, 2)
        hosts.train(1, 2)
        hosts.wait_until_counted(16, [0, 1])

        hosts.servers[2].start()
        hosts.train(2, 3)
        hosts.train(1, 3)
        hosts.wait_until_counted(22)

        # the coordinator is away, and comes back without memory
        hosts.kill(0)
        hosts.train(1, 2)
        hosts.train(2, 2)
        for index in (1, 2):
            wait_for(
                lambda index=index: hosts.about(index)["members"] == [f"web-{index}"],
                "a host to be alone",
            )
            assert hosts.servers[index].log().count("this host continues alone") == 1
        hosts.train(1, 1)
        hosts.servers[0].start()
        hosts.wait_until_counted(27)
        assert hosts.about(0)["calls"] == 27


def test_hosts_are_ready_with_the_models_of_all():
    hosts = Hosts(2, "interval=100ms timeout=1s")
    first, second = hosts.servers

    def are_ready(*servers):
        paths = ("/ready", "/v2/health/ready")
        return all(server.get(path).ok for server in servers for path in paths)

    try:
        # it serves, but has nothing but what its code has made
        second.start()
        hosts.train(1, 1)
        second.wait_for_log("continues alone")
        assert second.get("/ready").status_code == 503
        text = "the models of the cluster are not here yet"
        assert text in second.get("/ready").text
        answer = second.get("/v2/health/ready")
        assert answer.status_code == 400 and text in answer.text
        first.start()
        wait_for(lambda: are_ready(first, second), "both to be ready")
        # what is known is in the zone
        second.reload()
        assert are_ready(second)
    finally:
        hosts._stop()


class OrderedHosts(Hosts):
    """Hosts with operators, whose orders are kept in a directory."""

    def make(self, index, server, app, workers):
        control = "location /control { webtorch_control; }"
        return super().make(index, server + control, app, workers)

    def http(self, index):
        return f"{super().http(index)} webtorch_checkpoint models;"

    def order(self, index, action):
        answer = self.servers[index].post(f"/control/models/count/{action}", {})
        assert answer.status_code == 200, answer.text

    def wait_until_frozen(self, frozen):
        def is_so():
            found = [server.get("/control/models/count").json() for server in self.servers]
            return all(each[0]["frozen"] is frozen for each in found)

        wait_for(is_so, f"frozen={frozen} at all hosts")


def test_hosts_freeze():
    """An order at one host is in force at all, also after they were killed."""
    with OrderedHosts(2) as hosts:
        hosts.train(0, 2)
        hosts.train(1, 2)
        hosts.wait_until_counted(4)
        hosts.order(0, "freeze")
        hosts.wait_until_frozen(True)
        hosts.train(1, 3)
        assert hosts.about(1)["steps"] == 4
        for index in (0, 1):
            hosts.kill(index)
        hosts.servers[1].start()
        hosts.train(1, 1)
        assert hosts.about(1)["steps"] <= 4
        hosts.servers[0].start()
        both = ["web-0", "web-1"]
        wait_for(lambda: hosts.about(1)["members"] == both, "both hosts")
        hosts.wait_until_frozen(True)
        hosts.order(1, "unfreeze")
        hosts.wait_until_frozen(False)
        before = hosts.about(0)["steps"]
        hosts.train(0, 1)
        # what the function has counted while it was frozen is contributed with a step
        hosts.train(1, 1)
        hosts.wait_until_counted(before + 2)


def test_hosts_new_binary():
    """Both masters have workers for a while, one of which does rounds."""
    hosts = Hosts(1, "interval=50ms timeout=1s")
    (server,) = hosts.servers
    pid_file = server.prefix / "nginx.pid"

    def master():
        return pid_file.exists() and int(pid_file.read_text() or 0)

    try:
        with daemon(server):
            old = wait_for(master, "the master")
            wait_for(lambda: hosts.is_up(0), "its workers")
            hosts.train(0, 5)
            os.kill(old, signal.SIGUSR2)
            hosts.train(0, 5)
            wait_for(lambda: master() not in (0, old), "a new master")
            hosts.train(0, 5)
            os.kill(old, signal.SIGQUIT)
            wait_for(lambda: not os.path.exists(f"/proc/{old}"), "the old master to end")
            hosts.train(0, 5)
            hosts.wait_until_counted(20)
            assert hosts.about(0)["weights"] == [20.0, 20.0]
        assert not server.unexpected_in_log()
    finally:
        server.stop()
