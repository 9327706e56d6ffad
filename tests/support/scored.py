"""Requests as C scores them by the net of a model, without nginx."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import fields
from webtorch._features.field_nets import FieldNet

ROOM = 1 << 21
MEMO = 1 << 23
MARKS = 1 << 17
KIND = 8


class RawNet(ctypes.Structure):
    _fields_ = (
        ("nknown", ctypes.c_uint32),
        ("hidden", ctypes.c_uint32),
        ("outputs", ctypes.c_uint32),
        ("shift", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("known", "table", "bias")),
        *((name, ctypes.c_void_p) for name in ("weight", "out_bias", "kinds")),
    )


class RawLearned(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("nfields", "nlocations", "nmarks")),
        *((name, ctypes.c_void_p) for name in ("fields", "counts", "locations")),
        *((name, ctypes.c_void_p) for name in ("scores", "marks", "verdicts")),
        *((name, ctypes.c_void_p) for name in ("holders", "levels")),
    )


class RawList(ctypes.Structure):
    _fields_ = (
        ("shift", ctypes.c_float),
        ("address", ctypes.c_uint32),
        ("nwindows", ctypes.c_uint32),
        ("windows", ctypes.c_void_p),
    )


class RawSite(ctypes.Structure):
    _fields_ = (
        ("learned", ctypes.c_void_p),
        ("marks", ctypes.c_void_p),
        ("location", ctypes.c_int64),
        ("target", ctypes.c_float),
    )


class RawResult(ctypes.Structure):
    _fields_ = (
        ("score", ctypes.c_double),
        ("window", ctypes.c_uint32),
        ("kind", ctypes.c_char * KIND),
    )


class RawHeader(ctypes.Structure):
    _fields_ = (("name", fields.Part), ("value", fields.Part))


class RawScored(ctypes.Structure):
    """Its beginning."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("net", "memo", "fields")),
        ("found", RawList),
        ("nnumbers", ctypes.c_uint32),
        ("full", ctypes.c_uint32),
        ("rest", ctypes.c_ubyte * ROOM),
    )


@dataclass
class Request:
    """A request as a client sends it."""

    target: bytes = b"/"
    method: bytes = b"GET"
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""

    @property
    def type(self) -> bytes:
        return next((value for name, value in self.headers if name.lower() == b"content-type"), b"")


@dataclass
class Result:
    """What C has found."""

    score: float
    window: int
    kind: str
    logits: NDArray[np.float32]
    prints: NDArray[np.int64]
    traits: NDArray[np.int32]

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features logits, prints and traits, of a batch of one."""
        each = (self.logits, self.prints, self.traits)
        return tuple(torch.from_numpy(one)[None] for one in each)  # type: ignore[return-value]


class Scorer:
    """Scores requests; what it has read is in its memo."""

    def __init__(self, library: ctypes.CDLL, net: FieldNet) -> None:
        self.c = library
        for name in ("net_size", "net_init", "memo_find"):
            getattr(library, f"ngx_webtorch_{name}").restype = ctypes.c_void_p
        self._kept: list[Any] = []
        self.memo = ctypes.create_string_buffer(MEMO)
        library.ngx_webtorch_memo_init(self.memo, ctypes.c_uint64(0x1234567890ABCDEF))
        self.scored, self.fields = RawScored(), fields.Reader()
        self.work = ctypes.create_string_buffer(fields.WORK)
        raw = self._raw_net(net)
        size = library.ngx_webtorch_net_size(ctypes.byref(raw))
        memory = ctypes.create_string_buffer((size or 0) + 64)
        self._kept.append(memory)
        aligned = ctypes.c_void_p((ctypes.addressof(memory) + 63) & ~63)
        self.net = library.ngx_webtorch_net_init(aligned, ctypes.byref(raw)) if size else None
        self.learned = self._raw_learned(net)
        self.marks = ctypes.create_string_buffer(MARKS)

    def _pointer(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _raw_net(self, net: FieldNet) -> RawNet:
        kinds = ctypes.create_string_buffer(
            b"".join(each.encode().ljust(KIND, b"\0") for each in net.kinds)
        )
        self._kept.append(kinds)
        floats = (net.table, net.bias, net.weight, net.out_bias)
        return RawNet(
            len(net.known),
            len(net.bias),
            len(net.out_bias),
            float(net.shift),
            self._pointer(net.known.int()),
            *(self._pointer(each.detach()) for each in floats),
            ctypes.addressof(kinds),
        )

    def _raw_learned(self, net: FieldNet) -> RawLearned | None:
        tables = net.tables
        if tables is None:
            return None
        return RawLearned(
            *(len(each) for each in (tables.fields, tables.locations, tables.marks)),
            *(self._pointer(each) for each in vars(tables).values()),
        )

    def read(self, request: Request) -> bool:
        """Read a request; return whether there was room for it."""
        scored, part = ctypes.byref(self.scored), fields.part
        self.c.ngx_webtorch_scored_init(
            scored, ctypes.c_void_p(self.net), self.memo, ctypes.byref(self.fields)
        )
        self.fields.work, self.fields.work_size = ctypes.addressof(self.work), fields.WORK
        path, _, query = request.target.partition(b"?")
        self.c.ngx_webtorch_scored_path(scored, ctypes.byref(part(path)))
        self.c.ngx_webtorch_scored_query(scored, ctypes.byref(part(query)))
        n = len(request.headers)
        headers = (RawHeader * n)(
            *(RawHeader(part(name), part(value)) for name, value in request.headers)
        )
        self.c.ngx_webtorch_scored_headers(scored, headers, n)
        body = (ctypes.byref(part(request.type)), ctypes.byref(part(request.body)))
        self.c.ngx_webtorch_scored_body(scored, *body)
        self.c.ngx_webtorch_scored_request(scored, ctypes.byref(part(request.method)))
        return not self.scored.full

    def score(self, request: Request, location: int = 0, target: float = 0.0) -> Result:
        """Return what C finds."""
        assert self.read(request)
        found, result = ctypes.byref(self.scored.found), RawResult()
        site = RawSite(None, None, location, target)
        if self.learned:
            site.learned = ctypes.addressof(self.learned)
            if self.c.ngx_webtorch_learned_read_marks(ctypes.byref(self.learned), self.marks):
                site.marks = ctypes.addressof(self.marks)
        self.c.ngx_webtorch_scored_result(
            ctypes.c_void_p(self.net), found, ctypes.byref(site), ctypes.byref(result)
        )
        n = self.c.ngx_webtorch_scored_size(found)
        logits, prints = np.zeros(n, np.float32), np.zeros(n, np.int64)
        traits = np.zeros((4, n), np.int32)
        for name, row in (("logits", logits), ("prints", prints), ("scored_traits", traits)):
            write = getattr(self.c, f"ngx_webtorch_features_{name}")
            write(ctypes.c_void_p(row.ctypes.data), n, found)
        return Result(result.score, result.window, result.kind.decode(), logits, prints, traits)
