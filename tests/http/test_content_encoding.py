"""Compressed bodies: inflated for every handler, and bounded by what they inflate to."""

import gzip
import json
import os
import random
import zlib

import pytest

from nginx import body_of, peak_memory
from wire import chunked, connections, raw_deflate, request

APP = '''
import webtorch
from jaxtyping import Float64
from torch import Tensor


@webtorch.infer
def affine(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Answer 2x + 1."""
    return 2 * x + 1


@webtorch.handler(methods=["GET", "POST"])
def echo(request: webtorch.Request) -> dict:
    """Answer what is seen of the request."""
    return {"body": bytes(request.body).hex(), "headers": dict(request.headers)}


@webtorch.handler
def length(request: webtorch.Request) -> str:
    """Answer how long the body is."""
    return str(len(request.body))


@webtorch.handler
def guard(request: webtorch.Request) -> webtorch.Response:
    """Let everybody in."""
    return webtorch.Response(status=204)
'''

SERVER = """
location = /affine { webtorch_handler app:affine; }
location = /echo { webtorch_handler app:echo; }
location = /length { webtorch_handler app:length; }
location = /small { webtorch_handler app:length; client_max_body_size 1000; }
location = /large { webtorch_handler app:length; client_max_body_size 20m; }
location = /unlimited { webtorch_handler app:length; client_max_body_size 0; }
location = /file { webtorch_handler app:affine; client_body_buffer_size 1k; }

location = /guard { internal; webtorch_handler app:guard; }
location = /guarded { auth_request /guard; proxy_pass http://127.0.0.1:$server_port/alive; }
location = /mirrored { mirror /mirror; webtorch_handler app:affine; }
location = /mirror { internal; webtorch_handler app:length; }
"""

MIB = 1 << 20


def deflate(data: bytes) -> bytes:
    """Compress in zlib's format."""
    return zlib.compress(data, 9)


COMPRESS = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "upper case": ("GZip", gzip.compress),
    "deflate": ("deflate", deflate),
    "raw deflate": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "gzip of identity": ("identity,, gzip ,", gzip.compress),
}


@pytest.fixture
def wire(server):
    with connections(server, 1) as (one,):
        yield one


def rows_of(count):
    """Make rows of numbers that do not compress well."""
    source = random.Random(count)
    return [[source.random()] for _ in range(count)]


def check_refused(answer, status, code, text):
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["code"] == code
    assert text in body["error"], body["error"]


def check_usable(wire):
    """The connection serves what comes next, compressed or not."""
    wire.post("/affine", [[1]])
    assert wire.answer().json() == [[3]]
    wire.send(request("/affine", gzip.compress(b"[[2]]"), "Content-Encoding: gzip"))
    assert wire.answer().json() == [[5]]


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("count", [1, 1000, 40000])
@pytest.mark.parametrize("path", ["/affine", "/file"])
def test_json(wire, kind, count, path):
    coding, compress = COMPRESS[kind]
    rows = rows_of(count)
    body = compress(json.dumps(rows).encode())
    for _ in range(2):
        wire.send(request(path, body, f"Content-Encoding: {coding}"))
        assert wire.answer().json() == [[2 * x + 1] for (x,) in rows]


@pytest.mark.parametrize("kind", COMPRESS)
def test_torch7(wire, kind):
    coding, compress = COMPRESS[kind]
    body = compress(
        body_of("4|1|3|V 1|18|torch.DoubleTensor|1|1|1|1|4|2|3|V 1|19|torch.DoubleStorage|1|0.25|")
    )
    wire.send(request("/affine", body, f"Content-Encoding: {coding}", content_type="text/plain"))
    answer = wire.answer()
    assert answer.headers["content-type"] == "text/plain"
    assert answer.body.split()[-1] == b"1.5"


@pytest.mark.parametrize("path", ["/affine", "/file"])
@pytest.mark.parametrize("size", [1, 7, 100000])
def test_chunked(wire, path, size):
    rows = rows_of(500)
    body = gzip.compress(json.dumps(rows).encode())
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    head = request(path, b"", "Transfer-Encoding: chunked", "Content-Encoding: gzip")
    wire.send(head + chunked(pieces))
    assert wire.answer().json() == [[2 * x + 1] for (x,) in rows]
    check_usable(wire)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
def test_empty_body(wire, coding):
    wire.send(request("/affine", b"", f"Content-Encoding: {coding}", "Content-Length: 0"))
    check_refused(wire.answer(), 400, "empty_body", "the body is empty")
    wire.send(request("/length", b"", f"Content-Encoding: {coding}", "Content-Length: 0"))
    assert wire.answer().body == b"0"
    check_usable(wire)


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw deflate"])
def test_nothing_compressed(wire, kind):
    coding, compress = COMPRESS[kind]
    wire.send(request("/affine", compress(b""), f"Content-Encoding: {coding}"))
    check_refused(wire.answer(), 400, "empty_body", "the body is empty")
    wire.send(request("/length", compress(b""), f"Content-Encoding: {coding}"))
    assert wire.answer().body == b"0"


