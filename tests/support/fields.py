"""The fields of a request, read by the C of ngx_webtorch/features without nginx."""

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
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
FLAWS = ("type", "syntax", "boundary", "part", "end", "twice")
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


class RawWindows(ctypes.Structure):
    _fields_ = (
        ("numbers", ctypes.c_void_p),
        ("windows", ctypes.c_void_p),
        ("size", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("nwindows", ctypes.c_uint32),
        ("nfields", ctypes.c_uint32),
        ("fields", ctypes.c_void_p),
        ("fields_size", ctypes.c_uint32),
        ("traits", ctypes.c_void_p),
        ("names", ctypes.c_void_p),
        ("spans", ctypes.c_void_p),
        ("full", ctypes.c_uint32),
        ("nhashes", ctypes.c_uint32),
        ("hashes", ctypes.c_uint32 * 32),
        ("places", ctypes.c_uint32 * 32),
        ("ntokens", ctypes.c_uint32),
        ("tokens", ctypes.c_uint32 * (24 * 13)),
    )


class RawTraits(ctypes.Structure):
    _fields_ = (
        ("address", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("current", ctypes.c_int32 * 4),
        ("windows", ctypes.c_int32 * 4 * 4096),
    )


class RawNames(ctypes.Structure):
    _fields_ = (("len", ctypes.c_size_t), ("data", ctypes.c_char * 16384))


HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(RawField))


class Reader(ctypes.Structure):
    _fields_ = (
        ("handler", HANDLER),
        ("data", ctypes.c_void_p),
        ("format", ctypes.c_void_p),
        ("work", ctypes.c_void_p),
        ("work_size", ctypes.c_size_t),
        ("unread", ctypes.c_uint32),
        ("flaws", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("numbers", ctypes.c_uint32),
        ("nested", ctypes.c_uint32),
        ("binary", ctypes.c_uint32),
        ("json_lens", ctypes.c_uint32),
        ("json_len", ctypes.c_size_t),
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
    flaws: set[str]
    unread: set[str]
    numbers: int

    def values(self) -> list[bytes]:
        return [field.value for field in self.fields]

    def named(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)


class Windows(NamedTuple):
    numbers: list[set[int]]
    fields: list[int]
    full: bool


def names_of(bits: int, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for bit, name in enumerate(names) if bits >> bit & 1)


def build(directory: Path, optimized: str = "-O1") -> ctypes.CDLL:
    path = directory / "fields.so"
    sources = sorted(FEATURES.glob("*.c"))
    flags = ["-std=gnu11", optimized, "-shared", "-fPIC", *INCLUDES]
    subprocess.run(["cc", *flags, *sources, "-lz", "-lm", "-o", path], check=True)
    return ctypes.CDLL(str(path))


def part(data: bytes) -> Part:
    return Part(data, len(data))


def feed(
    library: ctypes.CDLL,
    reader: Reader,
    path: bytes,
    query: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    body: tuple[bytes, bytes, bytes],
) -> None:
    """Let a reader read a request, whose body is its type, its encoding and its bytes."""
    library.ngx_webtorch_fields_path(ctypes.byref(reader), ctypes.byref(part(path)))
    library.ngx_webtorch_fields_query(ctypes.byref(reader), ctypes.byref(part(query)))
    for name, value in headers:
        library.ngx_webtorch_fields_header(
            ctypes.byref(reader), ctypes.byref(part(name)), ctypes.byref(part(value))
        )
    library.ngx_webtorch_fields_body(
        ctypes.byref(reader), *(ctypes.byref(part(each)) for each in body)
    )


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

    def handler(_data: object, field: Any) -> None:
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
    feed(library, reader, path, query, headers, (type, encoding, body))
    return Request(
        found,
        set(names_of(reader.flaws, FLAWS)),
        set(names_of(reader.unread, UNREAD)),
        reader.numbers,
    )


def row(
    library: ctypes.CDLL,
    method: bytes,
    target: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes = b"",
    size: int = 1 << 16,
) -> tuple[list[int], list[int]]:
    """Return the numbers of a request, and the window of each."""
    numbers, rows = ((ctypes.c_int32 * size)() for _ in range(2))
    found, reader = RawWindows(), Reader()
    memory = ctypes.create_string_buffer(WORK)
    path, _, query = target.partition(b"?")
    kinds = [value for name, value in headers if name.lower() == b"content-type"]
    library.ngx_webtorch_windows_init(ctypes.byref(found), numbers, rows, size)
    library.ngx_webtorch_fields_init(
        ctypes.byref(reader), library.ngx_webtorch_windows_field, ctypes.byref(found)
    )
    reader.work, reader.work_size = ctypes.addressof(memory), WORK
    feed(library, reader, path, query, headers, (kinds[0] if kinds else b"", b"", body))
    library.ngx_webtorch_windows_request(
        ctypes.byref(found), ctypes.byref(reader), ctypes.byref(part(method))
    )
    return numbers[: found.count], rows[: found.count]


def windows(library: ctypes.CDLL, fields: Sequence[Field], size: int = 1 << 16) -> Windows:
    """Return the windows of fields."""
    numbers, rows, owners = ((ctypes.c_int32 * size)() for _ in range(3))
    found = RawWindows()
    library.ngx_webtorch_windows_init(ctypes.byref(found), numbers, rows, size)
    found.fields, found.fields_size = ctypes.addressof(owners), size
    for field in fields:
        raw = RawField(
            PLACES.index(field.place),
            sum(1 << DECODED.index(each) for each in field.decoded),
            sum(1 << FLAGS.index(each) for each in field.flags),
            ctypes.cast(ctypes.c_char_p(field.name.encode()), ctypes.c_void_p),
            len(field.name),
            ctypes.cast(ctypes.c_char_p(field.value), ctypes.c_void_p),
            len(field.value),
        )
        library.ngx_webtorch_windows_field(ctypes.byref(found), ctypes.byref(raw))
    made: list[set[int]] = [set() for _ in range(found.nwindows)]
    for number, row in zip(numbers[: found.count], rows[: found.count], strict=True):
        made[row].add(number)
    return Windows(made, owners[: found.nwindows], bool(found.full))
