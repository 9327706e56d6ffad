"""Numbers of requests, by the C that nginx uses: the windows of ngx_webtorch/features."""

import ctypes
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "ngx_webtorch/features"
ROOM = 1 << 20
WORK = 1 << 22
FIELDS_SIZE = 1 << 16  # more than the structure of C has
WINDOWS_SIZE = 1 << 13


@dataclass
class Request:
    """A request as a client sends it."""

    method: str = "GET"
    path: bytes = b"/"
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name), b"")


@dataclass
class Numbers:
    """Numbers of a request, the window of each, and the field of each window."""

    numbers: NDArray[np.int32]
    windows: NDArray[np.int32]
    fields: NDArray[np.int32]


class Part(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("len", ctypes.c_size_t))


class FieldsHead(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("format", ctypes.c_void_p),
        ("work", ctypes.c_void_p),
        ("work_size", ctypes.c_size_t),
    )


class WindowsHead(ctypes.Structure):
    _fields_ = (
        ("numbers", ctypes.c_void_p),
        ("windows", ctypes.c_void_p),
        ("size", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("nwindows", ctypes.c_uint32),
        ("nfields", ctypes.c_uint32),
        ("fields", ctypes.c_void_p),
        ("fields_size", ctypes.c_uint32),
        ("full", ctypes.c_uint32),
    )


class Reader:
    """Reads requests; one of them serves all."""

    def __init__(self, directory: Path) -> None:
        path = directory / "features.so"
        subprocess.run(
            [
                *("cc", "-std=gnu11", "-O2", "-shared", "-fPIC"),
                *(f"-I{ROOT}/ngx_webtorch/{room}" for room in ("api", "features")),
                *sorted(SOURCES.glob("*.c")),
                *("-lz", "-lm", "-o", path),
            ],
            check=True,
        )
        self.c = ctypes.CDLL(str(path))
        self.fields = ctypes.create_string_buffer(FIELDS_SIZE)
        self.windows = ctypes.create_string_buffer(WINDOWS_SIZE)
        self.work = ctypes.create_string_buffer(WORK)
        self.numbers = np.zeros(ROOM, np.int32)
        self.rows = np.zeros(ROOM, np.int32)
        self.owners = np.zeros(ROOM, np.int32)

    def read(self, request: Request) -> Numbers:
        windows = WindowsHead.from_buffer(self.windows)
        fields = FieldsHead.from_buffer(self.fields)
        self.c.ngx_webtorch_windows_init(
            self.windows,
            ctypes.c_void_p(self.numbers.ctypes.data),
            ctypes.c_void_p(self.rows.ctypes.data),
            ROOM,
        )
        windows.fields, windows.fields_size = self.owners.ctypes.data, ROOM
        self.c.ngx_webtorch_fields_init(
            self.fields, self.c.ngx_webtorch_windows_field, self.windows
        )
        fields.work, fields.work_size = ctypes.addressof(self.work), WORK
        self.c.ngx_webtorch_fields_path(self.fields, part(request.path))
        self.c.ngx_webtorch_fields_query(self.fields, part(request.query))
        for name, value in request.headers:
            self.c.ngx_webtorch_fields_header(self.fields, part(name), part(value))
        self.c.ngx_webtorch_fields_body(
            self.fields,
            part(request.header(b"content-type")),
            part(request.header(b"content-encoding")),
            part(request.body),
        )
        self.c.ngx_webtorch_windows_request(
            self.windows, self.fields, part(request.method.encode())
        )
        return Numbers(
            self.numbers[: windows.count].copy(),
            self.rows[: windows.count].copy(),
            self.owners[: windows.nwindows].copy(),
        )


def part(data: bytes) -> object:
    return ctypes.byref(Part(data, len(data)))
