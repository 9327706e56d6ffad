"""Requests that a function answers, made from its signature, as lines for a shell."""

import json
import math
import shlex
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from webtorch.cli._functions import Function, Tensor

LONGEST = 200
"""Characters of a body that is written out; a longer one is printed by Python."""

SIZE = 4
"""Size of a variable axis."""

IMAGE_SIZE = 32
"""Size of a variable axis of images, which many networks halve several times."""

WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")
"""Methods for a body, those that are used for one more often first."""

IMAGE_AXES = {"height", "width", "h", "w", "rows", "cols", "columns"}


def curl(function: Function, url: str, options: Sequence[str] = ()) -> str:
    """Return a command that calls a function; further options can be appended to it.

    Args:
        function: The function.
        url: Its address.
        options: Further options of curl.

    """
    command = shlex.join(["curl", *options])
    if not function.has_tensors:
        if function.query:
            url = shlex.quote(f"{url}?{urlencode(function.query)}")
        if function.body is None and "GET" in function.methods:
            return f"{command} {url}"
        method = next(each for each in (*WITH_BODY, *function.methods) if each in function.methods)
        how = "" if method == "POST" else f" -X {method}"
        return f"{command}{how} --json {shlex.quote(function.body or '{}')} {url}"
    if sum(math.prod(_shape(function, one)) for one in function.inputs) <= LONGEST:
        body = json.dumps(document(function), ensure_ascii=False)
        if len(body) <= LONGEST:
            return f"{command} --json {shlex.quote(body)} {url}"
    program = f"import json; print(json.dumps({_expression(function)}))"
    return f"python3 -c {shlex.quote(program)} | {command} --json @- {url}"


def order(functions: Sequence[Function]) -> list[Function]:
    """Sort functions so that the first example is the most likely to be answered with 200."""

    def rank(function: Function) -> tuple[int, int]:
        kinds = ("infer", "handler", "stream", "train")
        variable = sum(isinstance(size, str) for one in function.inputs for size in one.shape)
        return kinds.index(function.kind), variable

    return sorted(functions, key=rank)


def _shape(function: Function, tensor: Tensor, rows: int = 1) -> list[int]:
    sizes = [
        size if isinstance(size, int) else IMAGE_SIZE if size.lower() in IMAGE_AXES else SIZE
        for size in tensor.shape
    ]
    return [rows] * function.batched + sizes


def _value(tensor: Tensor) -> Any:
    """Return an element: in most functions 1 is a class, a token and a length."""
    if tensor.dtype in ("str", "bytes"):
        return "text"
    if tensor.dtype == "bool":
        return True
    return 0.5 if "float" in tensor.dtype else 1


def document(function: Function, rows: int = 1) -> Any:
    """Return a body for a function: a tensor, or several by name."""
    found = {}
    for tensor in function.inputs:
        value = _value(tensor)
        for size in reversed(_shape(function, tensor, rows)):
            value = [value] * size
        found[tensor.name] = value
    return found if len(found) > 1 else next(iter(found.values()))


def _expression(function: Function) -> str:
    """Return the same as an expression of Python, whose length does not depend on the sizes."""
    found = {}
    for tensor in function.inputs:
        text = repr(_value(tensor)).replace("'", '"')
        for size in reversed(_shape(function, tensor)):
            text = f"[{text}]" if size == 1 else f"[{text}]*{size}"
        found[tensor.name] = text
    if len(found) == 1:
        return next(iter(found.values()))
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in found.items()) + "}"
