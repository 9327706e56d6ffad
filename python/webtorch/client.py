"""A client that sends arrays to tensor functions over HTTP.

    from webtorch.client import Client

    with Client("http://127.0.0.1:8000") as client:
        y = client.infer("v1/output", x)

It needs NumPy and requests. It needs torch for tensors as inputs and for the format "torch" only,
and pyarrow for data frames other than those of polars.
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

    Input = ArrayLike | Tensor | Any

__all__ = ["Client", "ServerError"]

Array = NDArray[Any]
Format = Literal["npy", "json", "torch"]

NPY = "application/x-npy"
NPZ = "application/x-npz"
JSON = "application/json"
TORCH = "application/x-pytorch"
ARROW = "application/vnd.apache.arrow.stream"

DATATYPES = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    **{
        f"{sign}INT{bits}": f"{sign.lower()}int{bits}"
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
}
"""NumPy's names of the dtypes that a signature names."""

CONVERTED = ("float64", "int64")
"""dtypes that NumPy chooses itself: arrays of others are sent as they are."""

NUMBERS = "biufc"
"""Kinds of NumPy's dtypes of numbers: bool, integers, floats, complex."""

TIMEOUT = 70.0
"""Seconds; longer than the server's default of 60 s, so that clients get its 504."""


class ServerError(requests.RequestException):
    """The server answered with an error, or with a body that is not arrays.

        try:
            y = client.infer("v1/output", x)
        except ServerError as error:
            if error.status == 503:
                time.sleep(error.retry_after or 1.0)

    Attributes:
        status: Status of HTTP.
        code: Code of the error, see docs/errors.md; None if the response has none, for example that
            of a proxy.
        retry_after: Seconds of the header `Retry-After`; None if there is none or it is a date.
        response: The whole response.

    """

    response: requests.Response

    def __init__(self, message: str, response: requests.Response, code: str | None = None) -> None:
        super().__init__(message, response=response)
        # the body is read already; its stream would keep the connection open as long as the error
        response.raw = None
        self.status = response.status_code
        self.code = code
        seconds = response.headers.get("Retry-After", "")
        self.retry_after = float(seconds) if seconds.isdecimal() else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.response, self.code)


