"""Handlers that cannot be served are refused while the configuration is read."""

import re
import subprocess
from pathlib import Path

import pytest

from nginx import wait_for

GOOD = """
import webtorch

@webtorch.handler
def f(request): return "old"
"""

HEAD = """
import torch, webtorch
from jaxtyping import Complex64, Float, Float32, Int64
from torch import Tensor
"""

LOCATION = """
location = /f {
    webtorch_handler app:f;
}
"""


def signature(text: str) -> str:
    return f"{HEAD}\n@webtorch.infer\ndef f{text}: return x\n"


def refused(server) -> str:
    """Check a configuration that must be refused; return its [emerg] line."""
    line = next(line for line in server.refuse().splitlines() if "[emerg]" in line)
    number = 1 + server.conf.read_text().split("webtorch_handler")[0].count("\n")
    assert line.endswith(f"in {server.conf}:{number}"), line
    return line


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("x = 1", 'HandlerNotFoundError: module "app" has no function "f"'),
        ("def f(x): return x", '"f" is not decorated with @webtorch.infer'),
        (f"{HEAD}\n@webtorch.infer\ndef f(x): yield 1", 'it is a generator ("yield") of tensors'),
        (f"{HEAD}\n@webtorch.infer\nasync def f(x): yield 1", "it is an asynchronous generator"),
        (f"{HEAD}\n@webtorch.handler(threads=2)\nasync def f(x): return 1", "has no threads, it"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere' (.*app.py, line 1)"),
        ("def f(:", "SyntaxError: invalid syntax (app.py, line 1)"),
        ("\n\n1 / 0", "ZeroDivisionError: division by zero (.*app.py, line 3)"),
        ("import sys; sys.exit(3)", "SystemExit: 3 (.*app.py, line 1); a module with handlers is"),
        ("from .b import c", "(.*app.py, line 1); a relative import is one within a package:"),
        (
            "class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd",
            "Odd: (it has no text) (.*app.py, line 3)",
        ),
        # in a file of a package
        (
            "import jaxtyping, torch\njaxtyping.Float32[torch.Tensor, 'a,b']",
            "not commas (.*app.py, line 2)",
        ),
        ("import os; os._exit(0)", "ended the process while it was loaded"),
        ("import os; os.abort()", "crashed on signal 6 while it was loaded"),
    ],
)
def test_code_that_does_not_load(reconfigured, app, message):
    line = refused(reconfigured(LOCATION, app))
    assert re.search(re.escape(message).replace(r"\.\*", ".*"), line), line


def test_missing_module(reconfigured):
    line = refused(reconfigured("location = /f { webtorch_handler nowhere:f; }"))
    assert "ModuleNotFoundError: No module named 'nowhere'" in line


def test_file_in_place_of_a_module(reconfigured):
    line = refused(reconfigured("location = /f { webtorch_handler ./jobs/app.py:f; }"))
    assert 'handlers are named by modules, not by files: "jobs.app:f"' in line


