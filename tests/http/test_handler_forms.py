"""@webtorch.handler: forms and files of requests."""

import io
import json

import pytest

from answers import check_error
from wire import connections

APP = """
import pathlib, tempfile, webtorch

kept = []

@webtorch.handler
def form(request):
    fields = request.form()
    return {
        "fields": {name: fields.getlist(name) for name in fields},
        "files": {
            name: [[f.filename, f.content_type, f.size, f.read(20).decode("latin-1")]
                   for f in request.files.getlist(name)]
            for name in request.files
        },
    }

@webtorch.handler
def save(request):
    kept.append(request.files["f"])
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, request.form()["to"])
        request.files["f"].save(path)
        return path.read_bytes()

@webtorch.handler
def sums(request):
    return [sum(file.view) for file in kept]

@webtorch.handler
def cookies(request): return dict(request.cookies)
"""

SERVER = """
client_max_body_size 40m;
location = /form { webtorch_handler app:form; }
location = /save { webtorch_handler app:save mode=thread; client_body_in_file_only clean; }
location = /sums { webtorch_handler app:sums; }
location = /cookies { webtorch_handler app:cookies; }
"""

PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
END = b"--b--\r\n"


def post(server, body: bytes, content_type: str | bytes = "multipart/form-data; boundary=b"):
    return server.post("/form", data=body, headers={"Content-Type": content_type})


def test_urlencoded(server):
    found = server.post("/form", data=[("a", "1"), ("a", "é ="), ("b", "")]).json()
    assert found == {"fields": {"a": ["1", "é ="], "b": [""]}, "files": {}}


def test_multipart(server):
    found = server.post(
        "/form",
        data=[("a", "é"), ("a", "2")],
        files=[
            ("f", ("bild é.png", b"\0\xff", "image/png")),
            ("f", ("../../etc/x", b"y" * 100)),
            ("g", ("empty", b"")),
        ],
    ).json()
    assert found["fields"] == {"a": ["é", "2"]}
    assert found["files"]["f"] == [
        ["bild é.png", "image/png", 2, "\0\xff"],
        ["x", "", 100, "y" * 20],
    ]
    assert found["files"]["g"] == [["empty", "", 0, ""]]


def test_charsets(server):
    kind = b"Content-Type: text/plain; charset=latin1\r\n\r\n"
    charset = (PART % (b"a", b"\xe9")).replace(b"\r\n\r\n", b"\r\n" + kind)
    assert post(server, charset + END).json()["fields"] == {"a": ["é"]}
    default = PART % (b"_charset_", b"iso-8859-1") + PART % (b"a", b"\xe9")
    assert post(server, default + END).json()["fields"]["a"] == ["é"]
    check_error(post(server, PART % (b"a", b"\xe9") + END), 400, "malformed_body", 'field "a"')


UNKNOWN = (b"klingon", b"punycode", b"idna", b"undefined", b"\xff", b"x" * 1000)


def test_unknown_charset_of_a_form(server):
    for charset in UNKNOWN:
        content_type = b"application/x-www-form-urlencoded; charset=" + charset
        check_unsupported(post(server, b"a=1", content_type))


def test_unknown_charset_of_a_part(server):
    for charset in UNKNOWN:
        kind = b"\r\nContent-Type: text/plain; charset=%s\r\n\r\n" % charset
        check_unsupported(post(server, (PART % (b"a", b"1")).replace(b"\r\n\r\n", kind) + END))


def test_unknown_charset_in_a_field(server):
    for charset in (*UNKNOWN, b"a\0b", b"utf-8" + b"x" * 1_000_000):
        content = PART % (b"_charset_", charset) + PART % (b"a", b"1") + END
        check_unsupported(post(server, content))


def check_unsupported(answer):
    check_error(answer, 400, "malformed_body", "the charset", "of the form is not supported")


def test_large_files_are_views(server):
    data = bytes(range(256)) * 4 * 1024
    for name in ("one", "two"):
        answer = server.post("/save", data={"to": name}, files={"f": io.BytesIO(data * 8)})
        assert answer.content == data * 8
    assert server.get("/sums").json() == [sum(data) * 8] * 2


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code", "text"),
    [
        (END, "multipart/form-data", 400, "malformed_body", "needs a boundary"),
        (END, "multipart/form-data; boundary=c", 400, "malformed_body", "boundary"),
        (PART % (b"a", b"1"), None, 400, "malformed_body", "boundary"),
        (PART % (b"a", b"1") * 10_000 + END, None, 413, "too_many_parts", "more than 1000 parts"),
        (PART % (b"a" * 1_000_000, b"1") + END, None, 400, None, ""),
        (b"a=1&" * 10_000, "application/x-www-form-urlencoded", 413, "too_many_parts", "1000"),
        (b"a" * 1_000_000 + b"=", "application/x-www-form-urlencoded", 413, "too_large", "8192"),
        (b"a=%FF", "application/x-www-form-urlencoded", 400, "malformed_body", "utf-8"),
        (b"<a/>", "application/xml", 415, "unsupported_media_type", "multipart/form-data"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_forms(server, body, content_type, status, code, text):
    answer = post(server, body, content_type or "multipart/form-data; boundary=b")
    check_error(answer, status, code or answer.json()["code"], text)
    assert post(server, PART % (b"a", b"1") + END).json()["fields"] == {"a": ["1"]}


def test_cookies(server):
    with connections(server, 1) as (wire,):
        wire.send(b'GET /cookies HTTP/1.1\r\nHost: a\r\nCookie: a=1; b="x y"; a=2\r\n\r\n')
        assert json.loads(wire.answer().body) == {"a": "1", "b": "x y"}
