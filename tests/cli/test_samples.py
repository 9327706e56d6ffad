"""Examples of requests that the command line makes from signatures."""

import enum
import json
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

import pydantic
import pytest
from msgspec import Meta

from webtorch._handlers import converters
from webtorch._openapi.documents import schema_of
from webtorch.cli._samples import sample, texts


class Color(enum.Enum):
    RED = "red"


class Part(TypedDict):
    size: Annotated[int, Meta(ge=3)]
    parts: "list[Part]"


class Whole(pydantic.BaseModel):
    name: Annotated[str, pydantic.Field(min_length=6)]
    kind: Literal["a", "b"]
    day: date
    share: Annotated[float, pydantic.Field(gt=0, lt=1)]
    pair: tuple[int, str]
    ratio: float | None
    flags: list[bool]
    left_out: int = 3


@pytest.mark.parametrize(
    "kind", [int, list[str], Annotated[int, Meta(lt=0)], dict[str, int], Color, Whole, Decimal]
)
def test_samples_fit(kind):
    components: dict[str, Any] = {}
    value = sample(schema_of(kind, components), components)
    converters.of(kind, "x").from_json(json.dumps(value).encode())
    json.dumps(value)


def test_sample_of_a_class_in_itself():
    components: dict[str, Any] = {}
    value = sample(schema_of(Part, components), components)
    assert value["size"] == value["parts"][0]["size"] == 3
    assert json.dumps(value).count("size") < 9
    assert texts([True, "a", 2]) == ["true", "a", "2"]
