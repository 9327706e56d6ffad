"""The thread that does rounds in a worker, and with whom it does them."""

import contextlib
import socket
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cluster_threads import settings
from nginx import wait_for
from webtorch._cluster import membership
from webtorch._cluster.coordinator import Coordinator, normal_address, reachable, resolve
from webtorch._cluster.interfaces import ClusterError, Member, Outer, View
from webtorch._cluster.lineage import first
from webtorch._cluster.seal import Ring
from webtorch._cluster.store import State
from webtorch._cluster.teams import CutOffError, DisagreementError, agreed, connected, rules_of


def view_of(*rules: str) -> View:
    members = (Member(f"web-{index}", "", 1, {"rules": each}) for index, each in enumerate(rules))
    return View(1, tuple(members), rejected={"web-9": "its secret is another one"})


def test_hosts_with_the_rules_of_most_go_on_without_others():
    first = settings("web-0")
    one, two = rules_of(first), rules_of(replace(first, outer=Outer("nesterov", 0.7, 0.5)))
    assert one != two != rules_of(replace(first, compress="int8"))
    view = view_of(one, one)
    assert agreed(view, "web-1") is view
    view = view_of(two, one, one)
    assert agreed(view, "web-1").ids == agreed(view, "web-2").ids == ("web-1", "web-2")
    assert agreed(view, "web-1").rejected == {**view.rejected, "web-0": f"it has {two}"}
    with pytest.raises(DisagreementError, match=r"it has compress=none outer=nesterov:0.7,0.5"):
        agreed(view, "web-0")
    # of two those of the lowest id
    assert agreed(view_of(two, one), "web-0").ids == ("web-0",)


def test_hosts_that_cannot_reach_each_other():
    def view_of(*told):
        members = [
            Member(f"web-{index}", "127.0.0.1", 7610, {"unreachable": each})
            for index, each in enumerate(told)
        ]
        return View(1, tuple(members), "digest")

    view = view_of([], ["web-9"], ["web-2"], None)
    assert connected(view, "web-0") is view
    # of two the one of the higher id
    view = view_of([], ["web-2"], [])
    assert connected(view, "web-0").ids == connected(view, "web-1").ids == ("web-0", "web-1")
    assert connected(view, "web-1").rejected == {
        "web-2": "there is no connection between it and web-1"
    }
    with pytest.raises(CutOffError, match="there is no connection to web-1"):
        connected(view, "web-2")
    # the one that most name, whatever it says of others
    view = view_of(["web-1"], ["web-3"], ["web-1"], ["web-1"])
    assert connected(view, "web-3").ids == ("web-0", "web-2", "web-3")
    # one that names all others is left out itself
    view = view_of(["web-1", "web-2", "web-3"], [], [], [])
    assert connected(view, "web-3").ids == ("web-1", "web-2", "web-3")
    view = view_of(["web-1"], [], ["web-3"], [])
    assert connected(view, "web-0").ids == ("web-0", "web-2")


def test_thread_goes_on_after_any_error(monkeypatch, caplog):
    """For example memory that a later version has written: no worker would do rounds any more."""
    cluster = pytest.importorskip("webtorch._worker.cluster.thread")
    calls = []
    failures = []
    metrics = SimpleNamespace(
        show_models=lambda _: None, hide=lambda: None, count_failure=lambda: failures.append(1)
    )
    monkeypatch.setattr(cluster, "Metrics", lambda: metrics)
    monkeypatch.setattr(cluster, "POLL", 0.01)

    class Host:
        is_cut_off = is_failing = True
        address = "127.0.0.1"

        def __init__(self, *_):
            calls.append("host")

        def work(self, pinned):
            with pinned():
                calls.append("work")
            return 0.01

        def leave(self):
            raise OSError("no network")

    monkeypatch.setattr(cluster, "Host", Host)
    resigned = []
    joined = []
    election = SimpleNamespace(
        elect_rounds=lambda: True,
        resign_rounds=lambda: resigned.append(1),
        is_last=lambda: False,
        join=joined.append,
        is_leaving=lambda: False,
    )

    def states():
        calls.append("states")
        if len(calls) < 4:
            raise ValueError("of another version")
        return []

    thread = cluster.Cluster(settings("a", interval=0.01), election, states, 1)
    thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(thread.stop)
        wait_for(lambda: calls.count("work") > 2, "rounds")
    assert caplog.text.count("of another version") == 1
    assert "this host has not left: OSError" in caplog.text
    assert resigned and joined and failures


