"""The option queue_size=: how many bytes requests of all handlers may hold in a worker."""

import gzip
import io
import random
import select
import socket

import h2.config
import h2.connection
import h2.events
import numpy as np
import pytest

from gate import GATE_APP, GATE_SERVER, affine, rows_of
from nginx import DEADLINE, Nginx, free_port, wait_for
from wire import Answer, Wire, connections, request, settle

HTTP2 = free_port()

APP = (
    GATE_APP
    + """

@webtorch.infer
def gated_floats(x: Float64[Tensor, "batch n"]) -> Float64[Tensor, "batch"]:
    calls.append([len(x)])
    gate.wait()
    return x[:, 0]

@webtorch.infer
def doubled(x: Float64[Tensor, "batch n"]) -> Float64[Tensor, "batch n"]:
    gate.wait()
    return 2 * x

@webtorch.handler
def size(request: webtorch.Request) -> str:
    return str(len(request.body))
"""
)

SERVER = (
    GATE_SERVER
    + f"""
client_max_body_size 8m;
webtorch_ignore_client_abort off;
listen 127.0.0.1:{HTTP2} http2;
http2_max_concurrent_streams 10000;
keepalive_requests 100000;
location = /gated {{ webtorch_handler app:gated mode=thread; }}
location = /request {{ webtorch_handler app:gated_request mode=thread threads=1 queue_size=1m; }}
location = /floats {{ webtorch_handler app:gated_floats mode=thread max_batch=1 queue_size=1m; }}
location = /rows {{ webtorch_handler app:gated mode=thread max_batch=1 queue_size=1m; }}
location = /size {{ webtorch_handler app:size mode=thread queue_size=1m; }}
location = /more {{ webtorch_handler app:size mode=thread queue_size=2m; }}
location = /doubled {{ webtorch_handler app:doubled mode=thread max_batch=1; }}
location = /large/floats {{ webtorch_handler app:gated_floats mode=thread; }}
location = /large/request {{ webtorch_handler app:gated_request mode=thread threads=1; }}
location = /large/buffered {{
    client_body_buffer_size 8m;
    webtorch_handler app:gated_request mode=thread threads=1;
}}
location = /large/buffered/floats {{
    client_body_buffer_size 8m;
    webtorch_handler app:gated_floats mode=thread;
}}
location = /buffered {{
    client_body_buffer_size 8m;
    webtorch_handler app:gated_request mode=thread threads=1 queue_size=1m;
}}
"""
)

NOISE = random.Random(0).randbytes(400_000)
"""Two of them are less than 1m, three are more."""


def npz(size: int) -> bytes:
    """Write a compressed archive of few bytes."""
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros((1, size)))
    return file.getvalue()


GZIP = "Content-Encoding: gzip"
RAW = "application/octet-stream"

KINDS = {
    # how many of them can wait at a time
    "body": (2, request("/request", NOISE)),
    "body in memory": (2, request("/buffered", NOISE)),
    "inflated": (2, request("/request", gzip.compress(bytes(400_000)), GZIP)),
    "inflated in a thread": (2, request("/request", gzip.compress(NOISE), GZIP)),
    "rows": (2, request("/floats", b"[[" + b",".join([b"1"] * 50_000) + b"]]")),
    "rows of a thread": (1, request("/floats", b"[[" + b",".join([b"1"] * 70_000) + b"]]")),
    "short rows": (4, request("/rows", b"[" + b",".join([b"[1]"] * 30_000) + b"]")),
    "raw rows": (2, request("/floats", NOISE, "Tensor-Shape: 1,50000", content_type=RAW)),
    "archive": (2, request("/floats", npz(50_000), content_type="application/x-npz")),
}


WIDTH = 400_000
SHAPE = f"Tensor-Shape: 1,{WIDTH}"
ROW = np.random.default_rng(0).random((1, WIDTH))
TEXT = str(ROW.tolist()).encode()

