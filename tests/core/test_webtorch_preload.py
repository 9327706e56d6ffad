"""The directive webtorch_preload: what the master imports."""

import re

import pytest

from marks import needs_root

APP = """
import os, sys, torch, webtorch
from pathlib import Path

before = "wave" in sys.modules
known = set(sys.modules)
torch.optim.SGD([torch.zeros(1)], lr=1)
new = set(sys.modules) - known

@webtorch.handler
def compilers(request):
    return ["torch._dynamo" in each for each in (known, set(sys.modules))]

@webtorch.handler
def preloaded(request):
    maps = Path(f"/proc/{os.getppid()}/maps").read_text()
    return {"wave": before, "torch": "libtorch_cpu" in maps}

@webtorch.handler
def imported_for_an_optimizer(request):
    return " ".join(sorted(new)) or "nothing"
"""

# a worker of another user may not look into the master
pytestmark = needs_root
MAIN = "user root;"
LOCATION = "location = / { webtorch_handler app:preloaded; }"


def test_torch_is_preloaded_by_default(start):
    assert start(LOCATION, APP, main=MAIN).get("/").json() == {"wave": False, "torch": True}


def test_named_modules(start):
    server = start(LOCATION, APP, main=MAIN, http="webtorch_preload torch wave;")
    assert server.get("/").json() == {"wave": True, "torch": True}


def test_missing_module(configured):
    status, output = configured(LOCATION, APP, http="webtorch_preload nowhere;").check()
    assert status == 1
    assert "[emerg]" in output and 'could not import "nowhere" with' in output
    assert re.search(
        r"ModuleNotFoundError: No module named 'nowhere' in \S+/nginx.conf:\d+", output
    )


def test_optimizer_imports_are_preloaded(start):
    server = start("location = / { webtorch_handler app:imported_for_an_optimizer; }", APP)
    assert server.get("/").text == "nothing"


@pytest.mark.parametrize(
    "change",
    [
        ("", ""),
        (
            "torch.optim.SGD([torch.zeros(1)], lr=1)",
            'webtorch.Model("net", torch.nn.ReLU(), compile=True)',
        ),
    ],
    ids=["optimizer", "compiled"],
)
def test_compiler_is_preloaded_if_it_is_used(start, change):
    """An optimizer, or a model that is compiled: the master has imported it for all workers."""
    server = start("location = / { webtorch_handler app:compilers; }", APP.replace(*change))
    assert server.get("/").json() == [True, True]


def test_compiler_is_imported_if_it_is_used_after_a_reload(start):
    app = APP.replace("torch.optim.SGD([torch.zeros(1)], lr=1)", "")
    server = start("location = / { webtorch_handler app:compilers; }", app)
    assert server.get("/").json() == [False, False]
    server.write_app(APP)
    server.reload()
    assert server.get("/").json() == [True, True]
