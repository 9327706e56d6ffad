"""HTTP/1 as clients speak it: connections, bodies, methods; and subrequests of nginx itself."""

import random

import pytest

from gate import GATE_APP, GATE_SERVER, affine, rows_of
from nginx import wait_for
from wire import chunked, connections, request, settle

APP = (
    GATE_APP
    + '''

@webtorch.handler
def echo(request: webtorch.Request) -> webtorch.Response:
    """Answer the body, the method in a header."""
    return webtorch.Response(bytes(request.body), headers=[("X-Method", request.method)])


@webtorch.handler
def length(request: webtorch.Request) -> str:
    """Answer how long the body is."""
    return str(len(request.body))


@webtorch.handler
def large(request: webtorch.Request) -> bytes:
    """Answer so many bytes."""
    return b"0123456789abcdef" * (int(request.args) // 16)


@webtorch.handler
def empty(request: webtorch.Request) -> webtorch.Response:
    """Answer nothing, with the status that is asked for."""
    return webtorch.Response(b"", status=int(request.args or 200))


@webtorch.handler
def guard(request: webtorch.Request) -> webtorch.Response:
    """Let in who knows the word."""
    word = request.headers.get("x-word")
    if word is None:
        return webtorch.Response(status=401, headers={"WWW-Authenticate": "Word"})
    return webtorch.Response(status=204 if word == "friend" else 403)


@webtorch.handler
def page(request: webtorch.Request) -> webtorch.Response:
    """Answer a page that includes what other handlers answer."""
    text = "".join(
        f'<!--# include virtual="/hello/{mode}?{number}" -->,'
        for number in range(5)
        for mode in ("thread", "inline", "auto")
    )
    return webtorch.Response(f"[{text}]", content_type="text/html")


@webtorch.handler
def hello(request: webtorch.Request) -> str:
    """Answer the arguments."""
    return f"hello {request.args}"
'''
)

SERVER = (
    GATE_SERVER
    + """
location = /inline { webtorch_handler app:affine mode=inline; }
location = /thread { webtorch_handler app:affine mode=thread; }
location = /auto { webtorch_handler app:affine; }

location = /echo/inline { webtorch_handler app:echo mode=inline; }
location = /echo/thread { webtorch_handler app:echo mode=thread; }
location = /large { webtorch_handler app:large; }
location = /empty { webtorch_handler app:empty; }

location = /memory { webtorch_handler app:affine; client_body_buffer_size 10m; }
location = /buffered { webtorch_handler app:affine; client_body_buffer_size 1k; }
location = /file { webtorch_handler app:affine; client_body_in_file_only clean; }
location = /echo/buffered { webtorch_handler app:echo; client_body_buffer_size 1k; }
location = /echo/file { webtorch_handler app:echo; client_body_in_file_only clean; }
location = /limited { webtorch_handler app:affine; client_max_body_size 100; }
client_max_body_size 10m;

location = /compressed {
    webtorch_handler app:affine;
    gzip on;
    gzip_types application/json;
    gzip_min_length 0;
}

location = /guard { internal; webtorch_handler app:guard mode=thread; }
location = /guarded {
    auth_request /guard;
    webtorch_handler app:affine;
}
location = /mirrored { mirror /mirror; webtorch_handler app:affine; }
location = /mirrored/file {
    mirror /mirror;
    client_body_in_file_only clean;
    webtorch_handler app:affine;
}
location = /mirror { internal; webtorch_handler app:gated mode=thread; }
location = /page { ssi on; webtorch_handler app:page; }
location = /hello/inline { webtorch_handler app:hello mode=inline; }
location = /hello/thread { webtorch_handler app:hello mode=thread; }
location = /hello/auto { webtorch_handler app:hello; }
location = /down { proxy_pass http://127.0.0.1:1; error_page 502 = /hello/thread?fallback; }
location = /proxy { proxy_pass http://127.0.0.1:$server_port/thread; proxy_request_buffering off;
                    proxy_http_version 1.1; }
"""
)


@pytest.fixture
def wire(server):
    with connections(server, 1) as (one,):
        yield one


# --- connections ---


@pytest.mark.parametrize("mode", ["inline", "thread", "auto"])
def test_keep_alive(wire, mode):
    for number in range(100):
        wire.post(f"/{mode}", rows_of(number))
        answer = wire.answer()
        assert answer.headers["connection"] == "keep-alive"
        assert answer.json() == affine(rows_of(number))


def test_keep_alive_after_errors(wire):
    errors = [
        (request("/auto", b"[["), 400),
        (request("/auto", b"[[1, 2]]"), 422),
        (request("/auto", method="GET"), 405),
        (request("/auto", b"x", content_type="text/html"), 415),
        (request("/auto", b"[[1]]", "Accept: image/png"), 406),
        (request("/auto", b"[[1]]", method="DELETE"), 405),
    ]
    for message, status in errors:
        wire.send(message)
        assert wire.answer().status == status
        wire.post("/auto", rows_of(1))
        assert wire.answer().json() == affine(rows_of(1))


