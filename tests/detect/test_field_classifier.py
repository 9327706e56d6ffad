"""webtorch.detect.FieldClassifier: attacks in all fields of requests."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from safetensors.torch import load_file, save_file

import webtorch.detect
from fields import row
from webtorch.detect import FieldClassifier

torch.set_num_threads(1)  # as in a worker; small tensors

APP = """
from pathlib import Path

import webtorch
from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor
from webtorch.detect import FieldClassifier

guard = webtorch.Model("guard", FieldClassifier.pretrained(Path("WEIGHTS")))


@webtorch.infer
def score(
    numbers: Int32[Tensor, "batch n"], windows: Int64[Tensor, "batch n"]
) -> tuple[Float32[Tensor, "batch 1"], Int64[Tensor, "batch 1"], UInt8[Tensor, "batch 8"]]:
    return guard(numbers, windows)
"""
SERVER = """
webtorch_access app:score body=16k;
add_header Why "$webtorch_access_field $webtorch_access_kind" always;
location / { proxy_pass http://127.0.0.1:$server_port/ok; }
location = /ok { webtorch_access off; return 200; }
"""

SQLI = ["' or 1=1--", "1' and 2=2--", "x') union select 1,2#", "a' or 'b'='b", "9 or 7=7#"]
XSS = ["<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "<svg/onload=alert(3)>"]
WORDS = ["ana", "red shoes", "o'neill", "a < b", "rock & roll", "select one", "7 or 8", "maria"]
JSON = ((b"Content-Type", b"application/json"),)


def get(value: str) -> tuple:
    return (b"GET", b"/shop?q=" + quote(value).encode(), ())


def post(value: str) -> tuple:
    return (b"POST", b"/api", JSON, json.dumps({"user": {"name": value}}).encode())


def with_cookie(value: str) -> tuple:
    return (b"GET", b"/", ((b"Cookie", b"theme=" + value.encode().replace(b";", b"%3B")),))


PLACES = (get, post, with_cookie)


def tensors(library, requests: Sequence[tuple]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the features of requests, as a batch of nginx has them."""
    rows = [row(library, *each) for each in requests]
    size = max(len(numbers) for numbers, _ in rows) + 3
    numbers = torch.zeros(len(rows), size, dtype=torch.int32)
    windows = torch.zeros(len(rows), size, dtype=torch.int64)
    for i, (some, of) in enumerate(rows):
        numbers[i, : len(some)] = torch.tensor(some)
        windows[i, : len(of)] = torch.tensor(of)
        windows[i, len(of) :] = of[-1]
    return numbers, windows


@pytest.fixture(scope="module")
def trained(library) -> FieldClassifier:
    normal = [place(word) for place in PLACES for word in WORDS]
    attacks = [place(value) for place in PLACES for value in SQLI + XSS]
    batch = tensors(library, normal + attacks)
    labels = torch.tensor([0.0] * len(normal) + [1.0] * len(attacks))
    kinds = torch.tensor([-1] * len(normal) + ([0] * len(SQLI) + [1] * len(XSS)) * len(PLACES))
    torch.manual_seed(0)
    classifier = FieldClassifier(batch[0].unique()[1:])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        classifier.loss(*batch, labels, kinds).backward()
        optimizer.step()
    return classifier


def scores(classifier, library, *requests) -> torch.Tensor:
    with torch.no_grad():
        return classifier(*tensors(library, requests))[0][:, 0]


def test_attacks_are_detected_in_each_place(trained, library):
    normal = scores(trained, library, *(place(word) for place in PLACES for word in WORDS))
    attacks = scores(trained, library, *(place("z' or 5=5--") for place in PLACES))
    assert attacks.min() > 0.5 > normal.max()


def test_window_and_kind_are_those_of_the_attack(trained, library):
    request = (b"GET", b"/a?x=ana&y=%27+or+1%3D1--&z=maria", ())
    numbers, windows = tensors(library, [request])
    _, window, kind = trained(numbers, windows)
    assert window.tolist() == [[2]]  # path, x, y
    assert bytes(kind[0].tolist()) == b"sqli\0\0\0\0"
    _, _, kind = trained(*tensors(library, [post(XSS[0])]))
    assert bytes(kind[0].tolist()).startswith(b"xss\0")

    logits, parts = trained.explain(numbers, windows)
    assert int(logits.argmax()) == 2
    assert logits.shape[0] == int(windows.max()) + 1
    assert parts.shape == numbers.shape[1:]
    assert int(windows[0, parts.argmax()]) == 2
    assert parts[numbers[0] == 0].count_nonzero() == 0


def test_score_independent_of_the_batch(trained, library):
    requests = [get("ana"), post("' or 1=1--"), (b"GET", b"/", ()), with_cookie("x" * 5000)]
    numbers, windows = tensors(library, requests)
    score, window, kind = trained(numbers, windows)
    for i, each in enumerate(requests):
        alone = trained(*tensors(library, [each]))
        assert torch.allclose(alone[0][0], score[i], atol=1e-5)
        assert torch.equal(alone[1][0], window[i])
        assert torch.equal(alone[2][0], kind[i])
    # a row that was cut off before its last window
    assert torch.isfinite(trained(numbers[:, :5], windows[:, :5])[0]).all()


def test_attack_in_a_long_text_weighs_as_much(trained, library):
    long = "ana maria red shoes " * 200 + "' or 1=1--" + " rock maria ana" * 200
    assert scores(trained, library, post(long))[0] > 0.5


def test_weights_of_no_number_are_not_learned(trained):
    assert trained.table[0].count_nonzero() == 0
    assert trained.table.count_nonzero() > 0


def test_weights_are_kept_in_files(trained, library, tmp_path):
    path = tmp_path / "weights.safetensors"
    trained.save(path, {"data": "a test"})
    loaded = FieldClassifier.pretrained(path)
    requests = [get("ana"), post("' or 1=1--")]
    assert torch.allclose(
        scores(loaded, library, *requests), scores(trained, library, *requests), atol=1e-2
    )
    assert loaded.kinds == trained.kinds
    assert path.stat().st_mode & 0o777 == 0o644

    for wrong in ({"bias": torch.zeros(3)}, {"known": torch.ones(1, dtype=torch.int32)}):
        save_file(wrong, path, {"kinds": "sqli"})
        with pytest.raises(ValueError, match="no weights of a FieldClassifier"):
            FieldClassifier.pretrained(path)
    tensors = load_file(shipped := Path(webtorch.detect.__file__).with_name("fields.safetensors"))
    assert FieldClassifier.pretrained(shipped)
    for name, wrong in (
        ("known", tensors["known"] - 10),
        ("known", tensors["known"].to(torch.int64) << 20),
        ("sample.labels", torch.zeros(3)),
    ):
        save_file(tensors | {name: wrong}, path, {"kinds": "sqli"})
        with pytest.raises(ValueError, match="no weights of a FieldClassifier"):
            FieldClassifier.pretrained(path)
    for content in b"", b"PK\3\4 a file of torch.save", b"\xff" * 100:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no weights of a FieldClassifier"):
            FieldClassifier.pretrained(path)


@pytest.mark.parametrize("kind", ["", "a b", "ninechars", "é"])
def test_malformed_kinds(kind):
    with pytest.raises(ValueError, match="1 to 8 letters"):
        FieldClassifier(torch.tensor([1]), (kind,))


@pytest.fixture
def weights(trained):
    """Write weights to a folder that the workers' user may enter."""
    with tempfile.TemporaryDirectory(prefix="webtorch-") as folder:
        path = Path(folder) / "weights.safetensors"
        path.parent.chmod(0o755)
        trained.save(path)
        yield path


def test_guard_denies_and_says_why(weights, start):
    server = start(SERVER, APP.replace("WEIGHTS", str(weights)), http="webtorch_zone guard:16m;")
    for word in WORDS:
        assert server.post("/api", json={"user": {"name": word}}).status_code == 200
    answers = [
        server.get("/shop", params={"a": "ana", "q": "' or 1=1--"}),
        server.post("/api", json={"id": 3, "user": {"name": XSS[0]}}),
        server.get("/", headers={"Cookie": "lang=en; theme=' or 1=1--"}),
    ]
    assert [(each.status_code, each.headers["Why"]) for each in answers] == [
        (403, "query.q sqli"),
        (403, "body.user.name xss"),
        (403, "cookie.theme sqli"),
    ]
