"""Handlers that yield the items of their answers."""

import contextlib
import json
import socket

import httpx
import pytest

from nginx import DEADLINE, Nginx, free_port, running, wait_for
from wire import connections, request
from wire_h2 import H2

APP = """
import asyncio, contextvars, functools, os, threading, time
import torch, webtorch

gates = {}
ended = []
advanced = {}
loops = set()
variable = contextvars.ContextVar("variable", default=0)

def gate(name):
    return gates.setdefault(name, threading.Event())

@webtorch.handler
def control(request: webtorch.Request) -> dict:
    if request.args.startswith("open="):
        gate(request.args[5:]).set()
    return {"ended": ended, "advanced": advanced, "pid": os.getpid()}

def lines(n: int = 3):
    for i in range(n):
        yield {"n": i, "x": torch.tensor([0.1, i])}

async def alines(n: int = 3):
    for i in range(n):
        await asyncio.sleep(0)
        yield {"n": i, "x": torch.tensor([0.1, i])}

def gated(name: str, n: int = 3):
    try:
        for i in range(n):
            yield [i]
            gate(name).wait()
    finally:
        ended.append([name, threading.get_native_id() == os.getpid()])

async def agated(name: str, n: int = 3):
    task = asyncio.current_task()
    try:
        async with asyncio.timeout(None):
            for i in range(n):
                yield [i]
                while not gate(name).is_set():
                    await asyncio.sleep(0.01)
    finally:
        ended.append([name, asyncio.current_task() is task])

def endless(name: str):
    try:
        while True:
            advanced[name] = advanced.get(name, 0) + 1
            yield b"x" * 10000
    finally:
        ended.append([name, True])

async def aendless(name: str):
    try:
        while True:
            advanced[name] = advanced.get(name, 0) + 1
            yield b"x" * 10000
    finally:
        ended.append([name, True])

def raising(after: int = 0, kind: str = "value"):
    for i in range(after):
        yield [i]
    if kind == "http":
        raise webtorch.HTTPError(429, {"left": 0}, code="no_more")
    if kind == "item":
        yield object()
    raise ValueError("on purpose")

async def araising(after: int = 0, kind: str = "value"):
    for i in range(after):
        yield [i]
    if kind == "http":
        raise webtorch.HTTPError(429, {"left": 0}, code="no_more")
    if kind == "item":
        yield object()
    raise ValueError("on purpose")

def late(name: str):
    try:
        yield [0]
        gate(name).wait()
        yield [1]
    finally:
        ended.append([name, True])

async def alate(name: str):
    try:
        yield [0]
        await asyncio.sleep(3600)
        yield [1]
    finally:
        ended.append([name, True])

def kinds(what: str):
    yield {"text": "a\\n", "bytes": b"\\0\\xff", "none": None, "list": [1, "z"], "bool": True,
           "tensor": torch.arange(3), "surrogate": "\\udcff", "empty": ""}[what]
    yield "b"
    yield b"c"
    yield 4

@webtorch.handler(content_type="text/event-stream")
def formatted(n: int = 2):
    for i in range(n):
        yield f"event: mine\\ndata: {i}\\n\\n"
    yield {"n": n}

@webtorch.handler
def headed(body: bool = False):
    headers = {"X-Mine": "yes", "Cache-Control": "private"}
    yield webtorch.Response([1] if body else b"", 201, headers)
    yield [2]

@webtorch.handler
def nothing():
    return
    yield

@webtorch.handler(methods=["POST"])
def echo(request: webtorch.Request):
    for i in range(0, len(request.body), 100000):
        yield bytes(request.body[i:i + 100000])

@webtorch.handler(threads=1)
def one_thread(n: int = 4):
    token = variable.set(n)
    thread = threading.get_native_id()
    for i in range(n):
        yield [variable.get(), threading.get_native_id() == thread, torch.is_grad_enabled()]
        time.sleep(0.001)
    variable.reset(token)

for name in ("lines", "gated", "endless", "raising", "late"):
    globals()[name] = webtorch.handler(globals()[name])
    globals()["a" + name] = webtorch.handler(globals()["a" + name])
kinds = webtorch.handler(kinds)
"""

H2_PORT = free_port()

PAIRS = ("lines", "gated", "endless", "raising")

