"""The directive webtorch_handler: its name, its options, where it may stand."""

import pytest

APP = """
import torch, webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x

@webtorch.infer
def negate(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return -x

@webtorch.handler
def method(request: webtorch.Request) -> str:
    return request.method
"""

SERVER = """
location = /double { webtorch_handler app:double; }
location = /again { webtorch_handler app:double mode=thread max_batch=1; }
location = /all {
    webtorch_handler app:double mode=inline max_batch=8 max_delay=1ms queue=64 timeout=5s;
}
location = /limited {
    webtorch_handler app:double;
    limit_except POST { webtorch_handler app:method; }
}
location = /if {
    webtorch_handler app:double;
    if ($arg_negate) { webtorch_handler app:negate; }
}
location /set {
    webtorch_handler app:double;
    if ($arg_a) { set $a 1; }
    if ($arg_full) { return 200 "full"; }
}
location /guarded {
    webtorch_handler app:double;
    limit_except POST { deny all; }
}
location /open {
    webtorch_handler app:method;
    limit_except POST { allow all; }
}
location /v2 {
    webtorch_inference_protocol;
    if ($arg_a) { set $a 1; }
    limit_except GET { allow all; }
}
location /prefix/ {
    webtorch_handler app:double;
    location /prefix/static { return 200 "static"; }
}
"""


@pytest.mark.parametrize("path", ["/double", "/again", "/all", "/limited", "/if", "/prefix/x"])
def test_handlers_serve(server, path):
    assert server.post(path, [[1, 2]]).json() == [[2, 4]]


def test_limit_except_chooses_by_method(server):
    assert server.get("/limited").text == "GET"


def test_if_chooses_by_condition(server):
    assert server.post("/if?negate=1", [[1, 2]]).json() == [[-1, -2]]


@pytest.mark.parametrize("path", ["/set", "/set?a=1", "/set/x?a=1&b=1", "/guarded"])
def test_blocks_without_a_handler_leave_the_location_s(server, path):
    assert server.post(path, [[1, 2]]).json() == [[2, 4]]


def test_directives_of_blocks_apply(server):
    assert server.get("/set?full=1").text == "full"
    answer = server.get("/guarded")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert server.get("/open").text == "GET"
    assert server.get("/v2?a=1").json()["name"] == "webtorch"
    assert server.post("/v2/repository/index").ok
    assert server.post("/v2/repository/index?a=1").ok


def test_nested_locations_do_not_inherit(server):
    assert server.get("/prefix/static").text == "static"


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("webtorch_handler;", 'invalid number of arguments in "webtorch_handler" directive'),
        ("webtorch_handler app;", 'invalid handler "app", it must be "module:function"'),
        ("webtorch_handler app:;", 'invalid handler "app:"'),
        ("webtorch_handler :double;", 'invalid handler ":double"'),
        ("webtorch_handler a:b:c;", 'invalid handler "a:b:c"'),
        ("webtorch_handler app:double mode=fast;", 'invalid parameter "mode=fast"'),
        ("webtorch_handler app:double mode=;", 'invalid parameter "mode="'),
        ("webtorch_handler app:double max_batch=0;", 'invalid parameter "max_batch=0"'),
        ("webtorch_handler app:double max_batch=65537;", 'invalid parameter "max_batch=65537"'),
        ("webtorch_handler app:double max_batch=x;", 'invalid parameter "max_batch=x"'),
        ("webtorch_handler app:double queue=0;", 'invalid parameter "queue=0"'),
        ("webtorch_handler app:double queue=-1;", 'invalid parameter "queue=-1"'),
        ("webtorch_handler app:double timeout=0;", 'invalid parameter "timeout=0"'),
        ("webtorch_handler app:double timeout=soon;", 'invalid parameter "timeout=soon"'),
        ("webtorch_handler app:double max_delay=2h;", 'invalid parameter "max_delay=2h"'),
        ("webtorch_handler app:double batch=1;", 'invalid parameter "batch=1"'),
        (
            "webtorch_handler app:double; webtorch_handler app:negate;",
            '"webtorch_handler" directive is duplicate',
        ),
    ],
)
def test_errors_name_file_and_line(configured, directive, message):
    server = configured(f"location = /x {{\n{directive}\n}}", APP)
    status, output = server.check()
    assert status == 1
    assert "[emerg]" in output and message in output
    assert f"in {server.conf}:" in output


def test_refused_in_a_server(configured):
    status, output = configured("webtorch_handler app:double;", APP).check()
    assert status == 1
    assert '"webtorch_handler" directive is not allowed here' in output
