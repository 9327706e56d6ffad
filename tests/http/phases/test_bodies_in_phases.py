"""The request body in the features of webtorch_access and webtorch_log."""

import functools
import gzip
import random
import struct
import zlib

import pytest

from nginx import Nginx, quit_cleanly, wait_for
from wire import chunked, connections, raw_deflate, request

gzipped = functools.partial(gzip.compress, mtime=0)
"""Compress without the time, so that the names of tests are the same in all processes."""

APP = '''
import webtorch
from jaxtyping import Float32, UInt8
from torch import Tensor, tensor

rows: list[str] = []


def texts(bytes):
    return [row.numpy().tobytes().rstrip(b"\\0").decode("latin-1") for row in bytes]


@webtorch.infer
def guard(bytes: UInt8[Tensor, "batch 16384"]) -> Float32[Tensor, "batch 1"]:
    """Take "evil" for an attack."""
    return tensor([[float("evil" in text)] for text in texts(bytes)])


@webtorch.infer
def note(bytes: UInt8[Tensor, "batch 1024"]) -> UInt8[Tensor, "batch 1024"]:
    rows.extend(texts(bytes))
    return bytes


@webtorch.handler
def noted(request: webtorch.Request) -> dict:
    return {"rows": rows}


@webtorch.handler(methods=["POST", "PUT"])
def size(request: webtorch.Request) -> str:
    return str(len(request.body))
'''

SERVER = """
client_body_buffer_size 16k;
client_max_body_size 1m;
location = /noted { webtorch_handler app:noted; }
location /guard/ {
    webtorch_access app:guard body=16k;
    add_header Verdict $webtorch_access_verdict always;
    webtorch_handler app:size;
    location /guard/deny/ {
        webtorch_access app:guard body=16k on_error=deny;
        add_header Verdict $webtorch_access_verdict always;
        webtorch_handler app:size;
    }
    location /guard/proxy/ { proxy_pass http://127.0.0.1:$server_port/size; }
    location /guard/short/ {
        webtorch_access app:guard body=8;
        webtorch_handler app:size;
    }
}
location /stream/ {
    proxy_request_buffering off;
    proxy_pass http://127.0.0.1:1;
    error_page 502 = @guarded;
    location /stream/deny/ {
        proxy_request_buffering off;
        proxy_pass http://127.0.0.1:1;
        error_page 502 = @denied;
    }
}
location @guarded {
    webtorch_access app:guard body=16k;
    add_header Verdict $webtorch_access_verdict always;
    proxy_pass_request_body off;
    proxy_set_header Content-Length 0;
    proxy_pass http://127.0.0.1:$server_port/size;
}
location @denied {
    webtorch_access app:guard body=16k on_error=deny;
    add_header Verdict $webtorch_access_verdict always;
    webtorch_handler app:size;
}
dav_methods PUT;
create_full_put_path on;
location /files/ {
    webtorch_access app:guard body=16k;
    root PREFIX;
    location /files/clean/ { client_body_in_file_only clean; root PREFIX; }
    location /files/keep/ { client_body_in_file_only on; root PREFIX; }
    location /files/proxied/ { proxy_pass http://127.0.0.1:$server_port/size; }
    location /files/handler/ { webtorch_handler app:size; }
}
location = /size { webtorch_handler app:size; }
location /log/ {
    webtorch_log app:note max_delay=0 body=1k;
    proxy_pass http://127.0.0.1:$server_port/size;
    location /log/stream/ {
        proxy_request_buffering off;
        proxy_pass http://127.0.0.1:1;
    }
}
"""


@pytest.fixture(scope="module")
def shared_server():
    server = Nginx("", APP)
    server.configure(server=SERVER.replace("PREFIX", str(server.prefix)))
    files = server.prefix / "files"
    files.mkdir()
    files.chmod(0o777)
    try:
        server.start()
        yield server
        quit_cleanly(server)
    finally:
        server.stop()