def test_coordinator_stops_while_a_name_is_resolved(monkeypatch):
    release, begun = threading.Event(), threading.Event()

    def resolve(*_):
        begun.set()
        release.wait(60)
        return ["127.0.0.1"]

    monkeypatch.setattr("webtorch._cluster.coordinator.resolve", resolve)
    service = Coordinator(settings("a"))
    service.start()
    thread = service._thread
    assert begun.wait(30)
    service.stop()
    release.set()
    thread.join(30)
    assert not thread.is_alive() and service._process is None


def located(monkeypatch, name, addresses, **changes):
    """Return the address of a host for which the coordinator's name has some addresses."""
    cluster = pytest.importorskip("webtorch._worker.cluster.thread")
    monkeypatch.setattr(cluster, "resolve", lambda *_: addresses)
    own = replace(settings("a"), coordinator=(name, 7610), address="", **changes)
    return cluster.Cluster(own, None, list, 1)._located().address


def test_name_of_the_coordinator_that_is_a_loopback_address(monkeypatch):
    """As Debian's installer writes it to /etc/hosts, for the machine itself."""
    secret = (b"x" * 32,)
    with pytest.raises(ClusterError, match=r'"web-0", leads to a loopback .* set "address="'):
        located(monkeypatch, "web-0", ["127.0.1.1"], secrets=secret)
    for name in ("localhost", "127.0.0.1"):
        assert located(monkeypatch, name, ["127.0.0.1"], secrets=secret) == "127.0.0.1"
    assert located(monkeypatch, "web-0", ["127.0.1.1"]) == "127.0.0.1"
    # this machine is meant, whose address is set
    found = ["127.0.1.1", "10.0.0.2"]
    assert reachable(found, "10.0.0.1") == ["10.0.0.1", "10.0.0.2"]
    assert reachable(found, "10.0.0.2") == ["10.0.0.2"]
    assert reachable(found, "127.0.1.1") == ["10.0.0.2", "127.0.1.1"]


def test_why_the_membership_service_does_not_start_is_logged_once(caplog, monkeypatch):
    """A port that is in use, and an interpreter that does not run the service."""
    cluster = pytest.importorskip("webtorch._worker.cluster.host")
    metrics = SimpleNamespace(
        count_alone=lambda: None, show_members=lambda *_: None, show_hosts=lambda *_: None
    )
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        own = replace(settings("a", timeout=0.3), coordinator=("127.0.0.1", port))
        host = cluster.Host(own, metrics)
        try:
            text = "does not start at this host: "

            def logged(found):
                host.work(lambda: contextlib.nullcontext({}))
                return f"{text}{found}" in caplog.text

            wait_for(lambda: logged("Address already in use"), "an error")
            for _ in range(3):
                host.work(lambda: contextlib.nullcontext({}))
            assert caplog.text.count(text) == 1
            monkeypatch.setattr("webtorch._cluster.coordinator._interpreter", lambda: "/bin/false")
            wait_for(lambda: logged("/bin/false exited with the status 1"), "another error")
        finally:
            host.leave()


def test_address_is_found_however_it_is_written():
    assert normal_address("2001:DB8:0::1") in reachable(["2001:db8::1"], "10.0.0.1")
    assert normal_address("0:0:0:0:0:0:0:1") == resolve("0:0:0:0:0:0:0:1", 1)[0] == "::1"
    assert normal_address("") == ""


