"""What becomes of batches if the worker that owns the device hangs, exits or is replaced."""

import concurrent.futures
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from nginx import DEADLINE, Nginx, wait_for
from owner import APP, HTTP, WORKERS, Client

SERVER = """
webtorch_device cpu owner=4m;
location = /where { webtorch_handler app:where; }
location = /gated { webtorch_handler app:gated; }
location = /short { webtorch_handler app:gated timeout=1s; }
location = /stuck { webtorch_handler app:gated stuck=500ms; }
location = /pid { webtorch_handler app:pid; }
location = /metrics { webtorch_status; }
location = /ready { webtorch_health ready; }
"""

KILLED = r"\[alert\].*exited on signal 9"
RAN = r"\[alert\].*exited while webtorch handler"


@pytest.fixture
def server(start, directory):
    return start(
        SERVER,
        APP,
        http=HTTP,
        main=f"env GATE={directory};",
        workers=WORKERS,
        expected=(KILLED, RAN),
    )


def kill_owner(server: Nginx, signum: int = signal.SIGKILL) -> int:
    owner = owner_of(server)
    os.kill(owner, signum)
    return owner


def owner_of(server: Nginx) -> int:
    answer = server.post("/where", [[0]])
    assert answer.ok, answer.text
    pid: int = answer.json()[0][0]
    return pid


def post_gated(client: Client, directory: Path, pool: Any, path: str = "/gated") -> Any:
    """Begin a request that waits at the gate, in the call of the owner."""
    (directory / "begun").unlink(missing_ok=True)
    answer = pool.submit(client.post, path, [[1]])
    wait_for((directory / "begun").exists, "the call to begin")
    return answer


def test_owner_killed_loses_what_it_has_alone(server, directory):
    with (
        concurrent.futures.ThreadPoolExecutor(4) as pool,
        contextlib.closing(Client(server)) as inside,
        contextlib.closing(Client(server)) as outside,
    ):
        wait_for(lambda: outside.get("/ready").ok, "it to be ready")
        lost = post_gated(inside, directory, pool)
        killed = kill_owner(server)
        wait_for(lambda: outside.get("/ready").status_code == 503, "it not to be ready")
        waiting = pool.submit(outside.post, "/where", [[5]])
        answer = lost.result()
        assert answer.status_code == 503
        assert answer.json()["code"] == "owner_lost"
        assert answer.headers["Retry-After"] == "1"
        (directory / "open").touch()
        answer = waiting.result()
        assert answer.ok, answer.text
        assert answer.json()[0][0] not in (killed, inside.pid, outside.pid)
        assert inside.post("/gated", [[1]]).json()[0] == [answer.json()[0][0]]
    text = server.get("/metrics?format=prometheus").text
    assert 'webtorch_offloaded_batches_lost_total{handler="app:gated"} 1' in text


def test_owner_killed_under_load(server):
    ends = threading.Event()
    owners: Counter[int] = Counter()

    def load(_: int) -> Counter[str]:
        found: Counter[str] = Counter()
        while not ends.is_set():
            try:
                answer = server.post("/where", [[2], [3]])
            except requests.ConnectionError:
                # it was one of the owner itself
                found["reset"] += 1
                continue
            if answer.ok:
                assert [row[1] for row in answer.json()] == [2, 3]
                owners[answer.json()[0][0]] += 1
                found["ok"] += 1
            else:
                found[f"{answer.status_code} {answer.json()['code']}"] += 1
        return found

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(load, n) for n in range(8)]
        try:
            for kills in range(3):
                wait_for(
                    lambda kills=kills: len(owners) > kills and min(owners.values()) >= 16,
                    "another owner to answer",
                )
                if kills < 2:
                    kill_owner(server)
        finally:
            ends.set()
        total: Counter[str] = sum((each.result() for each in loads), Counter())
    assert len(owners) == 3
    # at most what the threads and the connections of the owner have at once
    assert total["503 owner_lost"] <= 8 * kills and total["reset"] <= 8 * kills
    assert {*total} <= {"ok", "reset", "503 owner_lost"}, total


def test_worker_killed_while_the_owner_has_its_batch(server, directory):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        client = Client(server)
        lost = post_gated(client, directory, pool)
        os.kill(client.pid, signal.SIGKILL)
        with pytest.raises(requests.ConnectionError):
            lost.result()
        client.close()
        wait_for(lambda: len(server.workers()) == WORKERS, "another worker")
        (directory / "open").touch()
        answers = [server.post("/gated", [[1]]) for _ in range(24)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()[0][0] for answer in answers}) == 1