def test_members_of_gzip(wire):
    rows = rows_of(300)
    text = json.dumps(rows).encode()
    members = [gzip.compress(text[i : i + 100]) for i in range(0, len(text), 100)]
    members.insert(3, gzip.compress(b""))
    wire.send(request("/affine", b"".join(members), "Content-Encoding: gzip"))
    assert wire.answer().json() == [[2 * x + 1] for (x,) in rows]


def test_stored_blocks(wire):
    """What does not compress at all is a little longer than what it inflates to."""
    body = os.urandom(300000)
    compressor = zlib.compressobj(0)
    sent = compressor.compress(body) + compressor.flush()
    assert len(sent) > len(body)
    wire.send(request("/echo", sent, "Content-Encoding: deflate"))
    assert bytes.fromhex(wire.answer().json()["body"]) == body


# --- refused ---


@pytest.mark.parametrize("path", ["/affine", "/length"])
@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Encoding: br"],
        ["Content-Encoding: zstd"],
        ["Content-Encoding: compress"],
        ["Content-Encoding: gzi"],
        ["Content-Encoding: gzip2"],
        ["Content-Encoding: gzip;q=1"],
        ["Content-Encoding: gzip, gzip"],
        ["Content-Encoding: gzip, br"],
        ["Content-Encoding: br, gzip"],
        ["Content-Encoding: gzip", "Content-Encoding: deflate"],
    ],
)
def test_unknown_coding(wire, path, headers):
    wire.send(request(path, gzip.compress(b"[[1]]"), *headers))
    answer = wire.answer()
    check_refused(answer, 415, "unsupported_media_type", "send gzip or deflate")
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    check_usable(wire)


def test_unknown_coding_is_refused_before_the_body(wire):
    wire.send(request("/affine", b"", "Content-Encoding: br", "Content-Length: 10"))
    assert wire.answer().status == 415


def test_unknown_coding_of_no_body(wire):
    wire.send(request("/echo", b"", "Content-Encoding: br", method="GET"))
    answer = wire.answer()
    assert answer.status == 200
    assert "content-encoding" not in answer.json()["headers"]


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw deflate"])
def test_truncated_anywhere(wire, kind):
    coding, compress = COMPRESS[kind]
    body = compress(b"[[0.125], [0.25]]")
    for length in range(1, len(body)):
        wire.send(request("/affine", body[:length], f"Content-Encoding: {coding}"))
        check_refused(
            wire.answer(), 400, "malformed_body", f"invalid {coding} encoding: it is cut off"
        )
    check_usable(wire)


@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_corrupt_anywhere(wire, kind):
    coding, compress = COMPRESS[kind]
    body = compress(b"[[0.125], [0.25]]")
    # but the time, the operating system and the like, which mean nothing
    for i in range(10 if kind == "gzip" else 2, len(body)):
        corrupt = body[:i] + bytes([body[i] ^ 0xFF]) + body[i + 1 :]
        wire.send(request("/affine", corrupt, f"Content-Encoding: {coding}"))
        check_refused(wire.answer(), 400, "malformed_body", f"invalid {coding} encoding: ")
    check_usable(wire)


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("garbage", [b"x", b"\0", b"[[1]]", b"\x1f\x8b", bytes(100000)])
def test_trailing_garbage(wire, kind, garbage):
    coding, compress = COMPRESS[kind]
    wire.send(request("/affine", compress(b"[[1]]") + garbage, f"Content-Encoding: {coding}"))
    check_refused(wire.answer(), 400, "malformed_body", f"invalid {coding} encoding: ")
    check_usable(wire)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_uncompressed_body_with_coding(wire, coding):
    wire.send(request("/affine", b"[[0.125], [0.25]]", f"Content-Encoding: {coding}"))
    check_refused(wire.answer(), 400, "malformed_body", f"invalid {coding} encoding: ")


def test_dictionary(wire):
    compressor = zlib.compressobj(zdict=b"[[0.125]]")
    body = compressor.compress(b"[[0.125]]") + compressor.flush()
    wire.send(request("/affine", body, "Content-Encoding: deflate"))
    check_refused(wire.answer(), 400, "malformed_body", "it needs a dictionary")


def test_noise(wire):
    """Whatever is sent is answered."""
    source = random.Random(1)
    for number in range(300):
        coding, compress = COMPRESS[source.choice(["gzip", "deflate", "raw deflate"])]
        body = bytearray(compress(source.randbytes(source.randrange(500))))
        for _ in range(source.randrange(1, 5)):
            body[source.randrange(len(body))] = source.randrange(256)
        wire.send(request("/length", bytes(body), f"Content-Encoding: {coding}"))
        assert wire.answer().status in (200, 400, 413), number
    check_usable(wire)