class Client:
    """Sends arrays to the tensor functions of a server.

        with Client("http://127.0.0.1:8000", timeout=5.0) as client:
            y = client.infer("v1/output", x)

    It keeps its connections open until `close()` or the end of a `with` block. As a
    `requests.Session` need not be thread-safe, use a client in one thread only.

    Args:
        url: The URL that paths are relative to, for example `http://127.0.0.1:8000`.
        timeout: Seconds to connect and between two reads, or a pair of them; None waits without a
            limit. By default 70.
        session: A session with settings of its own (TLS, authentication, retries), which `close()`
            leaves open. By default the client makes one.
        format: Format of requests and responses. `npy`, the default: NumPy's formats; `json`: JSON;
            `torch`: files of torch.save(), which carry tensors of all dtypes and are allowed by the
            server's webtorch_torch_load.

    Raises:
        ValueError: The format is unknown.

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
        self._signatures: dict[str, dict[str, str]] = {}
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
        """Call a tensor function, under `@webtorch.infer` or `@webtorch.train`.

        Args:
            path: Path of its location, relative to the client's url.
            array: The only input of the function; or a data frame of pandas or polars, or another
                table with the method `__arrow_c_stream__`, whose columns are the inputs. It is sent
                as an Arrow stream.
            arrays: The inputs by name, instead of `array`. An input is a NumPy array or a tensor,
                of any strides, byte order and device, or numbers in lists. Numbers in lists and
                arrays of float64 and int64 are converted to the function's dtype if nothing is
                lost but digits; the client asks the server for the dtypes once for each path.

        Returns:
            A data frame or a table of the same library for a data frame or a table. Otherwise
            the output, or a dict of the outputs by name if the function has several: tensors on the
            CPU if an input is a tensor or the format is `torch`, else NumPy arrays. Shapes and
            dtypes are those of the server's response; JSON has none, so they are float64, int64 or
            bool.

        Raises:
            TypeError: There is no input, or one with a name and one without; or an input is a
                tensor of a dtype that NumPy does not have, such as bfloat16, or in the format
                `torch` a tensor that is not dense.
            ValueError: An input is not an array of numbers.
            ImportError: pyarrow, the extra `tables`, is not installed, and the table needs it.
            ServerError: The server answers with an error, or not with arrays.
            requests.RequestException: The server does not answer, or an input for JSON has a NaN.

        """
        if (array is None) != bool(arrays):
            raise TypeError("infer() takes either one array or several by name")
        if _is_table(array):
            return self._infer_table(path, array)
        given = arrays if array is None else {"": array}
        convert = _to_torch if self.format == "torch" else _to_numpy
        sent = {name: convert(name, value) for name, value in given.items()}
        if self.format == "npy":
            self._convert(path, sent)
        response = self._post(path, sent)
        received = _decode(response, self.format)
        if any(map(_is_tensor, given.values())):
            received = {name: _to_tensor(value) for name, value in received.items()}
        return received if len(received) > 1 else next(iter(received.values()))

    def _infer_table(self, path: str, table: Any) -> Any:
        headers = {"Content-Type": ARROW, "Accept": ARROW}
        response = self._send(path, headers, data=_arrow(table))
        found = _media_type(response)
        if found != ARROW:
            raise ServerError(f"the answer is not a table: its Content-Type is {found}", response)
        try:
            return _of_arrow(response.content, table)
        except Exception as error:
            # pyarrow and polars raise several types
            raise ServerError(f"the answer is not a table: {error}", response) from error

    def _convert(self, path: str, arrays: dict[str, Any]) -> None:
        """Convert arrays of dtypes that NumPy has chosen to those of the function."""
        if not any(array.dtype.name in CONVERTED for array in arrays.values()):
            return
        dtypes = self._dtypes(path)
        for name, array in arrays.items():
            dtype = dtypes.get(name) if name else next(iter(dtypes.values()), None)
            if dtype is not None and array.dtype.name in CONVERTED:
                arrays[name] = _cast(array, dtype)

    def _dtypes(self, path: str) -> dict[str, str]:
        """Return the dtypes of a function's inputs by name, empty if the server says none."""
        known = self._signatures.get(path)
        if known is not None:
            return known
        dtypes: dict[str, str] = {}
        try:
            response = self._session.request("OPTIONS", self._url(path), timeout=self.timeout)
            if response.ok:
                dtypes = {
                    str(tensor["name"]): DATATYPES[tensor["datatype"]]
                    for tensor in response.json()["inputs"]
                    if tensor["datatype"] in DATATYPES
                }
        except requests.ConnectionError:
            return {}
        except (requests.RequestException, ValueError, TypeError, LookupError):
            # another server, or a proxy: arrays are sent as they are
            pass
        self._signatures[path] = dtypes
        return dtypes

    def _url(self, path: str) -> str:
        return f"{self.url}/{path.lstrip('/')}"

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
            # the server answers in the format of the request if that is accepted
            body = {"data": _npy(arrays[""]) if "" in arrays else _npz(arrays)}
            headers = {
                "Content-Type": NPY if "" in arrays else NPZ,
                "Accept": f"{NPY}, {NPZ}",
            }
        return self._send(path, headers, **body)

    def _send(self, path: str, headers: Mapping[str, str], **body: Any) -> requests.Response:
        response = self._session.post(
            self._url(path), headers=headers, timeout=self.timeout, **body
        )
        if not response.ok:
            raise _error(response)
        return response


def _cast(array: Array, dtype: str) -> Array:
    """Convert an array; one that the dtype cannot hold is left for the server to refuse."""
    if array.dtype == dtype or not np.can_cast(array.dtype, dtype, "same_kind"):
        return array
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if array.dtype.kind == "i" and converted.dtype.kind == "i":
        is_held = np.array_equal(converted, array)
    else:
        is_held = np.array_equal(np.isfinite(converted), np.isfinite(array))
    return converted if is_held else array


def _class_of(module: str, name: str) -> Any:
    """Return a class of a module, or no class if the module is not imported."""
    return getattr(sys.modules.get(module), name, ())


