"""Files of torch.save() that clients send, see the directive webtorch_torch_load.

torch.load(weights_only=True) runs no code that a file brings. But it does not bound what a file
has it do: to make a tensor of memory that nobody has written to, or to hash a tuple of tuples
for ever. So a pickle is held to what torch.save() writes for tensors before it is loaded. The
archive is checked by nginx, in ngx_webtorch_codec_torch.c: its files are as large as they say,
none is compressed, and one is the pickle.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from webtorch._handlers import handler
from webtorch._messages import HTTPError, Request, Response
from webtorch._schema import DTYPES, MAX_TENSORS

NPY = "application/x-npy"
SAFETENSORS = "application/vnd.safetensors"

_PUT = {"BINPUT", "LONG_BINPUT"}
_GET = {"BINGET", "LONG_BINGET"}
_OPCODES = {
    *_PUT,
    *_GET,
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BINPERSID", "SETITEM", "SETITEMS"),
    *("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "NEWTRUE", "NEWFALSE"),
    *("EMPTY_DICT", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
}

_UNTYPED = "torch.storage UntypedStorage"
_STORAGES = "Bool Byte Char Short Int Long Half BFloat16 Float Double"
_GLOBALS = {
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
    _UNTYPED,
    *(f"torch {name}Storage" for name in _STORAGES.split()),
    *(f"torch {name}" for name in DTYPES),
}

# what may be used again: no tuple, which could then grow beyond all bounds
_SHARED = {"BINUNICODE", "REDUCE", *_GLOBALS}


@handler
def load(request: Request) -> Response:
    """Load a file, and write its tensors as C can read them.

    A tensor is answered as .npy, a dict of tensors by name as safetensors.

    Raises:
        HTTPError: 400, if it is no such file; 413, if its tensors are larger than it is, as an
            expanded one; 422, if they are of a kind or dtype that is not served.

    """
    _check_pickle(_pickle(request.body))
    found = _load(request.body)
    if isinstance(found, Tensor):
        return Response(_npy(*_contiguous([found], request)), content_type=NPY)
    if not isinstance(found, dict) or not all(
        _is_name(name) and isinstance(value, Tensor) for name, value in found.items()
    ):
        raise _malformed("it is not of a tensor, or of a dict of tensors by name")
    tensors = dict(zip(found, _contiguous(found.values(), request), strict=True))
    return Response(safetensors.torch.save(tensors), content_type=SAFETENSORS)


def _malformed(text: str) -> HTTPError:
    return HTTPError(HTTPStatus.BAD_REQUEST, f"invalid torch.save() file: {text}")


def _pickle(body: memoryview) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            return archive.read(name)
    except Exception:
        # zipfile raises this and that, of what nginx has not looked at
        raise _malformed("its data.pkl cannot be read") from None


def _check_pickle(pickle: bytes) -> None:
    """Refuse what torch.save() does not write for tensors of the dtypes that are served.

    What is on top of the stack is known by the opcode that has put it there, or its name where it
    is a global.
    """
    memo: dict[Any, str] = {}
    top = ""
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name in _PUT:
                memo[argument] = top
                continue
            below, top = top, opcode.name
            if top == "GLOBAL":
                top = str(argument)
                _check_global(top)
            elif top in _GET:
                top = memo.get(argument, "")
                if top not in _SHARED:
                    raise _malformed("its pickle uses again what is no tensor")
            elif top not in _OPCODES:
                raise _malformed(f"its pickle has the opcode {top}, which tensors need not")
            # the class is named for its data, not called for memory of any size
            if below == _UNTYPED and top != "BINUNICODE":
                raise _malformed("its pickle has a storage without a number")
    except (ValueError, OverflowError):
        raise _malformed("its pickle is cut off or none") from None


def _check_global(name: str) -> None:
    if name in _GLOBALS:
        return
    kind = HTTPStatus.UNPROCESSABLE_ENTITY if name.startswith("torch") else HTTPStatus.BAD_REQUEST
    raise HTTPError(
        kind,
        f'the torch.save() file has "{name[:100].replace(" ", ".")}" in it: send dense tensors of '
        f"{', '.join(DTYPES)}",
    )


def _load(body: memoryview) -> Any:
    try:
        return torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
    except Exception:
        # its text is advice for who may trust the file
        raise _malformed("torch.load() cannot read it") from None


def _is_name(name: object) -> bool:
    """Tell whether it is text that UTF-8 has."""
    try:
        return isinstance(name, str) and bool(name.encode())
    except UnicodeEncodeError:
        return False


def _contiguous(tensors: Iterable[Tensor], request: Request) -> list[Tensor]:
    """Return tensors in memory of their own, if they do not claim more than was sent."""
    found = list(tensors)
    if len(found) > MAX_TENSORS:
        raise _malformed(f"it has more than {MAX_TENSORS} tensors")
    # one that has several names is counted once
    sizes = {id(tensor): tensor.nbytes for tensor in found}
    if sum(sizes.values()) > len(request.body):
        raise HTTPError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "the tensors are larger than their torch.save() file: save those that are expanded, "
            "or views of others, as x.clone()",
        )
    return [
        tensor.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
        for tensor in found
    ]


def _npy(tensor: Tensor) -> bytes:
    """Write .npy, with bfloat16 as V2, as NumPy with ml_dtypes does."""
    is_bfloat16 = tensor.dtype == torch.bfloat16
    array = tensor.view(torch.int16).numpy().view("V2") if is_bfloat16 else tensor.numpy()
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
