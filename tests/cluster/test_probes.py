"""Probes of other hosts, at a host without resources."""

import errno
import os

from cluster_threads import settings
from nginx import wait_for
from webtorch._cluster import probes as probes_of
from webtorch._cluster.interfaces import Member
from webtorch._cluster.probes import Probes


def test_probes_without_file_descriptors(monkeypatch, caplog):
    """Nothing is said of other hosts then, and the next error of a round begins again."""
    found = [frozenset({"b"}), OSError(errno.EMFILE, os.strerror(errno.EMFILE)), frozenset()]

    def find(*_):
        answer = found.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(probes_of, "find_unreachable", find)
    monkeypatch.setattr(probes_of, "PAUSE", 0.01)
    probes = Probes(settings("a"))
    members = [Member("b", "127.0.0.1", 1, {})]
    probes.begin(members)
    wait_for(lambda: probes._thread is None, "the thread to end")
    assert not probes.unreachable
    assert caplog.text.count("other hosts cannot be probed: [Errno 24]") == 1
    probes.begin(members)
    wait_for(lambda: not found, "another probe")
    probes.close()


def test_probes_of_hosts_that_are_added_while_others_are_probed(monkeypatch):
    probes = Probes(settings("a"))
    asked = []

    def find(members, _):
        asked.append([each.id for each in members])
        if len(asked) == 1:
            probes.begin([Member("c", "127.0.0.2", 1, {})])
        return frozenset()

    monkeypatch.setattr(probes_of, "find_unreachable", find)
    monkeypatch.setattr(probes_of, "PAUSE", 0.01)
    probes.begin([Member("b", "127.0.0.1", 1, {})])
    wait_for(lambda: probes._thread is None, "the thread to end")
    assert asked == [["b"], ["c"]]
    probes.close()
