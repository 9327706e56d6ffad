"""webtorch_control: what operators order for models and their versions."""

import base64
import itertools
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import torch
from safetensors.torch import load_file, save_file

from answers import check_error
from nginx import wait_for
from scale import APP, http, infer, put, weight
from scrape import scrape, value

SERVER = """
    location = /output { webtorch_handler app:output; }
    location = /two { webtorch_handler app:output model=scale@2; }
    location = /any { webtorch_handler app:output model=scale@$arg_version; }
    location = /train { webtorch_handler app:train model=scale@$arg_version max_batch=1; }
    location /v2 { webtorch_inference_protocol; }
    location = /status { webtorch_status; }
    location /control {
        auth_basic            operators;
        auth_basic_user_file  %s;
        webtorch_control;
    }
    location /open { webtorch_control; }
"""


@pytest.fixture
def users(directory):
    path = directory.with_suffix(".users")
    path.write_text("eva:{PLAIN}secret\n")
    path.chmod(0o644)
    yield path
    path.unlink()


EVA = {"Authorization": "Basic " + base64.b64encode(b"eva:secret").decode()}


def order(server, path, **body):
    return server.post(f"/control{path}", body, headers=EVA)


def ordered(server, path, **body):
    answer = order(server, path, **body)
    assert answer.ok, answer.text
    return answer.json()


def version(described, name):
    (found,) = (each for each in described if each["version"] == name)
    return found


def of_each(server, path):
    """Send requests until all workers have answered; return what they answered."""
    found = {}

    def all_answered():
        answer = server.post("/about" if path is None else path, [[1.0]])
        found[answer.headers["Pid"]] = answer.json() if answer.ok else answer.json()["code"]
        return found.keys() >= {str(pid) for pid in server.workers()}

    wait_for(all_answered, "an answer of each worker")
    return [
        answer if isinstance(answer, str) else answer["output_0"][0][0] for answer in found.values()
    ]


