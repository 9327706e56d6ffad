"""Hosts with one id, as cloned machines have it: the older one takes part."""

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cluster_threads import settings
from nginx import wait_for
from webtorch._cluster.interfaces import Member
from webtorch._cluster.membership import _Entry, _owners

cluster = pytest.importorskip("webtorch._worker.cluster.host")

_nets = itertools.count(200)


class Running:
    """A host that asks who takes part, again and again; its lines of the log are `lines`."""

    def __init__(self, name: str, settings_, monkeypatch) -> None:
        self.name = name
        self.place = f"{settings_.address}:{settings_.port}"
        self.lines: list[str] = []
        self.views: list[int] = []
        self._stopping = threading.Event()
        monkeypatch.setattr(cluster, "instance", name)
        monkeypatch.setattr(cluster, "began", time.time())
        nothing = SimpleNamespace(
            **dict.fromkeys(
                ("count_bytes", "count_round", "count_failure", "count_alone", "show_hosts"),
                lambda *_: None,
            ),
            show_members=lambda count, _: self.views.append(count),
        )
        self.host = cluster.Host(settings_, nothing)
        self._thread = threading.Thread(target=self._work, name=name)
        self._thread.start()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self.host.work(lambda: contextlib.nullcontext({})))

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.host.leave()

    def wait_for(self, text: str) -> None:
        """Wait for a line, and forget it with those before."""
        wait_for(lambda: self.has(text), text)
        self.lines.clear()

    def has(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture
def start(monkeypatch) -> Iterator:
    """Return a function that starts hosts, the first of which runs the membership service."""
    net = f"127.{os.getpid() % 250 + 1}.{next(_nets)}"
    running: list[Running] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            for each in running:
                if record.threadName == each.name:
                    each.lines.append(record.getMessage())

    def begin(name: str, host: str) -> Running:
        own = replace(
            settings(host, interval=0.2, timeout=2.0),
            coordinator=(f"{net}.1", 7610),
            address=f"{net}.{len(running) + 1}",
            secrets=(b"x" * 32,),
        )
        running.append(Running(name, own, monkeypatch))
        return running[-1]

    handler = Lines()
    logger = logging.getLogger("webtorch")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        yield begin
    finally:
        for each in reversed(running):
            each.stop()
        logger.setLevel(before)
        logger.removeHandler(handler)


def check_newcomer(original: Running, newcomer: Running) -> None:
    """Check that one host gives way, and that each log has one line of that."""
    wait_for(lambda: newcomer.has("continues alone: the id a is that of another host"), "an error")
    wait_for(lambda: original.has('host "a" is refused'), "the other one's error")
    first = len(original.views)
    wait_for(lambda: len(original.views) > first + 5, "more rounds")
    assert len(original.lines) == 1
    assert len(newcomer.lines) == 1
    assert f"{newcomer.place} has the id of {original.place}" in original.lines[0]


def test_two_hosts_with_one_id(start):
    original = start("original", "a")
    original.wait_for("has the hosts a")
    check_newcomer(original, start("newcomer", "a"))


def test_third_host_keeps_its_group(start):
    original = start("original", "a")
    original.wait_for("has the hosts a")
    other = start("other", "b")
    original.wait_for('"b" has come')
    other.wait_for("has the hosts a, b")
    check_newcomer(original, start("newcomer", "a"))
    assert other.views[-1] == original.views[-1] == 2
    assert len(other.lines) == 1 and other.has('host "a" is refused')


def test_worker_that_takes_over_is_the_same_host(start):
    """Its entry takes the place of that of a worker which was killed."""
    before = start("original", "a")
    before.wait_for("has the hosts a")
    before._stopping.set()
    before._thread.join()
    # its heartbeats go on meanwhile
    after = start("original", "a")
    wait_for(lambda: len(after.views) > 5, "rounds")
    assert not after.has("continues alone") and not after.has("is refused")


def entry(host: str, instance: str, since: float) -> _Entry:
    return _Entry(f"{host}/{instance}", Member(host, f"10.0.0.{instance}", 7610), since)


def test_oldest_host_is_the_same_for_all():
    entries = [entry("a", "2", 5.0), entry("a", "1", 5.0), entry("b", "3", 9.0), entry("a", "0", 7)]
    for each in itertools.permutations(entries):
        owners, doubles = _owners(each)
        assert {host: owner.replica for host, owner in owners.items()} == {"a": "a/1", "b": "b/3"}
        assert doubles["a/2"] == "10.0.0.2:7610 has the id of 10.0.0.1:7610"
        assert doubles.keys() == {"a/0", "a/2"}


def test_host_that_reloads_stays_the_older_one(monkeypatch):
    """Each newly elected worker, and each pause, asks anew."""
    found = []
    nothing = SimpleNamespace(close=lambda: None, start=lambda: None)
    monkeypatch.setattr(cluster, "Coordinator", lambda _: nothing)
    monkeypatch.setattr(cluster, "Lighthouse", lambda *args: found.append(args[2:]) or nothing)
    for _ in range(2):
        host = cluster.Host(settings("a"), nothing)
        host._pause(1.0)
    assert found == [(cluster.instance, cluster.began)] * 4
