"""The handler of files of torch.save() that clients send, see the directive webtorch_torch_load.

torch.load(weights_only=True) runs no code of a file. But it does not limit what a file can ask for:
a tensor over memory that was never written, or the hash of deeply nested tuples, which never ends;
older versions read a storage beyond the end of its file. So before a pickle is loaded, it is
checked to have only what torch.save() writes for tensors. The archive is checked by nginx, in
ngx_webtorch_codec_torch.c: its files have the sizes that it says, none is compressed, and one is
the pickle.
"""

import io
import pickletools
import zipfile
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from webtorch._core.errors import HTTPError
from webtorch._handlers.decorators import handler
from webtorch._handlers.request import Request
from webtorch._handlers.response import Response
from webtorch._schema.schema import DTYPES, MAX_TENSORS

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
# bytes of their elements
_STORAGES = {
    _UNTYPED: 1,
    **dict.fromkeys(("torch BoolStorage", "torch ByteStorage", "torch CharStorage"), 1),
    **dict.fromkeys(("torch ShortStorage", "torch HalfStorage", "torch BFloat16Storage"), 2),
    **dict.fromkeys(("torch IntStorage", "torch FloatStorage"), 4),
    **dict.fromkeys(("torch LongStorage", "torch DoubleStorage"), 8),
}
_INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}
_GLOBALS = {
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
    *_STORAGES,
    *(f"torch {name}" for name in DTYPES),
}

_STORAGE_OPCODES = 7
"""Opcodes that push what identifies a storage."""

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
    _check_pickle(*_read_archive(request.body))
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


def _read_archive(body: memoryview) -> tuple[bytes, dict[str, int]]:
    """Return the pickle, and the sizes of the files of storages by their numbers."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            (pickle,) = (each for each in members if each.filename.endswith("/data.pkl"))
            data = f"{pickle.filename.removesuffix('data.pkl')}data/"
            found = [each for each in members if each.filename.startswith(data)]
            sizes = {each.filename.removeprefix(data): each.file_size for each in found}
            program = archive.read(pickle)
    except Exception:
        # zipfile raises several types, for parts that nginx does not check
        raise _malformed("its data.pkl cannot be read") from None
    if len(sizes) < len(found):
        raise _malformed("it has two files with the data of a storage")
    return program, sizes


_Pushed = tuple[str, Any]
"""The opcode that pushed an object to the stack, or the name of a global, and its argument."""


def _check_pickle(pickle: bytes, sizes: Mapping[str, int]) -> None:
    """Refuse a pickle that torch.save() does not write for tensors of the served dtypes.

    Args:
        pickle: The program.
        sizes: Bytes of the files of storages, by their numbers.

    """
    memo: dict[Any, _Pushed] = {}
    pushed: deque[_Pushed] = deque([("", None)], maxlen=_STORAGE_OPCODES)
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name in _PUT:
                memo[argument] = pushed[-1]
                continue
            below, top = pushed[-1][0], opcode.name
            if top == "GLOBAL":
                top = str(argument)
                _check_global(top)
            elif top in _GET:
                top, argument = memo.get(argument, ("", None))
                if top not in _SHARED:
                    raise _malformed("its pickle references an object again that is not a tensor")
            elif top not in _OPCODES:
                raise _malformed(f"its pickle has the opcode {top}, which tensors do not need")
            elif top == "BINPERSID":
                _check_storage(pushed, sizes)
            # the class may be named with its data, but not called for memory of any size
            if below == _UNTYPED and top != "BINUNICODE":
                raise _malformed("its pickle has a storage without a number")
            pushed.append((top, argument))
    except (ValueError, OverflowError):
        raise _malformed("its pickle is cut off or is not a pickle") from None


def _check_storage(pushed: Sequence[_Pushed], sizes: Mapping[str, int]) -> None:
    """Refuse a storage that is not as large as its file.

    Args:
        pushed: The opcodes before that of the storage: a tuple of "storage", its class, the number
            of its file, a device, and the number of its elements.
        sizes: Bytes of the files, by their numbers.

    """
    kinds = [kind for kind, _ in pushed]
    is_known = (
        len(kinds) == _STORAGE_OPCODES
        and (kinds[0], kinds[1], *kinds[3:5], kinds[6])
        == ("MARK", "BINUNICODE", "BINUNICODE", "BINUNICODE", "TUPLE")
        and kinds[2] in _STORAGES
        and kinds[5] in _INTEGERS
    )
    if not is_known:
        raise _malformed("its pickle has a storage that is not described as torch.save() does")
    number, elements = pushed[3][1], pushed[5][1]
    if sizes.get(number) != elements * _STORAGES[kinds[2]]:
        raise _malformed(f'its file "data/{number[:20]}" is not as large as its tensors say')


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