def test_coroutine_of_tensors(reconfigured):
    text = '(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]: return x'
    line = refused(reconfigured(LOCATION, f"{HEAD}\n@webtorch.infer\nasync def f{text}"))
    assert 'webtorch handler "app:f": SignatureError: it is a coroutine' in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('(x) -> Float32[Tensor, "batch 2"]', 'its parameter "x" has no annotation'),
        ('(x: Float32[Tensor, "batch 2"])', "it has no return annotation"),
        ('() -> Float32[Tensor, "2"]', "it takes no tensors; use @webtorch.handler"),
        ('(x: Tensor) -> Float32[Tensor, "batch 2"]', '"x" is not annotated with a dtype and'),
        (
            '(x: int) -> Float32[Tensor, "2"]',
            '"x" is not annotated with a dtype and a shape: numbers are tensors',
        ),
        (
            '(x: Float[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]',
            'the dtype of "x" must be one of bool, uint8, uint16,',
        ),
        (
            '(x: Complex64[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]',
            'the dtype of "x" must be one of',
        ),
        (
            '(x: Float32[Tensor, "batch n+1"]) -> Float32[Tensor, "batch 2"]',
            'axis "n+1" of "x" is neither a size',
        ),
        (
            '(x: Float32[Tensor, "... 2"]) -> Float32[Tensor, "batch 2"]',
            'axis "..." of "x" is neither a size',
        ),
        (
            '(x: Float32[Tensor, "batch 0"]) -> Float32[Tensor, "batch 2"]',
            'axis "0" of "x" is neither a size',
        ),
        (
            '(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "2"]',
            'either all of its tensors have "batch" as their first axis, or none has',
        ),
        (
            '(x: Float32[Tensor, "batch 1 1 1 1 1 1 1 1 1"]) -> Float32[Tensor, "batch 2"]',
            '"x" has more than 8 axes',
        ),
        (
            '(x: Float32[Tensor, "batch 99999 99999"]) -> Float32[Tensor, "batch 2"]',
            "has too large a row",
        ),
        ('(*x: Float32[Tensor, "2"]) -> Float32[Tensor, "2"]', 'its parameter "x" is not a'),
        ('(x: "Nothing") -> Float32[Tensor, "2"]', "its annotations cannot be read"),
    ],
)
def test_signatures_that_cannot_be_served(reconfigured, text, message):
    assert message in refused(reconfigured(LOCATION, signature(text)))


@pytest.mark.parametrize("other", ["proxy_pass http://127.0.0.1:1;", "empty_gif;"])
@pytest.mark.parametrize(
    "own", ["webtorch_handler app:f;", "webtorch_inference_protocol;", "webtorch_control;"]
)
def test_two_handlers_of_a_location(configured, own, other):
    for directives in (f"{own} {other}", f"{other} {own}"):
        status, output = configured(f"location = /f {{ {directives} }}", GOOD).check()
        assert status == 1
        assert "conflicts with another handler of" in output
        assert "nginx.conf:" in output or "/f" in output


def test_two_handlers_of_a_location_in_other_blocks(configured):
    server = """
    location = /a { webtorch_handler app:f; limit_except GET { proxy_pass http://127.0.0.1:1; } }
    location = /b { proxy_pass http://127.0.0.1:1; if ($arg_x) { webtorch_handler app:f; } }
    location = /c { webtorch_handler app:f; if ($arg_x) { proxy_pass http://127.0.0.1:1; } }
    location /d { webtorch_handler app:f; location /d/e { proxy_pass http://127.0.0.1:1; } }
    """
    status, output = configured(server, GOOD).check()
    assert status == 0, output


def test_traceback_is_printed(configured):
    server = configured(LOCATION, "def helper(): return 1 / 0\nhelper()\n")
    _, output = server.check()
    assert "Traceback (most recent call last):" in output
    assert 'app.py", line 1, in helper' in output


@pytest.mark.parametrize("app", ["1 / 0", "import os; os.abort()", "x = 1"])
def test_reload_with_broken_code_keeps_old_workers(start, app):
    server = start(LOCATION, GOOD, expected=(r"\[emerg\].*webtorch handler",))
    workers = server.workers()
    server.write_app(app)
    server.process.send_signal(1)
    server.wait_for_log(r"\[emerg\].*webtorch handler \"app:f\"")
    wait_for(lambda: server.workers() == workers, "the child that checks to be gone")
    assert server.get("/f").text == "old"

    server.write_app(GOOD.replace("old", "new"))
    server.reload()
    assert server.get("/f").text == "new"


def test_module_loaded_but_unused(start):
    server = start("location = /x { return 200 x; }")
    assert server.get("/x").text == "x"
    maps = Path(f"/proc/{server.workers()[0]}/maps").read_text()
    assert "libtorch" not in maps
    assert "libpython" in maps


def test_signalling_does_not_start_python(configured):
    server = configured(LOCATION, "1 / 0")
    done = subprocess.run(
        server.command("-s", "stop"), capture_output=True, text=True, timeout=60, check=False
    )
    assert "ZeroDivisionError" not in done.stderr
    assert "nginx.pid" in done.stderr
