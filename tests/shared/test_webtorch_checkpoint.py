"""webtorch_checkpoint: models over restarts, and weights put into place while they are served."""

import json
import os
import re
import shutil
import signal
import threading
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from line import ADAM, SERVER, SGD, about_each, app, train
from marks import needs_root
from nginx import wait_for


def http(directory, options="interval=1s", zone="models:1m"):
    return f"webtorch_zone {zone};\nwebtorch_checkpoint {directory} {options};"


@pytest.fixture
def directory(directory):
    # nginx makes it before workers have another user
    directory.chmod(0o755)
    return directory / "models"


def files(directory):
    return sorted(directory.glob("line/*.safetensors"))


def wait_for_steps(directory, steps):
    """Wait for the file of a number of steps."""
    path = directory / f"line/{steps:012}.safetensors"
    wait_for(path.exists, str(path))
    return path


def kill_all(server):
    """Kill the whole tree, as a loss of power does."""
    workers = server.workers()
    server.process.kill()
    server.process.wait()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
@pytest.mark.parametrize("lock", [False, True])
def test_models_survive_a_restart(start, directory, optimizer, lock):
    server = start(SERVER, app(optimizer=optimizer, lock=lock), http=http(directory), workers=2)
    train(server, 10)
    before = about_each(server)
    wait_for_steps(directory, 10)
    kill_all(server)

    server.start()
    assert about_each(server) == before
    train(server, 1)


def test_optimizer_survives_a_restart(start, directory):
    server = start(SERVER, app(seed=0, optimizer=ADAM), http=http(directory))
    train(server, 20)
    assert server.quit() == 0
    server.start()
    train(server, 20)
    (restarted,) = about_each(server)

    other = start(SERVER, app(seed=0, optimizer=ADAM))
    train(other, 40)
    assert about_each(other) == [restarted]


def test_graceful_stop_saves(start, directory):
    server = start(SERVER, app(), http=http(directory, "interval=1h"), workers=2)
    train(server, 7)
    before = about_each(server)
    assert server.quit() == 0
    assert [path.name for path in files(directory)] == [f"{7:012}.safetensors"]
    server.start()
    assert about_each(server) == before


def test_last_files_are_kept(start, directory):
    server = start(SERVER, app(), http=http(directory, "interval=100ms keep=2"))
    for steps in range(1, 5):
        train(server, 1)
        wait_for_steps(directory, steps)
    wait_for(
        lambda: [int(path.stem) for path in files(directory)] == [3, 4], "only the last two files"
    )


def test_another_worker_takes_over(start, directory):
    server = start(SERVER, app(), http=http(directory), workers=2, expected=("signal 9",))
    train(server, 1)
    wait_for_steps(directory, 1)
    for steps in range(2, 4):
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        train(server, 1)
        wait_for_steps(directory, steps)


def test_files_are_safetensors_with_metadata(start, directory):
    server = start(SERVER, app(optimizer=ADAM), http=http(directory))
    train(server, 3)
    (about,) = about_each(server)
    path = wait_for_steps(directory, 3)
    tensors = load_file(path)
    assert tensors["weight"].tolist() == about["state"]["weight"]
    assert tensors["optimizer.weight.exp_avg"].shape == (1, 2)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["model"] == "line"
    assert metadata["step"] == "3"
    assert {"time", "webtorch", "torch", "crc32", "code"} <= metadata.keys()


def damage(path):
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff")


def cut(path):
    os.truncate(path, path.stat().st_size - 2)


def empty(path):
    os.truncate(path, 0)


def replace_by_text(path):
    path.write_text("no safetensors, but long enough to look like a header of some length")


def replace_by_another_model(path):
    path.write_bytes(save({"weight": torch.zeros(5)}))


def replace_by_nan(path):
    path.write_bytes(save({"weight": torch.full((1, 2), float("nan")), "bias": torch.zeros(1)}))


def lie_about_the_length(path):
    path.write_bytes((1 << 60).to_bytes(8, "little") + path.read_bytes()[8:])


DAMAGES = [
    (damage, "it was damaged since it was written"),
    (cut, "it was damaged since it was written|no safetensors file"),
    (empty, "it is not a safetensors file"),
    (replace_by_text, "it is not a safetensors file"),
    (replace_by_another_model, 'it is of another model: tensor "bias" is missing'),
    (replace_by_nan, "has elements that are not finite"),
    (lie_about_the_length, "it is not a safetensors file"),
]


