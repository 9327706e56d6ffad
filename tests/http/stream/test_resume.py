"""Streams with `resume=`: they survive connections, workers, reloads and kill -9."""

import contextlib
import inspect
import json
import os
import random
import re
import signal
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import resuming
from duplex import Duplex, duplex
from nginx import DEADLINE, ROOT, Nginx, running, wait_for
from resume_app import APP, digests
from resuming import stream, stream_http

HTTP = "webtorch_zone models:16m;"

SERVER = """
location = /digest { webtorch_handler app:digest resume=60s; }
location = /soon { webtorch_handler app:digest resume=300ms; }
location = /until { webtorch_handler app:until resume=60s; }
location = /short { webtorch_handler app:until resume=60s resume_buffer=1k; }
location = /large { webtorch_handler app:large resume=60s; }
location = /echo { webtorch_handler app:echo resume=60s; }
location = /late { webtorch_handler app:until resume=60s idle=100ms; }
location = /plain { webtorch_handler app:until; }
location = /waiting { webtorch_handler app:waiting resume=60s timeout=100ms; }
location = /door { webtorch_handler app:open_door; }
location = /lingering { webtorch_handler app:lingering resume=60s; }
location = /exit { webtorch_handler app:open_exit; }
location = /pid { webtorch_handler app:pid; }
"""

KILLED = ("exited on signal 9", "exited while webtorch handler")


@pytest.fixture(scope="module")
def shared_server():
    with running(Nginx(SERVER, APP, http=HTTP, workers=2)) as server:
        server.expected_in_log += KILLED
        yield server


def test_open_and_close_that_take_long(start):
    server = start(SERVER, APP, http=HTTP)
    check_open_that_returns_too_late(server)
    check_answers_while_close_is_called(server)


def check_open_that_returns_too_late(server):
    """What it has opened is closed, its memory is not that of another stream meanwhile."""
    answer = server.post("/waiting", json=1)
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    with duplex(server, "/until") as other:
        server.get("/door")
        server.wait_for_log("waited, and left with -7")
        other.send_row(3)
        assert other.row() == 3


def check_answers_while_close_is_called(server):
    """The client may not have them; what has failed has none, and no chunk is taken."""
    with duplex(server, "/lingering") as client:
        assert send_some(client, [5, 6]) == [5, 11]
        client.finish()
        assert client.line() == b""
    with duplex(server, "/lingering") as failed:
        failed.send_row(7)
        failed.send(b"666\n")
        assert [failed.row(), failed.row()["code"]] == [7, "handler_failed"]
    server.wait_for_log("lingers with 11")
    server.wait_for_log("lingers with 7")
    for opened in (False, True):
        for _ in range(2):
            with duplex(server, "/lingering", *back(client, 1)) as again:
                assert again.headers["stream-offset"] == "2"
                again.send_row(9)
                assert [*iter(again.line, b"")] == [b"11"]
            with open_socket(server, f"/lingering?stream_id={client.headers['stream-id']}") as ws:
                assert [json.loads(ws.recv(DEADLINE)) for _ in range(3)][1:] == [5, 11]
                assert closed(ws) == (1000, "done")
        gone = f"/lingering?stream_id={failed.headers['stream-id']}"
        assert server.post(gone).status_code == 404
        if not opened:
            server.get("/exit")
            server.wait_for_log("lingered with 11")
            server.wait_for_log("lingered with 7")
    assert server.log().count("lingers with") == 2


def back(client: Duplex, offset: int) -> tuple[str, str]:
    """Return the headers with which a client comes back."""
    return f"Stream-Id: {client.headers['stream-id']}", f"Stream-Offset: {offset}"


def open_socket(server, path):
    return connect(url(server, path), open_timeout=DEADLINE)


def url(server, path):
    return f"ws://127.0.0.1:{server.port}{path}"


def closed(ws) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            ws.recv(DEADLINE)
    return caught.value.rcvd.code, caught.value.rcvd.reason


def ended(server) -> list[int]:
    """Return the states with which `close` was called, in the order of the calls."""
    return [int(state) for state in re.findall(r"ended with (\d+)", server.log())]


