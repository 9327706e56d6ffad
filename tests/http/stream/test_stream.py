"""Streams over HTTP/1.1: chunks, answers, states, errors, limits."""

import contextlib
import json
import socket
import struct
import threading

import pytest

from duplex import Duplex, duplex
from http_stream_app import APP
from nginx import DEADLINE, Nginx, free_port, running, wait_for
from wire import Wire, request

SERVER = """
location = /total { webtorch_handler app:total; }
location = /thread { webtorch_handler app:total mode=thread; }
location = /inline { webtorch_handler app:total mode=inline; }
location = /guarded { webtorch_access app:allowed body=8k; webtorch_handler app:total; }
location = /again { webtorch_handler app:again; }
location = /counted { webtorch_handler app:counted; }
location = /several { webtorch_handler app:several; }
location = /echo { webtorch_handler app:echo; }
location = /variable { webtorch_handler app:variable; }
location = /gaps { webtorch_handler app:gaps; }
location = /known { webtorch_handler app:known; }
location ~ ^/room/(?<room>\\w+)$ { webtorch_handler app:room; }
location = /met { webtorch_handler app:met mode=thread; }
location = /waiting { webtorch_handler app:waiting mode=thread timeout=100ms; }
location = /door { webtorch_handler app:open_door; }
location = /cors { webtorch_cors https://example.com credentials; webtorch_handler app:total; }
location = /small { client_max_body_size 16; client_body_buffer_size 32;
                    webtorch_handler app:total; }
location = /few { webtorch_handler app:counted max_streams=2; }
location = /idle { webtorch_handler app:total idle=100ms; }
location = /body_timeout { client_body_timeout 50ms; webtorch_handler app:total; }
location = /late { webtorch_handler app:slow mode=thread timeout=100ms max_streams=1; }
location = /release { webtorch_handler app:release; }
location = /facts { webtorch_handler app:facts; }
"""


NARROW_PORT = free_port()
"""Its sockets buffer little, so that they are soon full."""

BUFFER = 32768

SERVER += f"listen 127.0.0.1:{NARROW_PORT} sndbuf={BUFFER} rcvbuf={BUFFER};"


@pytest.fixture(scope="module")
def shared_server():
    with running(Nginx(SERVER, APP)) as server:
        yield server


