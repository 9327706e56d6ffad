"""Large chunks of streams: threads decode them, and their bytes are bounded."""

import contextlib
import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from websockets.sync.client import connect

from duplex import Duplex, duplex
from http_stream_app import APP
from nginx import BINARY, DEADLINE, Nginx, free_port, running, wait_for

SERVER = """
client_max_body_size 24m;
location = /variable { webtorch_handler app:variable; }
location = /echo { webtorch_handler app:echo; }
location = /raw { webtorch_handler app:wide; }
location = /few { webtorch_handler app:variable max_streams=1; }
location = /bounded { webtorch_handler app:variable queue_size=1m; }
location = /grown { webtorch_handler app:grown; }
location = /summed { webtorch_handler app:summed resume=60s resume_buffer=4m; }
location = /bytes { webtorch_handler app:echo_bytes; }
location = /noted { webtorch_handler app:noted; }
location = /notes { webtorch_handler app:read_notes; }
location = /tight { webtorch_handler app:sums queue_size=100k; }
"""

NARROW_PORT = free_port()
"""Its sockets send little at once."""

APP += """
WIDE = 600_000

@webtorch.stream
def wide(
    x: Float32[Tensor, "batch 600000"], s: State[Float32[Tensor, "batch"]]
) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch"]]]:
    s = s + x[:, -1]
    return s, s

@webtorch.stream
def grown(x: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch 200000"]:
    return x[:, None] + torch.arange(200_000)

@webtorch.stream
def summed(
    x: Int64[Tensor, "batch"], s: State[Int64[Tensor, "batch"]]
) -> tuple[Int64[Tensor, "batch 200000"], State[Int64[Tensor, "batch"]]]:
    return (s + x)[:, None] + torch.arange(200_000), s + x

notes: list[int] = []

@webtorch.stream
def noted(x: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    notes.extend(len(each.encode()) for each in x)
    return x

@webtorch.handler
def read_notes(request):
    return notes

@webtorch.infer
def sums(x: Int64[Tensor, "batch n"]) -> Int64[Tensor, "batch"]:
    return x.sum(1)
"""

LARGE = [1] * 100_000  # 300 KB of JSON
SMALL = [1, 2]

IS_DEBUG = (
    "--with-debug" in subprocess.run([BINARY.path, "-V"], capture_output=True, text=True).stderr
)


@pytest.fixture(scope="module")
def shared_server():
    with running(create(f"listen 127.0.0.1:{NARROW_PORT} sndbuf=64k;")) as server:
        yield server


@pytest.fixture
def fresh():
    """A server that one test reloads."""
    with running(create()) as server:
        yield server


def create(listen: str = "") -> Nginx:
    return Nginx(
        SERVER + listen, APP, main="error_log tasks.log debug;", http="webtorch_zone models:64m;"
    )


def count_tasks(server) -> int:
    """Return how many tasks the thread pool got."""
    return (server.prefix / "tasks.log").read_text(errors="replace").count("added to thread pool")


def check_no_bytes_are_held(server):
    """A request that is larger than its queue_size= is accepted only then."""
    body = json.dumps([LARGE])
    wait_for(lambda: server.post("/tight", data=body).status_code == 200, "bytes that are released")


def test_order_of_large_chunks(server):
    """Small chunks after a large one wait for it, those of other streams do not."""
    before = count_tasks(server)
    rows = [LARGE, SMALL, LARGE, SMALL, SMALL, LARGE]
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    expected = [sum(map(sum, rows[: n + 1])) for n in range(len(rows))]
    clients = [Duplex(server, "/variable") for _ in range(4)]
    for client in clients:
        client.send(body)
    for client in clients:
        assert client.head() == 200
        assert [client.row() for _ in rows] == expected
        client.close()
    assert not IS_DEBUG or count_tasks(server) - before >= 3 * len(clients)
    with connect(f"ws://127.0.0.1:{server.port}/variable", max_size=None) as ws:
        for row in rows:
            ws.send(json.dumps(row))
        assert [json.loads(ws.recv(DEADLINE)) for _ in rows] == expected
    check_no_bytes_are_held(server)


def test_large_texts_and_rows(server):
    text = "ä" * 700_000
    with connect(f"ws://127.0.0.1:{server.port}/echo", max_size=None) as ws:
        for each in (text, "x", text):
            ws.send(each)
        assert [ws.recv(DEADLINE) for _ in range(3)] == [text, "x", text]
    row = b"\0\0\x80\x3f" * 600_000
    answer = server.post(
        "/raw",
        data=row * 3,
        headers={"Content-Type": "application/octet-stream", "Accept": "application/x-ndjson"},
    )
    assert answer.text == "1\n2\n3\n"
    check_no_bytes_are_held(server)


def test_large_chunk_that_is_bad(server):
    for line, code in (
        (b"[" * 200_000, "malformed_body"),
        (json.dumps([LARGE, LARGE]).encode(), "wrong_shape"),
    ):
        body = b"[1]\n" + line + b"\n[1]\n"
        answer = server.post(
            "/variable", data=body, headers={"Content-Type": "application/x-ndjson"}
        )
        first, last = answer.text.splitlines()
        assert first == "1" and json.loads(last)["code"] == code
    check_no_bytes_are_held(server)


def grown(value: int) -> list[int]:
    return [*range(value, value + 200_000)]


