"""The generated C, the header and the typed stub agree."""

import ast
import re

from webtorch import _bridge_build
from webtorch._handlers.functions import METHODS, HandlerKind
from webtorch._schema.schema import DTYPES

NET = _bridge_build.NET.read_text()
HEADER = _bridge_build.NUMBERS.read_text() + _bridge_build.HEADER.read_text() + NET
STUB = _bridge_build.Path(_bridge_build.__file__).with_name("_native.pyi").read_text()


def constant(name: str) -> int:
    found = re.search(rf"#define {name}\s+(\d+)", HEADER)
    assert found, name
    return int(found[1])


def test_generated_file_is_up_to_date(tmp_path):
    generated = tmp_path / "bridge.c"
    _bridge_build.generate(generated)
    assert generated.read_text() == _bridge_build.GENERATED.read_text(), (
        "run python -m webtorch._bridge_build"
    )


def test_declarations_of_the_formats_are_up_to_date(tmp_path):
    generated = tmp_path / "declarations.h"
    _bridge_build.declare(generated)
    assert generated.read_text() == _bridge_build.DECLARATIONS.read_text(), (
        "run python -m webtorch._bridge_build"
    )


def test_stub_declares_what_the_header_does():
    section = HEADER[HEADER.index("cdef: c begin") : HEADER.index("cdef: c end")]
    section += NET[NET.index("cdef: begin") : NET.index("cdef: end")]
    declared = set(re.findall(r"^[a-z].*\b(ngx_webtorch_\w+)\(", section, re.M))
    tree = ast.parse(STUB)
    native = next(node for node in tree.body if getattr(node, "name", "") == "_Lib")
    stubbed = {node.name for node in native.body if isinstance(node, ast.FunctionDef)}
    assert stubbed == declared

    for name, value in re.findall(r"(WEBTORCH_\w+): Literal\[(\d+)\]", STUB):
        assert constant(name) == int(value)


def test_numbers_match_the_header():
    assert [constant(f"WEBTORCH_{kind.name}") for kind in HandlerKind] == list(HandlerKind)
    assert [constant(f"WEBTORCH_{name.upper()}") for name in DTYPES] == list(range(len(DTYPES)))
    assert [constant(f"WEBTORCH_{name}") for name in METHODS] == [1 << n for n in range(7)]
