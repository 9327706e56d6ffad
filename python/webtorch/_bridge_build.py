"""Generates the C side of the bridge: `python -m webtorch._bridge_build`.

The declarations of ngx_webtorch_api.h and its numbers are cffi's cdef. The C that cffi generates
from them is compiled into the nginx module, so that building the module needs no Python package.
"""

import re
from pathlib import Path

import cffi

API = Path(__file__).resolve().parents[2] / "ngx_webtorch/api"
HEADER = API / "ngx_webtorch_api.h"
NUMBERS = API / "ngx_webtorch_api_numbers.h"
GENERATED = API / "ngx_webtorch_bridge.c"

PROLOGUE = """
#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"
"""


def _marked(text: str, mark: str = "") -> str:
    """Return the text between the marks `cdef: begin` and `cdef: end` of a header."""
    begin, end = f"/* cdef: {mark}begin */", f"/* cdef: {mark}end */"
    return text[text.index(begin) + len(begin) : text.index(end)]


def generate(path: Path) -> None:
    """Write the generated C to a file."""
    header = re.sub(r"__attribute__\(\(.*?\)\)", "", HEADER.read_text())

    builder = cffi.FFI()
    builder.cdef(_marked(NUMBERS.read_text()) + _marked(header) + _marked(header, "c "))
    builder.embedding_api(_marked(header, "python "))
    builder.set_source("webtorch._native", PROLOGUE)
    builder.embedding_init_code("from webtorch._worker import bridge")
    builder.emit_c_code(str(path))


if __name__ == "__main__":
    generate(GENERATED)