def ndjson(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def post(server, path, body, content_type="application/x-ndjson", **headers):
    return server.post(path, data=body, headers={"Content-Type": content_type, **headers})


# --- duplex ---


@pytest.mark.parametrize("path", ["/total", "/thread"])
def test_answers_come_while_the_body_is_sent(server, path):
    with duplex(server, path) as client:
        assert client.headers["content-type"] == "application/x-ndjson"
        assert len(client.headers["stream-id"]) == 32
        assert client.headers["stream-offset"] == "0"
        for n in range(1, 20):
            client.send_row([1, n])
            assert client.row()[0] == n
        client.finish()
        assert client.line() == b""


def test_state_is_of_one_stream(server):
    with duplex(server, "/total") as a, duplex(server, "/total") as b:
        for n in range(1, 5):
            a.send_row([1, 0])
            b.send_row([0, 2])
            assert a.row() == [n, 0]
            assert b.row() == [0, 2 * n]


def test_locations_of_one_function(server):
    with duplex(server, "/total") as a, duplex(server, "/thread") as b:
        for n in range(1, 5):
            a.send_row([1, 0])
            assert a.row() == [n, 0]
            b.send_row([0, 2])
            assert b.row() == [0, 2 * n]


def test_body_of_a_stream_is_not_scored(server):
    with duplex(server, "/guarded") as client:
        client.send_row([1, 2])
        assert client.row() == [1, 2]


def test_state_of_a_new_stream_is_zeros(server):
    for _ in range(3):
        with duplex(server, "/total") as client:
            client.send_row([1, 2])
            assert client.row() == [1, 2]


def test_chunks_of_many_streams_are_one_call(server):
    before = len(server.get("/facts").json()["calls"])
    clients = [Duplex(server, "/total") for _ in range(32)]
    for client in clients:
        assert client.head() == 200
    for n in range(1, 6):
        for client in clients:
            client.send_row([1, 1])
        assert [client.row() for client in clients] == [[n, n]] * 32
    for client in clients:
        client.close()
    sizes = server.get("/facts").json()["calls"][before:]
    assert sum(sizes) == 160
    assert len(sizes) < 160


def test_keepalive_after_a_stream(server):
    with duplex(server, "/total") as client:
        client.send_row([1, 1])
        assert client.row() == [1, 1]
        client.finish()
        assert client.line() == b""
        client.socket.sendall(request("/echo", b'"x"\n', content_type="application/x-ndjson"))
        assert client.head() == 200
        assert client.line() == b'"x"'


def test_options_describe_the_tensors(server):
    """As for other functions, without states and `done`."""
    answer = server.request("OPTIONS", "/several")
    assert answer.status_code == 200
    assert answer.headers["Allow"] == "GET, POST, PUT, OPTIONS"
    found = answer.json()
    assert [each["name"] for each in found["inputs"]] == ["x", "k"]
    assert [each["name"] for each in found["outputs"]] == ["y", "n"]


# --- whole bodies ---


def test_whole_body(server):
    answer = post(server, "/total", ndjson([1, 2], [3, 4], [5, 6]))
    assert answer.status_code == 200
    assert answer.content == b"[1,2]\n[4,6]\n[9,12]\n"


def test_whole_body_without_the_last_newline(server):
    assert post(server, "/total", b"\n[1,2]\r\n\n[3,4]").content == b"[1,2]\n[4,6]\n"


def test_empty_body(server):
    answer = post(server, "/total", b"")
    assert (answer.status_code, answer.content) == (200, b"")


def test_whole_body_in_a_file(server):
    rows = [[1, 1]] * 5000
    answer = post(server, "/small", ndjson(*rows))
    assert answer.content.count(b"\n") == 5000
    assert answer.content.endswith(b"[5000,5000]\n")


# --- formats ---


def test_raw_rows_are_cut_anywhere(server):
    rows = b"".join(struct.pack("<2f", n, -n) for n in range(10))
    with duplex(server, "/total", content_type="application/octet-stream") as client:
        for at in range(0, len(rows), 3):
            client.send(rows[at : at + 3])
        client.finish()
        answers = client.rest()
    assert list(struct.iter_unpack("<2f", answers))[-1] == (45.0, -45.0)
    assert len(answers) == len(rows)


def test_several_tensors(server):
    with duplex(server, "/several") as client:
        client.send_row({"x": 1.5, "k": 0})
        assert client.row() == {"y": 1.5, "n": 1}
        client.send_row({"k": 0, "x": 2})
        assert client.row() == {"y": 3.5, "n": 2}


def test_done_ends_the_stream(server):
    """The row beside it is sent, and what comes after it is not read."""
    with duplex(server, "/several") as client:
        client.send(ndjson({"x": 1, "k": 0}, {"x": 2, "k": -1}, {"x": 3, "k": 0}))
        assert client.row() == {"y": 1.0, "n": 1}
        assert client.row() == {"y": 3.0, "n": 2}
        assert client.line() == b""


def test_answers_as_events(server):
    answer = post(server, "/total", ndjson([1, 2], [3, 4]), Accept="text/event-stream")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.content == b"id: 0\ndata: [1,2]\n\nid: 1\ndata: [4,6]\n\n"


def test_answers_in_another_format(server):
    body = struct.pack("<2f", 1, 2)
    answer = post(server, "/total", body, "application/octet-stream", Accept="application/x-ndjson")
    assert answer.content == b"[1,2]\n"


def test_text_lines(server):
    answer = post(server, "/echo", "a\n\n ä ".encode(), "text/plain")
    assert answer.content == "a\n\n ä \n".encode()
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert post(server, "/echo", ndjson("a\n")).content == b'"a\\u000a"\n'


def test_text_that_is_not_utf8(server):
    answer = post(server, "/echo", b"a\n\xff\n", "text/plain")
    assert answer.content.startswith(b"a\n{")
    assert b"not UTF-8" in answer.content


def test_variable_axes(server):
    answer = post(server, "/variable", ndjson([1], [1, 2, 3], [4, 5]))
    assert answer.content == b"1\n7\n16\n"


def test_arguments_that_are_absent(server):
    rows = ndjson({"x": 1, "k": 5}, {"x": 1, "k": None, "gain": 3, "bias": 10}, {"k": 7, "x": 1})
    assert [json.loads(line) for line in post(server, "/gaps", rows).text.splitlines()] == [
        {"output_0": 2.0, "output_1": 5},
        {"output_0": 15.0, "output_1": -1},
        {"output_0": 7.0, "output_1": 7},
    ]
    assert json.loads(post(server, "/gaps", ndjson({"k": 1})).text)["code"] == "missing_tensor"


def test_elements_that_are_missing(server):
    assert post(server, "/known", b"1\nnull\n0\n").content == b"true\nfalse\ntrue\n"
    raw = struct.pack("<3q", 1, 0, -1)
    answer = post(server, "/known", raw, "application/octet-stream", Accept="application/x-ndjson")
    assert answer.content == b"true\ntrue\ntrue\n"


def test_pages_of_other_origins(server):
    answer = post(server, "/cors", ndjson([1, 2]), Origin="https://example.com")
    assert answer.content == b"[1,2]\n"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://example.com"
    assert "Stream-Id" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("content_type", "accept", "status"),
    [
        ("application/xml", "*/*", 415),
        ("text/event-stream", "*/*", 415),
        ("text/plain", "*/*", 415),
        ("application/x-ndjson", "text/html", 406),
        ("application/x-ndjson", "text/plain", 406),
    ],
)
def test_format_is_refused(server, content_type, accept, status):
    answer = post(server, "/total", ndjson([1, 2]), content_type, Accept=accept)
    assert answer.status_code == status
    assert "error" in answer.json()


