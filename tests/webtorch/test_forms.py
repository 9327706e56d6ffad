"""Forms of requests that are made without nginx."""

import encodings
import io

import pytest
from PIL import Image

from webtorch import HTTPError, Request
from webtorch._handlers.forms import _CHARSETS, UploadedFile

URLENCODED = "application/x-www-form-urlencoded"


def form(body: bytes, content_type: str = URLENCODED) -> Request:
    return Request("POST", "/", headers={"Content-Type": content_type}, body=body)


def test_fields():
    fields = form(b"a=1&b=%C3%A9+x&a=2&c=\r\n").form()
    assert dict(fields) == {"a": "1", "b": "é x", "c": ""} and len(fields) == 3
    assert fields.getlist("a") == ["1", "2"] and fields.getlist("d") == []
    assert fields.get("d") is None and "a" in fields
    assert form(b"a=%E9", f"{URLENCODED}; charset=ISO-8859-1").form()["a"] == "é"
    assert dict(Request().form()) == {} and dict(Request().files) == {}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"a=%E9", URLENCODED, 400, "malformed_body"),
        (b"a=\xe9", URLENCODED, 400, "malformed_body"),
        (b"a=1", f"{URLENCODED}; charset=klingon", 400, "malformed_body"),
        (b"a=1&" * 1000, URLENCODED, 413, "too_many_parts"),
        (b"a" * 8193 + b"=1", URLENCODED, 413, "too_large"),
        (b"{}", "application/json", 415, "unsupported_media_type"),
        (b"{}", "", 415, "unsupported_media_type"),
        (b"x", "multipart/form-data", 400, "malformed_body"),
    ],
)
def test_forms_that_are_refused(body, content_type, status, code):
    with pytest.raises(HTTPError) as caught:
        form(body, content_type).form()
    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize("charset", sorted(_CHARSETS))
def test_charset(charset):
    content = "aä" if "ä".encode(charset, "ignore") else "ab"
    part = b"--b\r\nContent-Disposition: form-data; name=a\r\nContent-Type: text/plain; charset="
    body = part + charset.upper().encode() + b"\r\n\r\n" + content.encode(charset) + b"\r\n--b--"
    assert form(body, "multipart/form-data; boundary=b").form()["a"] == content


UNKNOWN = ["klingon", "punycode", "idna", "undefined", "hex", "utf-7", "a\0b", "\udcff", "x" * 65]


@pytest.mark.parametrize("charset", UNKNOWN, ids=range(len(UNKNOWN)))
def test_unknown_charset(charset):
    content_type = f"{URLENCODED}; charset={charset}"
    with pytest.raises(
        HTTPError, match=r"^the charset \".*\" of the form is not supported$"
    ) as caught:
        form(b"a=1", content_type).form()
    assert (caught.value.status, caught.value.code) == (400, "malformed_body")


def test_unknown_charsets_are_not_kept():
    kept = len(encodings._cache)
    for number in range(1000):
        with pytest.raises(HTTPError):
            form(b"a=1", f"{URLENCODED}; charset=klingon{number}").form()
    assert len(encodings._cache) == kept


def test_multipart():
    body = (
        b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\xc3\xa9\r\n"
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="C:\\dir\\x.bin"\r\n'
        b"Content-Type: image/png\r\n\r\n\0\r\n\xff\r\n"
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="y"\r\n\r\ny\r\n'
        b'--b\r\nContent-Disposition: form-data; name="none"; filename=""\r\n\r\n\r\n--b--\r\n'
    )
    request = form(body, "multipart/form-data; boundary=b")
    assert dict(request.form()) == {"a": "é"} and list(request.files) == ["f"]
    file, other = request.files.getlist("f")
    assert file.content_type == "image/png" and file.read() == b"\0\r\n\xff" and file.size == 4
    assert file.filename.endswith("x.bin") and "\\" not in file.filename
    assert other.read() == b"y" and other.content_type == ""


def test_uploaded_file(tmp_path):
    file = UploadedFile(b"one\ntwo\n", "a.txt", "text/plain")
    assert file.read(2) == b"on" and file.tell() == 2 and file.read() == b"e\ntwo\n"
    assert file.read() == b"" and file.seek(-4, io.SEEK_END) == 4 and file.readline() == b"two\n"
    assert file.seek(0) == 0 and list(file) == [b"one\n", b"two\n"]
    assert file.seek(100) == 100 and file.read() == b"" and file.read(1) == b""
    with pytest.raises(ValueError, match="before the file"):
        file.seek(-1)
    assert bytes(file.view) == b"one\ntwo\n" and file.view.readonly
    file.save(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\n"
    assert repr(file) == "UploadedFile('a.txt', 'text/plain', 8 bytes)"


def test_file_is_read_by_libraries():
    data = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(data, "PNG")
    assert Image.open(UploadedFile(data.getvalue())).size == (3, 2)
