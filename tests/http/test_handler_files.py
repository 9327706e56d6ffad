"""@webtorch.handler: answers that are files, and large bodies, neither of which is copied."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest

import webtorch
from answers import check_error
from nginx import wait_for
from wire import connections, request

APP = """
import gc, hashlib, os, torch, webtorch
from pathlib import Path

ROOT = Path(__file__).parent / "files"
kept = []

@webtorch.handler
def file(request):
    return ROOT / request.args

@webtorch.handler
def typed(request):
    return webtorch.Response(
        ROOT / request.args, status=203, content_type="a/b", headers=[("X-One", "1")])

@webtorch.handler
def posted(request):
    path = ROOT / request.json()["name"]
    if path.suffix != ".txt":
        raise webtorch.HTTPError(403, "no")
    return path

@webtorch.handler
def tagged(request):
    return webtorch.Response(ROOT / "a.txt", headers=[("ETag", '"mine"')])

@webtorch.handler
def dated(request):
    return webtorch.Response(ROOT / "a.txt", headers=[("Last-Modified", "today")])

@webtorch.handler
def packed(request):
    return webtorch.Response(
        ROOT / "packed", headers=[("Content-Encoding", "gzip")], content_type="text/plain")

@webtorch.handler
def dressed(request):
    names = ["Content-Encoding", "Cache-Control", "Set-Cookie", "ETag", "Expires", "X-One"]
    return webtorch.Response(ROOT / request.args, headers=[(name, "gzip") for name in names])

@webtorch.handler
def unacceptable(request):
    return webtorch.Response(torch.zeros(3), headers=[("Set-Cookie", "a"), ("ETag", '"a"')])

@webtorch.handler
def image(request):
    return webtorch.Response(torch.zeros(3), content_type="image/png")

@webtorch.handler
def digest(request):
    return hashlib.sha256(request.body).hexdigest()

@webtorch.handler
def keep(request):
    kept.append(request.body)
    return str(len(kept))

@webtorch.handler
def write(request):
    request.body[:4] = b"mine"

@webtorch.handler
def forget(request):
    found = {hashlib.sha256(body).hexdigest() for body in kept}
    kept.clear()
    return " ".join(sorted(found))

