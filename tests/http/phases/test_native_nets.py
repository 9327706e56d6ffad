"""Nets that C evaluates itself, and the features `logits` and `prints`."""

import time
from pathlib import Path

import pytest

from nginx import Nginx, wait_for

APP = '''
import torch
from jaxtyping import Float32, Int32, Int64
from torch import Tensor

import webtorch
from webtorch.detect import FieldClassifier, RecentWindows, SiteGuard

guard = webtorch.Model("guard", SiteGuard(FieldClassifier.pretrained()))
seen = []


@webtorch.infer(native=guard)
def score(
    numbers: Int32[Tensor, "batch n"], windows: Int64[Tensor, "batch n"]
) -> Float32[Tensor, "batch 1"]:
    """Return what no net does, so that it shows who has scored a request."""
    return torch.full((len(numbers), 1), 0.25)


@webtorch.infer(native=guard)
def score_logits(logits: Float32[Tensor, "batch n"]) -> Float32[Tensor, "batch 1"]:
    return logits.amax(1, keepdim=True).sigmoid()


@webtorch.infer(native=guard)
def observe(
    logits: Float32[Tensor, "batch n"],
    prints: Int64[Tensor, "batch n"],
    traits: Int32[Tensor, "batch 4 n"],
) -> Float32[Tensor, "batch 1"]:
    there = logits > -torch.inf
    assert (there == (prints != 0)).all() and (there == (traits[:, 0] != 0)).all()
    seen.extend(zip(there.sum(1).tolist(), logits.amax(1).tolist(), strict=True))
    return torch.zeros(len(logits), 1)


@webtorch.handler(methods=["GET"])
def list_seen() -> list[list[float]]:
    return [[*each] for each in seen]


@webtorch.handler(methods=["POST"])
def shift() -> dict:
    with torch.no_grad():
        guard.module.classifier.shift += 40
    guard.mark_changed()
    return {}


@webtorch.handler(methods=["POST"])
def replace() -> dict:
    """Let the model have the weights that it has, in other memory, as after a rollback."""
    before = [each.data_ptr() for each in guard.module.parameters()]
    tensors, steps = guard.state.copy()
    guard.state.replace(tensors, steps, None)
    replaced.append(before)
    return {}


@webtorch.handler(methods=["GET"])
def has_moved() -> bool:
    return replaced[-1] != [each.data_ptr() for each in guard.module.parameters()]


replaced = []
kinds = tuple(f"k{number}" for number in range(33))
many = webtorch.Model("many", FieldClassifier(torch.arange(1, 100, dtype=torch.int32), kinds))


@webtorch.infer(native=many)
def score_many(
    numbers: Int32[Tensor, "batch n"], windows: Int64[Tensor, "batch n"]
) -> Float32[Tensor, "batch 1"]:
    return torch.full((len(numbers), 1), 0.25)


@webtorch.infer(native=many)
def observe_many(logits: Float32[Tensor, "batch n"]) -> Float32[Tensor, "batch 1"]:
    return logits[:, :1]


@webtorch.handler(methods=["POST"])
def touch() -> dict:
    many.mark_changed()
    return {}


other = webtorch.Model("other", torch.nn.Linear(1, 1))


@webtorch.infer(native=other)
def wrong(numbers: Int32[Tensor, "batch 8"]) -> Float32[Tensor, "batch 1"]:
    return torch.zeros(len(numbers), 1)


@webtorch.infer
def without(logits: Float32[Tensor, "batch n"]) -> Float32[Tensor, "batch 1"]:
    return logits[:, :1]


@webtorch.infer(native=guard)
def both(
    logits: Float32[Tensor, "batch n"], numbers: Int32[Tensor, "batch n"]
) -> Float32[Tensor, "batch 1"]:
    return logits[:, :1]
'''

SERVER = """
location / {
    webtorch_access  app:score    body=16k;
    webtorch_log     app:observe  body=16k;
    add_header  X-Score    $webtorch_access_score    always;
    add_header  X-Field    $webtorch_access_field    always;
    add_header  X-Kind     $webtorch_access_kind     always;
    add_header  X-Verdict  $webtorch_access_verdict  always;
    empty_gif;
}
location /logits {
    webtorch_access  app:score_logits  body=16k;
    add_header  X-Field  $webtorch_access_field  always;
    empty_gif;
}
location = /seen { webtorch_handler app:list_seen; }
location = /shift { webtorch_handler app:shift; }
location = /replace { webtorch_handler app:replace; }
location = /moved { webtorch_handler app:has_moved; }
"""
HTTP = "webtorch_zone nets:64m;"

POLL = 0.25  # seconds between polls for changes of models
MEMO = 4600  # kB