SERVER = "\n".join(
    [
        *(
            f"location = /{prefix}{name} {{ webtorch_handler app:{prefix}{name}; }}"
            for name in PAIRS
            for prefix in ("", "a")
        ),
        *(
            f"location = /{name} {{ webtorch_handler app:{name}; }}"
            for name in ("kinds", "formatted", "headed", "nothing", "one_thread")
        ),
        "location = /late { webtorch_handler app:late timeout=200ms; }",
        "location = /alate { webtorch_handler app:alate timeout=200ms; }",
        "location = /echo { webtorch_handler app:echo; client_max_body_size 2m; }",
        "location = /few { webtorch_handler app:gated max_streams=2; }",
        "location = /pool { webtorch_handler app:gated threads=2; }",
        "location = /off/agated { webtorch_handler app:agated; webtorch_ignore_client_abort off; }",
        "location = /pinged { webtorch_handler app:gated ping=20ms; }",
        "location = /slow { webtorch_handler app:endless; send_timeout 1s; }",
        "location = /control { webtorch_handler app:control mode=thread; }",
    ]
)

HTTP = f"""
server {{
    listen 127.0.0.1:{H2_PORT} http2;
    {SERVER}
}}
"""

BOTH = pytest.mark.parametrize("prefix", ["", "a"], ids=["def", "async_def"])


@pytest.fixture(scope="module")
def shared_server():
    with running(Nginx(SERVER, APP, http=HTTP)) as server:
        yield server


def control(server, command=""):
    return server.get(f"/control?{command}").json()


def ended(server, name):
    """Wait until the generator of a name has ended; return whether that was where it belongs."""
    return wait_for(
        lambda: next(([where] for each, where in control(server)["ended"] if each == name), None),
        f"the end of {name}",
    )[0]