def _is_table(value: object) -> bool:
    """Return whether a value is a data frame or another table of Arrow's interface."""
    return isinstance(value, _class_of("pandas", "DataFrame")) or (
        hasattr(value, "__arrow_c_stream__")
        # a column is no table
        and not isinstance(value, (_class_of("pandas", "Series"), _class_of("polars", "Series")))
    )


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ModuleNotFoundError as error:
        raise ImportError(
            'data frames need pyarrow, the extra "tables": pip install pyarrow'
        ) from error
    return pyarrow


def _arrow(table: Any) -> bytes:
    """Return a table as an Arrow stream; categories are sent as their values."""
    file = io.BytesIO()
    if isinstance(table, _class_of("polars", "DataFrame")):
        import polars

        categories = [
            name
            for name, dtype in table.schema.items()
            if isinstance(dtype, (polars.Categorical, polars.Enum))
        ]
        frame = table.with_columns(polars.col(categories).cast(polars.String))
        frame.write_ipc_stream(file, compat_level=polars.CompatLevel.oldest())
        return file.getvalue()
    pa = _pyarrow()
    if isinstance(table, _class_of("pandas", "DataFrame")):
        found = pa.Table.from_pandas(table, preserve_index=False)
    else:
        found = pa.table(table)
    for index, column in enumerate(found.columns):
        if pa.types.is_dictionary(column.type):
            values = column.cast(column.type.value_type)
            found = found.set_column(index, found.schema.names[index], values)
    with pa.ipc.new_stream(file, found.schema) as stream:
        stream.write_table(found)
    return file.getvalue()


def _of_arrow(body: bytes, table: Any) -> Any:
    """Return an Arrow stream as a table of the library of another one."""
    if isinstance(table, _class_of("polars", "DataFrame")):
        import polars

        return polars.read_ipc_stream(io.BytesIO(body))
    found = _pyarrow().ipc.open_stream(body).read_all()
    if not isinstance(table, _class_of("pandas", "DataFrame")):
        return found
    frame = found.to_pandas()
    if len(frame) == len(table):
        frame.index = table.index
    return frame


def _is_tensor(value: object) -> "TypeGuard[Tensor]":
    """Return whether a value is a tensor, without importing torch: a tensor's torch is imported."""
    return isinstance(value, _class_of("torch", "Tensor"))


def _to_numpy(name: str, value: Any) -> Array:
    """Return an array or a tensor as formats need it: row-major and little-endian."""
    what = f'"{name}"' if name else "the array"
    if _is_tensor(value):
        try:
            value = value.numpy(force=True)
        except TypeError as error:
            raise TypeError(
                f"{what} is a tensor of {value.dtype} ({value.layout}), which NumPy does not "
                "have: convert it, as torch.bfloat16 with .float()"
            ) from error
    array = np.asarray(value)
    if array.dtype.kind not in NUMBERS:
        raise ValueError(f"{what} is of {array.dtype}, not of numbers")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _to_torch(name: str, value: Any) -> "Tensor":
    """Return a dense copy of a tensor: torch.save() of a view would write all of its memory."""
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
    """Return arrays as np.savez writes them, but of any names: "file" is an argument of that."""
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
        # torch raises several types
        raise ValueError("torch.load() cannot read it") from error
    tensors: dict[str, Tensor] = found if isinstance(found, dict) else {"": found}
    if not all(map(_is_tensor, tensors.values())):
        raise ValueError("torch.load() finds something else in it")
    return tensors


def _media_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "none").partition(";")[0].strip().lower()


def _decode(response: requests.Response, format: Format) -> dict[str, Any]:
    """Return the arrays of a response by name; the name of an unnamed one is ""."""
    arrays: dict[str, Any]
    content_type = _media_type(response)
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
    """Return numbers in lists as an array; null stands for a NaN or an infinite number."""
    array: Array = np.asarray(value)
    # with null, or with integers beyond int64, which are floats of the server
    return array.astype(np.float64) if array.dtype.kind in "Ou" else _native(array)


def _native(array: Array) -> Array:
    """Return an array of numbers in the byte order of this machine."""
    if array.dtype.kind not in NUMBERS:
        raise ValueError(f"it is of {array.dtype}, not of numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _error(response: requests.Response) -> ServerError:
    """Return the error of a response, which is the server's or that of a proxy."""
    try:
        body = response.json()
        return ServerError(str(body["error"]), response, str(body["code"]))
    except (ValueError, TypeError, LookupError):
        return ServerError(f"{response.status_code} {response.reason}", response)