@webtorch.handler
def memory(request):
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("RssAnon"))
"""
NAMES = (
    "file",
    "typed",
    "digest",
    "keep",
    "write",
    "forget",
    "memory",
    "posted",
    "tagged",
    "dated",
    "dressed",
    "unacceptable",
    "image",
)
SERVER = """
types { text/special txt; }
default_type application/unknown;
client_max_body_size 32m;
location = /link/all { webtorch_handler app:file; }
location = /link/off { disable_symlinks on; webtorch_handler app:file; }
location = /link/from {
    disable_symlinks on from=$document_root; root /; webtorch_handler app:file;
}
location = /link/owner { disable_symlinks if_not_owner; webtorch_handler app:file; }
location = /packed { gzip on; gzip_types text/plain; webtorch_handler app:packed; }
""" + "".join(
    f"location = /{name} {{ webtorch_handler app:{name}; }}\n"
    f"location = /buffered/{name} {{ webtorch_handler app:{name}; client_body_buffer_size 32m; }}\n"
    for name in NAMES
)
HTTP = "log_format body '$request_body'; "

TEXT = b"0123456789" * 100_000


@pytest.fixture(autouse=True)
def files(server):
    directory = server.prefix / "app/files"
    if not directory.exists():
        directory.mkdir()
        (directory / "a.txt").write_bytes(TEXT)
        (directory / "no extension").write_bytes(b"x")
        (directory / "empty.txt").write_bytes(b"")
        (directory / "sub").mkdir()
        (directory / "secret").write_bytes(b"secret")
        (directory / "packed").write_bytes(gzip.compress(TEXT))
        (directory / "link.txt").symlink_to("a.txt")
        (directory / "links").symlink_to("sub")
        (directory / "sub/b.txt").write_bytes(b"b")


# --- files ---


def test_file(server):
    answer = server.get("/file?a.txt")
    assert answer.content == TEXT
    assert answer.headers["Content-Type"] == "text/special"
    assert answer.headers["Content-Length"] == str(len(TEXT))
    assert {"ETag", "Last-Modified", "Accept-Ranges"} <= set(answer.headers)


def test_ranges_and_conditions(server):
    answer = server.get("/file?a.txt", headers={"Range": "bytes=10-14"})
    assert answer.status_code == 206 and answer.content == b"01234"
    etag = server.get("/file?a.txt").headers["ETag"]
    assert server.get("/file?a.txt", headers={"If-None-Match": etag}).status_code == 304


def test_head(server):
    answer = server.request("HEAD", "/file?a.txt")
    assert answer.content == b"" and answer.headers["Content-Length"] == str(len(TEXT))


def test_empty_file_and_file_without_extension(server):
    assert server.get("/file?empty.txt").content == b""
    answer = server.get("/file?no extension".replace(" ", "%20"))
    assert answer.status_code == 500  # args are as sent: there is no such name


def test_response_with_file(server):
    answer = server.get("/typed?a.txt")
    assert answer.status_code == 203 and answer.content == TEXT
    assert answer.headers["Content-Type"] == "a/b" and answer.headers["X-One"] == "1"


@pytest.mark.parametrize("name", ["nowhere.txt", "sub", "a%00b"])
def test_missing_file(server, name):
    answer = server.get(f"/file?{name}")
    assert answer.status_code == 500
    assert answer.json()["code"] == "handler_failed"
    assert "files" not in answer.text  # the path is for the log
    assert re.search(r"\[error\].*a handler answered with a file", server.log())


@pytest.mark.parametrize(("path", "text"), [("a.txt", "relative"), ("/a\0.txt", "NUL")])
def test_paths_that_are_refused(path, text):
    with pytest.raises(ValueError, match=text):
        webtorch.Response(Path(path))


def test_nul_does_not_cut_the_checked_path(server):
    assert server.post("/posted", {"name": "a.txt"}).content == TEXT
    assert server.post("/posted", {"name": "secret"}).status_code == 403
    assert server.post("/posted", {"name": "secret\0.txt"}).status_code == 500


def test_conditions_and_ranges_are_of_get_only(server):
    date = server.get("/file?a.txt").headers["Last-Modified"]
    for header in ({"Range": "bytes=0-3"}, {"If-Modified-Since": date}):
        answer = server.post("/posted", {"name": "a.txt"}, headers=header)
        assert answer.status_code == 200 and answer.content == TEXT


def test_headers_of_the_handler(server):
    assert server.get("/tagged").headers["ETag"] == '"mine"'
    assert server.get("/tagged", headers={"If-None-Match": '"mine"'}).status_code == 304
    assert server.get("/dated").status_code == 500  # two would be sent
    answer = server.get("/packed", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip" and answer.content == TEXT


@pytest.mark.parametrize("name", ["link.txt", "links/b.txt"])
def test_disable_symlinks(server, name):
    for rule in ("all", "owner"):
        assert server.get(f"/link/{rule}?{name}").status_code == 200
    for rule in ("off", "from"):
        assert server.get(f"/link/{rule}?a.txt").status_code == 200
        check_error(server.get(f"/link/{rule}?{name}"), 403, "forbidden")
    server.wait_for_log(f'a handler answered with a file, .*{name}" failed')


HANDLER_HEADERS = {"Content-Encoding", "Cache-Control", "Set-Cookie", "ETag", "Expires", "X-One"}


def test_headers_are_not_those_of_an_error(server):
    assert set(server.get("/dressed?a.txt", stream=True).headers) >= HANDLER_HEADERS
    for path, status in (("/dressed?nowhere", 500), ("/unacceptable", 406)):
        answer = server.get(path, headers={"Accept": "image/png"})
        assert answer.status_code == status and answer.json()["error"]
        assert not HANDLER_HEADERS & set(answer.headers)


@pytest.mark.parametrize("name", ["file", "dressed"])
def test_range_beyond_the_file(server, name):
    answer = server.get(f"/{name}?a.txt", headers={"Range": "bytes=9999999-"})
    check_error(answer, 416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(TEXT)}"
    assert not HANDLER_HEADERS & set(answer.headers)


def test_tensor_in_unknown_format(server):
    answer = server.get("/image")
    assert answer.status_code == 500 and answer.json()["code"] == "handler_failed"
    assert 'a tensor as "image/png", which is not a format' in server.log()


# --- large bodies ---


@pytest.mark.parametrize("place", ["", "/buffered"])
@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 65536, 1_000_000, 5_000_001])
def test_bodies_in_files_and_in_memory(server, place, size):
    body = (b"%x" % size) * size
    body = body[:size]
    answer = server.post(f"{place}/digest", data=body)
    assert answer.text == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("place", ["", "/buffered"])
def test_bodies_may_be_kept(server, place):
    bodies = [bytes([65 + n]) * (500_000 + n) for n in range(8)]
    for body in bodies:
        assert server.post(f"{place}/keep", data=body).ok
    expected = {hashlib.sha256(body).hexdigest() for body in bodies}
    assert set(server.get("/forget").text.split()) == expected


@pytest.mark.parametrize("place", ["", "/buffered"])
@pytest.mark.parametrize("size", [10, 100_000])
def test_bodies_are_for_reading(server, place, size):
    assert server.post(f"{place}/write", data=b"x" * size).status_code == 500
    assert "cannot modify read-only memory" in server.log()


@pytest.mark.parametrize("place", ["", "/buffered"])
def test_bodies_are_freed(server, place):
    def anonymous() -> int:
        return int(server.get("/memory").text.split()[1])

    body = b"x" * 10_000_000
    server.post(f"{place}/digest", data=body)
    before = anonymous()
    for _ in range(20):
        server.post(f"{place}/digest", data=body)
    with connections(server, 20) as wires:
        for wire in wires:
            wire.send(request(f"{place}/digest", body))
            wire.reset()
    wait_for(lambda: anonymous() < before + 50_000, "the bodies to be freed")
