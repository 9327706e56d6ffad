"""A reload that changes how a model is trained: old and new workers train the same weights."""

import threading

import pytest
import requests

from line import ADAM, MOMENTUM, SERVER, SGD, about_each, app, train
from nginx import wait_for

ZONE = "webtorch_zone models:1m;"

HELD = """
    import sys, time

    @webtorch.train
    def held(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
        {before}
        print("the call has begun", file=sys.stderr, flush=True)
        while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
            time.sleep(0.01)
        {after}
        return train(x)
"""

LOCATIONS = SERVER + "location = /held { webtorch_handler app:held mode=thread; }"


def held(before="", after=""):
    """Write a function that waits for a file."""
    return HELD.format(before=before, after=after)


class Call(threading.Thread):
    """A request for `held`, in an old worker after a reload."""

    def __init__(self, server):
        super().__init__()
        self._server = server
        self.status = 0
        self.start()
        server.wait_for_log("the call has begun")

    def run(self):
        self.status = self._server.post("/held", [[1.0, 1.0]]).status_code

    def finish(self):
        (self._server.prefix / "app/go").touch()
        self.join()
        return self.status


CHANGES = {
    "optimizer": (SGD, False, ADAM, False),
    "optimizer without state": (MOMENTUM, False, SGD, False),
    "lock": (ADAM, False, ADAM, True),
    "no lock": (MOMENTUM, True, MOMENTUM, False),
    "both": (MOMENTUM, True, ADAM, False),
    "optimizer, with a lock": (ADAM, True, MOMENTUM, True),
}


@pytest.mark.parametrize(
    ("old", "old_lock", "new", "new_lock"), CHANGES.values(), ids=CHANGES.keys()
)
def test_steps_of_old_workers_are_kept(start, old, old_lock, new, new_lock):
    server = start(LOCATIONS, app(seed=0, optimizer=old, lock=old_lock) + held(), http=ZONE)
    train(server, 3)
    call = Call(server)
    server.write_app(app(seed=0, optimizer=new, lock=new_lock) + held())
    server.reload()
    train(server, 2)
    (before,) = about_each(server)
    assert before["steps"] == 5
    assert call.finish() == 200
    (after,) = about_each(server)
    assert after["steps"] == 6
    assert after["state"] != before["state"]
    train(server, 1)
    assert about_each(server)[0]["steps"] == 7


@pytest.mark.parametrize(("new", "lock"), [(ADAM, False), (SGD, True)])
def test_no_acknowledged_step_is_lost_under_load(start, new, lock):
    server = start(SERVER, app(), http=ZONE, workers=2)
    stopping = threading.Event()
    acknowledged = [0] * 3
    failed = []

    def load(number):
        while not stopping.is_set():
            try:
                answer = server.post("/train", [[1.0, 1.0]])
            except requests.RequestException as error:
                failed.append(error)
                return
            if not answer.ok:
                failed.append(answer.status_code)
            acknowledged[number] += 1

    threads = [threading.Thread(target=load, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: all(acknowledged), "the load")
    for optimizer, strict in ((new, lock), (SGD, False)):
        server.write_app(app(optimizer=optimizer, lock=strict))
        server.reload()
        wait_for(lambda: len(server.children()) == 2, "the old workers to leave")
        seen = sum(acknowledged)
        wait_for(lambda seen=seen: sum(acknowledged) > seen + 10, "the new workers")
    stopping.set()
    for thread in threads:
        thread.join()
    assert not failed
    steps = {each["steps"] for each in about_each(server)}
    assert steps == {sum(acknowledged)}


def test_undone_step_undoes_no_other(start):
    """An old worker fails in strict order; a new one, without a lock, waits for it."""
    code = held("model(x)", "raise RuntimeError('on purpose')")
    server = start(LOCATIONS, app(seed=0, lock=True) + code, http=ZONE)
    train(server, 3)
    call = Call(server)
    server.write_app(app(seed=0) + code)
    server.reload()
    other = threading.Thread(target=train, args=[server])
    other.start()
    polls = []
    # a step that does not wait is made meanwhile
    wait_for(
        lambda: polls.append(about_each(server)) or len(polls) > 20 or not other.is_alive(), ""
    )
    assert call.finish() == 500
    other.join()
    assert about_each(server)[0]["steps"] == 4


def test_optimizer_state_continues_over_a_change_of_the_lock(start):
    server = start(SERVER, app(seed=0, optimizer=ADAM), http=ZONE)
    for lock in (True, False, True):
        train(server, 5)
        server.write_app(app(seed=0, optimizer=ADAM, lock=lock))
        server.reload()
    train(server, 5)
    (shared,) = about_each(server)
    assert "whose state is new" not in server.log()

    other = start(SERVER, app(seed=0, optimizer=ADAM))
    train(other, 20)
    assert about_each(other) == [shared]


def test_earlier_optimizers_are_not_taken_again(start):
    """The state of one that was used two configurations ago is new: its momentum is zero."""
    server = start(SERVER, app(seed=0, optimizer=MOMENTUM), http=ZONE)
    train(server, 5)
    (before,) = about_each(server)
    for optimizer in (SGD, MOMENTUM):
        server.write_app(app(seed=0, optimizer=optimizer))
        server.reload()
    train(server, 1)
    (after,) = about_each(server)

    (weight,), (bias,) = before["state"]["weight"], before["state"]["bias"]
    step = 0.001 * 2 * (sum(weight) + bias - 2)
    assert after["state"]["weight"][0] == pytest.approx([value - step for value in weight])
    assert after["state"]["bias"] == pytest.approx([bias - step])


def test_reloaded_code_with_another_optimizer(start):
    server = start(SERVER, app(), http=ZONE + " webtorch_reload on;", workers=2)
    train(server, 5)
    server.write_app(app(optimizer=ADAM))
    wait_for(lambda: server.log().count("the new code is served") == 2, "the new code")
    train(server, 5)
    first, second = about_each(server)
    assert first == second
    assert first["steps"] == 10


def test_zone_without_room_for_two_models_changes_the_optimizer(start):
    """The weights are there once: only the state of the optimizer needs room."""
    server = start(SERVER, app(width=1000), http="webtorch_zone models:9k;")
    train(server, 3, 1000)
    server.write_app(app(width=1000, optimizer=MOMENTUM))
    server.reload()
    train(server, 1, 1000)
    assert about_each(server)[0]["steps"] == 4
