"""One worker owns the device: the others hand their batches to it."""

import concurrent.futures
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from nginx import Nginx, running
from owner import APP, HTTP, SERVER, WORKERS, Client


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Nginx]:
    with running(Nginx(SERVER, APP, http=HTTP, workers=WORKERS)) as server:
        yield server


@pytest.fixture
def client(server: Nginx) -> Iterator[Client]:
    with contextlib.closing(Client(server)) as found:
        yield found


def test_batches_of_all_workers_run_in_one(server):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: server.post("/where", [[n], [n + 1]]), range(200)))
    pids = set()
    for n, answer in enumerate(answers):
        assert answer.ok, answer.text
        rows = answer.json()
        assert [row[1] for row in rows] == [n, n + 1]
        pids |= {row[0] for row in rows}
    (owner,) = pids
    assert owner in server.workers()
    assert f"{owner}#{owner}: the worker runs the functions that others offload" in server.log()
    found = [server.get("/pid").json() for _ in range(60)]
    assert {each["pid"] for each in found if each["owner"]} <= {owner}
    assert len({each["pid"] for each in found}) > 1


def test_variable_axes(client):
    answer = client.post("/wide", {"x": [[1, 2, 3], [4, 5, 6]]})
    assert answer.ok, answer.text
    assert [*answer.json().values()] == [
        [[2, 4, 6], [8, 10, 12]],
        [[6, 6, 6], [15, 15, 15]],
    ]
    assert client.post("/wide", {"x": [[7]]}).ok


def test_strings(client):
    body = {"text": [["ab", "", "ü"], ["c", "d", "eé"]], "x": [[1, 2, 3], [4, 5, 6]]}
    for _ in range(3):
        answer = client.post("/words", body)
        assert answer.ok, answer.text
        assert [*answer.json().values()] == [
            [["ABAB", "", "ÜÜ"], ["CC", "DD", "EÉEÉ"]],
            [[1, 2, 3], [4, 5, 6]],
        ]


def test_optional_input(client):
    assert client.post("/maybe", {"x": [[1]]}).json()["output"] == [[1]]
    assert client.post("/maybe", {"x": [[1]], "y": [[2]]}).json()["output"] == [[3]]


def test_function_of_one_request(client):
    assert client.post("/plain", [1, 2]).json() == [2, 3]


def test_errors_reach_their_clients(server):
    clients = [Client(server) for _ in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda at: clients[at].post("/picky", [[at + 10.0]]), range(6)))
    for each in clients:
        each.close()
    for at, answer in enumerate(answers):
        if at == 3:
            assert answer.status_code == 422
            assert answer.json() == {
                "error": "no thirteen",
                "code": "thirteen",
                "detail": [{"at": 13}],
            }
            assert answer.headers["X-Why"] == "luck"
        elif at == 4:
            assert answer.status_code == 500
            assert answer.json()["code"] == "handler_failed"
        else:
            assert answer.json() == [[-(at + 10.0)]]
    assert "ValueError: fourteen" in server.log()


def test_large_batches(client):
    """Large inputs are adopted by the owner, and large outputs are copied by its thread."""
    rows = [[float(n)] * 400 for n in range(900)]
    for _ in range(3):
        answer = client.post("/wide", {"x": rows})
        assert answer.ok, answer.text
        first, second = answer.json().values()
        # the difference of large lists takes pytest minutes
        assert [{*row} for row in first] == [{2.0 * n} for n in range(900)]
        assert {len(row) for row in first} == {400}
        assert second == [[400.0 * n] * 3 for n in range(900)]


def test_batch_larger_than_a_slot(client):
    body = b"\0" * (5 * 1024 * 1024)
    headers = {"Content-Type": "application/octet-stream", "Tensor-Shape": "1, 1310720"}
    answer = client.post("/wide", data=body, headers=headers)
    assert answer.status_code == 413, answer.text
    assert answer.json()["code"] == "too_large"
    assert client.post("/where", [[1]]).ok