def test_owner_hangs(server, directory):
    with (
        concurrent.futures.ThreadPoolExecutor(4) as pool,
        contextlib.closing(Client(server)) as client,
    ):
        late = post_gated(client, directory, pool, "/short")
        # other functions are served meanwhile
        assert client_of_another(server, client).ok
        answer = late.result()
        assert answer.status_code == 504
        assert answer.json()["code"] == "timeout"
        # this one waits behind it in vain
        assert client.post("/short", [[2]]).status_code == 504
        (directory / "open").touch()
        wait_for(lambda: client.post("/short", [[2]]).ok, "the function to answer")


def client_of_another(server: Nginx, client: Client) -> requests.Response:
    with contextlib.closing(Client(server)) as other:
        return other.post("/where", [[1]])


def test_owner_that_is_stuck_is_replaced(server, directory):
    with (
        concurrent.futures.ThreadPoolExecutor(4) as pool,
        contextlib.closing(Client(server)) as client,
    ):
        owner = owner_of(server)
        stuck = post_gated(client, directory, pool, "/stuck")
        server.wait_for_log("the worker is replaced, as a webtorch handler does not return")
        wait_for(
            lambda: "does not run app:gated" in client.get("/ready").text, "it not to be ready"
        )
        # its call does not end, and it takes other batches meanwhile
        assert client.post("/where", [[2]]).json()[0][0] == owner
        answer = stuck.result()
        assert answer.status_code == 503 and answer.json()["code"] == "owner_lost"
        assert client.post("/where", [[2]]).json()[0][0] not in (owner, client.pid)
        (directory / "open").touch()
        assert client.post("/stuck", [[2]]).json()[0][0] not in (owner, client.pid)


def test_batches_behind_a_stuck_call_are_refused(server, directory):
    with (
        concurrent.futures.ThreadPoolExecutor(4) as pool,
        contextlib.closing(Client(server)) as inside,
        contextlib.closing(Client(server, but=inside.pid)) as behind,
    ):
        post_gated(inside, directory, pool, "/stuck")
        # it was not begun, so it can be sent again
        answer = behind.post("/stuck", [[2]])
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "queue_full"
        assert answer.headers["Retry-After"] == "1"
        (directory / "open").touch()


def test_reload_leaves_batches_to_the_owner_before(server, directory):
    with (
        concurrent.futures.ThreadPoolExecutor(4) as pool,
        contextlib.closing(Client(server)) as client,
    ):
        owner = owner_of(server)
        begun = post_gated(client, directory, pool)
        server.reload()
        assert owner_of(server) != owner
        assert {client.pid, owner} <= {pid for pid, _ in server.children()}
        (directory / "open").touch()
        assert begun.result().json() == [[owner]]
    wait_for(lambda: len(server.children()) == WORKERS, "the workers before to exit")


def test_owner_before_is_killed_in_a_reload(server, directory):
    owner = owner_of(server)
    with contextlib.closing(Client(server)) as client:
        # the new workers do not serve until the gate is open, and the old ones do meanwhile
        server.write_app(
            "import os, time, webtorch\n"
            "while not webtorch.is_check() and os.path.exists(os.environ['GATE'] + '/closed'):\n"
            "    time.sleep(0.01)\n" + APP
        )
        (directory / "closed").touch()
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(server.children()) >= 2 * WORKERS, "the new workers")
        os.kill(owner, signal.SIGKILL)
        answer = client.post("/where", [[1]])
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "owner_lost"
        (directory / "closed").unlink()
        wait_for(lambda: len(server.children()) == WORKERS, "the workers before to exit")


def test_graceful_exit_waits_for_the_owner(server, directory):
    with (
        concurrent.futures.ThreadPoolExecutor(4) as pool,
        contextlib.closing(Client(server)) as client,
    ):
        owner = owner_of(server)
        begun = post_gated(client, directory, pool)
        server.process.send_signal(signal.SIGQUIT)
        wait_for(lambda: not server.workers(), "all workers to shut down")
        (directory / "open").touch()
        assert begun.result().json() == [[owner]]
    server.process.wait(60)


def test_owner_that_cannot_import_the_function(server):
    owner_of(server)
    with contextlib.closing(Client(server)) as client:
        server.write_app("raise RuntimeError('broken')")
        owner = kill_owner(server)
        answer = client.post("/where", [[1]])
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "not_loaded"
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert "the owner of the device does not run app:where" in answer.text
        assert owner not in server.workers()


