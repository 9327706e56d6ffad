"""A client: arrays to a tensor function and back, over HTTP.

    from webtorch.client import Client

    with Client("http://127.0.0.1:8000") as client:
        y = client.infer("v1/output", x)

It needs NumPy and requests; torch only where tensors are given to it, or for the format "torch".
"""

import io
import sys
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    import requests
except ModuleNotFoundError as error:
    raise ImportError(
        'webtorch.client needs requests, the extra "client": pip install requests'
    ) from error

if TYPE_CHECKING:
    from torch import Tensor

    Input = ArrayLike | Tensor

Array = NDArray[Any]
Format = Literal["npy", "json", "torch"]

NPY = "application/x-npy"
NPZ = "application/x-npz"
JSON = "application/json"
TORCH = "application/x-pytorch"

# kinds of NumPy's dtypes: bool, integers, floats, complex
NUMBERS = "biufc"

# longer than a function has by default, so that the server's own 504 is what a client sees
TIMEOUT = 70.0


class ServerError(requests.RequestException):
    """The server answered with an error, or with something else than arrays.

    Attributes:
        status: of HTTP.
        code: the error's code, see docs/errors.md; None if the answer had none, as one that is
            of a proxy.
        retry_after: seconds, of the header `Retry-After`; None without, or if it is a date.
        response: the whole answer.

    """

    response: requests.Response

    def __init__(self, message: str, response: requests.Response, code: str | None = None) -> None:
        super().__init__(message, response=response)
        # the body is read, and with its stream an error that is kept keeps its connection open
        response.raw = None
        self.status = response.status_code
        self.code = code
        seconds = response.headers.get("Retry-After", "")
        self.retry_after = float(seconds) if seconds.isdecimal() else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.response, self.code)


class Client:
    """Sends arrays to the tensor functions of a server.

    It keeps its connections open, until `close()` or the end of a `with` block. A
    `requests.Session` is not promised to be safe for threads: use a client for each of them.

    Args:
        url: what the paths are relative to, as `http://127.0.0.1:8000`.
        timeout: in seconds, to connect and between two reads, or a pair of them, or None, to wait
            for ever.
        session: one with its own settings (TLS, authentication, retries); it is left open.
        format: `npy`, NumPy's formats, `json`, or `torch`, which sends and receives tensors of all
            dtypes, as files of torch.save(), where the server's webtorch_torch_load allows it.

    Raises:
        ValueError: for another format.

    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float | tuple[float, float] | None = TIMEOUT,
        session: requests.Session | None = None,
        format: Format = "npy",
    ) -> None:
        if format not in get_args(Format):
            raise ValueError(f"the format is one of {', '.join(get_args(Format))}, not {format!r}")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.format = format
        self._session = requests.Session() if session is None else session
        self._owns_session = session is None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, but not those of a session that was given."""
        if self._owns_session:
            self._session.close()

    def infer(self, path: str, array: "Input | None" = None, /, **arrays: "Input") -> Any:
        """Call a function, of either kind: what is at the path decides whether it trains, too.

        Args:
            path: of its location, relative to the client's url.
            array: the only tensor of the function.
            arrays: its tensors by name, instead. Each is a NumPy array or a tensor, of any strides,
                byte order and device, or numbers in lists, which are float64, int64 or bool.

        Returns:
            The array, or a dict of arrays by name if the function has several outputs: tensors on
            the CPU if a tensor was sent or the format is `torch`, else NumPy arrays. Shape and
            dtype are as the server writes them. JSON has no dtypes: all is float64, int64 or bool
            then.

        Raises:
            TypeError: if there is no array, or one with a name and one without, or a tensor of a
                dtype that NumPy has not, as bfloat16, or, for the format `torch`, no dense one.
            ValueError: if something is no array of numbers.
            ServerError: if the server does not answer with arrays.
            requests.RequestException: if it does not answer at all, or for a NaN in JSON.

        """
        if (array is None) != bool(arrays):
            raise TypeError("infer() takes either one array or several by name")
        given = arrays if array is None else {"": array}
        convert = _to_torch if self.format == "torch" else _to_numpy
        sent = {name: convert(name, value) for name, value in given.items()}
        response = self._post(path, sent)
        received = _decode(response, self.format)
        if any(map(_is_tensor, given.values())):
            received = {name: _to_tensor(value) for name, value in received.items()}
        return received if len(received) > 1 else next(iter(received.values()))

    def _post(self, path: str, arrays: Mapping[str, Any]) -> requests.Response:
        body: dict[str, Any]
        if self.format == "json":
            lists = {name: value.tolist() for name, value in arrays.items()}
            body = {"json": lists.get("", lists)}
            headers = {"Accept": JSON}
        elif self.format == "torch":
            body = {"data": _torch_file(arrays.get("", arrays))}
            headers = {"Content-Type": TORCH, "Accept": TORCH}
        else:
            # of several that are accepted, the server takes the one that it is sent
            body = {"data": _npy(arrays[""]) if "" in arrays else _npz(arrays)}
            headers = {
                "Content-Type": NPY if "" in arrays else NPZ,
                "Accept": f"{NPY}, {NPZ}",
            }
        response = self._session.post(
            f"{self.url}/{path.lstrip('/')}", headers=headers, timeout=self.timeout, **body
        )
        if not response.ok:
            raise _error(response)
        return response