def noise(size: int) -> bytes:
    """Return bytes that do not compress, and have no letter."""
    return random.Random(1).randbytes(size).translate(bytes(b % 32 + 32 for b in range(256)))


def stored(*blocks: bytes) -> bytes:
    """Write a gzip member of stored blocks."""
    data = b"".join(blocks)
    pieces = [
        struct.pack("<BHH", i == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for i, block in enumerate(blocks)
    ]
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    return head + b"".join(pieces) + struct.pack("<II", zlib.crc32(data), len(data))


ENCODINGS = [
    ("gzip", gzipped),
    ("GZIP, identity", gzipped),
    ("x-gzip", gzipped),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS)
@pytest.mark.parametrize("size", [0, 10_000, 200_000])
def test_compressed_body_is_scored_inflated(server, encoding, compress, size):
    headers = {"Content-Encoding": encoding}
    answer = server.post("/guard/x", data=compress(b"good" + noise(size)), headers=headers)
    assert (answer.text, answer.headers["Verdict"]) == (str(size + 4), "allow")
    answer = server.post("/guard/x", data=compress(b"evil" + noise(size)), headers=headers)
    assert (answer.status_code, answer.headers["Verdict"]) == (403, "deny")


@pytest.mark.parametrize(("encoding", "compress"), ENCODINGS)
def test_compressed_body_in_pieces(server, encoding, compress):
    body = compress(b"evil")
    with connections(server, 1) as (wire,):
        wire.send(
            request("/guard/x", b"", "Transfer-Encoding: chunked", f"Content-Encoding: {encoding}"),
            chunked([body[i : i + 1] for i in range(len(body))]),
        )
        assert wire.answer().status == 403


@pytest.mark.parametrize(
    "body",
    [
        gzipped(b"good") + gzipped(b"evil"),
        gzipped(b"") * 50 + gzipped(b"evil"),
        stored(*[b""] * 100, b"evil"),
        stored(noise(10_000), b"evil"),
    ],
)
def test_compressed_body_of_members_and_blocks(server, body):
    answer = server.post("/guard/x", data=body, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["Verdict"]) == (403, "deny")


def test_compressed_body_beyond_the_limit_is_not_scored(server):
    for body, status in ((b"good" * 2 + b"evil", 200), (b"good" + b"evil", 403)):
        packed = gzipped(body)
        headers = {"Content-Encoding": "gzip"}
        answer = server.post("/guard/short/x", data=packed, headers=headers)
        assert answer.status_code == status


CODING = "the body's content encoding is not gzip or deflate"
MALFORMED = "the compressed body is malformed or cut off"
BOUND = "the first 64k or 256 blocks of the compressed body inflate to less than is scored"


@pytest.mark.parametrize(
    ("encoding", "body", "why"),
    [
        ("br", b"evil", CODING),
        ("zstd", b"evil", CODING),
        ("gzip, gzip", gzipped(gzipped(b"evil")), CODING),
        ("gzip", gzipped(b"evil")[:-1], MALFORMED),
        ("gzip", gzipped(b"good") + b"evil", MALFORMED),
        ("gzip", b"evil", MALFORMED),
        ("gzip", b"\x1f", MALFORMED),
        ("deflate", zlib.compress(b"good") + b"evil", MALFORMED),
        ("deflate", raw_deflate(b"evil" * 100)[:-3], MALFORMED),
        ("gzip", stored(*[b""] * 300, b"evil"), BOUND),
        ("gzip", stored(*[b""] * 14_000, b"evil"), BOUND),
        ("gzip", gzipped(b"") * 300 + gzipped(b"evil"), BOUND),
        ("gzip", b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"n" * 70_000 + b"\0evil", BOUND),
    ],
)
def test_body_that_cannot_be_inflated_is_not_scored(server, encoding, body, why):
    headers = {"Content-Encoding": encoding}
    answer = server.post("/guard/deny/x", data=body, headers=headers)
    assert (answer.status_code, answer.headers["Verdict"]) == (403, "error")
    start = len(server.log())

    def is_logged():
        """Repeat the request, as there is one message a second."""
        answer = server.post("/guard/proxy/x", data=body, headers=headers)
        assert answer.headers["Verdict"] == "error"
        return f'"app:guard" has not scored a request: {why}' in server.log()[start:]

    wait_for(is_logged, "the message")
    # the next one is scored
    headers["Content-Encoding"] = "deflate"
    answer = server.post("/guard/deny/x", data=zlib.compress(b"good"), headers=headers)
    assert (answer.status_code, answer.headers["Verdict"]) == (200, "allow")


@pytest.mark.parametrize(("path", "status"), [("/stream/x", 200), ("/stream/deny/x", 403)])
def test_body_not_read_to_its_end_is_not_scored(server, path, status):
    """A proxy that does not buffer has begun to pass it on."""
    whole = request(path, b"good" * 1000 + b"evil")
    with connections(server, 1) as (wire,):
        wire.send(whole[:-2000])
        answer = wire.answer()
    assert (answer.status, answer.headers["verdict"]) == (status, "error")
    server.wait_for_log('"app:guard" has not scored a request: the body has not been read to its')
    # a body that came with the headers is complete
    with connections(server, 1) as (wire,):
        wire.send(request(path, b"good"))
        assert wire.answer().headers["verdict"] == "allow"
        wire.send(request(path, b"evil"))
        assert wire.answer().headers["verdict"] == "deny"


def test_log_leaves_out_bodies_that_are_not_there(server):
    """One was not read to its end, the file of the other is closed."""
    with connections(server, 1) as (wire,):
        wire.send(request("/log/stream/1", b"cut" * 1000)[:-2000])
        assert wire.answer().status == 502
    assert server.post("/log/4", data=b"large" * 10_000).text == "50000"

    def rows():
        return server.get("/noted").json()["rows"]

    wait_for(lambda: "/log/4\x1d\x1e" in rows(), "the last row")
    assert "/log/stream/1\x1d\x1e" in rows()


def test_log_drops_bodies_that_cannot_be_inflated(server):
    headers = {"Content-Encoding": "gzip"}
    server.post("/log/1", data=gzipped(b"inflated"), headers=headers)
    server.post("/log/2", data=b"malformed", headers=headers)
    server.post("/log/3", data=b"plain")

    def rows():
        return server.get("/noted").json()["rows"]

    wait_for(lambda: "/log/3\x1d\x1eplain" in rows(), "the last row")
    assert "/log/1\x1d\x1einflated" in rows()
    assert not [row for row in rows() if row.startswith("/log/2")]
    server.wait_for_log(f'"app:note" has not scored a request: {MALFORMED}')


@pytest.mark.parametrize("size", [0, 10, 200_000])
@pytest.mark.parametrize("folder", ["files", "files/clean", "files/keep"])
def test_put_of_dav(server, folder, size):
    def put(data):
        return server.request("PUT", f"/{folder}/{size}", data=data).status_code

    path = server.prefix / folder / str(size)
    good = b"good" + noise(size)
    assert put(good if size else b"") == 201
    assert path.read_bytes() == (good if size else b"")
    assert put(b"evil" + noise(size)) == 403
    assert put(iter([b"ev", b"il", noise(size)])) == 403
    assert put(iter([b"good", noise(size)])) == 204
    assert path.read_bytes() == good


@pytest.mark.parametrize("folder", ["files/proxied", "files/handler"])
def test_put_of_others(server, folder):
    for size in (0, 10, 200_000):
        answer = server.request("PUT", f"/{folder}/x", data=b"b" * size)
        assert (answer.status_code, answer.text) == (200, str(size))
    assert server.request("PUT", f"/{folder}/x", data=b"evil").status_code == 403