def send_some(client: Duplex, rows: list[int], offset: int = 0) -> list[int]:
    """Send rows, one at a time; return the answers."""
    answers = []
    for row in rows[offset:]:
        client.send_row(row)
        answers.append(client.row())
    return answers


# --- coming back ---


def test_stream_continues_on_another_connection(server):
    rows = [*range(100, 130)]
    ids = []
    client = Duplex(server, "/digest")
    assert client.head() == 200
    answers = send_some(client, rows[:10])
    for begin, end in pairwise([10, 11, 20, 30]):
        client.reset()
        ids.append(client.headers["stream-id"])
        client = Duplex(server, "/digest", *back(client, begin))
        assert client.head() == 200
        assert client.headers["stream-offset"] == str(begin)
        answers += send_some(client, rows[:end], begin)
    assert answers == digests(rows)
    assert len(set(ids)) == 1 and len(ids[0]) == 40
    client.finish()
    assert client.line() == b""
    client.close()
    with duplex(server, "/digest") as other:
        assert other.headers["stream-id"][:32] != ids[0][:32]
        other.finish()


def test_answers_that_were_lost_are_sent_again(server):
    rows = [*range(20)]
    with duplex(server, "/digest") as client:
        assert send_some(client, rows) == digests(rows)
        client.reset()
    for offset in (20, 3, 0):
        with duplex(server, "/digest", *back(client, offset)) as again:
            assert again.headers["stream-offset"] == "20"
            assert [again.row() for _ in range(offset, 20)] == digests(rows)[offset:]
            again.reset()
    events = Duplex(server, "/digest", *back(client, 18), "Accept: text/event-stream")
    assert events.head() == 200
    lines = [events.line() for _ in range(6)]
    assert [line for line in lines if line.startswith(b"id")] == [b"id: 18", b"id: 19"]
    events.close()


def test_raw_rows_and_other_formats(server):
    with duplex(server, "/until", content_type="application/octet-stream") as client:
        client.send(struct.pack("<3f", 1, 2, 3))
        assert client.read(12) == struct.pack("<3f", 1, 3, 6)
        client.reset()
    refused = Duplex(server, "/until", *back(client, 1))
    assert refused.head() == 200
    assert refused.row()["code"] == "wrong_format"
    refused.close()
    options = {"content_type": "application/octet-stream"}
    with duplex(server, "/until", *back(client, 1), **options) as again:
        assert again.read(8) == struct.pack("<2f", 3, 6)
        again.reset()
    id = client.headers["stream-id"]
    with open_socket(server, f"/until?stream_id={id}&stream_offset=2") as ws:
        assert json.loads(ws.recv(DEADLINE)) == {"stream_id": id, "stream_offset": 3}
        assert ws.recv(DEADLINE) == struct.pack("<f", 6)
        ws.send("4")
        assert ws.recv(DEADLINE) == "10"


def test_websocket_comes_back(server):
    with open_socket(server, "/digest") as ws:
        hello = json.loads(ws.recv(DEADLINE))
        assert hello == {"stream_id": ws.response.headers["Stream-Id"], "stream_offset": 0}
        for row, answer in zip([5, 6, 7], digests([5, 6, 7]), strict=True):
            ws.send(str(row))
            assert json.loads(ws.recv(DEADLINE)) == answer
        ws.close(1001)
    query = f"/digest?stream_id={hello['stream_id']}&stream_offset="
    with open_socket(server, f"{query}1") as ws:
        assert json.loads(ws.recv(DEADLINE))["stream_offset"] == 3
        assert [json.loads(ws.recv(DEADLINE)) for _ in range(2)] == digests([5, 6, 7])[1:]
        ws.send("8")
        assert json.loads(ws.recv(DEADLINE)) == digests([5, 6, 7, 8])[-1]