def test_control_of_versions(start, directory, users):
    put(directory, 2, 2)
    put(directory, 3, 3)
    pid = "add_header Pid $pid always;"
    server = start(SERVER % users + pid, APP, http=http(directory), workers=2)

    assert server.get("/control/models").status_code == 401
    listed = server.get("/control/models", headers=EVA).json()
    assert [(each["version"], each["of_code"]) for each in listed] == [
        ("1", True),
        ("2", False),
        ("3", False),
    ]

    # all workers that serve have followed an order when it is answered
    ordered(server, "/models/scale/unload", version="3")
    assert set(of_each(server, "/any?version=3")) == {"unknown_version"}
    assert (
        'webtorch_model_workers{model="scale@3"} 0' in server.get("/status?format=prometheus").text
    )
    put(directory, 3, 5)
    # an order that cannot be written is not followed by the worker that has it
    (directory / ".orders.json.tmp").mkdir()
    refused = order(server, "/models/scale/load", version="3")
    check_error(refused, 503, "storage_failed", "Is a directory", ".orders.json.tmp")
    assert "Traceback" not in server.log()
    assert set(of_each(server, "/any?version=3")) == {"unknown_version"}
    (directory / ".orders.json.tmp").rmdir()
    ordered(server, "/models/scale/load", version="3")
    assert set(of_each(server, "/any?version=3")) == {5}
    assert (
        'webtorch_model_workers{model="scale@3"} 2' in server.get("/status?format=prometheus").text
    )
    put(directory, 3, 6)
    ordered(server, "/v2/repository/models/output/load", parameters={"version": "3"})
    wait_for(lambda: set(of_each(server, "/any?version=3")) == {6}, "the file of the load")

    # what was unloaded stays so over a reload, a crash and a restart
    ordered(server, "/v2/repository/models/app:output/unload", parameters={"version": "3"})
    index = ordered(server, "/v2/repository/index")
    states = {(each["name"], each["version"]): each["state"] for each in index}
    assert states["output", "3"] == "UNAVAILABLE"
    assert states["output", "2"] == states["train", "1"] == "READY"
    ready = ordered(server, "/v2/repository/index", ready=True)
    assert {each["version"] for each in ready} == {"1", "2"}
    server.reload()
    assert set(of_each(server, "/any?version=3")) == {"unknown_version"}
    server.expected_in_log.append("signal 9")
    killed = server.workers()[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: len(set(server.workers()) - {killed}) == 2, "a new worker")
    assert set(of_each(server, "/any?version=3")) == {"unknown_version"}
    ordered(server, "/v2/repository/models/output/load")
    assert set(of_each(server, "/any?version=3")) == {6}

    # frozen: requests are answered, weights stay, also over a reload and a restart
    ordered(server, "/models/scale/freeze")
    assert server.post("/train?version=", [[1.0]]).json() == [[1]]
    ordered(server, "/models/scale/checkpoint")
    server.reload()
    assert server.post("/train?version=", [[1.0]]).ok
    assert server.quit() == 0
    server.start()
    assert server.post("/train?version=", [[1.0]]).ok
    assert set(of_each(server, "/output")) == {1}
    described = ordered(server, "/models/scale/unfreeze")
    assert (version(described, "1")["steps"], version(described, "1")["frozen"]) == (0, False)
    assert server.post("/train?version=", [[1.0]]).ok
    assert weight(server, "/output") == pytest.approx(0.8)

    # a load leaves a version that is loaded, unless it names it; then it can be rolled back
    ordered(server, "/models/scale/load")
    ordered(server, "/v2/repository/models/output/load")
    assert infer(server, "")[1] == pytest.approx(0.8)
    described = ordered(server, "/models/scale/load", version="1")
    assert [file["step"] for file in version(described, "1")["checkpoints"]] == [0, 1, 0]
    assert infer(server, "")[1] == 1
    ordered(server, "/models/scale/rollback", step=1)
    assert infer(server, "")[1] == pytest.approx(0.8)

    # promote: the version's weights, and those before can be rolled back to
    described = ordered(server, "/models/scale/promote", version="2")
    assert infer(server, "")[1] == 2
    before, after = [file["step"] for file in version(described, "1")["checkpoints"]][1::-1]
    assert (before, after) == (1, 0)
    # a file that is refused is not the latest one
    put(directory, 1, 9, size=3, name="wrong")
    server.wait_for_log("wrong.safetensors is not used")
    ordered(server, "/models/scale/rollback")
    assert infer(server, "")[1] == pytest.approx(0.8)
    ordered(server, "/models/scale/promote", version="1", to="3")
    assert of_each(server, "/any?version=3") == [pytest.approx(0.8)] * 2

    # weights that are not finite are not promoted; they can be replaced and unloaded
    def diverge():
        assert server.post("/train?version=3", [[1.7e19]]).ok
        check_error(order(server, "/models/scale/checkpoint", version="3"), 409, "conflict")

    diverge()
    refused = order(server, "/models/scale/promote", version="3")
    check_error(refused, 409, "conflict", 'the weights of "scale@3" are not finite')
    assert infer(server, "")[1] == pytest.approx(0.8)
    ordered(server, "/models/scale/promote", version="1", to="3")
    assert of_each(server, "/any?version=3") == [pytest.approx(0.8)] * 2
    diverge()
    ordered(server, "/models/scale/unload", version="3")
    assert set(of_each(server, "/any?version=3")) == {"unknown_version"}

    log = server.log()
    for text in ('unload of "scale"', 'promote of "scale"', 'load of "output"'):
        assert f"control: {text}" in log
    assert 'by 127.0.0.1, user "eva"' in log
    assert 'by 127.0.0.1, user "eva" failed: IsADirectoryError' in log