# --- bounds ---


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize(
    ("path", "limit"), [("/small", 1000), ("/length", MIB), ("/large", 20 * MIB)]
)
def test_limit_is_exact(wire, kind, path, limit):
    coding, compress = COMPRESS[kind]
    wire.send(request(path, compress(bytes(limit)), f"Content-Encoding: {coding}"))
    assert wire.answer().body == b"%d" % limit
    for size in (limit + 1, 2 * limit, 2 * limit + 1):
        wire.send(request(path, compress(bytes(size)), f"Content-Encoding: {coding}"))
        check_refused(wire.answer(), 413, "too_large", "the inflated body is larger than")
    check_usable(wire)


def test_limit_of_the_compressed_body(wire):
    wire.send(request("/small", gzip.compress(os.urandom(2000)), "Content-Encoding: gzip"))
    check_refused(wire.answer(), 413, "too_large", '"client_max_body_size"')


def test_limit_covers_all_members(wire):
    body = gzip.compress(bytes(400))
    wire.send(request("/small", body * 2, "Content-Encoding: gzip"))
    assert wire.answer().body == b"800"
    wire.send(request("/small", body * 3, "Content-Encoding: gzip"))
    check_refused(wire.answer(), 413, "too_large", "the inflated body is larger than")


def test_inflated_body_without_size_limit(wire):
    body = gzip.compress(bytes(30 * MIB))
    wire.send(request("/unlimited", body, "Content-Encoding: gzip"))
    assert wire.answer().body == b"%d" % (30 * MIB)


@pytest.mark.parametrize("compress", [gzip.compress, lambda data: gzip.compress(data) * 5])
def test_bomb(start, compress):
    # each thread keeps some of the memory that it has used
    server = start(SERVER, APP, main="thread_pool default threads=2;")
    bomb = compress(bytes(100 * MIB))
    assert len(bomb) < MIB
    with connections(server, 1) as (wire,):
        check_usable(wire)
        before = peak_memory(server)
        for _ in range(10):
            wire.send(request("/affine", bomb, "Content-Encoding: gzip"))
            check_refused(wire.answer(), 413, "too_large", "the inflated body is larger than")
        check_usable(wire)
    assert peak_memory(server) - before < 10 * 1024


def test_claims_take_no_memory(start):
    """A member of gzip ends with the length of what it holds, which is a lie here."""
    server = start(SERVER, APP)
    body = gzip.compress(b"[[1]]")
    body = body[:-4] + b"\xff\xff\xff\x3f"
    with connections(server, 1) as (wire,):
        check_usable(wire)
        before = peak_memory(server)
        wire.send(request("/unlimited", body, "Content-Encoding: gzip"))
        check_refused(wire.answer(), 400, "malformed_body", "invalid gzip encoding: ")
    assert peak_memory(server) - before < 10 * 1024


def test_other_requests_are_not_affected(server):
    """Requests of one round are in one batch, those that are refused are not."""
    good = gzip.compress(b"[[3]]")
    bad = [good[:-1], good + b"x", gzip.compress(bytes(3 * MIB)), gzip.compress(b"[[1, 2]]")]
    with connections(server, 40) as wires:
        for i, wire in enumerate(wires):
            body = bad[i // 2 % len(bad)] if i % 2 else good
            wire.send(request("/affine", body, "Content-Encoding: gzip"))
        for i, wire in enumerate(wires):
            answer = wire.answer()
            if i % 2:
                assert answer.status == (400, 400, 413, 422)[i // 2 % len(bad)]
            else:
                assert answer.json() == [[7]]


# --- functions of requests, and requests of nginx itself ---


@pytest.mark.parametrize("kind", COMPRESS)
def test_custom_handler(wire, kind):
    coding, compress = COMPRESS[kind]
    body = bytes(range(256)) * 100
    sent = compress(body)
    wire.send(request("/echo", sent, "X-One: 1", f"CONTENT-encoding: {coding}", "X-Two: 2"))
    seen = wire.answer().json()
    assert bytes.fromhex(seen["body"]) == body
    assert seen["headers"] == {
        "host": "localhost",
        "x-one": "1",
        "x-two": "2",
        "content-type": "application/json",
        "content-length": str(len(sent)),
    }


def test_guard_of_another_server(wire):
    wire.send(request("/guarded", b"whatever", "Content-Encoding: br"))
    assert wire.answer().body == b"alive"


def test_mirror(wire):
    wire.send(request("/mirrored", gzip.compress(b"[[4]]"), "Content-Encoding: gzip"))
    assert wire.answer().json() == [[9]]