LARGE = {
    # threads of nginx's pool copy, inflate, decode, encode or release these
    "body": request("/large/request", ROW.tobytes()),
    "body in memory": request("/large/buffered", ROW.tobytes()),
    "inflated": request("/large/request", gzip.compress(ROW.tobytes(), 1), GZIP),
    "rows": request("/large/floats", TEXT),
    "rows from memory": request("/large/buffered/floats", TEXT),
    "inflated rows": request("/large/floats", gzip.compress(TEXT, 1), GZIP),
    "raw rows": request("/large/floats", ROW.tobytes(), SHAPE, content_type=RAW),
    "archive": request("/large/floats", npz(WIDTH), content_type="application/x-npz"),
    "answer": request(
        "/doubled", ROW.tobytes(), SHAPE, "Accept: application/json", content_type=RAW
    ),
}


def assert_refused(answer: Answer) -> None:
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["code"] == "queue_full"
    assert "queue_size" in answer.json()["error"]


def wait_until_served(server: Nginx, message: bytes) -> None:
    """Repeat a request until there is room for it again."""

    def is_served() -> bool:
        with connections(server, 1) as (wire,):
            wire.send(message)
            return wire.answer().status == 200

    wait_for(is_served, "room for a request")


def readable(wires: list[Wire], count: int) -> list[Wire]:
    """Wait until so many of the connections have answers; return those."""
    found = wait_for(
        lambda: len(ready := select.select(wires, [], [], 0)[0]) >= count and ready,
        f"{count} answers",
    )
    return list(found)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_beyond_are_refused(server, gate, kind):
    most, message = KINDS[kind]
    with gate, connections(server, 8) as wires:
        for wire in wires:
            wire.send(message)
        refused = readable(wires, len(wires) - most)
        for wire in refused:
            assert_refused(wire.answer())
        gate.open()
        statuses = {wire.answer().status for wire in wires if wire not in refused}
        assert 200 in statuses
        assert statuses <= {200, 503}
    for _ in range(3):
        wait_until_served(server, message)


def test_queue_size_is_shared_by_handlers(server, gate):
    with gate, connections(server, 4) as wires:
        wires[0].send(request("/request", NOISE))
        settle(server)
        wires[1].send(KINDS["raw rows"][1])
        settle(server)
        wires[2].send(request("/size", NOISE))
        assert_refused(wires[2].answer())
        wires[3].send(request("/more", NOISE))
        assert wires[3].answer().body == b"400000"
        # and small requests find room
        assert server.post("/size", data=b"small").text == "5"
        gate.open()
        assert [wire.answer().status for wire in wires[:2]] == [200, 200]


def test_members_of_gzip_count_as_they_inflate(server, gate):
    # the size at the end of the body is only that of the last member
    members = request("/request", gzip.compress(bytes(100_000)) * 8, GZIP)
    with gate, connections(server, 2) as wires:
        wires[0].send(KINDS["body"][1])
        settle(server)
        wires[1].send(members)
        assert_refused(wires[1].answer())
        gate.open()
        assert wires[0].answer().status == 200
    wait_until_served(server, members)


@pytest.mark.parametrize("kind", LARGE)
def test_large_requests_leave_nothing(server, gate, kind):
    """What threads release is counted no more, also if clients leave before."""
    with gate, connections(server, 6) as wires:
        for wire in wires[:3]:
            wire.send(LARGE[kind])
        settle(server)
        wires[1].reset()
        for wire in wires[3:]:
            wire.send(LARGE[kind])
        wires[3].reset()
        settle(server)
        wires[4].reset()
        gate.open()
        for wire in (wires[0], wires[2], wires[5]):
            assert wire.answer().status == 200
    most, message = KINDS["body"]
    wait_until_served(server, message)
    with gate, connections(server, most) as wires:
        for wire in wires:
            wire.send(message)
            settle(server)
        gate.open()
        assert [wire.answer().status for wire in wires] == [200] * most


def test_answer_encoded_in_a_thread_is_counted(server, gate):
    """The client does not read it: it is more than the sockets take."""
    body = np.random.default_rng(1).random((1, 1_000_000)).tobytes()
    headers = ["Tensor-Shape: 1,1000000", "Accept: application/json"]
    with connections(server, 1) as (wire,):
        wire.send(request("/doubled", body, *headers, content_type=RAW))
        other = {"data": NOISE}
        readable([wire], 1)
        # of the queue of the one only, as the other's is for 256m
        assert server.post("/size", **other).status_code == 503
        assert server.post("/large/request", **other).status_code == 200
        assert len(wire.answer().json()[0]) == 1_000_000
    wait_until_served(server, request("/size", NOISE))