def test_control_requests_that_are_wrong(start, directory, users):
    put(directory, 2, 2)
    server = start(SERVER % users, APP, http=http(directory))

    def refused(path, status, code, *texts, **body):
        check_error(order(server, path, **body), status, code, *texts)

    refused("/nothing", 404, "not_found")
    refused("/models", 405, "method_not_allowed", "GET")
    wrong = server.get("/control/models/scale/rollback", headers=EVA)
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
    assert server.request("DELETE", "/control/models", headers=EVA).status_code == 405
    refused("/models/other/freeze", 404, "unknown_model", '"other"')
    refused("/models/scale/freeze", 404, "unknown_version", version="9")
    refused("/models/scale/load", 404, "unknown_version", "no safetensors files", version="9")
    refused("/models/scale/load", 422, "invalid_argument", "letters", version="../x")
    refused("/models/scale/load", 422, "invalid_argument", '"version" must be a string', version=2)
    refused("/models/scale/load", 422, "invalid_argument", '"versoin" is unknown', versoin="2")
    refused("/models/scale/unload", 409, "conflict", "is made by the code")
    refused("/models/scale/unload", 409, "conflict", 'in a "model="', version="2")
    refused("/models/scale/promote", 422, "invalid_argument", '"version" is missing')
    refused("/models/scale/promote", 422, "invalid_argument", "the same", version="1")
    refused("/models/scale/rollback", 404, "unknown_file", step=77)
    refused("/models/scale/rollback", 422, "invalid_argument", step=77, file="a.safetensors")
    refused("/v2/repository/models/nothing/load", 404, "not_found", '"nothing"')
    refused(
        "/v2/repository/models/output/load",
        422,
        "invalid_argument",
        "config",
        parameters={"config": "{}"},
    )
    body = server.post("/control/models/scale/freeze", data="{", headers=EVA)
    assert body.status_code == 400
    assert order(server, "/models/scale/freeze").ok
    evil = {**EVA, "Origin": "https://evil.example"}
    check_error(server.post("/control/models/scale/unfreeze", headers=evil), 403, "wrong_origin")
    evil["Origin"] = "http://["
    check_error(server.post("/control/models/scale/unfreeze", headers=evil), 403, "wrong_origin")
    # a name that a site lets resolve to this address; a password does not come with it
    for name, status in (("evil.example", 403), ("127.0.0.1", 200), ("localhost", 200)):
        rebound = {"Host": f"{name}:80", "Origin": f"http://{name}:80"}
        answer = server.get("/open/guards", headers=rebound)
        assert answer.status_code == status, name
        answer = server.get("/control/guards", headers={**EVA, **rebound})
        assert answer.status_code == 200, name
    refused("/models/a%250Ab/freeze", 404, "unknown_model")
    assert 'control: freeze of "a\\nb", by' in server.log()
    # a file of another program
    header = b'{"__metadata__": {"step": 5}}'
    path = directory / "scale@2/number.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    path.chmod(0o644)
    described = server.get("/control/models/scale", headers=EVA).json()
    assert 5 in {file["step"] for file in version(described, "2")["checkpoints"]}
    refused(
        "/models/scale/rollback", 409, "conflict", "number.safetensors: it", version="2", step=5
    )
    path.unlink()
    (directory / ".orders.json").write_text("{")
    refused("/models/scale/freeze", 409, "conflict", "is damaged", version="2")
    (directory / ".orders.json").unlink()
    put(directory, 4, 4, size=3)
    refused("/models/scale/load", 404, "unknown_version", "F32 [1, 3]", version="4")
    assert "control: freeze" in server.log()
    assert "control: unfreeze" not in server.log()

    # without files or shared memory
    text = (SERVER % users).replace("scale@2", "scale@1")
    server.configure(http="webtorch_zone models:1m;", server=text)
    server.reload()
    refused("/models/scale/rollback", 409, "conflict", "webtorch_checkpoint")
    assert ordered(server, "/models/scale/freeze")[0]["frozen"]
    server.configure(http="")
    server.reload()
    refused("/models/scale/freeze", 409, "conflict", "webtorch_zone")


