"""The directive webtorch_set: variables that a model computes."""

import re

import pytest

from gate import GATE_APP, GATE_SERVER
from nginx import wait_for
from wire import at_once, connections, request, settle

APP = (
    GATE_APP
    + '''
import time

import jaxtyping as j

log: list = []


def numbers(bytes):
    """Read the number after the last slash of each path."""
    texts = [row.numpy().tobytes().partition(b"\\x1d")[0] for row in bytes]
    return [float(text.rpartition(b"/")[2] or 0) for text in texts]


@webtorch.infer
def number(bytes: j.UInt8[Tensor, "batch 64"]) -> j.Float64[Tensor, "batch 1"]:
    """Return the number in the path."""
    found = numbers(bytes)
    log.append(found)
    if 13 in found:
        raise ValueError("13")
    return torch.tensor(found, dtype=torch.float64).unsqueeze(1)


@webtorch.infer
def whole(bytes: j.UInt8[Tensor, "batch 64"]) -> j.Int64[Tensor, "batch 1"]:
    return torch.tensor([int(n) for n in numbers(bytes)]).unsqueeze(1)


@webtorch.infer
def is_odd(bytes: j.UInt8[Tensor, "batch 64"]) -> j.Bool[Tensor, "batch"]:
    return torch.tensor([n % 2 == 1 for n in numbers(bytes)])


@webtorch.infer
def slow(bytes: j.UInt8[Tensor, "batch 64"]) -> j.Float32[Tensor, "batch 1"]:
    time.sleep(0.05)
    return torch.ones(len(bytes), 1)


@webtorch.infer
def behind(bytes: j.UInt8[Tensor, "batch 64"]) -> j.Float32[Tensor, "batch 1"]:
    calls.append(numbers(bytes))
    gate.wait()
    return torch.ones(len(bytes), 1)


@webtorch.handler
def logged(request: webtorch.Request) -> dict:
    told = list(log)
    log.clear()
    return {"calls": told}
'''
)

HTTP = """
map $odd $parity { 1 odd; 0 even; default unknown; }
"""

SERVER = (
    GATE_SERVER
    + """
location = /logged { webtorch_handler app:logged mode=inline; }

set $early "";
if ($arg_early) { set $early "$early_number"; }

webtorch_set $early_number app:number mode=inline lazy;

location /number/ { webtorch_set $number app:number mode=inline; return 200 "$number,$number"; }
location /whole/ {
    webtorch_set $number app:whole;
    webtorch_set $odd app:is_odd;
    return 200 "$number $odd $parity";
}
location /if/ {
    webtorch_set $odd app:is_odd;
    if ($odd) { return 200 odd; }
    return 200 even;
}
location /lazy/ {
    webtorch_set $number app:number mode=inline lazy;
    add_header Number $number always;
    if ($arg_use) { return 200 "$number $number"; }
    return 200 unused;
    location /lazy/thread/ {
        webtorch_set $number app:number mode=thread lazy;
        return 200 "[$number]";
    }
}
location /slow/ { webtorch_set $number app:slow lazy; return 200 "[$number]"; }
location /other/ { return 200 "[$number]"; }
location /early/ { return 200 "[$early]"; }
location /redirect/ {
    webtorch_set $number app:number mode=inline;
    add_header Number $number always;
    error_page 404 =200 /number/1;
    proxy_intercept_errors on;
    proxy_pass http://127.0.0.1:$server_port/missing;
}
location /missing { return 404; }
location /header/ {
    webtorch_set $number app:number mode=inline;
    add_header Number $number;
    empty_gif;
}
location /behind/ {
    webtorch_set $number app:behind mode=thread timeout=300ms queue=2;
    return 200 "[$number]";
    location /behind/patient/ {
        webtorch_set $number app:behind mode=thread;
        return 200 "[$number]";
    }
}
"""
)


def logged(server):
    return server.get("/logged").json()["calls"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/number/0.5", "0.5,0.5"),
        ("/number/-1234567.8", "-1.23457e+06,-1.23457e+06"),
        ("/number/1e300", "1e+300,1e+300"),
        ("/whole/9007199254740993", None),
        ("/whole/7", "7 1 odd"),
        ("/whole/-12345678901", "-12345678901 1 odd"),
        ("/whole/8", "8 0 even"),
        ("/if/3", "odd"),
        ("/if/4", "even"),
        ("/lazy/0.25?use=1", "0.25 0.25"),
    ],
)
def test_set_number_format(server, path, text):
    answer = server.get(path)
    assert answer.status_code == 200
    assert text is None or answer.text == text


def test_value_computed_once(server):
    logged(server)
    assert server.get("/number/5").text == "5,5"
    assert logged(server) == [[5]]
    assert server.get("/header/6").headers["Number"] == "6"
    assert logged(server) == [[6]]


def test_requests_are_computed_together(server):
    logged(server)
    with connections(server, 3) as wires:
        with at_once(server):
            for number, wire in enumerate(wires):
                wire.send(request(f"/number/{number}", method="GET"))
        answers = [wire.answer().body for wire in wires]
    assert answers == [b"0,0", b"1,1", b"2,2"]
    assert [sorted(call) for call in logged(server)] == [[0, 1, 2]]


