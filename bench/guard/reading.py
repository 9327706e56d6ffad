"""Numbers of requests, by the C that nginx uses: the windows of ngx_webtorch/features."""

import ctypes
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

import fields  # noqa: E402

ROOM = 1 << 20
WORK = 1 << 22


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

    def with_header(self, name: bytes, value: bytes) -> "Request":
        """Return the request with a header in place of all of that name."""
        kept = [each for each in self.headers if each[0].lower() != name.lower()]
        return replace(self, headers=[*kept, (name, value)])


@dataclass
class Numbers:
    """Numbers of a request, and the window of each."""

    numbers: NDArray[np.int32]
    windows: NDArray[np.int32]
    traits: NDArray[np.int32]  # [4, windows]
    names: bytes


class Reader:
    """Reads requests; one of them serves all."""

    def __init__(self, directory: Path) -> None:
        self.c = fields.build(directory, "-O2")
        self.fields = fields.Reader()
        self.windows = fields.RawWindows()
        self.work = ctypes.create_string_buffer(WORK)
        self.numbers = np.zeros(ROOM, np.int32)
        self.rows = np.zeros(ROOM, np.int32)
        self.traits, self.names = fields.RawTraits(), fields.RawNames()

    def read(self, request: Request) -> Numbers:
        found, reader = ctypes.byref(self.windows), ctypes.byref(self.fields)
        rows = (ctypes.c_void_p(each.ctypes.data) for each in (self.numbers, self.rows))
        self.c.ngx_webtorch_windows_init(found, *rows, ROOM)
        self.c.ngx_webtorch_fields_init(reader, self.c.ngx_webtorch_windows_field, found)
        path = ctypes.byref(fields.part(request.path))
        self.windows.traits = ctypes.addressof(self.traits)
        self.windows.names = ctypes.addressof(self.names)
        self.c.ngx_webtorch_traits_init(ctypes.byref(self.traits), path)
        self.c.ngx_webtorch_names_init(ctypes.byref(self.names), path)
        self.fields.work, self.fields.work_size = ctypes.addressof(self.work), WORK
        kind, encoding = request.header(b"content-type"), request.header(b"content-encoding")
        body = (kind, encoding, request.body)
        fields.feed(self.c, self.fields, request.path, request.query, request.headers, body)
        method = ctypes.byref(fields.part(request.method.encode()))
        self.c.ngx_webtorch_windows_request(found, reader, method)
        count = self.windows.count
        traits = np.ctypeslib.as_array(self.traits.windows)[: self.traits.count]
        return Numbers(
            self.numbers[:count].copy(),
            self.rows[:count].copy(),
            traits.T.copy(),
            bytes(self.names)[8 : 8 + self.names.len],
        )
