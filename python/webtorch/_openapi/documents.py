"""Documents of OpenAPI 3.1: what functions take and answer, from their signatures."""

import inspect
import itertools
import re
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor

import webtorch
from webtorch._handlers import lookup
from webtorch._handlers.arguments import Arguments, arguments
from webtorch._handlers.functions import Handler, RequestFunction, TensorFunction
from webtorch._handlers.response import Response
from webtorch._schema.schema import TensorSpec
from webtorch._streams.generations import GenerateFunction
from webtorch._streams.streams import StreamFunction

REF = "#/components/schemas/{name}"
_PYDANTIC_REF = REF.replace("{name}", "{model}")

_CAPTURE = re.compile(r"\(\?P?<(\w+)>((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*)\)")

# media types of tensors: whether they hold several, and strings
_FORMATS = {
    "application/x-npy": (False, False),
    "application/x-npz": (True, False),
    "application/vnd.safetensors": (True, False),
    "application/octet-stream": (False, False),
    "text/csv": (True, True),
    "application/vnd.apache.arrow.stream": (True, True),
}

_FLOATS = {
    torch.float16: 65504.0,
    torch.bfloat16: 3.3895313892515355e38,
    torch.float32: 3.4028234663852886e38,
    torch.float64: None,
}

_ERRORS = {
    "400": "The body is malformed.",
    "406": "No format in the header Accept is known.",
    "413": "The body is too large.",
    "415": "The format of the body is not known.",
    "422": "The body does not fit the signature.",
    "500": "The function has failed.",
    "503": "Too many requests wait.",
    "504": "There was no answer in time.",
}

_FAILURE = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {
        "error": {"type": "string", "description": "What is wrong."},
        "code": {"type": "string", "description": "The same for programs."},
        "detail": {"description": "More for programs."},
    },
}


@dataclass(frozen=True)
class Operation:
    """A function at an address.

    Attributes:
        path: The address, with `{name}` for each capture.
        handler: The function.
        captures: Named captures of the location.

    """

    path: str
    handler: Handler
    captures: Sequence[str] = ()


def operation(modifier: str, location: str, handler: Handler) -> Operation | None:
    """Return the operation of a location of nginx; None: its addresses cannot be written.

    Args:
        modifier: What is in front of the location: empty, `=`, `~`, `~*` or `^~`.
        location: The path or the regular expression.
        handler: Its function.

    """
    if not modifier.startswith("~"):
        return Operation(location, handler)
    captures: list[str] = []

    def name(match: re.Match[str]) -> str:
        captures.append(match[1])
        return f"\0{match[1]}\1"

    text = _CAPTURE.sub(name, location.removeprefix("^").removesuffix("$"))
    text = re.sub(r"\\([./_-])", r"\1", text)
    if not location.startswith("^") or not re.fullmatch(r"/[\w./~%\0\1-]*", text):
        return None
    return Operation(text.replace("\0", "{").replace("\1", "}"), handler, captures)


def document(
    operations: Iterable[Operation], title: str = "WebTorch", version: str = "1", server: str = ""
) -> dict[str, Any]:
    """Return a document of OpenAPI 3.1.

    Args:
        operations: The functions with their addresses.
        title: Name of the application.
        version: Its version.
        server: Address of the server; empty: that which serves the document.

    """
    components: dict[str, Any] = {"Error": _FAILURE}
    paths: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    for one in operations:
        item = paths.setdefault(one.path, {})
        if isinstance(one.handler, TensorFunction):
            item["options"] = _metadata(_unique(f"{_name(one.handler)}_options", names))
        described = _entry(one, components)
        for method in one.handler.methods:
            entry = described | _of_method(one.handler, method)
            if method in ("GET", "HEAD", "DELETE", "OPTIONS"):
                entry.pop("requestBody", None)
            entry["operationId"] = _unique(f"{_name(one.handler)}_{method.lower()}", names)
            item[method.lower()] = entry
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }
    if server:
        found["servers"] = [{"url": server}]
    return found


def _name(handler: Handler) -> str:
    return str(getattr(handler, "__name__", "function"))


def _unique(name: str, names: set[str]) -> str:
    found, number = name, 1
    while found in names:
        number += 1
        found = f"{name}_{number}"
    names.add(found)
    return found


def _entry(one: Operation, components: dict[str, Any]) -> dict[str, Any]:
    handler = one.handler
    text = inspect.cleandoc(handler.__doc__ or "") if handler.__doc__ else ""
    summary, _, description = text.partition("\n")
    entry: dict[str, Any] = {"summary": summary or _name(handler)}
    if description.strip():
        entry["description"] = description.strip()
    entry["tags"] = [handler.kind.name.lower()]
    if isinstance(handler, GenerateFunction):
        return entry | _of_generations(handler)
    if isinstance(handler, TensorFunction):
        return entry | _of_tensors(handler)
    return entry | _of_requests(handler, one.captures, components)