def test_strings_are_kept_as_they_are(server):
    with duplex(server, "/echo", content_type="text/plain") as client:
        client.send("ä\n\nb\n".encode())
        assert [client.line() for _ in range(3)] == ["ä".encode(), b"", b"b"]
        client.reset()
    with duplex(server, "/echo", *back(client, 0), content_type="text/plain") as again:
        assert [again.line() for _ in range(3)] == ["ä".encode(), b"", b"b"]
        again.finish()


def test_idle_stream_can_be_continued(server):
    with duplex(server, "/late") as client:
        client.send_row(1)
        assert client.row() == 1
        assert client.row()["code"] == "idle"
    with duplex(server, "/late", *back(client, 1)) as again:
        again.send_row(1)
        assert again.row() == 2
        again.finish()


# --- refusals ---


def test_streams_that_cannot_be_continued(server):
    with duplex(server, "/short") as client:
        for n in range(1, 300):
            client.send_row(1)
            assert client.row() == n
        client.reset()
    id = client.headers["stream-id"]
    guess = f"{int(id[0], 16) ^ 1:x}{id[1:]}"
    cases = [
        ("/short", id, 0, 410, "answers_gone"),
        ("/short", id, 300, 400, "bad_offset"),
        ("/short", id, "x", 400, "bad_offset"),
        ("/short", guess, 299, 404, "unknown_stream"),
        ("/short", id[:-1], 299, 404, "unknown_stream"),
        ("/short", id[:-8] + "ffffffff", 299, 404, "unknown_stream"),
        ("/digest", id, 299, 404, "unknown_stream"),
        ("/plain", id, 299, 404, "unknown_stream"),
    ]
    for path, name, offset, status, code in cases:
        answer = server.post(f"{path}?stream_id={name}&stream_offset={offset}")
        assert (answer.status_code, answer.json()["code"]) == (status, code), (path, name, offset)
        with open_socket(server, f"{path}?stream_id={name}&stream_offset={offset}") as ws:
            assert json.loads(ws.recv(DEADLINE))["code"] == code
            assert closed(ws) == (4000 + status, code)
    with duplex(server, "/short", *back(client, 290)) as again:
        assert [again.row() for _ in range(9)] == [*range(291, 300)]
        again.finish()


def test_zone_without_room(server):
    """A few streams of two rows of 2 MB fit, and one more when one of them has ended."""
    clients = []
    while True:
        client = Duplex(server, "/large")
        if client.head() != 200:
            break
        clients.append(client)
    client.close()
    refused = server.post("/large")
    assert (refused.status_code, refused.json()["code"]) == (503, "no_room")
    assert 3 <= len(clients) <= 4
    for n, each in enumerate(clients):
        each.send_row(n)
        assert each.row() == n
    clients[0].finish()
    assert clients[0].line() == b""

    def accepted() -> Duplex | None:
        """Another worker may free the room a moment after it has sent the last answer."""
        other = Duplex(server, "/large")
        if other.head() == 200:
            return other
        other.close()
        return None

    with contextlib.closing(wait_for(accepted, "room of the stream that has ended")) as other:
        other.send_row(1)
        assert other.row() == 1
        other.finish()
        assert other.line() == b""
    for each in clients[1:]:
        each.send_row(1)
        assert each.row() == clients.index(each) + 1
        each.finish()
    for each in clients:
        each.close()


# --- taken over ---


def test_stream_is_taken_over(server):
    with duplex(server, "/digest") as first:
        assert send_some(first, [1, 2]) == digests([1, 2])
        with duplex(server, "/digest", *back(first, 2)) as second:
            assert send_some(second, [1, 2, 3], 2) == digests([1, 2, 3])[2:]
            assert first.row()["code"] == "taken_over"
            assert first.line() == b""
            id = first.headers["stream-id"]
            with open_socket(server, f"/digest?stream_id={id}&stream_offset=3") as ws:
                assert json.loads(ws.recv(DEADLINE))["stream_offset"] == 3
                assert second.row()["code"] == "taken_over"
                with duplex(server, "/digest", *back(first, 3)) as third:
                    assert closed(ws) == (4409, "taken_over")
                    assert send_some(third, [1, 2, 3, 4], 3) == digests([1, 2, 3, 4])[3:]
                    third.finish()
                    assert third.line() == b""
    wait_for(lambda: ended(server).count(digests([1, 2, 3, 4])[-1]) == 1, "close")


