"""The reader of forms: what clients send, and what is refused with the part's number and name."""

import ctypes
import subprocess
from typing import NamedTuple

import httpx
import pytest

from nginx import ROOT

BOUNDARY = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"
SOURCES = [
    ROOT / f"ngx_webtorch/tensor/ngx_webtorch_{name}.c"
    for name in ("dtype", "error", "form", "multipart", "parameter", "part", "tensor")
]
HEADER = b"Content-Disposition: form-data; name=a"
INCLUDES = [f"-I{ROOT}/ngx_webtorch/{room}" for room in ("api", "tensor")]


class Span(ctypes.Structure):
    _fields_ = (("at", ctypes.c_uint64), ("len", ctypes.c_uint64), ("coding", ctypes.c_int32))


class Part(ctypes.Structure):
    _fields_ = (
        *((name, Span) for name in ("name", "filename", "content_type", "headers", "data")),
        ("is_file", ctypes.c_int32),
    )


class Form(ctypes.Structure):
    _fields_ = (
        ("body", ctypes.c_char_p),
        ("len", ctypes.c_uint64),
        ("at", ctypes.c_uint64),
        ("nparts", ctypes.c_uint32),
        ("max_parts", ctypes.c_uint32),
        ("last", ctypes.c_uint32),
        ("boundary_len", ctypes.c_uint32),
        ("boundary", ctypes.c_char * 74),
        ("charset", Span),
        ("status", ctypes.c_int32),
        ("code", ctypes.c_char_p),
        ("message", ctypes.c_char * 512),
    )


class Read(NamedTuple):
    name: bytes
    filename: bytes | None
    content_type: bytes
    data: bytes


class FormError(Exception):
    def __init__(self, form: Form) -> None:
        super().__init__(form.message.decode())
        self.status, self.code = form.status, (form.code or b"").decode()


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("multipart") / "multipart.so"
    subprocess.run(
        ["cc", "-std=gnu11", "-O1", "-shared", "-fPIC", *INCLUDES, *SOURCES, "-o", path], check=True
    )
    library = ctypes.CDLL(str(path))
    library.ngx_webtorch_form_decode.restype = ctypes.c_size_t
    return library


def read(library, content_type: bytes, body: bytes, chunk: int = 7) -> tuple[list[Read], bytes]:
    """Read a form; return its parts and its field `_charset_`."""
    form = Form()
    size = ctypes.c_size_t
    if library.ngx_webtorch_form_open(
        ctypes.byref(form), content_type, size(len(content_type)), body, size(len(body))
    ):
        raise FormError(form)

    def text(span: Span) -> bytes:
        buffer = ctypes.create_string_buffer(span.len + 1)
        length = library.ngx_webtorch_form_decode(ctypes.byref(form), ctypes.byref(span), buffer)
        return buffer.raw[:length]

    parts = (Part * chunk)()
    found: list[Read] = []
    n = chunk
    while n == chunk:
        n = library.ngx_webtorch_form_read(ctypes.byref(form), parts, chunk)
        if n < 0:
            raise FormError(form)
        found.extend(
            Read(
                text(part.name),
                text(part.filename) if part.is_file else None,
                text(part.content_type),
                text(part.data),
            )
            for part in parts[:n]
        )
    return found, text(form.charset)


def form(*parts: tuple[bytes, bytes], boundary: bytes = BOUNDARY, end: bytes = b"--\r\n") -> bytes:
    """A body of parts, each with its header lines and its data."""
    lines = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, *part) for part in parts)
    return lines + b"--" + boundary + end


def typed(boundary: bytes = BOUNDARY) -> bytes:
    return b"multipart/form-data; boundary=" + boundary


def field(parameters: bytes, *more: bytes) -> bytes:
    return b"\r\n".join((b"Content-Disposition: form-data; " + parameters, *more))


def read_one(library, parameters: bytes, data: bytes = b"1") -> Read:
    ((part,), _) = read(library, typed(), form((field(parameters), data)))
    return part


def test_browser_form(library):
    body = form(
        (field(b'name="note"'), b"two\r\nlines"),
        (field(b'name="file"; filename="a.jpg"', b"Content-Type: image/jpeg"), b"\xff\xd8\r\n\0--"),
        (field(b'name="none"; filename=""', b"Content-Type: application/octet-stream"), b""),
    )
    found, charset = read(library, typed(), body)
    assert found == [
        Read(b"note", None, b"", b"two\r\nlines"),
        Read(b"file", b"a.jpg", b"image/jpeg", b"\xff\xd8\r\n\0--"),
        Read(b"none", b"", b"application/octet-stream", b""),
    ]
    assert charset == b""


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 1000])
def test_number_of_parts(library, count):
    body = form(*((field(b"name=%d" % i), b"%d" % i) for i in range(count)))
    found, _ = read(library, typed(), body)
    assert [(part.name, part.data) for part in found] == [(b"%d" % i,) * 2 for i in range(count)]


