"""shadow= of webtorch_handler: another function computes copies of requests."""

import shutil
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gate import GATE_APP, GATE_SERVER
from nginx import wait_for
from scale import APP as SCALE
from scale import http, put, weight
from scrape import scrape, value

FUNCTIONS = '''
from jaxtyping import Float32, Int64
from webtorch import Strings


def answer(x: Float32[Tensor, "batch n"], names: Strings[list[str], "batch"]):
    return x.softmax(1), [name.upper() for name in names], torch.full((len(x),), x.shape[1])


Answer = tuple[Float32[Tensor, "batch n"], Strings[list[str], "batch"], Int64[Tensor, "batch"]]


@webtorch.infer
def old(x: Float32[Tensor, "batch n"], names: Strings[list[str], "batch"]) -> Answer:
    return answer(x, names)


@webtorch.infer
def new(x: Float32[Tensor, "batch n"], names: Strings[list[str], "batch"]) -> Answer:
    """Differ as the first name says: a little, in the order, in a string, in a number."""
    if "fail" in names:
        raise ValueError("as asked")
    found, upper, sizes = answer(x, names)
    if "little" in names:
        found = found + 0.01
    if "order" in names:
        found = found.flip(1)
    if "string" in names:
        upper = [name + "!" for name in upper]
    if "number" in names:
        sizes = sizes + 1
    return found, upper, sizes


@webtorch.train
def train(x: Float32[Tensor, "batch n"], names: Strings[list[str], "batch"]) -> Answer:
    return answer(x, names)


@webtorch.infer
def other_input(x: Float32[Tensor, "batch 3"], names: Strings[list[str], "batch"]) -> Answer:
    return answer(x, names)


@webtorch.infer
def other_output(
    x: Float32[Tensor, "batch n"], names: Strings[list[str], "batch"]
) -> Float32[Tensor, "batch n"]:
    return x


@webtorch.infer
def double(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    return 2 * x + 1


@webtorch.infer
def twice(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    return 2 * x + 1


@webtorch.handler
async def posted(request):
    """Post rows of a function that is also a shadow."""
    return (await double.batched([[3.0]])).tolist()


@webtorch.infer
def large(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 10000"]:
    return x.expand(-1, 10000).contiguous()


@webtorch.infer
def larger(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 10000"]:
    return (x + (x == 7)).expand(-1, 10000).contiguous()
'''

APP = GATE_APP + FUNCTIONS

SERVER = (
    GATE_SERVER
    + """
    location = /status { webtorch_status; }
    location = /close { webtorch_handler app:old shadow=app:new; }
    location = /near {
        webtorch_handler app:old shadow=app:new shadow_rate=100% shadow_tolerance=0.1;
    }
    location = /argmax { webtorch_handler app:old shadow=app:new shadow_tolerance=argmax; }
    location = /some { webtorch_handler app:affine shadow=app:twice shadow_rate=25.5%; }
    location = /pair { webtorch_handler app:affine shadow=app:double; }
    location = /behind { webtorch_handler app:affine shadow=app:gated queue=4; }
    location = /before { webtorch_handler app:gated shadow=app:double mode=thread; }
    location = /posted { webtorch_handler app:posted; }
    location = /large { webtorch_handler app:large shadow=app:larger; }
    location /v2 { webtorch_inference_protocol; }
    location /orders { webtorch_control; }
"""
)


def outcomes(server, handler, shadow):
    samples = scrape(server)
    return {
        name: value(
            samples,
            "webtorch_shadow_requests_total",
            handler=f"app:{handler}",
            shadow=f"app:{shadow}",
            outcome=name,
        )
        for name in ("agreed", "differed", "failed", "dropped")
    }


def ended(server, handler, shadow, count, before):
    """Wait until so many more copies have ended; return how many of each kind."""

    def more():
        found = outcomes(server, handler, shadow)
        return {name: int(found[name] - before[name]) for name in found}

    wait_for(lambda: sum(more().values()) >= count, f"{count} copies")
    return {name: number for name, number in more().items() if number}


CLOSE = {"": "agreed", "fail": "failed"}
NEAR = {"": "agreed", "little": "agreed"}
ARGMAX = {"": "agreed", "little": "agreed"}


@pytest.mark.parametrize(
    ("path", "outcomes_by_name"),
    [("/close", CLOSE), ("/near", NEAR), ("/argmax", ARGMAX)],
    ids=["tolerance", "wide-tolerance", "argmax"],
)
def test_answers_are_compared(server, path, outcomes_by_name):
    for name in ("", "little", "order", "string", "number", "fail"):
        before = outcomes(server, "old", "new")
        body = {"x": [[1.0, 2.0, 3.0], [3.0, 1.0, 0.0]], "names": ["a", name]}
        answer = server.post(path, body).json()
        assert answer["output_1"] == ["A", name.upper()]
        assert answer["output_2"] == [3, 3]
        expected = "failed" if name == "fail" else outcomes_by_name.get(name, "differed")
        assert ended(server, "old", "new", 1, before) == {expected: 1}, name


def test_share_of_requests(server):
    before = outcomes(server, "affine", "twice")
    for _ in range(100):
        assert server.post("/some", [[2.0]]).json() == [[5]]
    # one in four, with a probability that is never seen
    more = ended(server, "affine", "twice", 1, before)
    assert more.keys() == {"agreed"}
    assert more["agreed"] < 100


def test_shadow_that_hangs_delays_no_answer(server, gate):
    before = outcomes(server, "affine", "gated")
    with gate:
        for number in range(10):
            assert server.post("/behind", [[number]]).json() == [[2 * number + 1]]
        assert ended(server, "affine", "gated", 6, before) == {"dropped": 6}
    assert ended(server, "affine", "gated", 10, before) == {"agreed": 4, "dropped": 6}
    assert server.get("/status?format=json").json()["problems"] == []