def test_results_larger_than_a_slot(client):
    answer = client.post("/long", [5e6])
    assert answer.status_code == 413, answer.text
    assert answer.json()["code"] == "too_large"
    assert client.post("/long", [3]).json() == ["aaa"]


def test_many_requests_are_several_batches(server):
    """Together they have four times the bytes of a slot."""
    size = 128 * 1024
    headers = {
        "Content-Type": "application/octet-stream",
        "Tensor-Shape": f"1, {size}",
        "Accept": "application/vnd.safetensors, application/json",
    }
    body = b"\0\0\x80\x3f" * size
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(
            pool.map(lambda _: server.post("/wide", data=body, headers=headers), range(32))
        )
    assert {answer.status_code for answer in answers} == {200}, answers[0].text


def test_requests_that_fit_alone_are_answered_together(start):
    """Two of six have room in a slot, with what the function makes of them."""
    server = start(SERVER, APP, http=HTTP, workers=2)
    clients = [Client(server) for _ in range(6)]

    def post(request: tuple[str, list[Any]]) -> set[tuple[int, bool]]:
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda each: each.post(*request), clients))
        return {(answer.status_code, "Retry-After" in answer.headers) for answer in answers}

    # the sizes of its outputs follow from those of inputs
    assert post(("/taller", [[1.0] * 10000])) == {(200, False)}
    # those of strings do not
    found = [post(("/longer", [1.5e6])) for _ in range(6)]
    assert set().union(*found) == {(200, False), (503, True)}
    assert found[3:] == 3 * [{(200, False)}]
    for each in clients:
        each.close()


def test_training_is_made_by_the_owner(server, client):
    before = client.get("/pid").json()["steps"]
    owners = {client.post("/learn", [[1.0]]).json()[0][0] for _ in range(10)}
    assert len(owners) == 1 and client.pid not in owners
    assert client.get("/pid").json()["steps"] == before + 10


def test_rows_posted_by_functions_of_requests(client):
    found = client.get("/posted?x=7").json()
    assert found["pid"] == client.pid
    assert found["where"][0][0] != client.pid and found["where"][0][1] == 7


def test_errors_of_posted_rows(client):
    assert client.get("/failing?x=1").json() == [[-1]]
    found = client.get("/failing?x=13").json()
    assert found["status"] == 422 and found["code"] == "thirteen"
    assert found["detail"] == [{"at": 13}] and ["X-Why", "luck"] in found["headers"]
    assert client.get("/failing?x=14").status_code == 500
    assert client.get("/failing?x=17").json()["type"] == "QueueFullError"
    assert client.get("/failing?x=18").json()["type"] == "BatchTimeoutError"


def test_location_without_an_owner(client):
    assert client.post("/own", [[1]]).json()[0][0] == client.pid


VERSIONS_APP = """
import os, torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor

nets = {}
for version in ("1", "two"):
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, 1.0 if version == "1" else 2.0)
    nets[version] = webtorch.Model("net", net, version=version)
net = nets["1"]

@webtorch.infer
def output(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return net(x)

@webtorch.infer
def where(x: Float32[Tensor, "batch 1"]) -> Int64[Tensor, "batch 1"]:
    return torch.full((len(x), 1), os.getpid())

@webtorch.handler
def pid(request):
    return {"pid": os.getpid(), "owner": webtorch.is_owner()}
"""

VERSIONS_SERVER = """
webtorch_device cpu owner;
location = /output { webtorch_handler app:output model=net@$arg_version; }
location = /where { webtorch_handler app:where; }
location = /pid { webtorch_handler app:pid; }
"""


def test_versions_are_those_of_the_owner(start):
    """Each worker numbers versions itself, so their names are handed over."""
    server = start(VERSIONS_SERVER, VERSIONS_APP, http=HTTP, workers=2)
    with contextlib.closing(Client(server)) as client:
        assert client.post("/where", [[1]]).json()[0][0] != client.pid
        assert client.post("/output?version=two", [[3]]).json() == [[6]]
        assert client.post("/output?version=", [[3]]).json() == [[3]]
        assert client.post("/output?version=three", [[3]]).status_code == 404