def test_httpx_form(library):
    files = {
        "file": ('naïve "1" \\ %.txt', b"\0" * 5000, "text/plain"),
        "other": ("b", b"", "image/png"),
    }
    request = httpx.Request("POST", "http://x/", data={"a": "1", "b": ["2", "3"]}, files=files)
    found, _ = read(library, request.headers["Content-Type"].encode(), request.read())
    assert found == [
        Read(b"a", None, b"", b"1"),
        Read(b"b", None, b"", b"2"),
        Read(b"b", None, b"", b"3"),
        Read(b"file", 'naïve "1" \\ %.txt'.encode(), b"text/plain", b"\0" * 5000),
        Read(b"other", b"b", b"image/png", b""),
    ]


FILENAMES = {
    "plain": (b'filename="a.jpg"', b"a.jpg"),
    "token": (b"filename=a.jpg", b"a.jpg"),
    "spaces": (b'filename = "a.jpg" ', b"a.jpg"),
    "semicolon": (b'filename="a;b=c.jpg"', b"a;b=c.jpg"),
    "quote_of_browsers": (b'filename="a%22b%0D%0A.jpg"', b'a"b\r\n.jpg'),
    "percent": (b'filename="100%25 %2F %"', b"100%25 %2F %"),
    "quote_of_curl": (b'filename="a\\"b\\\\c"', b'a"b\\c'),
    "quote_at_the_end": (b'filename="a\\"b\\""', b'a"b"'),
    "path_of_windows": (b'filename="C:\\dir\\a.jpg"', b"C:\\dir\\a.jpg"),
    "backslash_at_the_end": (b'filename="a\\"', b"a\\"),
    "utf8": ('filename="ä€.jpg"'.encode(), "ä€.jpg".encode()),
    "latin1": (b'filename="\xe4"', b"\xe4"),
    "empty": (b'filename=""', b""),
    "extended": (b"filename*=UTF-8''a%20%e2%82%ac%22", 'a €"'.encode()),
    "extended_latin1": (b"filename*=iso-8859-1'en'%a3%41x", "£Ax".encode()),
    "both": (b"filename=a; filename*=utf-8''b", b"b"),
    "both_in_the_other_order": (b"filename*=utf-8''b; filename=a", b"b"),
    "other_parameters": (b'filename=a; size=3; x="y"', b"a"),
}


@pytest.mark.parametrize("name", FILENAMES)
def test_filename(library, name):
    written, expected = FILENAMES[name]
    assert read_one(library, b'name="f"; ' + written).filename == expected
    if name != "backslash_at_the_end":  # nothing but spaces follow that quote
        assert read_one(library, written + b';name="f";').filename == expected


def test_name_is_decoded(library):
    assert read_one(library, b'name="a%22[]\\\\"').name == b'a"[]\\'


def test_charset_field(library):
    body = form((field(b'name="_charset_"'), b"iso-8859-1"), (field(b"name=a"), b"\xe4"))
    found, charset = read(library, typed(), body)
    assert charset == b"iso-8859-1"
    assert len(found) == 2


@pytest.mark.parametrize(
    "content_type",
    [
        b'multipart/form-data; boundary="a =b"',
        b'Multipart/Form-Data;charset=utf-8 ; BOUNDARY = "a =b" ;',
    ],
)
def test_boundary_in_quotes(library, content_type):
    found, _ = read(library, content_type, form((field(b"name=a"), b"1"), boundary=b"a =b"))
    assert found == [Read(b"a", None, b"", b"1")]


@pytest.mark.parametrize("boundary", [b"x", b"----=_Part_1.2:3", b"x" * 70, b"'()+_,-./:=?"])
def test_boundary_without_quotes(library, boundary):
    body = form((field(b"name=a"), b"\r\n--" + boundary[:-1]), boundary=boundary)
    found, _ = read(library, typed(boundary), body)
    assert found == [Read(b"a", None, b"", b"\r\n--" + boundary[:-1])]


def test_preamble_epilogue_and_padding(library):
    body = b"for old readers\r\n--x \t\r\n" + HEADER + b"\r\n\r\n1\r\n--x-- \r\n.."
    assert read(library, typed(b"x"), body)[0] == [Read(b"a", None, b"", b"1")]


def test_empty_line_is_the_one_of_the_boundary(library):
    body = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n--x--"
    assert read(library, typed(b"x"), body)[0] == [Read(b"a", None, b"", b"")]