def test_connection_close(wire):
    wire.send(request("/thread", b"[[1]]", "Connection: close"))
    answer = wire.answer()
    assert answer.headers["connection"] == "close"
    assert answer.json() == affine(rows_of(1))
    assert wire.is_closed()


def test_http_1_0(wire):
    wire.send(request("/thread", b"[[1]]", version="1.0"))
    answer = wire.answer()
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.json() == affine(rows_of(1))
    assert wire.is_closed()


def test_http_1_0_with_keep_alive(wire):
    for number in range(3):
        message = request("/thread", b"[[%d]]" % number, "Connection: keep-alive", version="1.0")
        wire.send(message)
        assert wire.answer().json() == affine(rows_of(number))


def test_pipelined_requests_are_answered_in_order(wire):
    chunks = chunked([b"[[", b"4]]"])
    exchanges = [
        (request("/thread", b"[[1]]"), 200, affine(rows_of(1))),
        (request("/inline", b"[[2]]"), 200, affine(rows_of(2))),
        (request("/echo/thread", b"3"), 200, 3),
        (request("/auto", b"[["), 400, None),
        (request("/auto", chunks, "Transfer-Encoding: chunked"), 200, affine(rows_of(4))),
        (request("/auto", method="GET"), 405, None),
        (request("/file", b"[[5]]"), 200, affine(rows_of(5))),
        (request("/auto", b"6", content_type="image/png"), 415, None),
        (request("/echo/inline", b"7"), 200, 7),
    ] * 5
    wire.send(b"".join(message for message, _, _ in exchanges))
    for _, status, document in exchanges:
        answer = wire.answer()
        assert answer.status == status
        assert document is None or answer.json() == document


def test_pipelined_request_waits_for_the_previous_one(server, gate, wire):
    with gate:
        wire.send(request("/mirrored", b"[[1]]"))
        assert wire.answer().json() == affine(rows_of(1))
        gate.wait_for_calls(1)
        wire.send(request("/inline", b"[[2]]"))
        settle(server)
        gate.open()
        assert wire.answer().json() == affine(rows_of(2))


# --- bodies ---


def test_body_in_uneven_pieces(wire):
    message = request("/thread", b"[[1], [2.5], [-3e2]]")
    wire.send(*(message[index : index + 1] for index in range(len(message))))
    assert wire.answer().json() == affine(rows_of(1, 2.5, -300))


