"""The native side of the bridge without nginx: C's formats, and Python in place of the rest.

Importing this module makes it `webtorch._native`, which `_worker` imports.
"""

import sys
import types
from pathlib import Path
from typing import Any

import cffi

from webtorch.cli._bundled import library
from webtorch.cli._nginx import MODULES

FORMATS = "libwebtorch_formats.so"

ffi = cffi.FFI()
ffi.cdef(Path(__file__).with_name("declarations.h").read_text())


class Answer:
    """What a function has answered a job with.

    Attributes:
        status: Status of HTTP; 0: there is no answer yet.
        failure: The error for the client, as message, code, detail and headers; None: none.
        headers: Names and values.
        content_type: Empty: by the tensor's format, or by the file's name.
        body: Bytes; None if the answer is a tensor, a file or a redirect.
        file: The file whose content is the body; None: none.
        redirect: Path of the location that answers; empty: none.
        tensor: The tensor, a webtorch_reply_t; None: none.
        keep: Memory that the tensor points to.
        items: What a generator has yielded.
        more: Whether other items may follow.

    """

    def __init__(self) -> None:
        self.status = 0
        self.failure: tuple[str, str, bytes] | None = None
        self.headers: list[tuple[str, str]] = []
        self.content_type = ""
        self.body: bytes | None = None
        self.file: Path | None = None
        self.redirect = ""
        self.tensor: Any = None
        self.keep: list[Any] = []
        self.items: list[bytes] = []
        self.more = False


class Native:
    """The functions of C that Python calls: those of formats are C's, others are here.

    Args:
        formats: The library of formats.

    """

    def __init__(self, formats: Any) -> None:
        self._formats = formats
        self.answers: dict[int, Answer] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._formats, name)

    def take(self, job: Any) -> Answer:
        """Return the answer of a job, which is forgotten."""
        return self.answers.pop(_address(job), Answer())

    def _answer(self, job: Any) -> Answer:
        return self.answers.setdefault(_address(job), Answer())

    # --- what C implements in nginx ---

    def ngx_webtorch_log(self, level: int, text: Any, size: int) -> None:
        """Write a line of the error log to standard error."""
        line = ffi.buffer(ffi.from_buffer(text), size)[:].decode(errors="replace")
        print(line, file=sys.stderr)

    def ngx_webtorch_job_fail(self, job: Any, status: int, failure: Any) -> None:
        """Let a job fail."""
        job.status = status
        answer = self._answer(job)
        answer.status = status
        if failure != ffi.NULL:
            answer.failure = _text(failure.message), _text(failure.code), _bytes(failure.detail)
            answer.headers = _headers(failure)

    def ngx_webtorch_job_reply(self, job: Any, reply: Any) -> int:
        """Answer a job."""
        answer = self._answer(job)
        answer.status = reply.status
        answer.content_type = _text(reply.content_type)
        answer.headers = _headers(reply)
        answer.more = bool(reply.more)
        if reply.redirect.len:
            answer.redirect = _text(reply.redirect)
        elif reply.tensor.ndim >= 0:
            # a copy, as the tensor's memory is not ours
            copied = ffi.new("webtorch_reply_t *", reply[0])
            memory = ffi.new("char[]", max(1, reply.body.len))
            ffi.memmove(memory, reply.body.data, reply.body.len)
            copied.body.data = memory
            kind = ffi.from_buffer(answer.content_type.encode())
            copied.content_type.data = kind
            answer.keep += [memory, kind]
            answer.tensor = copied
        elif reply.file.len:
            answer.file = Path(_text(reply.file))
        else:
            answer.body = _bytes(reply.body)
        return 0

    def ngx_webtorch_job_reply_body(
        self, job: Any, status: int, kind: bytes, body: Any, size: int
    ) -> int:
        """Answer a job with bytes."""
        answer = self._answer(job)
        answer.status = status
        answer.content_type = kind.decode()
        answer.body = bytes(body)
        return 0

    def ngx_webtorch_job_reply_item(self, job: Any, item: bytes, size: int) -> int:
        """Answer a job with an item of a generator."""
        answer = self._answer(job)
        answer.status = 200
        answer.body = bytes(item)
        answer.more = True
        return 0

    def ngx_webtorch_trim(self) -> None:
        """Do nothing: the process is short-lived."""

    def ngx_webtorch_shared_release(self, shared: Any) -> None:
        """Do nothing: no body is shared."""

    def ngx_webtorch_zone_exists(self) -> int:
        """Return 0: there is no zone."""
        return 0

    def ngx_webtorch_retire(self, text: bytes, size: int) -> None:
        """Do nothing: this is no worker."""

    def ngx_webtorch_exiting(self) -> int:
        """Return 0: this is no worker."""
        return 0


def _address(job: Any) -> int:
    return int(ffi.cast("uintptr_t", job))


def _bytes(value: Any) -> bytes:
    return ffi.buffer(value.data, value.len)[:] if value.len else b""


def _text(value: Any) -> str:
    return _bytes(value).decode(errors="surrogateescape")


def _headers(source: Any) -> list[tuple[str, str]]:
    return [
        (_text(source.headers[index].name), _text(source.headers[index].value))
        for index in range(source.nheaders)
    ]


def _open() -> Any:
    """Load the library of formats: that of the wheel's nginx, or of a build.

    Raises:
        ImportError: There is none, or it is of another version.

    """
    bundled = library()
    candidates = [bundled] if bundled else [directory / FORMATS for directory in MODULES]
    path = next((one for one in candidates if one.is_file()), None)
    if path is None:
        raise ImportError(
            f"webtorch.testing needs {FORMATS}, which is not in "
            f"{' or '.join(str(one.parent) for one in candidates)}: install the wheel of WebTorch "
            "that has an nginx, or Debian's package, or run ./build.sh in the sources"
        )
    formats: Any = ffi.dlopen(str(path))
    sizes = ("schema", 32), ("batch", 20), ("reply", 10), ("job", 0)
    expected = sum(ffi.sizeof(f"webtorch_{name}_t") << shift for name, shift in sizes)
    if formats.ngx_webtorch_exchange_layout() != expected:
        raise ImportError(f"{path} is of another version of WebTorch than the Python package")
    return formats


def _install() -> Native:
    name = "webtorch._native"
    if name in sys.modules:
        raise ImportError("webtorch.testing is for processes without nginx")
    native = Native(_open())
    module: Any = types.ModuleType(name)
    module.ffi = ffi
    module.lib = native
    sys.modules[name] = module
    return native


lib = _install()