MALFORMED = {
    "no_boundary": (b"multipart/form-data", b"", "needs a boundary"),
    "empty_boundary": (typed(b'""'), b"", "boundary in the header"),
    "long_boundary": (typed(b"x" * 71), b"", "boundary in the header"),
    "two_boundaries": (typed(b"x; boundary=y"), b"", "boundary in the header"),
    "boundary_with_control_character": (typed(b'"\x01"'), b"", "boundary in the header"),
    "boundary_ends_with_a_space": (typed(b'"x "'), b"", "boundary in the header"),
    "open_quote": (typed(b'"x'), b"", "boundary in the header"),
    "empty": (typed(b"x"), b"", "does not have the boundary"),
    "other_boundary": (typed(b"x"), form((HEADER, b"1")), "does not have the boundary"),
    "newlines": (typed(b"x"), b"--x\n" + HEADER + b"\n\n1\n--x--", "does not end with CR LF"),
    "no_last_boundary": (
        typed(b"x"),
        b"--x\r\n" + HEADER + b"\r\n\r\n1",
        'part 1 of the form, "a": ',
    ),
    "last_boundary_cut": (
        typed(b"x"),
        form((HEADER, b"1"), boundary=b"x", end=b"-"),
        "after 0 parts of the form",
    ),
    "text_behind_a_boundary": (
        typed(b"x"),
        form((HEADER, b"1\r\n--xy"), boundary=b"x"),
        "does not end with CR LF",
    ),
    "text_behind_the_last_boundary": (
        typed(b"x"),
        form((HEADER, b"1"), boundary=b"x", end=b"--y"),
        "does not end with CR LF",
    ),
    "headers_cut": (typed(b"x"), b"--x\r\n" + HEADER, "header lines are cut off"),
    "no_empty_line": (typed(b"x"), b"--x\r\n" + HEADER + b"\r\n--x--\r\n", "no empty line"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_form(library, name):
    content_type, body, message = MALFORMED[name]
    with pytest.raises(FormError, match=message) as error:
        read(library, content_type, body)
    assert (error.value.status, error.value.code) == (400, "malformed_body")


BAD_HEADERS = {
    "none": (b"X: y", "no header Content-Disposition"),
    "attachment": (b"Content-Disposition: attachment; name=a", "is not form-data"),
    "no_name": (b"Content-Disposition: form-data; filename=a", "it has no name"),
    "two_names": (field(b"name=a; name=b"), "two names"),
    "two_filenames": (field(b"name=a; filename=a; filename=b"), "two filenames"),
    "two_extended": (field(b"name=a; filename*=utf-8''a; filename*=utf-8''b"), "two filenames"),
    "two_dispositions": (HEADER + b"\r\n" + HEADER, "two headers Content-Disposition"),
    "two_types": (HEADER + b"\r\nContent-Type: a/b" * 2, "two headers Content-Type"),
    "open_quote": (field(b'name="a'), "Content-Disposition is malformed"),
    "text_behind_quotes": (field(b'name="a" b'), "Content-Disposition is malformed"),
    "no_value": (field(b"name"), "Content-Disposition is malformed"),
    "control_character": (field(b'name="a\0b"'), "control character"),
    "newline": (field(b'name="a\nb"'), "control character"),
    "folded": (field(b"name=a;\r\n filename=b"), "a header line is malformed"),
    "no_colon": (HEADER + b"\r\nX", "a header line is malformed"),
    "space_before_colon": (HEADER + b"\r\nX : y", "a header line is malformed"),
    "base64": (HEADER + b"\r\nContent-Transfer-Encoding: base64", "Content-Transfer-Encoding"),
    "extended_without_charset": (field(b"name=a; filename*=a"), r"filename\* is malformed"),
    "extended_in_another_charset": (field(b"name=a; filename*=koi8-r''a"), "not UTF-8 or"),
    "extended_percent": (field(b"name=a; filename*=utf-8''%4"), r"filename\* is malformed"),
    "extended_digits": (field(b"name=a; filename*=utf-8''%4g"), r"filename\* is malformed"),
    "long_name": (field(b'name="' + b"a" * 2**20 + b'"'), "more than 8192 bytes"),
    "many_lines": (HEADER + b"\r\nX: y" * 2000, "more than 8192 bytes"),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_malformed_header_of_a_part(library, name):
    header, message = BAD_HEADERS[name]
    body = form((field(b"name=first"), b"1"), (header, b"2"))
    with pytest.raises(FormError, match=message) as error:
        read(library, typed(), body)
    assert (error.value.status, error.value.code) == (400, "malformed_body")
    assert str(error.value).startswith("part 2 of the form")


def test_every_truncation_is_refused(library):
    body = form((HEADER, b"1\r\n"), (field(b'name="b"; filename="c"'), b"\r\n--\r\n"), end=b"--")
    for length in range(len(body)):
        with pytest.raises(FormError):
            read(library, typed(), body[:length])
    assert len(read(library, typed(), body)[0]) == 2


def test_too_many_parts(library):
    body = form(*((HEADER, b"1"),) * 1001)
    with pytest.raises(FormError, match="more than 1000 parts") as error:
        read(library, typed(), body)
    assert (error.value.status, error.value.code) == (413, "too_many_parts")


def test_other_content_type_is_not_a_form(library):
    for content_type in (b"", b"multipart/form", b"multipart/form-datax", b"multipart/mixed"):
        with pytest.raises(FormError) as error:
            read(library, content_type, b"")
        assert (error.value.status, error.value.code) == (415, "unsupported_media_type")
