"""The directive webtorch_balancer: what it accepts, and what it says of mistakes."""

import re

import pytest

from backends import LOCATION

APP = """
    import torch, webtorch
    from webtorch.balancer import Policy
    from jaxtyping import Float32
    from torch import Tensor, nn

    class Mine(Policy):
        pass

    class Deep(Policy):
        def network(self):
            return nn.Sequential(nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 1))

    class Rare(Policy):
        interval = 60.0

    class Broken(Policy):
        def network(self):
            raise RuntimeError("no network today")

    def score(servers):
        return torch.ones(len(servers))

    number = 5

    @webtorch.infer
    def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
        return 2 * x
"""


def http(directive, servers="server 127.0.0.1:1;", more=""):
    return f"upstream u {{ {directive} {servers} }} {more}"


def test_valid_configurations(configured):
    directives = (
        "webtorch_balancer;",
        "webtorch_balancer key=$arg_k;",
        "webtorch_balancer app:Mine;",
        "webtorch_balancer app:Mine key=$http_model;",
        "webtorch_balancer app:score;",
        "zone u 256k; webtorch_balancer; keepalive 8;",
        "webtorch_balancer fail_status=off;",
        "webtorch_balancer fail_status=429;",
        "webtorch_balancer app:Mine fail_status=404,429,500-599 key=$arg_k;",
    )
    upstreams = [http(each).replace(" u ", f" u{i} ", 1) for i, each in enumerate(directives)]
    status, output = configured(app=APP, http="\n".join(upstreams)).check()
    assert status == 0, output


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("webtorch_balancer key=arg_k;", 'invalid parameter "key=arg_k"'),
        ("webtorch_balancer key=$;", r'invalid parameter "key=\$"'),
        ("webtorch_balancer key=$a key=$b;", r'invalid parameter "key=\$b"'),
        ("webtorch_balancer key=$arg_a$arg_b;", r'"key=\$arg_a\$arg_b" is not the name of one'),
        ("webtorch_balancer key=${arg_k};", "is not the name of one variable"),
        ("webtorch_balancer key=$arg_k-1;", "is not the name of one variable"),
        ("webtorch_balancer app;", 'invalid parameter "app"'),
        ("webtorch_balancer key=$arg_k app:Mine;", 'invalid parameter "app:Mine"'),
        ("webtorch_balancer fail_status=;", 'invalid parameter "fail_status="'),
        ("webtorch_balancer fail_status=200;", 'invalid parameter "fail_status=200"'),
        ("webtorch_balancer fail_status=5xx;", 'invalid parameter "fail_status=5xx"'),
        ("webtorch_balancer fail_status=500-600;", 'invalid parameter "fail_status=500-600"'),
        ("webtorch_balancer fail_status=503-500;", 'invalid parameter "fail_status=503-500"'),
        ("webtorch_balancer fail_status=500,;", 'invalid parameter "fail_status=500,"'),
        ("webtorch_balancer fail_status=off fail_status=500;", "invalid parameter"),
        ("webtorch_balancer app:Mine key=$arg_k more;", 'invalid parameter "more"'),
        ("webtorch_balancer a:b key=$arg_k fail_status=off more;", "invalid number of arguments"),
        ("webtorch_balancer; webtorch_balancer;", '"webtorch_balancer" directive is duplicate'),
        ("webtorch_balancer nowhere:Mine;", "No module named 'nowhere'.*nginx.conf:"),
        ("webtorch_balancer app:Nobody;", 'has no "Nobody".*nginx.conf:'),
        ("webtorch_balancer app:double;", '"double" is neither a .*Policy nor a function'),
        ("webtorch_balancer app:number;", '"number" is neither a .*Policy nor a function'),
        ("webtorch_balancer app:Deep;", "n at most 8"),
        ("webtorch_balancer app:Rare;", "0.05 to 2 seconds"),
        ("webtorch_balancer app:Broken;", "no network today.*app.py, line"),
    ],
)
def test_invalid_configurations(reconfigured, directive, message):
    output = reconfigured(LOCATION, APP, http=http(directive)).refuse()
    assert re.search(message, output), output


def test_too_many_servers_are_refused(configured):
    servers = " ".join(f"server 127.0.0.1:{port};" for port in range(1, 258))
    status, output = configured(LOCATION, http=http("webtorch_balancer;", servers)).check()
    assert status != 0
    assert 'more than 256 servers in upstream "u"' in output


def test_handlers_and_policies_are_distinct(reconfigured):
    location = "location = /x { webtorch_handler app:Mine; }"
    assert "is not decorated" in reconfigured(location, APP).refuse()


def test_replaced_method_is_logged(configured):
    directive = "least_conn; webtorch_balancer;"
    status, output = configured(LOCATION, http=http(directive)).check()
    assert status == 0
    assert "load balancing method redefined" in output