@pytest.mark.parametrize(("change", "reason"), DAMAGES)
def test_damaged_file_refused_for_the_previous_one(start, directory, change, reason):
    server = start(SERVER, app(), http=http(directory, "interval=100ms"))
    train(server, 1)
    before = about_each(server)
    wait_for_steps(directory, 1)
    train(server, 1)
    path = wait_for_steps(directory, 2)
    kill_all(server)

    change(path)
    server.start()
    assert re.search(f'model "line": .*{path.name} is not used: .*({reason})', server.output())
    assert about_each(server) == before


def test_other_optimizer_gets_weights(start, directory):
    server = start(SERVER, app(optimizer=ADAM), http=http(directory))
    train(server, 5)
    before = about_each(server)
    assert server.quit() == 0
    server.write_app(app(optimizer=SGD))
    server.start()
    assert about_each(server) == before
    train(server, 1)


# --- weights that are put into place ---


def put(directory, name, tensors, metadata=None):
    if not (directory / "line").exists():
        (directory / "line").mkdir(parents=True)
        (directory / "line").chmod(0o777)
    save_file(tensors, directory / name, metadata)
    (directory / name).chmod(0o644)
    (directory / name).rename(directory / "line" / name)


WEIGHTS = {"weight": torch.tensor([[2.0, 3.0]]), "bias": torch.tensor([1.0])}


def test_weights_put_into_place_are_taken_by_all_workers(start, directory):
    server = start(SERVER, app(), http=http(directory), workers=2)
    train(server, 5)
    put(directory, "new.safetensors", WEIGHTS)
    server.wait_for_log('model "line" has the weights of .*new.safetensors now')

    first, second = about_each(server)
    assert first == second
    assert first["state"] == {key: value.tolist() for key, value in WEIGHTS.items()}
    assert first["steps"] == 5
    assert server.post("/output", [[1.0, 1.0]]).json() == [[6.0]]

    # and gone on with, and saved
    train(server, 1)
    before = about_each(server)
    assert before[0] == before[1]
    wait_for_steps(directory, 6)
    kill_all(server)
    server.start()
    assert about_each(server) == before


def test_weights_saved_and_replaced_by_idle_worker(start, directory):
    """The worker that writes files may have no batches."""
    server = start(SERVER, app(optimizer=ADAM), http=http(directory, "interval=100ms"))
    train(server, 3)
    wait_for_steps(directory, 3)
    put(directory, "first.safetensors", WEIGHTS, {"step": "10"})
    path = wait_for_steps(directory, 10)
    assert load_file(path)["weight"].tolist() == WEIGHTS["weight"].tolist()
    put(directory, "second.safetensors", {**WEIGHTS, "bias": torch.tensor([5.0])})
    server.wait_for_log("second.safetensors now")
    assert about_each(server)[0]["steps"] == 10


def test_weights_bring_their_steps(start, directory):
    server = start(SERVER, app(), http=http(directory))
    put(directory, "new.safetensors", WEIGHTS, {"step": "1000"})
    server.wait_for_log("has the weights of")
    assert about_each(server)[0]["steps"] == 1000


def test_weights_that_do_not_fit_are_refused(start, directory):
    server = start(SERVER, app(), http=http(directory))
    train(server, 2)
    before = about_each(server)
    put(directory, "wrong.safetensors", {"weight": torch.zeros(5)})
    server.wait_for_log('wrong.safetensors is not used: it is of another model: tensor "bias"')
    assert about_each(server) == before


def test_weights_in_another_format_are_logged_once(start, directory):
    server = start(SERVER, app(), http=http(directory))
    train(server, 2)
    put(directory, "good.safetensors", WEIGHTS)
    server.wait_for_log("good.safetensors now")
    path = directory / "line" / "four.pt"
    torch.save(WEIGHTS, path)
    server.wait_for_log("four.pt is not used, as it is not a safetensors file")
    put(directory, "later.safetensors", WEIGHTS)
    server.wait_for_log("later.safetensors now")
    assert server.log().count("four.pt is not used") == 1
    path.unlink()