def _errors(statuses: Iterable[str]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF.format(name="Error")}}}
    found = {status: {"description": _ERRORS[status], "content": content} for status in statuses}
    return {**found, "default": {"description": "Any other error.", "content": content}}


# --- functions of tensors ---


def _metadata(name: str) -> dict[str, Any]:
    """Return the operation that describes a function."""
    tensors = {"type": "array", "items": {"type": "object"}}
    properties = {"name": {"type": "string"}, "inputs": tensors, "outputs": tensors}
    schema = {"type": "object", "required": [*properties], "properties": properties}
    content = {"application/json": {"schema": schema}}
    return {
        "summary": "Signature, as the Open Inference Protocol has it",
        "operationId": name,
        "responses": {"200": {"description": "The signature.", "content": content}, **_errors([])},
    }


def _of_tensors(handler: TensorFunction) -> dict[str, Any]:
    schema = handler.wire_schema
    body = _tensors_content(schema.inputs, schema.batched, is_input=True)
    # a text that a client generates is hardly a table
    body.pop("text/csv", None)
    answer = _tensors_content(schema.outputs, schema.batched, is_input=False)
    if isinstance(handler, StreamFunction):
        lines: dict[str, Any] = {"application/jsonl": {}}
        body, answer = body | lines, answer | lines
    return {
        "requestBody": {
            "description": "CSV and formats of PyTorch and Torch7, too, if they hold the tensors.",
            "required": True,
            "content": body,
        },
        "responses": {
            "200": {
                "description": "The outputs, a row for each of the request.",
                "content": answer,
            },
            **_errors(_ERRORS),
        },
    }


def _of_generations(handler: GenerateFunction) -> dict[str, Any]:
    """Describe requests of one row, whose answers have a row for each step."""
    schema = handler.wire_schema
    body = _tensors_content(schema.inputs, handler.opener.schema.batched, is_input=True, most=1)
    body.pop("text/csv", None)
    steps = {
        spec.name: {"type": "array", "items": _array(spec, False, is_input=False)}
        for spec in schema.outputs
    }
    whole = {"type": "object", "required": [*steps], "properties": steps}
    answer: dict[str, Any] = {
        "application/json": {"schema": whole},
        **{kind: {} for kind in ("application/x-ndjson", "application/jsonl", "text/event-stream")},
    }
    if len(schema.outputs) == 1:
        (spec,) = schema.outputs
        answer["text/plain" if spec.has_strings else "application/octet-stream"] = {}
    return {
        "requestBody": {
            "description": "The tensors that a generation begins with.",
            "required": True,
            "content": body,
        },
        "responses": {
            "200": {
                "description": "The outputs of all steps, at once as JSON or as they come.",
                "content": answer,
            },
            "204": {"description": "An EventSource has come back after the end."},
            **_errors(_ERRORS),
        },
    }


def _of_method(handler: Handler, method: str) -> dict[str, Any]:
    """Return what a method has that others have not."""
    if method != "GET":
        return {}
    if isinstance(handler, GenerateFunction):
        specs = handler.wire_schema.inputs
        return {"parameters": [_tensor_parameter(spec) for spec in specs]}
    if isinstance(handler, StreamFunction):
        opened = {"101": {"description": "A WebSocket, whose messages are chunks."}}
        return {"responses": {**opened, **_errors(["400", "503"])}}
    return {}


def _tensor_parameter(spec: TensorSpec) -> dict[str, Any]:
    """Return an argument of the query: a text as it is, any other tensor in JSON."""
    found = {"name": spec.name, "in": "query", "required": not _is_optional(spec, is_input=True)}
    schema = _array(spec, False, is_input=True)
    if spec.has_strings and not spec.shape:
        return {**found, "schema": schema}
    return {**found, "content": {"application/json": {"schema": schema}}}


def _tensors_content(
    specs: Sequence[TensorSpec], batched: bool, is_input: bool, most: int | None = None
) -> dict[str, Any]:
    several = len(specs) > 1
    strings = any(spec.has_strings for spec in specs)
    schema = _json(specs, batched, is_input, most)
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    for media_type, (holds_several, holds_strings) in _FORMATS.items():
        if (holds_several or not several) and (holds_strings or not strings):
            content[media_type] = {}
    if is_input and len(specs) == 1 and specs[0].dtype is bytes and not specs[0].shape:
        files = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
        content["multipart/form-data"] = {"schema": files}
        content |= {kind: {} for kind in ("image/*", "audio/*", "video/*")}
    return content