@contextlib.contextmanager
def get(server, path, version="1.1", **headers):
    """Send a request; yield its socket's file after the headers, and these."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as sock:
        head = [f"GET {path} HTTP/{version}", "Host: localhost"]
        head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        sock.sendall("\r\n".join([*head, "", ""]).encode())
        with sock.makefile("rb") as file:
            lines = [line.strip().decode() for line in iter(file.readline, b"\r\n")]
            yield file, lines


def chunk(file):
    size = int(file.readline(), 16)
    data = file.read(size)
    file.readline()
    return data


# --- what is sent ---


@BOTH
def test_items_are_lines(server, prefix):
    answer = server.get(f"/{prefix}lines?n=100")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["cache-control"] == "no-store"
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert rows == [{"n": i, "x": [0.1, i]} for i in range(100)]


@BOTH
def test_items_are_events(server, prefix):
    answer = server.get(f"/{prefix}lines", headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text == "".join(
        f'id: {i}\ndata: {{"n":{i},"x":[0.1,{i}.0]}}\n\n' for i in range(3)
    )


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/x-ndjson"),
        ("text/event-stream;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/event-stream;q=0", "application/x-ndjson"),
        ("text/html, Text/Event-Stream", "text/event-stream"),
    ],
    ids=["any", "lower", "refused", "named"],
)
def test_format_by_accept(server, accept, kind):
    assert server.get("/lines", headers={"Accept": accept}).headers["content-type"] == kind


@pytest.mark.parametrize(
    ("what", "kind", "first"),
    [
        ("text", "text/plain; charset=utf-8", b"a\n"),
        ("bytes", "application/octet-stream", b"\0\xff"),
        ("surrogate", "text/plain; charset=utf-8", b"\xff"),
        ("empty", "text/plain; charset=utf-8", b""),
        ("none", "application/x-ndjson", b"null\n"),
        ("list", "application/x-ndjson", b'[1,"z"]\n'),
        ("bool", "application/x-ndjson", b"true\n"),
        ("tensor", "application/x-ndjson", b"[0,1,2]\n"),
    ],
)
def test_kinds_of_items(server, what, kind, first):
    answer = server.get(f"/kinds?what={what}")
    assert answer.headers["content-type"] == kind
    assert answer.content == first + b"bc4\n"


def test_declared_events(server):
    answer = server.get("/formatted")
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text == (
        'event: mine\ndata: 0\n\nevent: mine\ndata: 1\n\nid: 0\ndata: {"n":2}\n\n'
    )


def test_response_is_the_head(server):
    for body, lines in (("false", "[2]\n"), ("true", "[1]\n[2]\n")):
        answer = server.get(f"/headed?body={body}")
        assert answer.status_code == 201
        assert answer.headers["x-mine"] == "yes"
        assert answer.headers["cache-control"] == "private"
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.text == lines


def test_generator_without_items(server):
    answer = server.get("/nothing")
    assert answer.status_code == 200
    assert answer.content == b""


def test_body_is_read(server):
    body = bytes(range(256)) * 4000
    assert server.post("/echo", data=body).content == body
    assert server.post("/echo", data=body * 3).status_code == 413
    assert server.get("/echo").status_code == 405
    # names that streams have are those of others here
    answer = server.post("/echo?stream_id=7", data=body, headers={"Stream-Id": "7"})
    assert answer.content == body


@BOTH
def test_head_and_versions(server, prefix):
    assert server.request("HEAD", f"/{prefix}gated?name=head{prefix}").status_code == 200
    assert ended(server, f"head{prefix}") is not None
    with get(server, f"/{prefix}lines", "1.0") as (file, head):
        assert "Transfer-Encoding: chunked" not in head
        assert len(file.read().splitlines()) == 3
    # a connection is kept after the end
    with connections(server, 1) as [wire]:
        for _ in range(2):
            wire.send(request(f"/{prefix}lines", method="GET"))
            assert len(wire.answer().body.splitlines()) == 3


@BOTH
def test_items_come_as_they_are_yielded(server, prefix):
    name = f"flush{prefix}"
    with get(server, f"/{prefix}gated?name={name}") as (file, head):
        assert head[0].endswith("200 OK")
        assert chunk(file) == b"[0]\n"
        control(server, f"open={name}")
        assert chunk(file) == b"[1]\n"
        assert chunk(file) == b"[2]\n"
        assert chunk(file) == b""
    assert ended(server, name) is not None


# --- errors ---


@BOTH
def test_error_before_the_head(server, prefix):
    answer = server.get(f"/{prefix}raising?kind=http")
    assert answer.status_code == 429
    assert answer.json()["code"] == "no_more"
    assert server.get(f"/{prefix}raising").status_code == 500
    assert server.get(f"/{prefix}raising?kind=item").status_code == 500
    assert server.get(f"/{prefix}raising?after=x").status_code == 422


@BOTH
@pytest.mark.parametrize(
    ("kind", "code"), [("http", "no_more"), ("value", "handler_failed"), ("item", "handler_failed")]
)
def test_error_after_the_head(server, prefix, kind, code):
    path = f"/{prefix}raising?after=2&kind={kind}"
    answer = server.get(path)
    assert answer.status_code == 200
    *rows, last = answer.text.splitlines()
    assert rows == ["[0]", "[1]"]
    assert json.loads(last)["code"] == code
    events = server.get(path, headers={"Accept": "text/event-stream"}).text
    assert events.split("\n\n")[2].startswith('event: error\ndata: {"error":')


@BOTH
def test_timeout_of_an_item(server, prefix):
    name = f"late{prefix}"
    *rows, last = server.get(f"/{prefix}late?name={name}").text.splitlines()
    assert rows == ["[0]"]
    assert json.loads(last)["code"] == "timeout"
    control(server, f"open={name}")
    assert ended(server, name) is True


# --- clients ---


@contextlib.contextmanager
def begun(server, path):
    """Get the first item; yield the connection."""
    with connections(server, 1) as [wire]:
        wire.send(request(path, method="GET"))
        assert b"[0]\n" in iter(wire._input.readline, b"")
        yield wire


@BOTH
def test_client_that_resets_ends_the_generator(server, prefix):
    name = f"reset{prefix}"
    with begun(server, f"/{prefix}gated?name={name}") as wire:
        wire.reset()
        if not prefix:
            # a call that waits cannot be interrupted
            control(server, f"open={name}")
        assert ended(server, name) is (prefix == "a")


def test_client_that_closes_ends_the_generator(server):
    with begun(server, "/off/agated?name=closed") as wire:
        wire.close()
        assert ended(server, "closed") is True


@BOTH
def test_client_that_closes_ends_the_generator_at_its_next_items(server, prefix):
    """Before that, it may be a client that has closed its own side alone."""
    name = f"left{prefix}"
    with begun(server, f"/{prefix}gated?name={name}&n=1000000000") as wire:
        wire.close()
        control(server, f"open={name}")
        assert ended(server, name) is (prefix == "a")


@BOTH
def test_slow_client_stops_its_generator_alone(server, prefix):
    name = f"slow{prefix}"
    with get(server, f"/{prefix}endless?name={name}") as (file, _):
        counts = [-1, 0]

        def stands() -> bool:
            counts[:] = counts[1], control(server)["advanced"].get(name, 0)
            return counts[0] == counts[1] > 0

        wait_for(stands, "a generator that is not advanced")
        assert counts[1] < 2000  # 20 MB, beyond what sockets buffer
        assert server.get("/lines").status_code == 200
        for _ in range(counts[1]):
            chunk(file)
        wait_for(
            lambda: control(server)["advanced"][name] > counts[1], "a generator that continues"
        )
    assert ended(server, name) is True


def test_client_that_does_not_read_is_closed(server):
    with get(server, "/slow?name=timed"):
        assert ended(server, "timed") is True
    server.wait_for_log('client has not read the answers of its stream for "send_timeout"')


def test_max_streams(server):
    with get(server, "/few?name=few1") as (one, _), get(server, "/few?name=few2") as (two, _):
        assert chunk(one) == chunk(two) == b"[0]\n"
        answer = server.get("/few?name=few3")
        assert answer.status_code == 503
        assert answer.json()["code"] == "too_many_streams"
        for name in ("few1", "few2"):
            control(server, f"open={name}")
        assert one.read(1) and two.read(1)


@BOTH
def test_many_side_by_side(server, prefix):
    """All have begun before one of them continues: the pool is larger than the handler's calls."""
    count = 6
    names = [f"side{prefix}{i}" for i in range(count)]
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(get(server, f"/{prefix}gated?name={name}&n=2"))[0] for name in names
        ]
        assert [chunk(file) for file in files] == [b"[0]\n"] * count
        for name in names:
            control(server, f"open={name}")
        assert [chunk(file) for file in files] == [b"[1]\n"] * count
        assert [chunk(file) for file in files] == [b""] * count