def test_shadow_that_is_done_first(server, gate):
    before = outcomes(server, "gated", "double")

    def done():
        seconds = "webtorch_shadow_seconds_count"
        return value(scrape(server), seconds, handler="app:gated", shadow="app:double")

    with gate, ThreadPoolExecutor(2) as pool:
        begun = done()
        answers = [pool.submit(server.post, "/before", [[number]]) for number in (1.0, 2.0)]
        with server.connection() as client:
            body = b"[[3.0]]"
            client.sendall(
                b"POST /before HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            wait_for(lambda: done() == begun + 3, "the copies")
            # with a reset: a client that has sent its last byte may wait for its answer
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        # its client has gone, there is nothing to compare with
        assert ended(server, "gated", "double", 1, before) == {"dropped": 1}
        gate.open()
        assert [answer.result().json() for answer in answers] == [[[3]], [[5]]]
    assert ended(server, "gated", "double", 3, before) == {"agreed": 2, "dropped": 1}


def test_rows_of_a_function_that_is_a_shadow(server):
    before = outcomes(server, "affine", "double")
    assert server.get("/posted").json() == [[7]]
    # no copy has the number of these rows
    assert outcomes(server, "affine", "double") == before


def test_large_answers_are_compared_in_threads(server):
    before = outcomes(server, "large", "larger")
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda number: server.post("/large", [[number]]).ok, range(8, 24))
        assert all(sent)
    server.post("/large", [[7.0]])
    # more than a copy may have
    server.post("/large", [[1.0]] * 30)
    found = ended(server, "large", "larger", 18, before)
    assert found == {"agreed": 16, "differed": 1, "dropped": 1}


def test_shadow_in_status_and_not_elsewhere(server):
    server.post("/close", {"x": [[1.0]], "names": [""]})
    shown = {
        (each["name"], each["shadow"]): each
        for each in server.get("/status?format=json").json()["shadows"]
    }
    assert shown["app:old", "app:new"]["requests"].keys() == outcomes(server, "old", "new").keys()
    assert shown["app:old", "app:new"]["seconds"]["count"] >= 0
    handlers = server.get("/status?format=json").json()["handlers"]
    assert not {"app:new", "app:double"} & {each["name"] for each in handlers}
    # clients cannot call what is only a shadow
    assert server.get("/v2/models/new").status_code == 404
    assert server.get("/v2/models/old").status_code == 200
    repository = "/orders/v2/repository"
    listed = {each["name"] for each in server.post(f"{repository}/index", {}).json()}
    assert "old" in listed and not {"new", "twice"} & listed
    assert server.post(f"{repository}/models/app:new/unload", {}).status_code == 404


REFUSED = {
    "train-has-one": ("app:train shadow=app:new", "only functions under @webtorch.infer"),
    "is-of-requests": ("app:old shadow=app:control", "not under @webtorch.infer"),
    "inputs": ("app:old shadow=app:other_input", "different inputs"),
    "outputs": ("app:old shadow=app:other_output", "different outputs"),
    "no-version": ("app:old shadow=app:old@2", 'no model of "app:old" has a version "2"'),
    "empty-version": ("app:old shadow=app:new@", "module:function@version"),
    "no-function": ("app:old shadow=new", "module:function@version"),
    "twice": ("app:old shadow=app:new shadow=app:new", "second"),
    "rate-alone": ("app:old shadow_rate=10%", "without"),
    "rate-is-0": ("app:old shadow=app:new shadow_rate=0%", "shadow_rate=0%"),
    "rate-is-200": ("app:old shadow=app:new shadow_rate=200%", "shadow_rate=200%"),
    "rate-is-a-number": ("app:old shadow=app:new shadow_rate=10", "shadow_rate=10"),
    "tolerance": ("app:old shadow=app:new shadow_tolerance=most", "shadow_tolerance=most"),
}


@pytest.mark.parametrize(("settings", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_shadows(reconfigured, settings, reason):
    output = reconfigured(f"location / {{ webtorch_handler {settings}; }}", APP).refuse()
    assert reason in output


@pytest.fixture
def directory():
    # not below pytest's directory, which workers of another user may not enter
    path = Path(tempfile.mkdtemp(prefix="webtorch-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_version_as_shadow(start, directory):
    put(directory, 2, 2)
    put(directory, 3, 1)
    server = start(
        """
        location = /status { webtorch_status; }
        location = /two { webtorch_handler app:output shadow=app:output@2; }
        location = /three { webtorch_handler app:output shadow=app:output@3; }
        location = /own { webtorch_handler app:output model=scale@2 shadow=app:output; }
        """,
        SCALE,
        http=http(directory),
    )
    for path, version, outcome in (("two", "@2", "differed"), ("three", "@3", "agreed")):
        before = outcomes(server, "output", f"output{version}")
        assert weight(server, f"/{path}") == 1
        assert ended(server, "output", f"output{version}", 1, before) == {outcome: 1}
    # without a version a shadow has the code's, whatever the location has
    before = outcomes(server, "output", "output")
    assert weight(server, "/own") == 2
    assert ended(server, "output", "output", 1, before) == {"differed": 1}

    # counters stay over a reload, and copies that wait are finished
    assert weight(server, "/two") == 1
    before = outcomes(server, "output", "output@2")
    server.reload()
    assert weight(server, "/two") == 1
    wait_for(lambda: outcomes(server, "output", "output@2")["differed"] == 3, "the copies")