def test_method_is_refused(server):
    answer = server.request("DELETE", "/total")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST, PUT"
    answer = server.get("/total")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")


# --- open and close ---


def test_open_and_close(server):
    ended = server.get("/facts").json()["ended"]
    answer = post(server, "/counted?from=5", ndjson(1, 2))
    assert answer.content == b"6\n8\n"
    ended.append(8.0)
    wait_for(lambda: server.get("/facts").json()["ended"] == ended, "close")


def test_one_function_in_several_locations(server):
    with contextlib.ExitStack() as stack:
        paths = ("/total", "/thread", "/again")
        clients = [stack.enter_context(duplex(server, path)) for path in paths]
        for n in range(1, 5):
            for number, client in enumerate(clients, 1):
                client.send_row([number, 10 * number])
            for number, client in enumerate(clients, 1):
                assert client.row() == [n * number, 10 * n * number]


def test_captures_of_the_location(server):
    with duplex(server, "/room/red") as red, duplex(server, "/room/blue") as blue:
        for client, name in ((blue, "blue"), (red, "red")):
            client.send_row("hello")
            assert client.row() == f"{name}: hello"


def test_open_waits_beside_others(server):
    clients = [Duplex(server, "/met") for _ in range(2)]
    assert [client.head() for client in clients] == [200, 200]
    for client in clients:
        client.send_row(0)
    assert sorted(client.row() for client in clients) == [0, 1]
    for client in clients:
        client.close()