@pytest.mark.parametrize("path", ["/thread", "/inline", "/buffered", "/file"])
def test_chunked_bodies(wire, path):
    generator = random.Random(path)
    rows = rows_of(*(generator.uniform(-1, 1) for _ in range(200)))
    body = repr(rows).encode()
    for _ in range(10):
        cuts = sorted(generator.sample(range(1, len(body)), generator.randint(0, 20)))
        pieces = [body[i:j] for i, j in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        message = request(path, chunked(pieces), "Transfer-Encoding: chunked")
        cuts = sorted(generator.sample(range(1, len(message)), 30))
        wire.send(*(message[i:j] for i, j in zip([0, *cuts], [*cuts, len(message)], strict=True)))
        assert wire.answer().json() == affine(rows)


def test_chunked_body_with_extensions_and_trailers(wire):
    body = b'2;name="value"\r\n[[\r\n3 \r\n7]]\r\n0\r\nX-Trailer: value\r\n\r\n'
    wire.send(request("/thread", body, "Transfer-Encoding: chunked"))
    assert wire.answer().json() == affine(rows_of(7))


def test_empty_chunked_body(wire):
    wire.send(request("/thread", chunked([]), "Transfer-Encoding: chunked"))
    answer = wire.answer()
    assert (answer.status, answer.json()["code"]) == (400, "empty_body")


@pytest.mark.parametrize("path", ["/thread", "/inline", "/file"])
def test_expect_100_continue(wire, path):
    head, end, body = request(path, b"[[1]]", "Expect: 100-continue").partition(b"\r\n\r\n")
    wire.send(head + end)
    assert wire.answer().status == 100
    wire.send(body)
    assert wire.answer().json() == affine(rows_of(1))


@pytest.mark.parametrize("path", ["/memory", "/buffered", "/file"])
@pytest.mark.parametrize("count", [1, 60, 61, 1000, 30_000])
def test_bodies_in_memory_and_in_files(wire, path, count):
    rows = rows_of(*range(count))
    for _ in range(3):
        wire.post(path, rows)
        assert wire.answer().json() == affine(rows)


@pytest.mark.parametrize("path", ["/echo/inline", "/echo/thread", "/echo/buffered", "/echo/file"])
def test_bodies_of_custom_handlers(wire, path):
    generator = random.Random(path)
    for size in (1, 1023, 1024, 1025, 100_000, 3_000_000):
        body = generator.randbytes(size)
        wire.send(request(path, body))
        assert wire.answer().body == body


def test_body_too_large(wire):
    wire.send(request("/limited", b"[" + b"[1]," * 1000 + b"[1]]"))
    answer = wire.answer()
    assert (answer.status, answer.json()["code"]) == (413, "too_large")


def test_chunked_body_too_large(wire):
    body = chunked([b"[[1],"] + [b"[1],"] * 100 + [b"[1]]"])
    wire.send(request("/limited", body, "Transfer-Encoding: chunked"))
    answer = wire.answer()
    assert (answer.status, answer.json()["code"]) == (413, "too_large")


def test_body_ends_early(server, wire):
    wire.send(request("/thread", b"[[1]]")[:-1])
    wire.close()
    settle(server)
    assert server.post("/thread", rows_of(2)).json() == affine(rows_of(2))


# --- answers ---


def test_large_answer_to_slow_reader(server, wire):
    size = 20_000_000
    wire.send(request(f"/large?{size}", method="GET"))
    settle(server)
    assert server.post("/auto", rows_of(1)).json() == affine(rows_of(1))
    answer = wire.answer()
    assert answer.body == b"0123456789abcdef" * (size // 16)
    wire.post("/auto", rows_of(2))
    assert wire.answer().json() == affine(rows_of(2))


@pytest.mark.parametrize("mode", ["inline", "thread"])
def test_head(wire, mode):
    wire.send(request(f"/echo/{mode}", b"body", method="HEAD"))
    answer = wire.answer(head=True)
    assert (answer.status, answer.headers["x-method"]) == (200, "HEAD")
    assert answer.headers["content-length"] == "4"
    wire.send(request("/alive", method="GET"))
    assert wire.answer().body == b"alive"


def test_head_of_a_tensor_function(wire):
    wire.send(request("/auto", method="HEAD"))
    answer = wire.answer(head=True)
    assert (answer.status, answer.headers["allow"]) == (405, "POST, PUT")
    wire.send(request("/alive", method="GET"))
    assert wire.answer().body == b"alive"


@pytest.mark.parametrize("status", [200, 201, 204, 304, 404, 500])
def test_empty_answers(wire, status):
    for _ in range(2):
        wire.send(request(f"/empty?{status}", method="GET"))
        answer = wire.answer(head=status in (204, 304))
        assert (answer.status, answer.body) == (status, b"")


def test_compressed_answer(server):
    rows = rows_of(*range(1000))
    answer = server.post("/compressed", rows, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.json() == affine(rows)


# --- subrequests and redirects ---


def test_auth_request_asks_a_handler(wire):
    for word, status in (("friend", 200), ("foe", 403)) * 10:
        wire.send(request("/guarded", b"[[1]]", f"X-Word: {word}"))
        answer = wire.answer()
        assert answer.status == status
        assert status != 200 or answer.json() == affine(rows_of(1))
    wire.send(request("/guarded", b"[[1]]"))
    answer = wire.answer()
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Word")


@pytest.mark.parametrize("path", ["/mirrored", "/mirrored/file"])
def test_mirror_sends_a_copy_to_a_handler(gate, wire, path):
    with gate:
        wire.post(path, rows_of(1, 2))
        assert wire.answer().json() == affine(rows_of(1, 2))
        gate.wait_for_calls(2)
        assert gate.calls() == [[1, 2]] * 2
        gate.open()


def test_client_abort_while_the_mirror_runs(server, gate):
    with gate, connections(server, 3) as wires:
        for number, wire in enumerate(wires):
            wire.post("/mirrored", rows_of(number))
            wire.answer()
            wire.close()
        settle(server)
        gate.open()
        assert server.post("/mirrored", rows_of(9)).json() == affine(rows_of(9))
        wait_for(lambda: gate.calls().count([9]) == 2, "the last mirrored request")


def test_ssi_includes_what_handlers_answer(wire):
    expected = "".join(f"hello {number}," * 3 for number in range(5))
    for _ in range(20):
        wire.send(request("/page", method="GET"))
        answer = wire.answer()
        assert answer.body.decode() == f"[{expected}]"


def test_error_page_leads_to_a_handler(wire):
    for _ in range(3):
        wire.send(request("/down", method="GET"))
        assert wire.answer().body == b"hello fallback"


def test_proxy_in_front(wire):
    for number in range(5):
        wire.send(
            request("/proxy", chunked([b"[[", b"%d]]" % number]), "Transfer-Encoding: chunked")
        )
        assert wire.answer().json() == affine(rows_of(number))
