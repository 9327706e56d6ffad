"""Nets that C evaluates itself, as copies of models that may be trained meanwhile."""

import contextlib
import logging
import threading
import zlib
from typing import Any

import torch
from torch import Tensor

from webtorch._core.process import is_check
from webtorch._features.field_nets import FieldNet, FieldTables, HasNet
from webtorch._models.model import Model
from webtorch._native import ffi, lib
from webtorch._schema.schema import SignatureError

log = logging.getLogger("webtorch")

POLL = 0.25
"""Seconds between polls for changes of the models."""


class _Native:
    """The net of a model, in C.

    Args:
        number: Its number.
        runner: Of a handler that names the model, which code that is reloaded replaces.

    """

    def __init__(self, number: int, runner: Any) -> None:
        self.number = number
        self._runner = runner
        self._stamp: tuple[Any, ...] | None = None
        self._refused: object = None  # the stamp of what C cannot use
        self._digest: object = None
        self._forgotten = 0  # how often `forget` was called
        self._kept: object = None  # tensors whose memory C uses

    @property
    def source(self) -> Any:
        """The model."""
        return self._runner.handler.native

    def set(self) -> bool:
        """Let C use the model as it is now; return whether it does.

        Raises:
            MemoryError: There is no memory for it.
            ValueError: C cannot use it; as long as it is as it is, that is not raised again.

        """
        forgotten = self._forgotten
        source = self.source
        net = net_of(source)
        stamp = _stamp(source, net)
        if stamp == self._stamp:
            return True
        if stamp == self._refused:
            return False
        # first: others forget what is not in C yet, too; C may read what it has until then
        self._stamp, self._refused, self._kept = stamp, None, (self._kept, net.tables)
        try:
            self._write(net)
        except ValueError:
            self._refused = stamp
            raise
        self._kept = net.tables
        if self._forgotten != forgotten:
            # the tables may be where they were before they moved
            self.forget()
        return True

    def _write(self, net: FieldNet) -> None:
        """Let C use tables, and weights if they are others than those that it has."""
        digest = _digest(net)
        learned = ffi.NULL if net.tables is None else _write_tables(net.tables)
        code: int = lib.WEBTORCH_NATIVE_MISSING
        if digest == self._digest:
            code = lib.ngx_webtorch_native_set(self.number, ffi.NULL, learned)
        if code == lib.WEBTORCH_NATIVE_MISSING:
            copy = _write_net(net)
            code = lib.ngx_webtorch_native_set(self.number, copy[0], learned)
        if code == lib.WEBTORCH_NATIVE_NO_MEMORY:
            raise MemoryError("there is no memory for a net")
        if code != lib.WEBTORCH_NATIVE_SET:
            raise ValueError("it is too large, or its numbers are not increasing from 1 on")
        self._digest = digest

    def has_moved(self) -> bool:
        """Return whether tensors are in other memory than C uses."""
        stamp = self._stamp
        return stamp is not None and _places(net_of(self.source)) != stamp[1]

    def forget(self) -> None:
        """Let C use neither the net nor the tables, until they are set again; in any thread."""
        self._forgotten += 1
        lib.ngx_webtorch_native_clear(self.number)
        self._stamp = self._kept = None


class Natives:
    """All nets of this worker."""

    def __init__(self) -> None:
        self._natives: list[_Native] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._failed: set[int] = set()

    def add(self, index: int, runner: Any) -> None:
        """Note the handler of a number, before requests are taken.

        Raises:
            SignatureError: Its `native` is nothing that C can evaluate.

        """
        source = getattr(runner.handler, "native", None)
        if source is None:
            return
        net_of(source)
        if is_check():
            return
        native = next((each for each in self._natives if each.source is source), None)
        if native is None:
            native = _Native(len(self._natives), runner)
        if lib.ngx_webtorch_native_use(index, native.number) != 0:
            log.error("too many nets or handlers: C does not score requests of %s", runner.name)
        elif native not in self._natives:
            self._natives.append(native)

    def start(self) -> None:
        """Set all nets, and follow their changes in a thread."""
        if self._natives:
            self.refresh()
            self._thread = threading.Thread(target=self._run, name="webtorch nets", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        if self._thread:
            self._stopping = True
            self._wake.set()
            self._thread.join()

    def refresh(self) -> None:
        """Let C use all models as they are now; log those that it cannot use."""
        with self._lock:
            for native in self._natives:
                try:
                    if native.set():
                        self._failed.discard(native.number)
                except Exception as error:
                    native.forget()
                    if native.number not in self._failed:
                        self._failed.add(native.number)
                        log.error("a net is not evaluated by C", exc_info=error)

    def check_moved(self) -> None:
        """Let C use no memory that models leave; called before that may become another's."""
        # without the lock: a thread that sets tables meanwhile sees that they were to be forgotten
        for native in self._natives:
            with contextlib.suppress(Exception):
                if native.has_moved():
                    native.forget()
                    self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(POLL)
            self._wake.clear()
            if not self._stopping:
                self.refresh()


natives = Natives()


def net_of(source: Any) -> FieldNet:
    """Return the net of a model, or of its module.

    Raises:
        SignatureError: It has none.

    """
    module = source.module if isinstance(source, Model) else source
    if not isinstance(module, HasNet):
        raise SignatureError(
            f'"native=" is a {type(module).__name__}, which is not a model that C can evaluate'
        )
    return module.net()


def _tensors(net: FieldNet) -> tuple[Tensor, ...]:
    tables = net.tables
    return (*net.weights, *(vars(tables).values() if tables else ()))


def _places(net: FieldNet) -> tuple[int, ...]:
    return tuple(each.data_ptr() for each in _tensors(net))


def _stamp(source: Any, net: FieldNet) -> tuple[Any, ...]:
    """Return what differs if the weights have changed, or are elsewhere."""
    revision = source.revision if isinstance(source, Model) else None
    return revision, _places(net), tuple(each._version for each in net.weights)


def _digest(net: FieldNet) -> tuple[int, ...]:
    """Return a hash of the weights."""
    return tuple(zlib.crc32(_flat(each).view(torch.uint8).numpy().data) for each in net.weights)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1)


