"""@webtorch.handler(variables=...): nginx's variables in requests."""

import pytest

import webtorch

APP = """
import webtorch

NAMES = ["remote_addr", "request_id", "http_x_test", "arg_a", "mine", "unknown", "uri"]

@webtorch.handler(variables=NAMES)
def show(request):
    assert list(request.variables) == NAMES
    return dict(request.variables)

@webtorch.handler
def none(request):
    return dict(request.variables)
"""
SERVER = """
set $mine "";
location = /show { webtorch_handler app:show mode=thread; }
location = /inline { webtorch_handler app:show mode=inline; set $mine here; }
location = /none { webtorch_handler app:none; }
"""


def test_variables(server):
    found = server.get("/show?a=1", headers={"X-Test": "grüße".encode()}).json()
    assert len(found.pop("request_id")) == 32
    assert found == {
        "remote_addr": "127.0.0.1",
        "http_x_test": "grüße",
        "arg_a": "1",
        "mine": "",
        "unknown": None,
        "uri": "/show",
    }
    found = server.get("/inline").json()
    assert found["mine"] == "here" and found["arg_a"] is None and found["http_x_test"] is None


def test_undeclared_variables_are_absent(server):
    assert server.get("/none").json() == {}


@pytest.mark.parametrize("names", [["Remote_Addr"], ["$uri"], [""], ["a" * 64], ["a"] * 17])
def test_invalid_declarations(names):
    with pytest.raises(ValueError, match="variables"):
        webtorch.handler(variables=names)