def _is_optional(spec: TensorSpec, is_input: bool) -> bool:
    return spec.gaps.optional or (is_input and spec.gaps.default is not None)


def _json(
    specs: Sequence[TensorSpec], batched: bool, is_input: bool, most: int | None
) -> dict[str, Any]:
    """Return the schema of tensors in JSON: by name, as rows, or a single one as it is.

    Args:
        specs: The tensors.
        batched: Whether they have a batch axis.
        is_input: Whether a client sends them.
        most: Rows that a batch has at most; None: any number.

    """
    optional = {spec.name for spec in specs if _is_optional(spec, is_input)}
    row = {
        "type": "object",
        "properties": {spec.name: _array(spec, False, is_input) for spec in specs},
        "required": [spec.name for spec in specs if spec.name not in optional],
        "additionalProperties": False,
    }
    if not batched:
        return {"anyOf": [_array(specs[0], False, is_input), row]} if len(specs) == 1 else row
    limit = {} if most is None else {"maxItems": most}
    batches = {spec.name: _array(spec, True, is_input) | limit for spec in specs}
    records = {"type": "array", "items": row, "minItems": 1} | limit
    forms: list[dict[str, Any]] = [row | {"properties": batches}, row, records]
    if len(specs) == 1:
        forms = [batches[specs[0].name], _array(specs[0], False, is_input), *forms]
    return {"anyOf": forms}


def _array(spec: TensorSpec, batched: bool, is_input: bool) -> dict[str, Any]:
    """Return the schema of a tensor, or of one of its rows."""
    schema = _element(spec)
    if spec.gaps.missing or (not is_input and spec.dtype in _FLOATS):
        # a NaN of an answer is null in JSON
        schema = {"anyOf": [schema, {"type": "null"}]}
    for size in reversed(spec.shape):
        if isinstance(size, int):
            schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
        else:
            schema = {"type": "array", "items": schema, "minItems": 1, "description": size}
    if batched:
        schema = {"type": "array", "items": schema, "minItems": 1, "description": "batch"}
    dtype = getattr(spec.dtype, "__name__", str(spec.dtype)).removeprefix("torch.")
    return schema | {"x-dtype": dtype}


def _element(spec: TensorSpec) -> dict[str, Any]:
    dtype = spec.dtype
    if not isinstance(dtype, torch.dtype):
        return {"type": "string"}
    if dtype is torch.bool:
        return {"type": "boolean"}
    if dtype in _FLOATS:
        most = _FLOATS[dtype]
        return {"type": "number"} | ({} if most is None else {"minimum": -most, "maximum": most})
    info = torch.iinfo(dtype)
    return {"type": "integer", "minimum": info.min, "maximum": info.max}


# --- functions of requests ---


def _of_requests(
    handler: RequestFunction, captures: Sequence[str], components: dict[str, Any]
) -> dict[str, Any]:
    taken = arguments(inspect.unwrap(handler), captures, handler.variables, handler.methods)
    found: dict[str, Any] = {}
    parameters = [
        _parameter(name, "path", typing.cast(Any, taken.captures.get(name, str)), True, components)
        for name in captures
    ]
    parameters += [
        _parameter(name, "query", annotation, name in taken.required, components)
        for name, annotation in taken.query.items()
    ]
    if parameters:
        found["parameters"] = parameters
    if body := _body(taken, components):
        found["requestBody"] = body
    elif taken.has_request:
        found["requestBody"] = {"content": {"*/*": {}}}
    found["responses"] = {
        **_answers(handler, taken.returned, components),
        **_errors(["422", "500", "503", "504"]),
    }
    return found


def _parameter(
    name: str, place: str, annotation: Any, required: bool, components: dict[str, Any]
) -> dict[str, Any]:
    schema = schema_of(annotation, components)
    return {"name": name, "in": place, "required": required, "schema": schema}


def _body(taken: Arguments, components: dict[str, Any]) -> dict[str, Any] | None:
    if not taken.body:
        return None
    schemas = {name: schema_of(kind, components) for name, kind in taken.body.items()}
    required = [name for name in schemas if name in taken.required]
    if len(schemas) == 1:
        schema = next(iter(schemas.values()))
    else:
        schema = {"type": "object", "properties": schemas, "required": required}
    return {
        "required": bool(required),
        "content": {"application/json": {"schema": schema}},
    }


