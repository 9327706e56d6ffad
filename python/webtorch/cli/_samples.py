"""Values that fit a JSON Schema, for requests that are printed as examples."""

import json
import math
from collections.abc import Mapping
from typing import Any

DEEPEST = 8
"""Objects and arrays within each other; a class that has itself as a field is cut there."""

_TEXTS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "name@example.com",
    "uri": "https://example.com/",
    "decimal": "0.5",
}


def sample(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value of a schema: its default or example, else one with what is required.

    Args:
        schema: The schema.
        components: Schemas that it refers to, by name.
        depth: Objects and arrays that the value is in.

    """
    if reference := schema.get("$ref"):
        return sample(components[reference.rpartition("/")[2]], components, depth)
    for given in ("examples", "enum"):
        if schema.get(given):
            return schema[given][0]
    for given in ("default", "const"):
        if given in schema:
            return schema[given]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return sample(schema[several][0], components, depth)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind if isinstance(kind, str) else kind[0]
    if kind in ("object", "array") and depth >= DEEPEST:
        return {} if kind == "object" else []
    if kind == "object":
        fields = schema.get("properties", {})
        return {
            name: sample(fields.get(name, {}), components, depth + 1)
            for name in schema.get("required", ())
        }
    if kind == "array":
        if "prefixItems" in schema:
            return [sample(item, components, depth + 1) for item in schema["prefixItems"]]
        items = schema.get("items") or {}
        return [sample(items, components, depth + 1)] * max(1, schema.get("minItems", 1))
    return _scalar(kind, schema)


def texts(value: Any) -> list[str]:
    """Return a value as arguments of a query have it: one for each item of an array."""
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value if isinstance(value, str) else json.dumps(value)]


def _scalar(kind: str, schema: Mapping[str, Any]) -> Any:
    if kind == "string":
        text = _TEXTS.get(schema.get("format", ""), "text")
        return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return _number(kind, schema)


def _number(kind: str, schema: Mapping[str, Any]) -> float:
    least = schema.get("minimum", -math.inf)
    most = schema.get("maximum", math.inf)
    above = schema.get("exclusiveMinimum", -math.inf)
    below = schema.get("exclusiveMaximum", math.inf)

    def fits(value: float) -> bool:
        is_of_kind = math.isfinite(value) and (kind == "number" or value == int(value))
        return is_of_kind and least <= value <= most and above < value < below

    low, high = max(least, above), min(most, below)
    return next(filter(fits, (1, low, low + 1, high, high - 1, (low + high) / 2)), 1)
