"""webtorch_zone: one model for all workers, over crashes, reloads and changed code."""

import os
import re
import signal
import threading

import pytest
import requests

from line import ADAM, MOMENTUM, SERVER, SGD, about_each, app, train
from nginx import daemon, wait_for

ZONE = "webtorch_zone models:1m;"


def test_workers_have_the_same_model(start):
    server = start(SERVER, app(), http=ZONE, workers=2)
    train(server, 20)
    first, second = about_each(server)
    assert first == second
    assert first["steps"] == 20


def test_no_zone_gives_each_worker_its_own_model(start):
    server = start(SERVER, app(), workers=2)
    first, second = about_each(server)
    assert first["state"] != second["state"]


@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM])
@pytest.mark.parametrize("lock", [False, True])
def test_killed_worker_loses_nothing(start, optimizer, lock):
    server = start(
        SERVER, app(optimizer=optimizer, lock=lock), http=ZONE, expected=("exited on signal 9",)
    )
    train(server, 10)
    (before,) = about_each(server)
    (pid,) = server.workers()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.workers() not in ([], [pid]), "another worker")
    assert about_each(server) == [before]
    train(server, 5)
    assert about_each(server)[0]["steps"] == 15


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM])
def test_optimizer_state_shared_over_reloads(start, optimizer):
    """Its state is shared: 30 steps in three workers are those of one."""
    server = start(SERVER, app(seed=0, optimizer=optimizer), http=ZONE)
    for _ in range(3):
        train(server, 10)
        server.reload()
    (shared,) = about_each(server)

    other = start(SERVER, app(seed=0, optimizer=optimizer))
    train(other, 30)
    (own,) = about_each(other)
    assert shared == own


def test_reload_keeps_model(start):
    server = start(SERVER, app(), http=ZONE, workers=2)
    train(server, 10)
    before = about_each(server)
    server.reload()
    assert about_each(server) == before


def test_zone_growth_keeps_model(start):
    server = start(SERVER, app(), http=ZONE)
    train(server, 10)
    before = about_each(server)
    server.configure(http="webtorch_zone models:2m;")
    server.reload()
    assert about_each(server) == before
    server.configure(http="webtorch_zone others:2m;")
    server.reload()
    assert about_each(server)[0]["steps"] == 0


def test_other_architecture_restarts_and_is_logged(start):
    server = start(SERVER, app(), http=ZONE)
    train(server, 10)
    server.write_app(app(width=3))
    server.reload()
    assert about_each(server)[0]["steps"] == 0
    server.wait_for_log(
        r'model "line" does not fit its state from an earlier configuration: '
        r'tensor "weight" is F32 \[1, 2\], F32 \[1, 3\] is'
    )
    server.wait_for_log('model "line" starts from scratch')
    train(server, 3, width=3)

    # and back: what was left of the first one is not taken for it
    server.write_app(app(width=2))
    server.reload()
    assert about_each(server)[0]["steps"] == 0


def test_another_optimizer_keeps_the_weights(start):
    server = start(SERVER, app(optimizer=SGD), http=ZONE)
    train(server, 10)
    (before,) = about_each(server)
    server.write_app(app(optimizer=ADAM))
    server.reload()
    assert about_each(server) == [before]
    train(server, 1)
    assert about_each(server)[0]["steps"] == 11


def test_refused_configuration_keeps_model(start):
    server = start(SERVER, app(), http=ZONE, expected=("emerg",))
    train(server, 10)
    server.write_app(app(width=3) + "\n    raise RuntimeError('broken')\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("RuntimeError: broken")
    assert about_each(server)[0]["steps"] == 10
    train(server, 5)
    server.write_app(app())
    server.reload()
    assert about_each(server)[0]["steps"] == 15


def test_old_layouts_are_freed(start):
    """The memory of an old layout is used again when its workers are gone."""
    server = start(SERVER, app(width=100), http="webtorch_zone models:4k;")
    for width in (101, 102, 103, 104, 105, 106):
        server.write_app(app(width=width))
        server.reload()
        wait_for(lambda: len(server.children()) == 1, "the old worker to leave")
        train(server, 1, width)


def test_zone_too_small_names_needed_size(configured, reconfigured):
    code = app(width=10000)
    output = reconfigured(SERVER, code, http="webtorch_zone models:4k;").refuse()
    needed = re.search(
        r'"webtorch_zone" models of 4096 bytes is too small, the models need (\d+)k at least',
        output,
    )
    assert needed
    zone = f"webtorch_zone models:{needed[1]}k;"
    assert configured(SERVER, code, http=zone).check()[0] == 0


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("webtorch_zone models;", 'invalid zone "models", it must be "name:size"'),
        ("webtorch_zone :1m;", 'invalid zone ":1m"'),
        ("webtorch_zone models:;", 'invalid zone size "models:"'),
        ("webtorch_zone models:1x;", 'invalid zone size "models:1x"'),
        ("webtorch_zone models:0;", 'invalid zone size "models:0"'),
        (f"webtorch_zone {'n' * 64}:1m;", "is longer than 63 bytes"),
        ("webtorch_zone a:1m; webtorch_zone b:1m;", '"webtorch_zone" directive is duplicate'),
    ],
)
def test_invalid_directives(configured, directive, message):
    status, output = configured(SERVER, app(), http=directive).check()
    assert status == 1
    assert message in output


def test_models_that_cannot_be_shared_are_refused(reconfigured):
    text = app().replace("nn.Linear(2, 1)", "nn.Linear(2, 1, dtype=torch.complex64)")
    output = reconfigured(SERVER, text, http=ZONE).refuse()
    assert 'tensor "weight" of torch.complex64 cannot be shared by workers' in output