def test_open_that_returns_too_late(server):
    """What it has opened is closed."""
    ended = server.get("/facts").json()["ended"]
    answer = post(server, "/waiting", ndjson(1))
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    server.get("/door")
    ended.append(-7.0)
    wait_for(lambda: server.get("/facts").json()["ended"] == ended, "close")


def test_open_refuses(server):
    ended = server.get("/facts").json()["ended"]
    answer = post(server, "/counted?refuse", ndjson(1))
    assert (answer.status_code, answer.json()["error"]) == (403, "not you")
    answer = post(server, "/counted", ndjson(1))
    assert answer.status_code == 500
    assert post(server, "/counted?from=3", ndjson(1)).content == b"4\n"
    ended.append(4.0)
    wait_for(lambda: server.get("/facts").json()["ended"] == ended, "close")


def test_close_is_called_for_each_client_that_goes(server):
    ended = server.get("/facts").json()["ended"]
    for n, leave in enumerate([Duplex.reset, Duplex.close, Duplex.finish]):
        with duplex(server, f"/counted?from={100 + n}") as client:
            client.send_row(0.5)
            assert client.row() == 100.5 + n
            leave(client)
        ended.append(100.5 + n)
        wait_for(lambda: server.get("/facts").json()["ended"] == ended, "close")
    with duplex(server, "/counted?from=200") as client:
        client.reset()
    ended.append(200.0)
    wait_for(lambda: server.get("/facts").json()["ended"] == ended, "close")


# --- errors ---


@pytest.mark.parametrize(
    ("line", "error", "code"),
    [
        ('"a"', "wrong", "wrong_type"),
        ("[1,2,3]", "wrong", "wrong_shape"),
        ("[[1,2]]", "one row without the batch axis", "wrong_shape"),
        ("[[1,2],[3,4]]", "one row without the batch axis", "wrong_shape"),
        ("[1,", "", "malformed_body"),
        ('{"y": [1,2]}', "", "unknown_tensor"),
        ("[666,1]", "see the error log", "handler_failed"),
        ("[422,1]", "a chunk of 422", "unprocessable_content"),
    ],
    ids=["type", "shape", "batch_of_one", "two_rows", "half", "name", "exception", "http_error"],
)
def test_bad_chunk_ends_its_stream(server, line, error, code):
    with duplex(server, "/total") as other, duplex(server, "/total") as client:
        other.send_row([1, 1])
        client.send_row([1, 1])
        assert other.row() == client.row() == [1, 1]
        client.send(line.encode() + b"\n[1,1]\n")
        other.send_row([1, 1])
        answer = client.row()
        assert set(answer) == {"error", "code"}
        if error != "wrong":
            assert error in answer["error"]
            assert answer["code"] == code
        assert client.line() == b""
        assert other.row() == [2, 2]


def test_error_with_detail(server):
    answer = post(server, "/total", ndjson([1, 2], [429, 1]))
    first, last = answer.text.splitlines()
    assert first == "[1,2]"
    error = json.loads(last)
    assert (error["code"], error["detail"]) == ("no_chunks_left", {"left": [0]})


def test_error_as_an_event(server):
    answer = post(server, "/total", ndjson([1, 2], [3]), Accept="text/event-stream")
    first, second, _ = answer.text.split("\n\n")
    assert first == "id: 0\ndata: [1,2]"
    name, data = second.split("\n")
    assert name == "event: error"
    assert set(json.loads(data.removeprefix("data: "))) == {"error", "code"}


def test_body_that_ends_within_a_row(server):
    answer = post(server, "/total", struct.pack("<3f", 1, 2, 3), "application/octet-stream")
    assert answer.content[:8] == struct.pack("<2f", 1, 2)
    assert json.loads(answer.content[8:])["code"] == "incomplete_body"


def test_malformed_chunked_body(server):
    with duplex(server, "/total") as client:
        client.send_row([1, 1])
        assert client.row() == [1, 1]
        client.socket.sendall(b"x\r\n")
        assert client.row()["code"] == "bad_request"


