"""webtorch.detect: payloads, and what is new to a site."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from webtorch.detect import Anomaly, PayloadClassifier
from webtorch.detect.payloads import rows, text

torch.set_num_threads(1)  # as in a worker; small tensors

NAMES = ["ana", "luis", "marta", "o'neill", "pedro", "lucia", "jorge", "ines", "raul", "sofia"]
ATTACKS = ["' or 1=1--", "1' and 2=2--", "') union select 1,2#", "x' or 'a'='a", "9 or 7=7#"]


def shop(number: int, **other: str) -> bytes:
    """Make a normal request of a site, or one that differs."""
    values = {"id": str(number % 7), "name": NAMES[number % 10], "zip": f"{10000 + number}"}
    query = "&".join(f"{name}={value}" for name, value in {**values, **other}.items())
    return text("/shop/cart", query)


def library(number: int) -> bytes:
    """Make a normal request of another site."""
    return text(f"/books/{number % 5}", f"author={NAMES[number % 10]}&year={1900 + number % 90}")


@pytest.fixture(scope="module")
def trained():
    normal = [library(number) for number in range(100)]
    attacks = [
        text("/books/1", f"author={attack}&year={1900 + number}")
        for number in range(10)
        for attack in ATTACKS
    ]
    labels = torch.tensor([0.0] * len(normal) + [1.0] * len(attacks))
    classifier = PayloadClassifier()
    classifier.fit(rows(normal + attacks), labels, epochs=20)
    return classifier


def test_attacks_are_known_on_a_site_that_was_not_learned(trained):
    normal = trained(rows([shop(number) for number in range(50)]))
    attacks = trained(rows([shop(3, name=attack) for attack in ATTACKS]))
    assert normal.shape == (50, 1)
    assert attacks.min() > 0.5 > normal.max()


def test_the_name_of_a_parameter_does_not_matter(trained):
    first, second = (text("/shop", f"{name}=1' or 1=1--") for name in ("a", "remember"))
    scores = trained(rows([first, second])).detach()
    assert float(scores[0]) == pytest.approx(float(scores[1]))


@pytest.mark.parametrize("width", [64, 200, 1024])
def test_a_request_scores_the_same_whatever_is_beside_it(trained, width):
    texts = [shop(1), b"", b"\x1d\x1e", library(2), b"a\0b\0", shop(2, name="' or 1=1--"), b"&=&=="]
    texts.append((b"/" + b"a1" * width)[:width])
    texts = [each[:width] for each in texts]
    together = trained.logits(rows(texts, width))
    alone = torch.cat([trained.logits(rows([each], width)) for each in texts])
    assert torch.isfinite(together).all()
    assert torch.allclose(together, alone, atol=1e-4)


def test_encoded_attacks_are_decoded(trained):
    plain, encoded, twice = (
        text("/s", f"q={value}")
        for value in ("1' or 1=1--", "1%27%20or%201%3D1--", "1%2527%2520OR%25201%253d1--")
    )
    assert plain == encoded == twice


def test_an_adapted_classifier_knows_what_is_odd_on_its_site(trained):
    odd = [shop(1, id="a?"), shop(2, zip="1a/3*4"), text("/shop/cart.bak"), shop(3, role="admin")]
    texts = [shop(number) for number in range(80)]
    texts += [shop(number, id="x|") for number in range(20)]
    texts += [text(f"/old{number}.inc") for number in range(20)]
    labels = torch.tensor([0.0] * 80 + [1.0] * 40)
    classifier = PayloadClassifier()
    classifier.load_state_dict(trained.state_dict())
    assert classifier(rows(odd)).max() < 0.5

    classifier.adapt(rows(texts), labels)
    later = classifier(rows([shop(number) for number in range(80, 160)]))
    assert classifier(rows(odd)).min() > later.max()
    assert classifier(rows([shop(90, name="' or 1=1--")])) > 0.5


def test_feedback_is_learned(trained):
    classifier = PayloadClassifier()
    classifier.load_state_dict(trained.state_dict())
    missed = rows([shop(1, name="{{config}}")])
    normal = rows([shop(number) for number in range(20)])
    assert classifier(missed) < 0.5
    for _ in range(200):
        if classifier(missed) > 0.5:
            break
        classifier.learn(missed, torch.ones(1))
    assert classifier(missed) > 0.5 > classifier(normal).max()
    assert (
        classifier(rows([library(3).replace(b"=", b"={{config}}", 1)])) > classifier(normal).max()
    )


def test_weights_are_kept_in_files(trained, tmp_path):
    path = tmp_path / "weights.safetensors"
    trained.save(path)
    texts = rows([shop(1), shop(1, name="' or 1=1--")])
    loaded = PayloadClassifier.pretrained(path)
    assert torch.allclose(loaded(texts), trained(texts), atol=1e-2)

    adapted = PayloadClassifier.pretrained(path)
    adapted.adapt(
        rows([shop(number) for number in range(40)] + [b"/x"] * 9), torch.arange(49) // 40 * 1.0
    )
    adapted.save(path)
    assert torch.allclose(PayloadClassifier.pretrained(path)(texts), adapted(texts), atol=1e-2)

    other = tmp_path / "other.safetensors"
    save_file({"bias": torch.zeros(())}, other)
    with pytest.raises(ValueError, match="no weights of a PayloadClassifier"):
        PayloadClassifier.pretrained(other)


def test_the_weights_that_are_shipped_know_common_attacks():
    classifier = PayloadClassifier.pretrained()
    attacks = [
        text("/item", "id=7' union select password from users--"),
        text("/login", body="user=admin' or '1'='1&pass=x"),
        text("/c", "q=<script>alert(document.cookie)</script>"),
        text("/view", "file=../../../../etc/passwd"),
    ]
    normal = [
        text("/"),
        text("/articles/2024/05/why-nginx.html", "page=2&sort=date"),
        text("/login", body="user=maria.lopez@example.org&pass=Tr0ub4dor"),
        text("/search", "q=blue suede shoes size 42"),
    ]
    assert classifier(rows(attacks)).min() > 0.5 > classifier(rows(normal)).max()


def test_anomalies_are_new_in_their_context():
    anomaly = Anomaly()
    anomaly.fit(rows([shop(number) for number in range(100)]))
    later = anomaly(rows([shop(number) for number in range(100, 200)]))
    new = {
        "path": text("/shop/cart.old", "id=1&name=ana&zip=10001"),
        "parameter": shop(1, debug="1"),
        "sign": shop(1, id="1'"),
        "value_length": shop(1, zip="123456789012"),
    }
    scores = anomaly(rows(list(new.values())))
    assert scores.min() > 1
    assert (later <= 1).float().mean() > 0.9

    quote_in_name, quote_in_id = anomaly(rows([shop(1, name="d'arc"), shop(1, id="d'arc")]))
    assert quote_in_id > quote_in_name


def test_what_was_learned_is_judged_as_if_it_was_not():
    texts = rows([shop(number) for number in range(30)] + [shop(1, id="9'")])
    learned = Anomaly()
    learned.learn(texts)
    judged = learned.novelty(texts, torch.ones(31, dtype=torch.bool))
    for number in (0, 7, 30):
        others = torch.arange(31) != number
        without = Anomaly()
        without.learn(texts[others][:11])
        without.learn(texts[others][11:])
        assert torch.allclose(judged[number], without.novelty(texts[[number]])[0], atol=1e-5)
    assert learned.novelty(texts[[30]]).sum() == 0 < judged[30].sum()


def test_the_command_trains(tmp_path):
    table = tmp_path / "table.tsv"
    lines = [f"a\t0\tnormal\tGET\t/s\tq={name}" for name in NAMES]
    lines += [f"a\t1\tsqli\tPOST\t/s\tq=1%27%20or%20{number}={number}--" for number in range(10)]
    lines += ["a\t2\todd\tGET\t/s\tq=odd", "b\t1\todd\tGET\t/s\tq=ana"]
    table.write_text("\n".join(lines) + "\n")
    out = tmp_path / "out.safetensors"

    def run():
        command = [sys.executable, "-m", "webtorch.detect", table, "--source", "a", "--out", out]
        return subprocess.run([*command, "--epochs", "40"], capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr
    assert "20 requests learned" in done.stdout
    normal, attack = PayloadClassifier.pretrained(out)(
        rows([text("/", "q=eva"), text("/", "q=2' or 8=8--")])
    )
    assert attack > 0.5 > normal

    table.write_text("a\t0\tnormal\n")
    done = run()
    assert done.returncode != 0
    assert "line 1: not a labelled request" in done.stderr
