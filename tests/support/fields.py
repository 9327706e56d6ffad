"""The fields of a request, read by the C of ngx_webtorch/features without nginx."""

import ctypes
import subprocess
from pathlib import Path
from typing import NamedTuple

from nginx import ROOT

FEATURES = ROOT / "ngx_webtorch/features"
INCLUDES = [f"-I{ROOT}/ngx_webtorch/{room}" for room in ("api", "features")]

PLACES = (
    "path",
    "query",
    "cookie",
    "header",
    "form",
    "json",
    "multipart",
    "file",
    "xml",
    "graphql",
    "text",
)
DECODED = (
    "percent",
    "again",
    "unicode",
    "entity",
    "escape",
    "overlong",
    "wide",
    "utf16",
    "base64",
    "hex",
    "ascii",
)
FLAGS = ("key", "filename", "more", "opaque", "binary", "markup", "syntax", "null")
ODD = ("type", "syntax", "boundary", "part", "end", "twice")
UNREAD = ("encoding", "charset", "depth", "size")

WORK = 1 << 18


class Part(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("len", ctypes.c_size_t))


class RawField(ctypes.Structure):
    _fields_ = (
        ("place", ctypes.c_uint32),
        ("decoded", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("name", ctypes.c_void_p),
        ("name_len", ctypes.c_size_t),
        ("value", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
    )


HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(RawField))


class Reader(ctypes.Structure):
    _fields_ = (
        ("handler", HANDLER),
        ("data", ctypes.c_void_p),
        ("format", ctypes.c_void_p),
        ("work", ctypes.c_void_p),
        ("work_size", ctypes.c_size_t),
        ("unread", ctypes.c_uint32),
        ("odd", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("numbers", ctypes.c_uint32),
        ("nested", ctypes.c_uint32),
        ("name_len", ctypes.c_size_t),
        ("memory", ctypes.c_ubyte * (256 + 4 * 4096)),
    )


class Field(NamedTuple):
    place: str
    name: str
    value: bytes
    decoded: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()


class Request(NamedTuple):
    fields: list[Field]
    odd: set[str]
    unread: set[str]
    numbers: int

    def values(self) -> list[bytes]:
        return [field.value for field in self.fields]

    def named(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)


def names_of(bits: int, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for bit, name in enumerate(names) if bits >> bit & 1)


def build(directory: Path) -> ctypes.CDLL:
    path = directory / "fields.so"
    sources = sorted(FEATURES.glob("*.c"))
    flags = ["-std=gnu11", "-O1", "-shared", "-fPIC", *INCLUDES]
    subprocess.run(["cc", *flags, *sources, "-lz", "-lm", "-o", path], check=True)
    return ctypes.CDLL(str(path))


def part(data: bytes) -> Part:
    return Part(data, len(data))


def read(
    library: ctypes.CDLL,
    *,
    path: bytes = b"",
    query: bytes = b"",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    body: bytes = b"",
    type: bytes = b"",
    encoding: bytes = b"",
    work: int = WORK,
) -> Request:
    """Return all fields of a request."""
    found: list[Field] = []

    def handler(_data, field):
        raw = field.contents
        found.append(
            Field(
                PLACES[raw.place],
                ctypes.string_at(raw.name, raw.name_len).decode("latin-1"),
                ctypes.string_at(raw.value, raw.len),
                names_of(raw.decoded, DECODED),
                names_of(raw.flags, FLAGS),
            )
        )

    reader, callback = Reader(), HANDLER(handler)
    library.ngx_webtorch_fields_init(ctypes.byref(reader), callback, None)
    memory = ctypes.create_string_buffer(max(work, 1))
    reader.work = ctypes.addressof(memory)
    reader.work_size = work
    library.ngx_webtorch_fields_path(ctypes.byref(reader), ctypes.byref(part(path)))
    library.ngx_webtorch_fields_query(ctypes.byref(reader), ctypes.byref(part(query)))
    for name, value in headers:
        library.ngx_webtorch_fields_header(
            ctypes.byref(reader), ctypes.byref(part(name)), ctypes.byref(part(value))
        )
    library.ngx_webtorch_fields_body(
        ctypes.byref(reader), *(ctypes.byref(part(each)) for each in (type, encoding, body))
    )
    return Request(
        found,
        set(names_of(reader.odd, ODD)),
        set(names_of(reader.unread, UNREAD)),
        reader.numbers,
    )
