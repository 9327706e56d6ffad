"""What a host does about errors of its own and of others, round after round."""

import contextlib
from types import SimpleNamespace

import pytest

from cluster_threads import settings
from webtorch._cluster.interfaces import GroupError, Member, TakenIdError, View
from webtorch._cluster.rounds import Round, Rounds
from webtorch._cluster.teams import rules_of

cluster = pytest.importorskip("webtorch._worker.cluster.host")

SETTINGS = settings("a", interval=1.0, timeout=2.0)

STORE = SimpleNamespace(
    state=SimpleNamespace(
        fresh=False, joined=True, guest=False, slot=0, anchor=SimpleNamespace(shares={})
    ),
    tensors=lambda _: {},
)


class Setting:
    """A host with others that are there; `error` is that of each round."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        self.asked = 0
        self.left = 0
        self.error: Exception | None = None
        self.refusal: Exception | None = None
        self.ids = ("a", "b")
        monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(cluster, "Coordinator", lambda _: _nothing(addresses=()))
        monkeypatch.setattr(
            cluster,
            "Lighthouse",
            lambda *_: _nothing(members=self._members, close=self._leave),
        )
        monkeypatch.setattr(
            cluster,
            "connect",
            lambda *_: _nothing(sent=0, received=0, key="", waits={}, fits=lambda _: True),
        )
        monkeypatch.setattr(
            cluster, "Reception", lambda *_: _nothing(admit=lambda _: None, guests=lambda: ())
        )
        monkeypatch.setattr(Rounds, "note_members", lambda *_: None)
        monkeypatch.setattr(Rounds, "run", self._run)
        self.shown: list[tuple[str, ...]] = []
        metrics = _nothing(show_hosts=lambda ids, *_: self.shown.append(tuple(ids)))
        self.host = cluster.Host(SETTINGS, metrics)

    def _members(self) -> View:
        self.asked += 1
        if self.refusal:
            raise self.refusal
        about = {"rules": rules_of(SETTINGS)}
        return View(1, tuple(Member(host, "127.0.0.1", 1, about) for host in self.ids))

    def _leave(self) -> None:
        self.left += 1

    def _run(self, *_) -> Round:
        if self.error:
            raise self.error
        return Round()

    def work(self, times: int = 1) -> None:
        """Do turns, each a second after the one before."""
        for _ in range(times):
            with contextlib.suppress(MemoryError):
                self.host.work(lambda: contextlib.nullcontext({"m": STORE}))
            self.now += 1


def _nothing(**others):
    names = (
        "start stop beat close leave fits count_alone count_failure count_round count_bytes "
        "show_members show_hosts"
    )
    found = dict.fromkeys(names.split(), lambda *_: None)
    return SimpleNamespace(**{"is_wanted": False, **found, **others})


@pytest.fixture
def turns(monkeypatch):
    return Setting(monkeypatch)


def test_host_with_errors_of_its_own_lets_others_go_on(turns, caplog):
    turns.work()
    turns.error = MemoryError()
    turns.work(2)
    assert not turns.left
    turns.work()
    assert turns.left == 1
    assert caplog.text.count("continues alone for 20 s, as it has failed in 3 rounds") == 1
    asked = turns.asked
    assert turns.shown[-2:] == [("a", "b"), ("a",)]
    turns.work(19)
    assert turns.asked == asked
    assert turns.shown[-1] == ("a",)
    # once more, and then for twice as long
    turns.work(2)
    assert (turns.asked, turns.left) == (asked + 1, 2)
    assert "continues alone for 40 s" in caplog.text
    turns.error = None
    turns.work(41)
    assert turns.asked > asked + 1
    turns.error = MemoryError()
    turns.work(2)
    assert turns.left == 2


def test_id_that_is_asked_for_again_is_shown_as_before(turns):
    turns.work()
    turns.refusal = TakenIdError("a", "127.0.0.1:1")
    turns.work()
    assert turns.shown == [("a", "b")]
    turns.work()
    assert turns.shown[-1] == ("a",)
    turns.shown.clear()
    # in its pause, too
    turns.work()
    assert turns.shown == [("a",)]


def test_waits_that_are_shown_are_those_of_a_round(turns, monkeypatch):
    group = _nothing(sent=0, received=0, key="", waits={"b": 3.0}, fits=lambda _: True)
    monkeypatch.setattr(cluster, "connect", lambda *_: group)
    monkeypatch.setattr(Rounds, "run", lambda *_: group.waits.update(b=5.0) or Round())
    found = []
    turns.host._metrics.show_hosts = lambda _, waits, *__: found.append(waits)
    turns.work(2)
    # of the second one, in which nothing was sent, none
    assert found == [{"b": 2.0}, {"b": 0.0}]


def test_pauses_have_a_limit(turns, caplog):
    turns.host._own_errors = 9999
    turns.error = MemoryError()
    turns.work()
    assert "continues alone for 3600 s" in caplog.text


def test_host_that_is_alone_makes_no_pause(turns):
    turns.ids = ("a",)
    turns.error = MemoryError()
    turns.work(9)
    assert turns.asked == 9 and not turns.left


def test_rounds_that_fail_for_long_are_warned_of_once(turns, caplog):
    turns.error = GroupError("the connection to b was closed", "b")
    turns.work(13)
    assert "all rounds have failed" not in caplog.text
    turns.work(5)
    assert caplog.text.count("all rounds have failed for 13 s, the last one as the conn") == 1
    turns.error = None
    turns.work()
    turns.error = GroupError("the connection to b was closed", "b")
    turns.work(13)
    assert caplog.text.count("all rounds have failed") == 1
    turns.work(1)
    assert caplog.text.count("all rounds have failed") == 2
