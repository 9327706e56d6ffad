"""The handler of files of torch.save() that clients send, see the directive webtorch_torch_load.

torch.load(weights_only=True) runs no code of a file. But it does not limit what a file can ask for:
a tensor over memory that was never written, or the hash of deeply nested tuples, which never ends.
So before a pickle is loaded, it is checked to have only what torch.save() writes for tensors. The
archive is checked by nginx, in ngx_webtorch_codec_torch.c: its files have the sizes that it says,
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

from webtorch._errors import HTTPError
from webtorch._handlers import handler
from webtorch._request import Request
from webtorch._response import Response
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

# objects that may be referenced again: not tuples, which could grow without bounds then
_SHARED = {"BINUNICODE", "REDUCE", *_GLOBALS}


@handler
def load(request: Request) -> Response:
    """Answer a file's tensor as .npy, or its dict of tensors by name as safetensors.

    Raises:
        HTTPError: The status is 400 if the body is not such a file, 413 if its tensors are larger
            than the file, as expanded ones are, and 422 if they are of a kind or dtype that is not
            served.

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
        # zipfile raises several types, for parts that nginx does not check
        raise _malformed("its data.pkl cannot be read") from None


def _check_pickle(pickle: bytes) -> None:
    """Refuse a pickle that torch.save() does not write for tensors of the served dtypes.

    The object on top of the stack is known by the opcode that pushed it, or by the name of a
    global.
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
                    raise _malformed("its pickle references an object again that is not a tensor")
            elif top not in _OPCODES:
                raise _malformed(f"its pickle has the opcode {top}, which tensors do not need")
            # the class may be named with its data, but not called for memory of any size
            if below == _UNTYPED and top != "BINUNICODE":
                raise _malformed("its pickle has a storage without a number")
    except (ValueError, OverflowError):
        raise _malformed("its pickle is cut off or is not a pickle") from None


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
        # the error's text advises to trust the file
        raise _malformed("torch.load() cannot read it") from None


def _is_name(name: object) -> bool:
    """Return whether an object is text, not empty, that UTF-8 can encode."""
    try:
        return isinstance(name, str) and bool(name.encode())
    except UnicodeEncodeError:
        return False


def _contiguous(tensors: Iterable[Tensor], request: Request) -> list[Tensor]:
    """Return copies of tensors, unless these are larger than the file."""
    found = list(tensors)
    if len(found) > MAX_TENSORS:
        raise _malformed(f"it has more than {MAX_TENSORS} tensors")
    # a tensor with several names is counted once
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
    """Return a tensor as .npy; bfloat16 is V2, as NumPy with ml_dtypes writes it."""
    is_bfloat16 = tensor.dtype == torch.bfloat16
    array = tensor.view(torch.int16).numpy().view("V2") if is_bfloat16 else tensor.numpy()
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
