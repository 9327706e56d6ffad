"""The thread that writes models to object storage."""

import threading
from types import SimpleNamespace

import pytest

from nginx import wait_for
from webtorch._zone.bucket import BucketError
from webtorch._zone.checkpoint import NotFiniteError

uploader = pytest.importorskip("webtorch._worker.threads.uploader")


class Stored:
    """A store; `errors` are those of models by name."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors
        self.saved: list[str] = []
        self.last: list[str] = []

    def save(self, shared, last: bool) -> bool:
        (self.last if last else self.saved).append(shared.name)
        if shared.name in self.errors:
            raise self.errors[shared.name]
        return False


@pytest.fixture
def start(monkeypatch):
    """Return a function that starts the thread with two models, and returns it and its models."""
    monkeypatch.setattr(uploader, "POLL", 0.01)
    counter = SimpleNamespace(inc=lambda: None)
    monkeypatch.setattr(uploader, "Counter", lambda _: counter)
    monkeypatch.setattr(uploader, "own_cells", lambda _: None)
    threads = []

    def begin(stored):
        elected = threading.Lock()
        election = SimpleNamespace(
            elect_uploader=lambda: elected.acquire(blocking=False),
            resign_uploader=elected.release,
            is_leaving=lambda: False,
        )
        models = [SimpleNamespace(name=name) for name in ("one", "two")]
        threads.append(uploader.Uploader(stored, election, lambda: models, 60.0))
        threads[-1].start()
        return threads[-1], models

    yield begin
    for each in threads:
        each.stop()


def test_model_with_an_error_keeps_no_other_from_its_last_file(start, caplog):
    stored = Stored(one=NotFiniteError("not finite"))
    thread, _ = start(stored)
    wait_for(lambda: stored.saved == ["one", "two"], "files")
    thread.stop()
    # nothing is tried again before the interval is over
    assert stored.saved == ["one", "two"]
    assert stored.last == ["one", "two"]
    assert caplog.text.count("could not be written") == 1


def test_store_that_is_away_is_tried_again(start, caplog):
    stored = Stored(one=BucketError("away"))
    thread, _ = start(stored)
    wait_for(lambda: stored.saved.count("one") > 2, "more tries")
    assert stored.saved.count("two") == 1
    stored.errors.clear()
    wait_for(lambda: "is written to storage again" in caplog.text, "the store")
    assert caplog.text.count("could not be written") == 1
    thread.stop()
    assert stored.last == ["one", "two"]


def test_store_that_is_away_is_not_waited_for_at_the_exit(start):
    stored = Stored(one=BucketError("away"))
    thread, _ = start(stored)
    wait_for(lambda: stored.saved.count("one") > 1, "a second try")
    thread.stop()
    assert stored.last == ["two"]


def test_models_that_have_gone_are_forgotten(start):
    stored = Stored(one=BucketError("away"))
    thread, models = start(stored)
    wait_for(lambda: stored.saved.count("one") > 1, "a second try")
    del models[0]
    wait_for(lambda: not thread._away and not thread._failed, "it to be forgotten")
