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
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

_CONVERTED_DTYPES = "mM"  # of NumPy: times, which are texts in JSON


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
        dense = value.detach().cpu().to_dense()
        return _converted_array((dense.float() if dense.dtype is torch.bfloat16 else dense).numpy())
    if _is_model_class(type(value)):
        return msgspec.Raw(_model_encoder(type(value))(value))
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(
        f"JSON cannot hold a {type(value).__module__}.{type(value).__qualname__}{_hint(value)}"
    )


def _hint(value: Any) -> str:
    """Return what the function probably meant."""
    if inspect.isawaitable(value):
        return ": await it"
    return ": raise it" if isinstance(value, BaseException) else ""


def _converted_array(value: Any) -> Any:
    """Return an array or a scalar of NumPy as values of Python."""
    if value.dtype.kind in _CONVERTED_DTYPES:
        texts: Any = np.where(np.isnat(value), None, value.astype(str).astype(object))
        return texts.tolist()
    if value.dtype.kind == "c":
        raise TypeError(f"JSON cannot hold numbers of {value.dtype}")
    if value.dtype.kind == "f" and value.dtype.itemsize < np.dtype(np.float64).itemsize:
        value = _shortened(value)
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