ATTACK = "/?a=b&id=1%27+or+1%3D1--"
LARGE = " ".join(f"{number * 2654435761 % (1 << 32):x}'" for number in range(1500))


def test_native_net_scores_without_a_call(server: Nginx):
    for _ in range(3):
        denied = server.get(ATTACK)
        assert denied.status_code == 403 and float(denied.headers["X-Score"]) > 0.99
        assert (denied.headers["X-Field"], denied.headers["X-Kind"]) == ("query.id", "sqli")
        passed = server.get("/shoes?colour=red")
        assert passed.headers["X-Verdict"] == "allow"
        assert float(passed.headers["X-Score"]) < 0.05


def test_native_net_names_the_field_of_a_function_of_logits(server: Nginx):
    denied = server.get("/logits" + ATTACK)
    assert denied.status_code == 403 and denied.headers["X-Field"] == "query.id"


def test_native_net_leaves_what_is_unreadable(server: Nginx):
    kind = {"Content-Type": "application/json; charset=ebcdic"}
    server.expected_in_log.append("charset is not known")
    for _ in range(2):
        answer = server.request("POST", "/", data='{"a": "b"}', headers=kind)
        assert answer.headers["X-Verdict"] == "error"


def test_native_net_gives_features(server: Nginx):
    before = len(server.get("/seen").json())
    server.get("/?one=red+shoes&two=blue+shoes")
    server.get(ATTACK)
    found = wait_for(
        lambda: (rows := server.get("/seen").json()[before:])[1:] and rows, "rows of webtorch_log"
    )
    sizes, worst = zip(*found, strict=True)
    assert min(sizes) >= 4 and max(worst) > 5


def test_native_net_follows_its_model(start):
    server = start(SERVER, APP, http=HTTP)
    assert server.get(ATTACK).status_code == 403
    assert server.request("POST", "/shift").status_code == 200
    wait_for(lambda: server.get(ATTACK).status_code == 200, "the new weights")
    assert float(server.get(ATTACK).headers["X-Score"]) < 1e-9


def test_native_net_of_a_model_that_was_replaced_by_itself(start):
    server = start(SERVER, APP, http=HTTP)
    score = float(server.get(ATTACK).headers["X-Score"])
    for _ in range(3):
        assert server.request("POST", "/replace").status_code == 200
        wait_for(lambda: server.get("/moved").json(), "other memory")
        wait_for(lambda: server.get(ATTACK).status_code == 403, "the net")
        assert float(server.get(ATTACK).headers["X-Score"]) == pytest.approx(score)


def test_native_net_that_c_cannot_evaluate(start):
    places = """
    location / {
        webtorch_access  app:score_many;
        webtorch_log     app:observe_many;
        add_header  X-Score  $webtorch_access_score  always;
        empty_gif;
    }
    location = /touch { webtorch_handler app:touch; }
    """
    server = start(places, APP, http=HTTP)
    server.expected_in_log += ["a net is not evaluated by C", "its net cannot be evaluated"]
    assert server.get(ATTACK).headers["X-Score"] == "0.25"
    server.wait_for_log("app:observe_many.* has not scored a request: its net cannot be evaluated")

    def size():
        status = Path(f"/proc/{server.workers()[0]}/status").read_text()
        return int(status.split("VmSize:")[1].split()[0])

    def touch():
        assert server.request("POST", "/touch").status_code == 200
        time.sleep(2 * POLL)

    touch()
    before = size()
    for _ in range(5):
        touch()
    assert size() - before < 4 * MEMO
    assert server.log().count("a net is not evaluated by C") == 1


def test_native_net_leaves_large_requests_to_the_function(server: Nginx):
    for padding, score in ((1, "0.25"), (0, None)):
        body = LARGE * padding or "a=b"
        kind = {"Content-Type": "text/plain"}
        found = server.request("POST", "/", data=body, headers=kind).headers["X-Score"]
        assert found == score if score else found != "0.25"


def test_native_net_has_no_row_for_a_part_of_a_request(server: Nginx):
    kind = {"Content-Type": "text/plain"}
    before = len(server.get("/seen").json())
    server.expected_in_log.append("the fields have more than")
    server.request("POST", "/", data=LARGE, headers=kind)
    server.get(ATTACK)
    found = wait_for(lambda: server.get("/seen").json()[before:], "a row of webtorch_log")
    assert max(worst for _, worst in found) > 5 and max(size for size, _ in found) < 100


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("access app:wrong", "is a Linear, which is not a model that C can evaluate"),
        ("log app:without", 'no "native="'),
        ("log app:both", "features of a net and of numbers"),
    ],
)
def test_native_net_refused(reconfigured, directive, message):
    assert message in reconfigured(f"location / {{ webtorch_{directive}; }}", APP).refuse()