def _is_tensor(value: object) -> "TypeGuard[Tensor]":
    """Tell whether it is a tensor; there is none as long as torch is not imported."""
    return isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ()))


def _to_numpy(name: str, value: Any) -> Array:
    """Return an array or a tensor as formats have it: row after row, little-endian."""
    what = f'"{name}"' if name else "the array"
    if _is_tensor(value):
        try:
            value = value.numpy(force=True)
        except TypeError as error:
            raise TypeError(
                f"{what} is a tensor of {value.dtype} ({value.layout}), which NumPy has not: "
                "convert it, as torch.bfloat16 with .float()"
            ) from error
    array = np.asarray(value)
    if array.dtype.kind not in NUMBERS:
        raise ValueError(f"{what} is of {array.dtype}, not of numbers")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _to_torch(name: str, value: Any) -> "Tensor":
    """Return a dense tensor in memory of its own, as torch.save() writes all that a view is of."""
    import torch

    tensor: Tensor = value if _is_tensor(value) else torch.tensor(_to_numpy(name, value))
    if tensor.layout != torch.strided:
        what = f'"{name}"' if name else "the array"
        raise TypeError(f"{what} is a tensor of {tensor.layout}: send x.to_dense()")
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _to_tensor(value: Any) -> "Tensor":
    import torch

    tensor: Tensor = value if _is_tensor(value) else torch.from_numpy(value)
    return tensor


def _npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _npz(arrays: Mapping[str, Array]) -> bytes:
    """Write what np.savez does, which takes some names for its own arguments, as "file"."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as members:
        for name, array in arrays.items():
            members.writestr(f"{name}.npy", _npy(array))
    return file.getvalue()


def _torch_file(tensors: "Tensor | Mapping[str, Tensor]") -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def _load_torch_file(body: bytes) -> "dict[str, Tensor]":
    import torch

    try:
        found = torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
    except Exception as error:
        # torch raises this and that
        raise ValueError("torch.load() cannot read it") from error
    tensors: dict[str, Tensor] = found if isinstance(found, dict) else {"": found}
    if not all(map(_is_tensor, tensors.values())):
        raise ValueError("torch.load() finds something else in it")
    return tensors


def _decode(response: requests.Response, format: Format) -> dict[str, Any]:
    """Read the arrays of an answer, one without a name as ""."""
    arrays: dict[str, Any]
    content_type = response.headers.get("Content-Type", "none").partition(";")[0].strip().lower()
    try:
        if content_type == JSON:
            found = response.json()
            lists = found if isinstance(found, dict) else {"": found}
            arrays = {name: _of_json(value) for name, value in lists.items()}
        elif content_type in (NPY, NPZ):
            loaded = np.load(io.BytesIO(response.content), allow_pickle=False)
            named: Mapping[str, Array] = loaded if isinstance(loaded, Mapping) else {"": loaded}
            arrays = {name: _native(value) for name, value in named.items()}
        elif content_type == TORCH and format == "torch":
            arrays = _load_torch_file(response.content)
        else:
            raise ValueError(f"its Content-Type is {content_type}")
        if not arrays:
            raise ValueError("it is empty")
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ServerError(f"the answer is not arrays: {error}", response) from error
    return arrays


def _of_json(value: Any) -> Array:
    """Make an array of numbers in lists; a null among them is a NaN or was infinite."""
    array: Array = np.asarray(value)
    # null, and integers beyond int64, which only floats can have been
    return array.astype(np.float64) if array.dtype.kind in "Ou" else _native(array)


def _native(array: Array) -> Array:
    """Return an array of numbers in the byte order of this machine."""
    if array.dtype.kind not in NUMBERS:
        raise ValueError(f"it is of {array.dtype}, not of numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _error(response: requests.Response) -> ServerError:
    """Read an error, the server's own or that of something else in between."""
    try:
        body = response.json()
        return ServerError(str(body["error"]), response, str(body["code"]))
    except (ValueError, TypeError, LookupError):
        return ServerError(f"{response.status_code} {response.reason}", response)