def _write_net(net: FieldNet) -> tuple[Any, list[Tensor]]:
    """Return a webtorch_net_t, and what must be kept while it is used."""
    hidden, outputs = len(net.bias), len(net.out_bias)
    shapes = (
        (net.table, (len(net.known) + 1, 1 + hidden)),
        (net.weight, (outputs, hidden)),
        (net.out_bias, (1 + len(net.kinds),)),
    )
    if any(tensor.shape != shape for tensor, shape in shapes):
        raise ValueError("the shapes of the net's tensors do not fit together")
    known, *floats = (_flat(each) for each in net.weights)
    table, bias, weight, out_bias, shift = (each.float() for each in floats)
    kinds = b"".join(each.encode().ljust(lib.WEBTORCH_KIND_LEN, b"\0") for each in net.kinds)
    kept = [known.int(), table, bias, weight, out_bias]
    struct = ffi.new("webtorch_net_t *")
    struct.nknown, struct.hidden, struct.outputs = len(known), hidden, outputs
    struct.shift = float(shift)
    struct.known = _pointer("int32_t", kept[0])
    struct.table, struct.bias = _pointer("float", table), _pointer("float", bias)
    struct.weight, struct.out_bias = _pointer("float", weight), _pointer("float", out_bias)
    names = ffi.new("char[]", kinds)
    struct.kinds = names
    return struct, [*kept, names]


def _write_tables(tables: FieldTables) -> Any:
    """Return a webtorch_learned_t, which has the addresses of the tensors."""
    wanted = (
        (tables.fields, torch.int64, ()),
        (tables.counts, torch.float32, (lib.WEBTORCH_COUNTS,)),
        (tables.locations, torch.int64, ()),
        (tables.scores, torch.float32, (1 + lib.WEBTORCH_BINS,)),
        (tables.marks, torch.int64, ()),
        (tables.verdicts, torch.int8, ()),
        (tables.holders, torch.int64, ()),
        (tables.levels, torch.float32, ()),
    )
    for tensor, dtype, shape in wanted:
        if tensor.dtype is not dtype or tensor.shape[1:] != shape or not tensor.is_cpu:
            raise ValueError("a table of the site has another dtype, shape or device")
        if not tensor.is_contiguous() or len(tensor).bit_count() != 1:
            raise ValueError("a table of the site has another size than a power of two")
    together = (
        (tables.fields, tables.counts),
        (tables.locations, tables.scores),
        (tables.marks, tables.verdicts, tables.holders, tables.levels),
    )
    if any(len({len(each) for each in some}) != 1 for some in together):
        raise ValueError("tables of the site have other sizes than those of their keys")
    struct = ffi.new("webtorch_learned_t *")
    struct.nfields, struct.nlocations = len(tables.fields), len(tables.locations)
    struct.nmarks = len(tables.marks)
    struct.fields, struct.counts = _long(tables.fields), _pointer("float", tables.counts)
    struct.locations, struct.scores = _long(tables.locations), _pointer("float", tables.scores)
    struct.marks, struct.verdicts = _long(tables.marks), _pointer("int8_t", tables.verdicts)
    struct.holders, struct.levels = _long(tables.holders), _pointer("float", tables.levels)
    return struct


def _long(tensor: Tensor) -> Any:
    return _pointer("int64_t", tensor)


def _pointer(kind: str, tensor: Tensor) -> Any:
    return ffi.cast(f"{kind} *", tensor.data_ptr())