def test_answers_of_buffers_that_are_not_kept(server, gate):
    # more than a worker keeps for later batches
    rows = [np.full((1, 500_000), number, np.float64) for number in range(40)]
    header = "Tensor-Shape: 1,500000"
    for _ in range(2):
        with gate, connections(server, len(rows)) as wires:
            for wire, row in zip(wires, rows, strict=True):
                wire.send(request("/doubled", row.tobytes(), header, content_type=RAW))
            settle(server)
            gate.open()
            for wire, row in zip(wires, rows, strict=True):
                assert np.array_equal(np.frombuffer(wire.answer().body), 2 * row[0])


@pytest.mark.parametrize("size", [2 << 20, 8 << 20])
def test_lone_request_is_served_whatever_its_size(server, size):
    body = bytes(size)
    for options in [{"data": body}, {"data": gzip.compress(body)}]:
        if options["data"] is not body:
            options["headers"] = {"Content-Encoding": "gzip"}
        assert server.post("/size", **options).text == str(size)


def test_body_refused_before_it_is_sent(server, gate):
    with gate, connections(server, 3) as wires:
        for wire in wires[:2]:
            wire.send(request("/request", NOISE))
            settle(server)
        head, _, body = request("/request", NOISE).partition(b"\r\n\r\n")
        wires[2].send(head + b"\r\n\r\n")
        assert_refused(wires[2].answer())
        wires[2].send(body)
        gate.open()
        assert [wire.answer().status for wire in wires[:2]] == [200, 200]


@pytest.mark.parametrize("kind", ["body", "raw rows"])
def test_client_abort_makes_room(server, gate, kind):
    _, message = KINDS[kind]
    with gate, connections(server, 5) as wires:
        wires[0].send(message)
        gate.wait_for_calls(1)
        wires[1].send(message)
        settle(server)
        wires[2].send(request("/size", NOISE))
        assert_refused(wires[2].answer())
        wires[1].close()
        settle(server)
        wires[3].send(request("/size", NOISE[:200_000]))
        assert wires[3].answer().body == b"200000"
        gate.open()
        assert wires[0].answer().status == 200


def test_default_of_queue_is_for_small_requests(server, gate):
    count = 5000
    config = h2.config.H2Configuration(client_side=True)
    client = h2.connection.H2Connection(config)
    with gate, socket.create_connection(("127.0.0.1", HTTP2), timeout=DEADLINE) as sock:
        client.initiate_connection()
        sock.sendall(client.data_to_send())
        while client.remote_settings.max_concurrent_streams < count:
            client.receive_data(sock.recv(65536))
        statuses: dict[int, int] = {}
        left = count
        headers = [(":method", "POST"), (":path", "/gated"), (":scheme", "http")]
        headers += [(":authority", "localhost"), ("content-length", "5")]
        for _ in range(count):
            stream = client.get_next_available_stream_id()
            client.send_headers(stream, headers)
            client.send_data(stream, b"[[1]]", end_stream=True)
            sock.sendall(client.data_to_send())
        settle(server)
        # those that are refused are answered while the gate is shut
        gate.wait_for_calls(1)
        gate.open()
        while left:
            for event in client.receive_data(sock.recv(65536)):
                if isinstance(event, h2.events.ResponseReceived):
                    statuses[event.stream_id] = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                    left -= 1
            sock.sendall(client.data_to_send())
    assert list(statuses.values()) == [200] * count


def test_small_requests_are_answered(server):
    assert server.post("/gated", rows_of(1)).json() == affine(rows_of(1))


@pytest.mark.parametrize("size", ["0", "-1", "1x", ""])
def test_invalid_sizes(configured, size):
    handler = f"location = /f {{ webtorch_handler app:affine queue_size={size}; }}"
    status, output = configured(handler, GATE_APP).check()
    assert status == 1
    assert f'invalid parameter "queue_size={size}"' in output
