"""JSON of custom handlers: what it can hold."""

import array
import collections
import dataclasses
import datetime
import enum
import io
import ipaddress
import json
import math
import pathlib
import uuid
from decimal import Decimal

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest
import torch
from PIL import Image

from webtorch._handlers import json_encoding


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float
    y: np.float32


class Flower(pydantic.BaseModel):
    name: str
    size: float = math.nan
    day: datetime.date | None = None


class Aliased(pydantic.BaseModel):
    flower_name: str = pydantic.Field(alias="flowerName")


class Struct(msgspec.Struct):
    name: str


class Text(str):
    """A class that libraries make of texts."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True, "x"]}, '{"a":[1,2.5,null,true,"x"]}'),
        (math.nan, "null"),
        ([-math.inf], "[null]"),
        (2**70, str(2**70)),
        (np.float32(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (np.float16(0.1), "0.1"),
        (np.int64(3), "3"),
        (np.bool_(True), "true"),
        (np.arange(3), "[0,1,2]"),
        (np.array([[1.5, np.nan]]), "[[1.5,null]]"),
        (np.arange(6).reshape(2, 3)[:, ::2], "[[0,2],[3,5]]"),
        (np.float32([0.1, 0, 1e-30, -np.inf]), "[0.1,0.0,1e-30,null]"),
        (np.array(5), "5"),
        (np.array(["a"]), '["a"]'),
        (np.array([{"a": np.int8(1)}], dtype=object), '[{"a":1}]'),
        (np.datetime64("2020-01-02"), '"2020-01-02"'),
        (np.array(["2020-01-02", "NaT"], "datetime64[D]"), '["2020-01-02",null]'),
        (torch.tensor([0.1], requires_grad=True), "[0.1]"),
        (torch.tensor(2), "2"),
        (torch.ones(1, dtype=torch.bfloat16), "[1.0]"),
        (torch.ones(1).to(torch.float8_e5m2), "[1.0]"),
        (torch.tensor([0, 2.0]).to_sparse(), "[0.0,2.0]"),
        (torch.tensor([1 + 2j]).conj().imag, "[-2.0]"),
        (np.longdouble(1.5), "1.5"),
        (np.array([1, np.nan], np.longdouble), "[1.0,null]"),
        ({"a": pd.NaT, "b": pd.NA}, '{"a":null,"b":null}'),
        (pd.Timedelta("90s"), '"PT90S"'),
        (pd.Timestamp("2020-01-02"), '"2020-01-02T00:00:00"'),
        (collections.deque([1, 2]), "[1,2]"),
        ([range(2), {"a": 1}.keys(), {"a": 1}.values()], '[[0,1],["a"],[1]]'),
        ({"a": 1}.items(), '[["a",1]]'),
        (ipaddress.ip_address("192.0.2.1"), '"192.0.2.1"'),
        ({"a": pydantic.SecretStr("x")}, '{"a":"**********"}'),
        ({"a": pydantic.ByteSize(5)}, '{"a":5}'),
        ({np.int64(1): np.float32(0.5), Color.RED: 1}, '{"1":0.5,"red":1}'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5), '"2020-01-02T03:04:05"'),
        (datetime.date(2020, 1, 2), '"2020-01-02"'),
        (Decimal("1.50"), '"1.50"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Color.RED, '"red"'),
        (Point(1, np.float32(2)), '{"x":1,"y":2.0}'),
        (Struct("a"), '{"name":"a"}'),
        ([Flower(name="a")], '[{"name":"a","size":null,"day":null}]'),
        (Aliased(flowerName="a"), '{"flowerName":"a"}'),
        ({1}, "[1]"),
        (b"a", '"YQ=="'),
        (pathlib.PurePosixPath("/a"), '"/a"'),
        (Text("a"), '"a"'),
        ("\udcff", '"\\udcff"'),
        ([Flower(name="a"), "\udcff", math.inf], None),
        (Aliased(flowerName="\udcff"), '{"flowerName":"\\udcff"}'),
    ],
)
def test_json_of_values(value, text):
    encoded = json_encoding.encode(value)
    assert json_encoding.encoder_of(type(value))(value) == encoded
    parsed = json.loads(encoded)
    if text is None:
        assert parsed == [{"name": "a", "size": None, "day": None}, "\udcff", None]
    else:
        assert encoded.decode() == text


@pytest.mark.parametrize(
    "value", [object(), {"a": lambda: 1}, 1j, np.complex64(1), {(1, 2): 3}, {"\udcff": object()}]
)
def test_values_that_are_refused(value):
    with pytest.raises(TypeError):
        json_encoding.encode(value)


def test_float32_is_short_and_exact():
    random = np.random.default_rng(1)
    powers = np.float32(10) ** random.integers(-30, 30, 20000).astype(np.float32)
    values = (random.random(20000).astype(np.float32) - np.float32(0.5)) * powers
    encoded = json_encoding.encode(values)
    assert np.array_equal(np.float32(json.loads(encoded)), values)
    assert len(encoded) < len(json.dumps(values.tolist())) * 0.8


@pytest.mark.parametrize(
    ("value", "use"),
    [
        (pd.DataFrame({"a": [1]}), r'return its to_dict\("records"\)'),
        (pd.Series([1]), r"return its to_list\(\)"),
        (pl.DataFrame({"a": [1]}), r"return its to_dicts\(\)"),
        (pl.Series([1]), r"return its to_list\(\)"),
        (array.array("f", [1]), r"return its tolist\(\)"),
        (io.BytesIO(b"a"), r"return its getvalue\(\)"),
        (Image.new("L", (1, 1)), "return the bytes that it saves"),
        ((each for each in [1]), "make a list of it"),
        (map(str, [1]), "make a list of it"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_to_return_instead(value, use):
    with pytest.raises(TypeError, match=f"JSON cannot hold a .*: {use}"):
        json_encoding.encode({"a": value})