def test_roll_back_loses_no_request(start, directory, users):
    """Version 2 gets worse while it serves; requests of both versions go on meanwhile."""
    put(directory, 2, 2)
    server = start(SERVER % users, APP, http=http(directory), workers=2)
    assert server.post("/train?version=2", [[1.0]]).ok
    described = ordered(server, "/models/scale/checkpoint", version="2")
    good = version(described, "2")["checkpoints"][0]
    learned = load_file(directory / "scale@2" / good["file"])["weight"].item()
    for _ in range(30):
        assert server.post("/train?version=2", [[1.0]]).ok
    broken = weight(server, "/two")
    assert broken != pytest.approx(learned)

    is_over = threading.Event()
    answers = []

    def ask(path):
        with requests.Session() as session:
            while not is_over.is_set():
                answer = session.post(server.url(path), json=[[1.0]])
                answers.append((path, answer.status_code, answer.json()["output_0"][0][0]))

    threads = [threading.Thread(target=ask, args=(path,)) for path in ("/output", "/two") * 2]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) > 100, "answers before the roll back")
    described = ordered(server, "/models/scale/rollback", version="2", file=good["file"])
    # also of a worker that does not use the weights yet
    described = version(described, "2")
    assert (described["steps"], described["saved"]) == (good["step"], good["step"])
    count = len(answers)
    wait_for(lambda: len(answers) > count + 200, "answers after it")
    is_over.set()
    for thread in threads:
        thread.join()

    assert {status for _, status, _ in answers} == {200}
    assert {value for path, _, value in answers if path == "/output"} == {1}
    two = [value for path, _, value in answers if path == "/two"]
    assert sorted({*two}) == [pytest.approx(each) for each in sorted((learned, broken))]
    assert weight(server, "/two") == pytest.approx(learned)
    steps = version(server.get("/control/models/scale", headers=EVA).json(), "2")["steps"]
    assert steps == good["step"]

    # the file of the roll back is the youngest: all processes are killed
    workers = server.workers()
    server.process.kill()
    server.process.wait()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    server.start()
    assert weight(server, "/two") == pytest.approx(learned)


CANARY = """
    @webtorch.infer
    def checked(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        found = model(x)
        if (found < 0).any():
            raise ValueError("the weights are broken")
        return found
"""

CANARY_SERVER = """
    location = /checked {
        webtorch_handler app:checked model=scale@$canary;
        add_header Version $canary always;
    }
    location = /status { webtorch_status; }
    location = /ready { webtorch_health ready; }
    location /control { webtorch_control; }
"""

SPLIT = """
    split_clients $arg_id $canary { 10% 2; * ""; }
"""


def test_canary_that_is_broken(start, directory):
    put(directory, 2, 2)
    server = start(CANARY_SERVER, APP + CANARY, http=http(directory) + SPLIT, workers=2)

    def ask(number):
        answer = server.post(f"/checked?id={number}", [[1.0]])
        return answer.headers.get("Version", ""), answer.status_code

    def failed():
        samples = scrape(server)
        return value(samples, "webtorch_requests_total", handler="app:checked", code="500")

    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(ask, range(200))]
        second = sum(version == "2" for version, _ in found)
        # the hash of the ids decides, not chance
        assert 0 < second < 100
        assert {status for _, status in found} == {200}

        save_file({"weight": torch.full((1, 1), -1.0)}, directory / "scale@2/broken.safetensors")
        (directory / "scale@2/broken.safetensors").chmod(0o644)
        assert server.post("/control/models/scale/load", {"version": "2"}).ok
        wait_for(lambda: 500 in dict(pool.map(ask, range(200))).values(), "the broken version")
        wait_for(
            lambda: (
                {version for version, status in pool.map(ask, range(200)) if status != 200} == {"2"}
            ),
            "its share, and no other, to fail",
        )

        # all workers have it: exactly its share fails, and is counted
        def is_all():
            before = failed()
            found = [*pool.map(ask, range(200))]
            counted = failed() - before
            assert counted == sum(status == 500 for _, status in found)
            return Counter(found) == {("", 200): 200 - second, ("2", 500): second}

        wait_for(is_all, "exactly its share to fail")
        # it is the alarm that tells: the server itself is ready, most requests are served
        assert server.get("/ready").status_code == 200

        # a roll back while clients go on: none of the others notices
        stop = threading.Event()
        noticed = []

        def go_on(first):
            for number in itertools.count(first, 4):
                if stop.is_set():
                    return
                noticed.append(ask(number % 200))

        clients = [threading.Thread(target=go_on, args=(first,)) for first in range(4)]
        for client in clients:
            client.start()
        wait_for(lambda: ("2", 500) in noticed, "a request that fails")
        order = {"version": "2", "file": "begin.safetensors"}
        assert server.post("/control/models/scale/rollback", order).ok
        wait_for(
            lambda: {status for _, status in pool.map(ask, range(200))} == {200},
            "the version of before",
        )
        stop.set()
        for client in clients:
            client.join()
        assert set(noticed) <= {("", 200), ("2", 200), ("2", 500)}
        assert {status for _, status in pool.map(ask, range(200))} == {200}