def test_lazy_is_computed_at_its_first_use(server):
    logged(server)
    answer = server.get("/lazy/7?use=1")
    assert (answer.text, answer.headers["Number"]) == ("7 7", "7")
    assert logged(server) == [[7]]
    # add_header uses it, after the rewrite phase
    assert server.get("/lazy/8").headers["Number"] == "8"
    assert logged(server) == [[8]]


def test_lazy_is_not_for_threads(server):
    assert server.get("/lazy/thread/1").text == "[]"
    server.wait_for_log("it is not for the event loop now")


def test_slow_function_leaves_the_event_loop(server):
    assert [server.get("/slow/1").text for _ in range(2)] == ["[1]", "[]"]
    wait_for(lambda: server.get("/slow/1").text == "[1]", "a call in the event loop again")


def test_use_in_server_computed_immediately(server):
    logged(server)
    assert server.get("/early/3").text == "[]"
    assert logged(server) == []
    assert server.get("/early/3?early=1").text == "[3]"
    assert logged(server) == [[3]]


def test_value_empty_in_other_locations(server):
    assert server.get("/other/1").text == "[]"


def test_internal_redirect_keeps_value(server):
    logged(server)
    answer = server.get("/redirect/9")
    assert answer.text == "9,9"
    assert logged(server) == [[9]]


def test_failures_are_empty(server):
    assert server.get("/number/13").text == ","
    assert server.get("/number/12").text == "12,12"
    server.wait_for_log('webtorch handler "app:number" has not scored a request: it failed')


def test_timeout_and_full_queue(server, gate):
    with gate, connections(server, 4) as wires:
        for number, wire in enumerate(wires):
            wire.send(request(f"/behind/{number}", method="GET"))
            settle(server)
        assert [wire.answer().body for wire in wires] == [b"[]"] * 4
        gate.open()
        wires[0].send(request("/behind/5", method="GET"))
        assert wires[0].answer().body == b"[1]"


def test_client_abort_before_the_call(server, gate):
    with gate, connections(server, 3) as wires:
        for number, wire in enumerate(wires):
            wire.send(request(f"/behind/patient/{number}", method="GET"))
            settle(server)
        gate.wait_for_calls(1)
        wires[0].reset()
        wires[1].reset()
        settle(server)
        gate.open()
        assert wires[2].answer().body == b"[1]"
        assert gate.calls() == [[0], [2]]


def test_key_computed_by_a_model(start):
    server = start(
        """
        webtorch_set $number app:number mode=inline;
        location / { webtorch_access app:clients threshold=1.2; empty_gif; }
        """,
        APP
        + """
@webtorch.infer
def clients(client: j.Float32[Tensor, "batch 1"]) -> j.Float32[Tensor, "batch 1"]:
    return client
""",
        http="webtorch_clients_zone clients:64k key=$number;",
    )
    # the third request of a number is denied: ln(1 + 3) > 1.2
    statuses = [server.get(f"/{n}").status_code for n in (1, 2, 1, 1, 2, 2)]
    assert statuses == [200, 200, 200, 403, 200, 403]


def test_lazy_does_not_wait_for_a_policy(start):
    server = start(
        """
        location = /hold { webtorch_handler app:hold mode=thread; }
        location / { webtorch_set $number app:number lazy; return 200 "[$number]"; }
        """,
        APP
        + """
from webtorch.balancer import Policy

free = threading.Event()
free.set()
held = threading.Event()

class Held(Policy):
    interval = 0.05

    def round(self, samples):
        if not free.is_set():
            held.set()
            free.wait()

@webtorch.handler
def hold(request):
    if request.args == "off":
        free.set()
    else:
        free.clear()
        held.wait()
    return "done"
""",
        http="""
        upstream u { zone u 256k; webtorch_balancer app:Held; server 127.0.0.1:1; }
        """,
    )
    wait_for(lambda: server.get("/0.5").text == "[0.5]", "the value")
    # the policy's round is running from here on
    assert server.get("/hold").text == "done"
    assert server.get("/0.5").text == "[]"
    assert server.get("/hold?off").text == "done"
    wait_for(lambda: server.get("/0.5").text == "[0.5]", "the value")


@pytest.mark.parametrize(
    ("directive", "error"),
    [
        ("number app:number", 'invalid variable name "number"'),
        ("$ app:number", 'invalid variable name "$"'),
        ("$number app", 'invalid handler "app"'),
        ("$number app:number body=1k", 'invalid parameter "body=1k"'),
        ("$number app:number eager", 'invalid parameter "eager"'),
        ("$number app:number; webtorch_set $number app:whole", "is duplicate"),
        ("$uri app:number", 'the duplicate "uri" variable'),
        ("$args app:number", 'the variable "$args" is set by something else'),
        ("$number app:logged", "is a function of requests"),
    ],
)
def test_configuration_errors(reconfigured, directive, error):
    output = reconfigured(f"location / {{ webtorch_set {directive}; }}", APP).refuse()
    assert re.search(rf"\[emerg\].*{re.escape(error)}", output), output