# --- ends ---


@pytest.mark.parametrize("path", ["/digest", "/soon"], ids=["end", "time"])
def test_close_is_called_once(server, path):
    """At the end of the body, of a WebSocket, after an error, and when the time is over."""
    rows = [random.randrange(1000) for _ in range(4)]
    answers = digests(rows)
    with duplex(server, path) as client:
        send_some(client, rows)
        client.finish()
        assert client.line() == b""
    with open_socket(server, path) as ws:
        ws.recv(DEADLINE)
        ws.send(str(rows[0]))
        assert json.loads(ws.recv(DEADLINE)) == answers[0]
    with duplex(server, path) as client:
        send_some(client, rows[:2])
        client.send_row(666)
        assert client.row()["code"] == "handler_failed"
    failed = client.headers["stream-id"]
    expected = [answers[3], answers[0], answers[1]]
    if path == "/soon":
        with duplex(server, path) as client:
            send_some(client, rows[:3])
            client.reset()
        expected.append(answers[2])
        refused = server.post(f"{path}?refuse")
        assert refused.status_code == 403
    wait_for(lambda: not Counter(expected) - Counter(ended(server)), "close")
    assert server.post(f"{path}?stream_id={failed}&stream_offset=2").status_code == 404
    if path == "/soon":
        id = client.headers["stream-id"]
        assert server.post(f"{path}?stream_id={id}&stream_offset=3").status_code == 404
    # the next one is later than a second call for one of these would be
    with duplex(server, path) as client:
        send_some(client, [1])
        client.finish()
        client.line()
    wait_for(lambda: digests([1])[0] in ended(server), "close")
    assert all(ended(server).count(answer) == 1 for answer in expected)


def test_answers_of_a_stream_that_has_ended(server):
    """Its client may have lost them; it has ended for good, by the body or by the function."""
    for end in ("body", "done"):
        with duplex(server, "/until") as client:
            client.send(b"1\n2\n" + (b"-3\n4\n" if end == "done" else b""))
            if end == "body":
                client.finish()
            answers = [*iter(client.line, b"")]
        assert answers == [b"1", b"3", b"0"][: len(answers)]
        with duplex(server, "/until", *back(client, 1)) as again:
            again.send_row(9)
            assert [*iter(again.line, b"")] == answers[1:]
        id = client.headers["stream-id"]
        with open_socket(server, f"/until?stream_id={id}&stream_offset={len(answers)}") as ws:
            assert json.loads(ws.recv(DEADLINE))["stream_offset"] == len(answers)
            assert closed(ws) == (1000, "done")


def test_documented_client(server):
    """It ends with the stream, and raises what it could not come back from."""
    documented = (ROOT / "docs/streams.md").read_text()
    source = inspect.getsource(resuming)
    assert source[source.index("FINAL =") : source.index("COME_BACK")].strip() in documented

    assert [*stream(url(server, "/until"), [1, 2, -1, 3])] == [1, 3, 2]
    with pytest.raises(ConnectionClosed) as caught:
        [*stream(url(server, "/until"), [1, "text", 3])]
    assert caught.value.rcvd.code == 1007
    with pytest.raises(InvalidStatus):
        [*stream(url(server, "/nowhere"), [1])]


# --- workers that are killed ---