# --- limits ---


def test_body_size_is_that_of_a_chunk(server):
    rows = [[1, 1]] * 100
    assert post(server, "/small", ndjson(*rows)).content.count(b"\n") == 100
    with duplex(server, "/small") as client:
        for n in range(1, 20):
            client.send_row([1, 1])
            assert client.row() == [n, n]
        client.send(b"[" + b" " * 20 + b"1,1]\n")
        assert client.row()["code"] == "too_large"
        assert client.line() == b""


def test_body_timeout_is_not_that_of_a_stream(server):
    with duplex(server, "/body_timeout") as client, duplex(server, "/idle") as idle:
        client.send_row([1, 1])
        assert client.row() == [1, 1]
        assert idle.row()["code"] == "idle"  # after more than client_body_timeout
        assert idle.line() == b""
        client.send_row([1, 1])
        assert client.row() == [2, 2]


def test_max_streams(server):
    with duplex(server, "/few?from=1") as a, duplex(server, "/few?from=2") as b:
        answer = post(server, "/few?from=3", ndjson(1))
        assert answer.status_code == 503
        assert answer.json()["code"] == "too_many_streams"
        a.close()
        b.send_row(1)
        assert b.row() == 3
        wait_for(lambda: post(server, "/few?from=3", ndjson(1)).content == b"4\n", "a free row")


def test_timeout_is_that_of_a_chunk(server):
    """The row is not free before the call is over."""
    with duplex(server, "/late") as client:
        client.send_row(0)
        assert client.row() == 0
        client.send_row(1)
        assert client.row()["code"] == "timeout"
        assert client.line() == b""
        assert post(server, "/late", ndjson(0)).status_code == 503
        server.get("/release")
        wait_for(lambda: post(server, "/late", ndjson(0)).content == b"0\n", "a free row")


@pytest.mark.parametrize("line", [b"[1,1]\n", b"\n"], ids=["chunks", "blank"])
def test_chunks_that_are_sent_ahead_delay_nobody(server, line):
    sent = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                client.send(line * 10_000)
                sent.set()

    def read() -> None:
        with contextlib.suppress(OSError):
            while client.socket.recv(65536):
                pass

    with duplex(server, "/inline") as client:
        threads = [threading.Thread(target=target) for target in (send, read)]
        for thread in threads:
            thread.start()
        try:
            assert sent.wait(DEADLINE)
            assert server.get("/alive").text == "alive"
        finally:
            # both threads end
            client.socket.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def test_slow_reader_is_not_read_further(server):
    """It sends until nginx reads no more, then reads all answers in order."""
    count = 0
    lines = ndjson(*([[1, 0]] * 1000))
    with socket.socket() as sock:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        sock.settimeout(DEADLINE)
        sock.connect(("127.0.0.1", NARROW_PORT))
        wire = Wire(sock)
        wire.send(
            request(
                "/total", b"", "Content-Type: application/x-ndjson", "Content-Length: 1000000000"
            )
        )
        sock.setblocking(False)
        stuck = 0
        while stuck < 3:
            try:
                count += sock.send(lines[count % len(lines) :])
                stuck = 0
            except BlockingIOError:
                stuck += 1
                for _ in range(20):
                    server.get("/alive")
        sock.settimeout(DEADLINE)
        whole = count // len(b"[1, 0]\n")
        assert wire._input.readline().startswith(b"HTTP/1.1 200")
        while wire._input.readline() != b"\r\n":
            pass
        expected = 1
        text = b""
        while expected <= whole:
            size = int(wire._input.readline(), 16)
            text += wire._input.read(size)
            wire._input.readline()
            *complete, text = text.split(b"\n")
            for line in complete:
                assert json.loads(line) == [expected, 0]
                expected += 1
    with duplex(server, "/total") as client:
        client.send_row([1, 2])
        assert client.row() == [1, 2]