def test_weights_without_room_are_refused(start, directory):
    server = start(SERVER, app(width=500), http=http(directory, zone="models:4k"))
    before = about_each(server)
    put(
        directory,
        "large.safetensors",
        {"weight": torch.zeros(1, 500), "bias": torch.zeros(1)},
    )
    server.wait_for_log("large.safetensors is not used: webtorch_zone has no room for the")
    assert about_each(server) == before


def test_weights_are_put_into_place_again_and_again(start, directory):
    """The memory of those before is used again."""
    server = start(SERVER, app(width=100), http=http(directory, zone="models:8k"), workers=2)
    for turn in range(20):
        weights = {"weight": torch.full((1, 100), float(turn)), "bias": torch.zeros(1)}
        put(directory, f"{turn}-new.safetensors", weights)
        server.wait_for_log(f"has the weights of .*/{turn}-new.safetensors now")
        for about in about_each(server):
            assert about["state"]["weight"][0][0] == turn


LARGE = {"weight": torch.zeros(1, 500), "bias": torch.zeros(1)}
"""Two of them have room in 6 kB, three have not."""


def test_weights_taken_by_idle_worker(start, directory):
    """It takes them without a batch, so that the next ones have room."""
    server = start(SERVER, app(width=500), http=http(directory, zone="models:6k"))
    for turn in range(4):
        put(directory, f"{turn}-new.safetensors", LARGE)
        server.wait_for_log(f"has the weights of .*/{turn}-new.safetensors now")
    assert about_each(server)[0]["state"]["weight"][0][0] == 0


def test_weights_without_room_are_tried_again(start, directory):
    """The weights before are in use until a batch ends."""
    text = (
        app(width=500)
        + f"""
    @webtorch.handler
    def wait(request):
        import time
        open("{directory}/begun", "w").close()
        while not os.path.exists("{directory}/end"):
            time.sleep(0.01)
    """
    )
    server = start(
        SERVER + "location = /wait { webtorch_handler app:wait mode=thread; }",
        text,
        http=http(directory, zone="models:6k"),
    )
    thread = threading.Thread(target=server.get, args=["/wait"])
    thread.start()
    wait_for((directory / "begun").exists, "the batch to begin")
    put(directory, "first.safetensors", LARGE)
    server.wait_for_log("has the weights of .*first.safetensors now")
    put(directory, "second.safetensors", LARGE)
    server.wait_for_log("second.safetensors is not used: webtorch_zone has no room")
    (directory / "end").touch()
    thread.join()
    server.wait_for_log("has the weights of .*second.safetensors now")
    assert server.log().count("second.safetensors is not used") == 1


def test_weights_put_there_before_the_start_are_used(start, directory):
    put(directory, "first.safetensors", WEIGHTS)
    server = start(SERVER, app(), http=http(directory))
    assert server.post("/output", [[1.0, 1.0]]).json() == [[6.0]]


# --- the directory ---


@needs_root
def test_directory_belongs_to_the_workers_user(start, directory):
    server = start(SERVER, app(), http=http(directory), main="user www-data;")
    train(server, 1)
    path = wait_for_steps(directory, 1)
    assert path.stat().st_uid == directory.stat().st_uid != 0


def test_full_disk_fails_no_request(start, directory):
    status = "location = /status { webtorch_status; }"
    server = start(SERVER + status, app(), http=http(directory, "interval=100ms"))

    def value(name):
        """Return the models of the problems, or the value of a metric."""
        if name == "problems":
            problems = server.get("/status?format=json").json()["problems"]
            return [re.match(r"model (\S+) could not be saved for", each)[1] for each in problems]
        text = server.get("/status?format=prometheus").text
        return re.search(rf'^{name}\{{model="line"\}} (\S+)$', text, re.MULTILINE)[1]

    train(server, 1)
    wait_for_steps(directory, 1)
    shutil.rmtree(directory / "line")
    # a file where the model's directory should be
    (directory / "line").write_text("")
    train(server, 1)
    server.wait_for_log('model "line" could not be saved: .*line')
    assert value("problems") == ["line"]
    assert float(value("webtorch_model_unsaved_seconds")) > 0
    train(server, 1)
    time.sleep(0.5)
    assert server.log().count("could not be saved") == 1
    (directory / "line").unlink()
    wait_for_steps(directory, 3)
    server.wait_for_log('model "line" is saved again')
    assert value("problems") == []
    assert float(value("webtorch_model_unsaved_seconds")) == 0

    # what is lost is logged, also if it has failed before
    shutil.rmtree(directory / "line")
    (directory / "line").write_text("")
    train(server, 1)
    wait_for(lambda: server.log().count("could not be saved") == 2, "the message")
    assert server.quit() == 0
    assert server.log().count("could not be saved") == 3