def app_that_ends_halfway(how):
    """The first half of a step is made of a row of 666."""
    return app(lock=True).replace(
        "model.step(mse_loss(model(x), label))",
        f"""
        loss = mse_loss(model(x), label)
        if x[0, 0] == 666:
            with torch.no_grad():
                model.module.weight.fill_(7)
            {how}
        model.step(loss)""",
    )


def train_in_vain(server):
    """Send a request to a worker that exits during the step."""
    with pytest.raises(requests.RequestException):
        server.post("/train", [[666.0, 1.0]])


def test_locked_model_unchanged_by_killed_step(start):
    """The worker that takes the place of one that has exited undoes its step."""
    server = start(
        SERVER,
        app_that_ends_halfway("os.kill(os.getpid(), 9)"),
        http=ZONE,
        workers=2,
        expected=("signal 9", "exited while"),
    )
    train(server, 10)
    before = about_each(server)[0]
    train_in_vain(server)
    wait_for(lambda: len(server.workers()) == 2, "another worker")
    server.wait_for_log('model "line" is as before the step in which a worker exited')
    assert about_each(server) == [before, before]
    train(server, 1)
    after = about_each(server)[0]
    assert after["steps"] == before["steps"] + 1
    assert abs(after["state"]["weight"][0][0] - before["state"]["weight"][0][0]) < 0.5


def test_killed_step_leaves_the_optimizer_as_it_was(start):
    make = "optimizers.append(optim.SGD(p, lr=0.001, momentum=0.9)) or optimizers[-1]"
    text = app(seed=0, lock=True, optimizer=make).replace(
        "torch.manual_seed", "optimizers = []\n    torch.manual_seed", 1
    )
    text = text.replace(
        "model.step(mse_loss(model(x), label))",
        """loss = mse_loss(model(x), label)
        if x[0, 0] == 666:
            for state in optimizers[0].state.values():
                state["momentum_buffer"].fill_(7)
            os.kill(os.getpid(), 9)
        model.step(loss)""",
    )
    server = start(SERVER, text, http=ZONE, expected=("signal 9", "exited while"))
    train(server, 5)
    train_in_vain(server)
    wait_for(lambda: len(server.workers()) == 1, "another worker")
    train(server, 5)
    (found,) = about_each(server)

    plain = start(SERVER, app(seed=0, optimizer=MOMENTUM))
    train(plain, 10)
    assert about_each(plain) == [found]


def test_killed_step_undone_without_another_worker(start):
    """A worker that shuts down is not replaced: one that serves undoes its step."""
    server = start(
        SERVER,
        app_that_ends_halfway("__import__('time').sleep(1000)"),
        http=ZONE,
        expected=("signal 9", "exited while"),
    )
    train(server, 10)
    before = about_each(server)
    (old,) = server.workers()
    thread = threading.Thread(target=train_in_vain, args=[server])
    thread.start()
    wait_for(lambda: about_each(server) != before, "half of the step")
    server.reload()
    assert about_each(server) != before
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: about_each(server) == before, "the step to be undone")
    thread.join()
    train(server, 1)


def test_locked_model_unchanged_by_failed_call(start):
    server = start(
        SERVER, app_that_ends_halfway('raise RuntimeError("failed")'), http=ZONE, workers=2
    )
    train(server, 10)
    before = about_each(server)[0]
    assert server.post("/train", [[666.0, 1.0]]).status_code == 500
    assert about_each(server) == [before, before]
    train(server, 1)


def test_crash_logs_handler_and_traceback(start):
    text = (
        app()
        + """
    @webtorch.handler
    def crash(request):
        import ctypes
        ctypes.string_at(0)
    """
    )
    server = start(
        SERVER + "location = /crash { webtorch_handler app:crash; }",
        text,
        expected=("signal 11", "exited while"),
    )
    with pytest.raises(requests.RequestException):
        server.get("/crash")
    server.wait_for_log(
        r'worker process \d+ exited while webtorch handler "app:crash" ran, in its batch 1 of 1'
    )
    # a traceback, by faulthandler
    server.wait_for_log(r"Fatal Python error: Segmentation fault")
    server.wait_for_log(r'app.py", line \d+ in crash')
    wait_for(lambda: len(server.workers()) == 1, "another worker")
    assert server.post("/output", [[1.0, 2.0]]).ok


def test_new_binary_keeps_model(configured):
    """USR2 and QUIT: both masters have workers for a while, which train one model."""
    server = configured(SERVER, app(), http=ZONE)
    pid_file = server.prefix / "nginx.pid"
    answered = set()

    def pid_of_master():
        return pid_file.exists() and int(pid_file.read_text() or 0)

    def new_workers():
        about = server.post("/about").json()
        assert about["steps"] == 10
        answered.add(about["pid"])
        return len(answered) > 1

    with daemon(server):
        old = wait_for(pid_of_master, "the master")
        train(server, 10)
        answered.add(server.post("/about").json()["pid"])
        os.kill(old, signal.SIGUSR2)
        wait_for(lambda: pid_of_master() not in (0, old), "a new master")
        wait_for(new_workers, "a new worker")
        train(server, 10)
        os.kill(old, signal.SIGQUIT)
        wait_for(lambda: not os.path.exists(f"/proc/{old}"), "the old master to end")
        train(server, 5)
        assert server.post("/about").json()["steps"] == 25
    assert not server.unexpected_in_log()