def test_bounded_pool(server):
    """A third generator begins when one of two threads is free."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(get(server, f"/pool?name=pool{i}&n=2"))[0] for i in range(2)]
        assert [chunk(file) for file in files] == [b"[0]\n"] * 2
        control(server, "open=pool0")
        third = stack.enter_context(get(server, "/pool?name=pool2&n=1"))[0]
        assert chunk(third) == b"[0]\n"
        control(server, "open=pool1")
        assert [chunk(file) for file in files] == [b"[1]\n"] * 2
        control(server, "open=pool2")


def test_one_thread_and_context(server):
    rows = [json.loads(line) for line in server.get("/one_thread").text.splitlines()]
    assert rows == [[4, True, False]] * 4


# --- HTTP/2, exit ---


@BOTH
def test_http2(server, prefix):
    url = f"http://127.0.0.1:{H2_PORT}/{prefix}"
    with httpx.Client(http1=False, http2=True, timeout=DEADLINE) as client:
        answer = client.get(f"{url}lines?n=1000")
        assert answer.http_version == "HTTP/2"
        assert len(answer.text.splitlines()) == 1000


@BOTH
def test_client_that_resets_a_stream_of_http2_ends_its_generator(server, prefix):
    client = H2(H2_PORT)
    name = f"h2_endless{prefix}"
    endless = client.open(f"/{prefix}endless?name={name}", "GET", is_whole=True)
    while not client.received[endless]:
        client.receive()
    client.reset(endless)
    assert ended(server, name) is True

    name = f"h2_gated{prefix}"
    gated = client.open(f"/{prefix}gated?name={name}", "GET", is_whole=True)
    assert client.row(gated) == [0]
    client.reset(gated)
    if not prefix:
        control(server, f"open={name}")
    assert ended(server, name) is (prefix == "a")
    client.socket.close()


@pytest.mark.parametrize("how", ["waits", "shutdown_timeout", "stop"])
def test_exit(how):
    """A graceful shutdown waits for generators, or ends them when its time is over."""
    main = "worker_shutdown_timeout 200ms;" if how == "shutdown_timeout" else ""
    app = APP.replace("ended.append([name, True])", "print_end(name)").replace(
        "gates = {}",
        "gates = {}\ndef print_end(name):\n    import logging; logging.warning('over: ' + name)",
    )
    with running(Nginx(SERVER, app, main=main)) as server, contextlib.ExitStack() as stack:
        if how == "waits":
            with (
                get(server, "/gated?name=w&n=2") as (file, _),
                get(server, "/agated?name=w&n=2") as (other, _),
            ):
                assert chunk(file) == chunk(other) == b"[0]\n"
                control(server, "open=w")
                server.reload()
                assert chunk(file) == chunk(other) == b"[1]\n"
            return
        for name in ("endless", "aendless"):
            file, _ = stack.enter_context(get(server, f"/{name}?name={how}_{name}"))
            assert chunk(file)
        if how == "stop":
            server.process.terminate()
            server.process.wait(DEADLINE)
        else:
            server.quit()
        for name in ("endless", "aendless"):
            server.wait_for_log(f"over: {how}_{name}")


def test_pings_while_an_item_is_waited_for(server):
    """Only if the items are events."""
    url = server.url("/pinged?name=pinged&n=2")
    headers = {"Accept": "text/event-stream"}
    with httpx.stream("GET", url, headers=headers, timeout=DEADLINE) as answer:
        lines = answer.iter_lines()
        assert "data: [0]" in [next(lines) for _ in range(2)]
        while next(lines) != ": ping":
            pass
        server.get("/control?open=pinged")
        assert "data: [1]" in list(lines)