def test_killed_workers_lose_nothing(server):
    """All streams end as if no worker had been killed."""
    rows = [[random.randrange(600) for _ in range(300)] for _ in range(12)]
    before = len(ended(server))
    progress: list[int] = []

    def run(number: int) -> list[int]:
        """Use HTTP and WebSocket in turn."""
        found = []
        make = [
            lambda: stream(url(server, "/digest"), rows[number]),
            lambda: stream_http(server, "/digest", rows[number]),
        ][number % 2]
        for answer in make():
            found.append(answer)
            progress.append(number)
        return found

    with ThreadPoolExecutor(len(rows)) as pool:
        found = [pool.submit(run, number) for number in range(len(rows))]
        for part in range(1, 5):
            wait_for(lambda part=part: len(progress) >= part * 12 * 300 // 5, "answers")
            # those that come instead of the last ones may not be there yet
            wait_for(server.workers, "a worker")
            os.kill(random.choice(server.workers()), signal.SIGKILL)
        assert [each.result() for each in found] == [digests(each) for each in rows]
    # not repeated if the worker was killed in the call
    expected = Counter(digests(each)[-1] for each in rows)
    wait_for(lambda: len(ended(server)) >= before + len(rows) - 4, "close")
    assert not Counter(ended(server)[before:]) - expected
    wait_for(lambda: len(server.workers()) == 2, "two workers")


def test_worker_killed_in_a_call(server):
    """The chunk is not done; the other one calls close when the client does not come back."""
    with duplex(server, "/soon") as client:
        assert send_some(client, [1, 2, 3]) == digests([1, 2, 3])
        before = ended(server).count(digests([1, 2, 3])[-1])
        client.send_row(667)
        with contextlib.suppress(OSError, EOFError):
            client.line()
    wait_for(lambda: ended(server).count(digests([1, 2, 3])[-1]) == before + 1, "close")
    id = client.headers["stream-id"]
    wait_for(lambda: len(server.workers()) == 2, "two workers")
    assert server.post(f"/soon?stream_id={id}&stream_offset=3").status_code == 404


# --- reloads ---


TRAINING_APP = """
import os, threading

import torch, webtorch
from jaxtyping import Float32
from torch import Tensor, nn
from webtorch import State

model = webtorch.Model("m", nn.Linear(1, 1), lambda p: torch.optim.SGD(p, lr=0.01), lock=True)

@webtorch.train
def learn(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    y = model(x)
    model.step((y - 2 * x).square().mean())
    return y

@webtorch.stream
def taught(
    x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch"]]
) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch"]]]:
    return s + x, s + x

@taught.open
def begin(request: webtorch.Request) -> Float32[Tensor, ""]:
    assert threading.get_native_id() != os.getpid(), "the event loop would wait"
    return learn(torch.ones(1, 1))[0, 0] * 0

@taught.close
def end(s: Float32[Tensor, ""]) -> None:
    learn(s.view(1, 1))

@webtorch.handler
def steps(request):
    return model.steps
"""


def test_open_and_close_train_in_strict_order(start):
    """Their steps exclude those of all workers, and the event loop waits for none of them."""
    server = start(
        "location = /taught { webtorch_handler app:taught; }"
        "location = /survives { webtorch_handler app:taught resume=60s; }"
        "location = /learn { webtorch_handler app:learn max_batch=1; }"
        "location = /steps { webtorch_handler app:steps; }",
        TRAINING_APP,
        http=HTTP,
        workers=2,
    )

    def talk(n: int) -> None:
        with duplex(server, "/survives" if n % 2 else "/taught") as client:
            assert send_some(client, [1, 2]) == [1, 3]
            assert server.post("/learn", [[1.0]]).status_code == 200
            client.finish()
            assert client.line() == b""

    for _ in range(32):  # short calls move to the event loop, if they may
        assert server.post("/taught", data=b"1").status_code == 200
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(talk, range(24)))
    wait_for(lambda: server.get("/steps").text == str(2 * 32 + 3 * 24), "all steps")