def _answers(
    handler: RequestFunction, annotation: Any, components: dict[str, Any]
) -> dict[str, Any]:
    """Return the answers of success; what a function returns in a Response is not known."""
    any_answer = {"2XX": {"description": "What the function returns.", "content": {"*/*": {}}}}
    if handler.is_generator:
        kind = handler.content_type or "*/*"
        return {"200": {"description": "Items as they come.", "content": {kind: {}}}}
    if annotation is None or typing.get_origin(annotation) is tuple:
        return any_answer
    if annotation is type(None):
        return {"200": {"description": "Without a body."}}
    if annotation is str:
        content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    elif annotation in (bytes, bytearray, memoryview):
        content = {"application/octet-stream": {}}
    elif annotation is Tensor:
        content = {"application/json": {}, "application/x-npy": {}}
    elif isinstance(annotation, type) and issubclass(annotation, Response):
        return any_answer
    else:
        schema = schema_of(annotation, components)
        if not schema:
            return any_answer
        content = {"application/json": {"schema": schema}}
    return {"200": {"description": "What the function returns.", "content": content}}


def schema_of(annotation: Any, components: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an annotation, whose classes are components; empty: any value."""
    if hasattr(annotation, "model_json_schema"):
        schema: dict[str, Any] = annotation.model_json_schema(ref_template=_PYDANTIC_REF)
        defined = schema.pop("$defs", {})
        if "$ref" not in schema:
            # a model that refers to itself is among the definitions already
            name = re.sub(r"[^\w.-]", "_", annotation.__name__)
            defined[name] = schema
            schema = {"$ref": REF.format(name=name)}
        return _added(schema, defined, components)
    try:
        (found,), defined = msgspec.json.schema_components([annotation], ref_template=REF)
    except Exception:
        return _pydantic_schema(annotation, components)
    return _added(found, defined, components)


def _pydantic_schema(annotation: Any, components: dict[str, Any]) -> dict[str, Any]:
    try:
        from pydantic import TypeAdapter

        schema = TypeAdapter(annotation).json_schema(ref_template=_PYDANTIC_REF)
    except Exception:
        return {}
    return _added(schema, schema.pop("$defs", {}), components)


def _added(
    schema: dict[str, Any], defined: Mapping[str, Any], components: dict[str, Any]
) -> dict[str, Any]:
    """Return a schema whose definitions were added to the components.

    Classes of several modules may have the same name. Those that differ from the components of
    their names get a number.
    """
    for number in itertools.count(1):
        names = {
            REF.format(name=name): REF.format(name=name if number == 1 else f"{name}_{number}")
            for name in defined
        }
        renamed = {
            names[REF.format(name=name)].rpartition("/")[2]: _renamed(each, names)
            for name, each in defined.items()
        }
        if all(components.get(name, each) == each for name, each in renamed.items()):
            break
    components.update(renamed)
    found: dict[str, Any] = _renamed(schema, names)
    return found


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a schema with other references, which are in the mapping of a discriminator, too."""
    if isinstance(schema, dict):
        return {key: _renamed(value, names) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_renamed(value, names) for value in schema]
    return names.get(schema, schema) if isinstance(schema, str) else schema


# --- the handler of webtorch_openapi ---


@dataclass(frozen=True)
class _Known:
    """A document that was made, and the functions that it describes."""

    handlers: Sequence[Handler]
    document: Mapping[str, Any]


_documents: dict[str, _Known] = {}
"""The last document of each server, by its locations."""


@webtorch.handler(methods=["GET", "HEAD"], variables=["webtorch_locations"])
def serve(request: webtorch.Request) -> Mapping[str, Any]:
    """Answer with the document of all functions of a server."""
    return of_locations(request.variables["webtorch_locations"] or "")


def of_locations(locations: str) -> Mapping[str, Any]:
    """Return the document of locations, a line each: modifier, function and location."""
    lines = [line.split(" ", 2) for line in locations.splitlines()]
    known = _documents.get(locations)
    if known:
        # webtorch_reload makes other functions of changed code; until they are there, and if they
        # cannot be made, the old ones are served
        served = [_imported(name) for _, name, _ in lines]
        if None in served or served == known.handlers:
            return known.document
    handlers = [lookup.find(name) for _, name, _ in lines]
    found = (
        operation(modifier.replace("-", ""), location, handler)
        for (modifier, _, location), handler in zip(lines, handlers, strict=True)
    )
    known = _Known(handlers, document(one for one in found if one))
    _documents[locations] = known
    return known.document


def _imported(name: str) -> Handler | None:
    """Return a function of a module that is imported; None: it is not."""
    module, _, function = name.partition(":")
    return getattr(sys.modules.get(module), function, None)
