"""JSON of custom handlers, by msgspec.

msgspec writes and reads what handlers answer and take: it also converts the arguments of handlers,
and is as fast as orjson, which does not.
"""

import datetime
import functools
import inspect
import json
import math
import sys
from collections import deque
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from pathlib import PurePath
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from webtorch._core.plain_tensors import plain

_CONVERTED_DTYPES = "mM"  # of NumPy: times, which are texts in JSON

_FLOAT64 = np.dtype(np.float64)

_FLOATS = (torch.float16, torch.float32, torch.float64)
"""Those that NumPy has."""

_TEXTS = ("ipaddress", "pydantic.types", "pydantic.networks")
"""Modules of classes whose values are texts in JSON."""

_FILE = "the bytes that it saves to an io.BytesIO, in a Response with their content type"

_INSTEAD = (
    ("to_dicts", "its to_dicts()"),  # a DataFrame of polars
    ("itertuples", 'its to_dict("records")'),  # of pandas
    ("to_list", "its to_list()"),  # a Series of either
    ("tolist", "its tolist()"),
    ("getvalue", "its getvalue()"),
    ("savefig", _FILE),  # a figure of matplotlib
    ("tobytes", _FILE),  # an image of Pillow
)
"""What to return in place of values with an attribute of a name."""


def encode(value: Any) -> bytes:
    """Return a value as JSON.

    It may have NumPy arrays and scalars, tensors, pydantic models, dataclasses, msgspec's structs,
    enumerations, sets, times, UUIDs and paths in it, Decimals, which are strings, and bytes, which
    are Base64. NaN and infinities are null.

    Raises:
        TypeError: JSON cannot hold a value.

    """
    try:
        return _encode(value)
    except (TypeError, ValueError) as error:
        try:
            return json.dumps(_plain(value), separators=(",", ":")).encode()
        except TypeError as second:
            raise (error if isinstance(error, TypeError) else second) from None


def encoder_of(kind: type) -> Callable[[Any], bytes]:
    """Return the fastest function that encodes instances of a class as `encode` does."""
    if not _is_model_class(kind):
        return encode
    to_json = _model_encoder(kind)

    def encode_model(model: Any) -> bytes:
        try:
            return to_json(model)
        except ValueError:  # a text with surrogates
            return encode(model)

    return encode_model


def _convert(value: Any) -> Any:
    """Return a value that msgspec does not know as one that it does."""
    if isinstance(value, np.generic | np.ndarray):
        return _converted_array(value)
    if isinstance(value, Tensor):
        return _converted_array(_to_numpy(plain(value)))
    if _is_model_class(type(value)):
        return msgspec.Raw(_model_encoder(type(value))(value))
    is_number = isinstance(value, int | float)
    if isinstance(value, PurePath) or (type(value).__module__ in _TEXTS and not is_number):
        return str(value)
    if _is_missing(value):
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return datetime.timedelta(value.days, value.seconds, value.microseconds)
    if isinstance(value, Mapping):
        return dict(value)
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, deque | range | KeysView | ValuesView | ItemsView):
        return list(value)
    raise TypeError(
        f"JSON cannot hold a {type(value).__module__}.{type(value).__qualname__}{_hint(value)}"
    )


def _is_missing(value: Any) -> bool:
    """Return whether a value is one of pandas that stands for none."""
    # another thread may be importing it
    pandas = sys.modules.get("pandas")
    return any(value is getattr(pandas, name, None) for name in ("NaT", "NA"))


def _hint(value: Any) -> str:
    """Return what the function probably meant."""
    if inspect.isawaitable(value):
        return ": await it"
    if isinstance(value, BaseException):
        return ": raise it"
    if inspect.isroutine(value):
        return ": call it"
    if hasattr(value, "status_code"):  # a response of another framework
        return ": return a webtorch.Response"
    if isinstance(value, Iterator) and not hasattr(value, "read"):
        return ": make a list of it, or yield its items from the handler"
    return next((f": return {use}" for name, use in _INSTEAD if hasattr(value, name)), "")


def _to_numpy(tensor: Tensor) -> Any:
    """Return a plain tensor as an array; NumPy has no bfloat16 and float8."""
    is_float = tensor.dtype.is_floating_point and tensor.dtype not in _FLOATS
    return (tensor.float() if is_float else tensor).numpy()


def _converted_array(value: Any) -> Any:
    """Return an array or a scalar of NumPy as values of Python."""
    if value.dtype.kind in _CONVERTED_DTYPES:
        texts: Any = np.where(np.isnat(value), None, value.astype(str).astype(object))
        return texts.tolist()
    if value.dtype.kind == "c":
        raise TypeError(f"JSON cannot hold numbers of {value.dtype}")
    if value.dtype.kind == "f" and value.dtype.itemsize < _FLOAT64.itemsize:
        value = _shortened(value)
    if value.dtype.kind == "f" and value.dtype.itemsize > _FLOAT64.itemsize:
        value = value.astype(_FLOAT64)  # longdouble, which Python does not have
    return value.tolist()


def _shortened(value: Any) -> Any:
    """Return numbers as float64 with the fewest digits that are read as the same numbers again.

    So a float32 is 0.1, not 0.10000000149011612. It has at most 9 digits.
    """
    exact = np.asarray(value)
    short = exact.astype(np.float64)
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log10(np.abs(short)))
        long = np.isfinite(exponent)
        for digits in range(3 if exact.dtype == np.float16 else 6, 10):
            scale = 10.0 ** (digits - 1 - exponent)
            rounded = np.round(exact.astype(np.float64) * scale) / scale
            found = long & (rounded.astype(exact.dtype) == exact)
            short = np.where(found, rounded, short)
            long &= ~found
            if not long.any():
                break
    return short


def _plain(value: Any) -> Any:
    """Return a value as what the module json takes.

    It is for what msgspec refuses: strings with surrogates, and keys of NumPy's types.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_plain_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if _is_model_class(type(value)):
        return _plain(value.model_dump(mode="json", by_alias=True))
    return _plain(msgspec.to_builtins(value, enc_hook=_convert, str_keys=True))


def _plain_key(key: Any) -> Any:
    key = key.item() if isinstance(key, np.generic) else key
    if isinstance(key, str | int | float | bool) or key is None:
        return key
    plain = _plain(key)
    if not isinstance(plain, str | int):
        raise TypeError(f"JSON cannot hold a key of {type(key).__qualname__}")
    return plain


def _model_encoder(kind: Any) -> Callable[[Any], bytes]:
    """Return a function that encodes instances of a pydantic model, with its aliases."""
    return functools.partial(kind.__pydantic_serializer__.to_json, by_alias=True)


def _is_model_class(kind: type) -> bool:
    """Return whether a class is a model of pydantic, without importing that."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


_encode: Callable[[Any], bytes] = msgspec.json.Encoder(enc_hook=_convert).encode