def test_reload_asks_clients_to_come_back(start):
    server = start(SERVER, APP, http=HTTP, workers=2)
    old = server.workers()
    rows = [[random.randrange(600) for _ in range(40)] for _ in range(6)]
    with (
        ThreadPoolExecutor(len(rows)) as pool,
        open_socket(server, "/digest") as ws,
        duplex(server, "/digest") as client,
        duplex(server, "/digest") as gone,
    ):
        send_some(gone, [5])
        gone.reset()
        hello = json.loads(ws.recv(DEADLINE))
        send_some(client, [1, 2])
        found = [pool.submit(lambda each: [*stream(url(server, "/digest"), each)], r) for r in rows]
        server.reload()
        assert closed(ws) == (1012, "restart")
        assert client.row()["code"] == "restart"
        assert client.line() == b""
        assert [each.result() for each in found] == [digests(each) for each in rows]
    wait_for(lambda: not {pid for pid, _ in server.children()} & {*old}, "the old workers to exit")
    with duplex(server, "/digest", *back(client, 2)) as again:
        assert send_some(again, [1, 2, 3], 2) == digests([1, 2, 3])[2:]
        again.finish()
    with duplex(server, "/digest", *back(gone, 1)) as again:
        assert send_some(again, [5, 6], 1) == digests([5, 6])[1:]
        again.finish()
    id = hello["stream_id"]
    with open_socket(server, f"/digest?stream_id={id}") as ws:
        assert json.loads(ws.recv(DEADLINE)) == hello


def test_new_code_and_new_signatures(start):
    """Code with the same states continues streams; others end for good, and are closed."""
    server = start(SERVER, APP, http=f"{HTTP} webtorch_reload on;")
    with duplex(server, "/digest") as client, duplex(server, "/digest") as gone:
        assert send_some(client, [1]) == digests([1])
        assert send_some(gone, [8, 9]) == digests([8, 9])
        server.write_app(APP.replace("s *= 31", "s *= 0"))
        server.wait_for_log("app.py: the new code is served")
        client.send_row(1)
        assert client.row() == 1 + 3 + 3
        client.reset()
        gone.reset()
    with duplex(server, "/digest", *back(client, 2)) as client:
        other = APP.replace(
            'n: State[Int64[Tensor, "batch 3"]]', 'n: State[Int64[Tensor, "batch 4"]]'
        )
        other = other.replace('"batch 3"', '"batch 4"').replace('Tensor, "3"', 'Tensor, "4"')
        server.write_app(other.replace("[0, 1, 2]", "[0, 1, 2, 3]"))
        server.wait_for_log('"app:digest" has another signature or other options')
        client.send_row(1)
        assert client.row() == 1 + 3 + 6
        assert ended(server) == []
        server.reload()
        assert client.row()["code"] == "restart"
        assert client.line() == b""
    wait_for(lambda: len(ended(server)) == 2, "close")
    assert Counter(ended(server)) == Counter([10, digests([8, 9])[-1]])
    for each, offset in ((client, 3), (gone, 2)):
        id = each.headers["stream-id"]
        answer = server.post(f"/digest?stream_id={id}&stream_offset={offset}")
        assert answer.status_code == 404
    with duplex(server, "/digest") as client:
        client.send_row(1)
        assert client.row() == 7 * 31 + 1 + 6
        client.finish()


# --- documentation ---


def test_client_in_the_documentation_is_the_one_of_these_tests():
    page = (ROOT / "docs/streams.md").read_text()
    assert inspect.getsource(stream) in page


# --- configurations ---


@pytest.mark.parametrize(
    ("http", "handler", "message"),
    [
        pytest.param(
            "", "app:until resume=30s", '"resume=" requires "webtorch_zone" in', id="zone"
        ),
        pytest.param(
            HTTP, "app:objects resume=30s", 'the state "seen" is a list of objects', id="objects"
        ),
        pytest.param(
            HTTP,
            "app:pid resume=30s",
            '"resume=" is for functions under @webtorch.stream',
            id="kind",
        ),
        pytest.param(
            "webtorch_zone models:1m;", "app:large resume=1s", "a stream with", id="too_large"
        ),
        pytest.param(HTTP, "app:until resume=0", 'invalid parameter "resume=0"', id="no_time"),
    ],
)
def test_configuration_is_refused(reconfigured, http, handler, message):
    app = (
        APP
        + """
@webtorch.stream
def objects(
    x: Float32[Tensor, "batch"], seen: State[list[int]]
) -> tuple[Float32[Tensor, "batch"], State[list[int]]]:
    return x, seen
"""
    )
    server = reconfigured(f"location / {{ webtorch_handler {handler}; }}", app, http=http)
    assert message in server.refuse()