def test_lowest_address_of_the_coordinator_is_used(monkeypatch):
    """Each resolver may have them in another order, and the lowest may come later."""
    others = ["10.0.0.10", "10.0.0.9", "2001:db8::1"]
    assert reachable(others, "10.0.0.1") == ["10.0.0.9", "10.0.0.10", "2001:db8::1"]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = first.getsockname()[1]
        second = stack.enter_context(socket.create_server(("127.0.0.2", port)))
        monkeypatch.setattr(membership, "resolve", lambda *_: ["127.0.0.2", "127.0.0.1"])
        monkeypatch.setattr(
            membership,
            "_torchft",
            lambda: SimpleNamespace(LighthouseClient=lambda *_: SimpleNamespace()),
        )
        host = membership.Lighthouse(
            replace(settings("a"), coordinator=("web", port)), Ring("test", [b"x" * 32]), "1"
        )
        first.close()
        host._look()
        assert host._peer == "127.0.0.2"
        stack.enter_context(socket.create_server(("127.0.0.1", port)))
        host._look()
        assert host._peer == "127.0.0.1"
        second.close()
        client = host._client
        host._look()
        assert host._client is client


def test_several_addresses_are_warned_of_once(caplog, monkeypatch):
    cluster = pytest.importorskip("webtorch._worker.cluster.host")
    service = SimpleNamespace(
        start=lambda: None,
        stop=lambda: None,
        is_wanted=False,
        problem=None,
        addresses=["10.0.0.1", "2001:db8::1"],
    )
    monkeypatch.setattr(cluster, "Coordinator", lambda _: service)
    host = cluster.Host(settings("a"), SimpleNamespace())
    host._log_problem()
    assert not caplog.text
    service.addresses = ["10.0.0.1", "10.0.0.2"]
    for _ in range(3):
        host._log_problem()
    assert caplog.text.count("has the addresses 10.0.0.1, 10.0.0.2") == 1
    host.leave()


def test_host_whose_address_changes_takes_part_with_the_other_one(monkeypatch, caplog):
    cluster = pytest.importorskip("webtorch._worker.cluster.thread")
    here = ["10.0.0.1"]
    states = []
    monkeypatch.setattr(cluster, "RELOCATE", 0.0)
    monkeypatch.setattr(cluster, "POLL", 0.01)
    monkeypatch.setattr(cluster, "resolve", lambda *_: ["10.0.0.9"])
    monkeypatch.setattr(cluster.own_address, "route", lambda *_: here[0])
    nothing = SimpleNamespace(
        show_models=lambda _: None, hide=lambda: None, count_failure=lambda: None
    )
    monkeypatch.setattr(cluster, "Metrics", lambda: nothing)

    class Host:
        is_cut_off = True

        def __init__(self, own, *_):
            self.address = own.address
            states.append(f"joins at {self.address}")

        @property
        def is_failing(self):
            return self.address != here[0] or here[0] == "10.0.0.2"

        def work(self, _):
            return 0.01

        def leave(self):
            states.append(f"leaves {self.address}")

    monkeypatch.setattr(cluster, "Host", Host)
    election = SimpleNamespace(
        elect_rounds=lambda: True,
        resign_rounds=lambda: None,
        is_last=lambda: False,
        is_leaving=lambda: False,
        join=lambda _: None,
    )
    own = replace(settings("a", interval=0.01), address="", secrets=(b"x" * 32,))
    thread = cluster.Cluster(own, election, list, 1)
    thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(thread.stop)
        wait_for(lambda: states, "a host")
        here[0] = "10.0.0.2"
        wait_for(lambda: len(states) > 2, "another address")
    assert states[:3] == ["joins at 10.0.0.1", "leaves 10.0.0.1", "joins at 10.0.0.2"]
    assert caplog.text.count("the address of this host is 10.0.0.2 now, it was 10.0.0.1") == 1


def test_model_of_later_code_is_not_that_of_the_cluster_yet():
    """A host without models is joined; with one of mended code it is again after a round."""
    cluster = pytest.importorskip("webtorch._worker.cluster.thread")
    guest = pytest.importorskip("webtorch._worker.cluster.guest")
    state = State("memory", first("digest", 0))
    store = SimpleNamespace(state=state)
    store.write = lambda state: setattr(store, "state", state)
    assert cluster._are_joined({})
    assert not cluster._are_joined({"m": store})
    guest.note_joined({"m": store})
    assert cluster._are_joined({"m": store})
    assert State.read(store.state.write()).joined
    # of a checkpoint
    store.state = replace(state, anchor=first("digest", 5))
    assert cluster._are_joined({"m": store})