def test_large_answers(server):
    """Threads encode them; they are in order, though the client reads late."""
    before = count_tasks(server)
    for accept in ("application/x-ndjson", "text/event-stream"):
        with duplex(server, "/grown", f"Accept: {accept}") as client:
            for value in range(4):
                client.send_row(value)
            client.finish()
            text = client.rest().decode()
        if accept == "text/event-stream":
            lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        else:
            lines = text.splitlines()
        assert [json.loads(line) for line in lines] == [grown(value) for value in range(4)]
    raw = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
    answer = server.post("/grown", data=np.arange(3).tobytes(), headers=raw)
    assert np.frombuffer(answer.content, np.int64).reshape(3, -1).tolist() == [
        *map(grown, range(3))
    ]
    with connect(f"ws://127.0.0.1:{server.port}/grown", max_size=None) as ws:
        for value in range(3):
            ws.send(str(value))
        assert [json.loads(ws.recv(DEADLINE)) for _ in range(3)] == [*map(grown, range(3))]
    assert not IS_DEBUG or count_tasks(server) - before >= 14
    check_no_bytes_are_held(server)


def test_large_answers_behind_small_ones(server):
    """The small ones wait for the first one to be read while the next one is encoded."""
    texts = ["ä" * 3_500_000, "x", "", "y" * 3_000_000, "z"]
    narrow = SimpleNamespace(port=NARROW_PORT)
    with contextlib.closing(Duplex(narrow, "/noted")) as client:
        for text in texts:
            client.send_row(text)
        # the last one is read when there is room for its answer
        wait_for(lambda: server.get("/notes").json() == [7_000_000, 1, 0, 3_000_000], "calls")
        assert client.head() == 200
        assert [client.row() for _ in texts] == texts
    with connect(f"ws://127.0.0.1:{server.port}/noted", max_size=None) as ws:
        for text in texts:
            ws.send(text)
            assert ws.recv(DEADLINE) == text
    check_no_bytes_are_held(server)


def test_large_answers_of_bytes(server):
    """They have the kind of their message, unless they are not UTF-8."""
    with connect(f"ws://127.0.0.1:{server.port}/bytes", max_size=None) as ws:
        for message in ("ä" * 700_000, b"\xff" * 1_400_000, "a" * 1_400_000):
            ws.send(message)
            assert ws.recv(DEADLINE) == message


def test_large_answers_are_kept(server):
    with duplex(server, "/summed") as client:
        client.send_row(1)
        assert client.row() == grown(1)
        client.send_row(2)
        assert client.row() == grown(3)
        client.reset()
    back = f"Stream-Id: {client.headers['stream-id']}", "Stream-Offset: 1"
    with duplex(server, "/summed", *back) as again:
        assert again.row() == grown(3)
        again.send_row(3)
        assert again.row() == grown(6)
        again.finish()
        assert again.line() == b""


def test_clients_that_go_while_a_thread_encodes(server):
    for n in range(20):
        client = Duplex(server, "/grown")
        client.send_row(n)
        if n % 2:
            assert client.head() == 200
            client.reset()
        else:
            client.close()
    check_no_bytes_are_held(server)
    with duplex(server, "/grown") as client:
        client.send_row(1)
        assert client.row() == grown(1)


def test_reload_while_threads_encode(fresh):
    """The answers are sent before the clients are asked to come back."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(duplex(fresh, "/summed")) for _ in range(4)]
        for client in clients:
            client.send_row(1)
        fresh.reload()
        for client in clients:
            assert client.row() == grown(1)
            assert client.row()["code"] == "restart"


def test_bytes_of_a_message_without_end(server):
    """The stream has ended, the client is still there."""
    with contextlib.closing(Duplex(server, "/bounded")) as idle:
        assert idle.head() == 200
        with connect(f"ws://127.0.0.1:{server.port}/bounded", max_size=None) as ws:
            ws.protocol.send_text(b"[" + b"1," * 100_000, fin=False)
            ws.protocol.send_close(1000)
            for data in ws.protocol.data_to_send():
                ws.socket.sendall(data)
            check_no_bytes_are_held(server)


def test_clients_that_go_while_a_thread_decodes(server):
    body = json.dumps(LARGE).encode() + b"\n"
    for _ in range(20):
        client = Duplex(server, "/few")
        client.send(body)
        client.close()

        def is_free():
            with contextlib.closing(Duplex(server, "/few")) as other:
                if other.head() != 200:
                    return False
                other.send_row(SMALL)
                return other.row() == 3

        wait_for(is_free, "a free row")
    check_no_bytes_are_held(server)


def test_bytes_of_streams_are_bounded(server):
    """Also those of a chunk that has not come to its end."""
    part = json.dumps(LARGE * 3).encode()[:-1]

    def is_refused():
        # which of both is read first is not known
        with duplex(server, "/bounded") as first, duplex(server, "/bounded") as other:
            first.send(part)
            with contextlib.suppress(OSError):
                other.send(part + b"]\n")
            line = other.row()
            if not isinstance(line, dict):
                return False
            assert line["code"] == "queue_full"
            # the connection of the refused one is still open
            first.send(b"]\n")
            assert first.row() == 300_000
            return True

    wait_for(is_refused, "the bytes of the first stream")
    check_no_bytes_are_held(server)
    with duplex(server, "/bounded") as other:
        other.send(part + b"]\n")
        assert other.row() == 300_000