def test_directory_that_is_a_file_is_left_alone(configured, directory):
    directory.write_text("text")
    directory.chmod(0o600)
    before = directory.stat()
    status, output = configured(SERVER, app(), http=http(directory)).check()
    assert status == 1
    assert f'"{directory}" is not a directory in' in output
    after = directory.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


@pytest.mark.parametrize(
    ("directives", "message"),
    [
        ("webtorch_checkpoint models;", '"webtorch_checkpoint" requires "webtorch_zone" in'),
        ("webtorch_zone a:1m; webtorch_checkpoint m interval=0;", '"interval=0"'),
        ("webtorch_zone a:1m; webtorch_checkpoint m interval=x;", '"interval=x"'),
        ("webtorch_zone a:1m; webtorch_checkpoint m keep=0;", '"keep=0"'),
        ("webtorch_zone a:1m; webtorch_checkpoint m often;", 'invalid parameter "often"'),
        ("webtorch_zone a:1m; webtorch_checkpoint m; webtorch_checkpoint m;", "is duplicate"),
    ],
)
def test_invalid_directives(configured, directives, message):
    status, output = configured(SERVER, app(), http=directives).check()
    assert status == 1
    assert message in output
    assert re.search(r" in \S+/nginx.conf:\d+", output), output


def test_header_is_readable_json(start, directory):
    server = start(SERVER, app(), http=http(directory))
    train(server, 1)
    data = wait_for_steps(directory, 1).read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0
    assert {"__metadata__", "weight", "bias"} == json.loads(data[8 : 8 + size]).keys()


# --- several models, odd files ---


def test_weights_of_one_model_leave_the_others_as_they_are(start, directory):
    """Over a reload that adds a model, whose memory must not be another one's."""
    second = (
        '\n    other = webtorch.Model("other", nn.Linear(2, 1), lambda p: optim.SGD(p, lr=0.1))\n'
    )
    server = start(SERVER, app() + second, http=http(directory), workers=2)
    train(server, 10)
    (directory / "other").mkdir()
    save_file(WEIGHTS, directory / "new")
    (directory / "new").chmod(0o644)
    (directory / "new").rename(directory / "other/new.safetensors")
    server.wait_for_log('model "other" has the weights')
    before = about_each(server)
    third = '    third = webtorch.Model("third", nn.Linear(5, 5))\n    model = '
    server.write_app((app() + second).replace("    model = ", third, 1))
    server.reload()
    assert about_each(server) == before


def test_buffers_need_not_be_finite(start, directory):
    text = app().replace('"line", nn.Linear(2, 1)', '"line", line')
    text = text.replace(
        "    model = ",
        """    line = nn.Linear(2, 1)
    line.register_buffer("mask", torch.tensor([float("-inf")]))
    model = """,
        1,
    )
    server = start(SERVER, text.replace(', "state": state', ""), http=http(directory))
    train(server, 5)
    assert server.quit() == 0
    server.start()
    assert about_each(server)[0]["steps"] == 5


def test_malformed_file_does_not_stop_saving(start, directory):
    server = start(SERVER, app(), http=http(directory, "interval=100ms"), workers=2)
    train(server, 1)
    wait_for_steps(directory, 1)
    (directory / "line/99.safetensors").mkdir()
    (directory / "line/98.safetensors").symlink_to("98.safetensors")
    (directory / "line/97.safetensors").write_bytes(b"[" * 100_000)
    train(server, 1)
    wait_for_steps(directory, 2)


def test_clock_stepping_back_deletes_no_new_file(start, directory):
    server = start(SERVER, app(), http=http(directory, "interval=100ms keep=2"))
    for steps in (1, 2):
        train(server, 1)
        wait_for_steps(directory, steps)
    for path in files(directory):
        path.write_bytes(re.sub(rb'"time":"\d{4}', b'"time":"2099', path.read_bytes()))
    train(server, 1)
    wait_for_steps(directory, 3)
    kill_all(server)
    server.start()
    assert about_each(server)[0]["steps"] == 3