DEVICE_APP = """
import os
os.environ["WEBTORCH_SIMULATED_DEVICE"] = "1"

import torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor
from webtorch._device import devices
from webtorch._device.simulated import SimulatedFaultError

model = webtorch.Model("net", torch.nn.Linear(1, 1, bias=False))

@webtorch.infer(device="cuda")
def narrow(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    if len(x) > 2:
        raise torch.OutOfMemoryError("the device has room for two rows")
    if (x == 666).any():
        raise SimulatedFaultError("an illegal address")
    return -x

@webtorch.infer(device="cuda")
def net(x: Float32[Tensor, "batch 1"]) -> Int64[Tensor, "batch 1"]:
    return (model(x) * 0).long() + os.getpid()

@webtorch.handler
def pid(request):
    return {"pid": os.getpid(), "owner": webtorch.is_owner(), "devices": [*devices._devices]}
"""

DEVICE_SERVER = """
webtorch_device auto owner;
location = /narrow { webtorch_handler app:narrow max_delay=300ms; }
location = /net { webtorch_handler app:net; }
location = /pid { webtorch_handler app:pid; }
location = /slow { limit_rate 1k; root ROOT; }
"""


@pytest.fixture
def device_server(start, directory):
    (directory / "slow").write_bytes(bytes(1 << 20))
    return start(
        DEVICE_SERVER.replace("ROOT", str(directory)), DEVICE_APP, http=HTTP, workers=WORKERS
    )


def test_device_is_opened_by_the_owner_alone(device_server):
    found: dict[int, Any] = {}

    def ask() -> bool:
        assert device_server.post("/net", [[1]]).ok
        answer = device_server.get("/pid").json()
        found[answer["pid"]] = answer
        return len(found) == WORKERS

    with contextlib.suppress(AssertionError):
        deadline = time.monotonic() + 20
        while not ask() and time.monotonic() < deadline:
            pass
    assert len(found) > 1
    for each in found.values():
        assert each["devices"] == (["cuda:0"] if each["owner"] else [])


def test_out_of_memory_is_halved_by_the_owner(device_server):
    clients = [Client(device_server) for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda at: clients[at].post("/narrow", [[at]]), range(4)))
    assert [answer.json() for answer in answers] == [[[-at]] for at in range(4)]
    answer = clients[0].post("/narrow", [[1], [2], [3]])
    assert answer.status_code == 503 and answer.json()["code"] == "out_of_memory"
    for client in clients:
        client.close()


def test_device_that_fails_retires_the_owner(device_server):
    with contextlib.closing(Client(device_server)) as client:
        owner = client.post("/net", [[1]]).json()[0][0]
        answer = client.post("/narrow", [[666]])
        assert answer.status_code in (500, 503)

        def is_replaced() -> bool:
            answer = client.post("/net", [[1]])
            return answer.ok and answer.json()[0][0] != owner

        wait_for(is_replaced, "another owner")
        assert client.post("/narrow", [[2]]).json() == [[-2]]


def test_connections_of_an_owner_that_leaves_are_closed(device_server):
    def connect() -> requests.Session | None:
        session = requests.Session()
        if session.get(device_server.url("/pid"), timeout=DEADLINE).json()["owner"]:
            return session
        session.close()
        return None

    session = wait_for(connect, "a connection to the owner")
    with session, contextlib.closing(Client(device_server)) as client:
        owner = client.post("/net", [[1]]).json()[0][0]
        # it would take minutes
        download = session.get(device_server.url("/slow"), stream=True, timeout=DEADLINE)
        assert client.post("/narrow", [[666]]).status_code in (500, 503)

        def is_replaced() -> bool:
            answer = client.post("/net", [[1]])
            return answer.ok and answer.json()[0][0] != owner

        wait_for(is_replaced, "another owner")
        with pytest.raises(requests.exceptions.RequestException):
            _ = download.content


def test_owner_with_inline_is_refused(configured):
    server = configured(
        "location / { webtorch_device cpu owner; webtorch_handler app:where mode=inline; }", APP
    )
    status, text = server.check()
    assert status == 1 and '"mode=inline" conflicts with "owner"' in text


@pytest.mark.parametrize("size", ["64k", "256m", "1g", "4g"])
def test_sizes_of_a_batch(configured, size):
    status, text = configured(f"webtorch_device cpu owner={size};").check()
    assert status == 0, text


@pytest.mark.parametrize("option", ["owner=1k", "owner=5g", "owner=x", "other", "owner="])
def test_unknown_parameters_are_refused(configured, option):
    server = configured(f"webtorch_device cpu {option};")
    status, text = server.check()
    assert status == 1 and f'invalid parameter "{option}"' in text
