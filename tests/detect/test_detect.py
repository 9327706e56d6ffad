"""webtorch.detect: payloads, and what is new to a site."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from webtorch.detect import Anomaly, PayloadClassifier, Payloads, Recent, corpus, table

torch.set_num_threads(1)  # as in a worker; small tensors

NAMES = ["ana", "luis", "marta", "o'neill", "pedro", "lucia", "jorge", "ines", "raul", "sofia"]
ATTACKS = ["' or 1=1--", "1' and 2=2--", "') union select 1,2%23", "x' or 'a'='a", "9 or 7=7%23"]


def shop(number: int, **other: str) -> tuple[str, str]:
    """Make a normal request of a site, or one that differs."""
    values = {"id": str(number % 7), "name": NAMES[number % 10], "zip": f"{10000 + number}"}
    return "/shop/cart", "&".join(f"{name}={value}" for name, value in {**values, **other}.items())


def library(number: int, name: str | None = None) -> tuple[str, str]:
    """Make a normal request of another site."""
    author = name or NAMES[number % 10]
    return f"/books/{number % 5}", f"author={author}&year={1900 + number % 90}"


def of(*requests: tuple[str, ...]) -> Payloads:
    return Payloads.of(requests, 64)


def scores(classifier, *requests):
    """Return the scores of requests, and check that they are the same together and alone."""
    payloads = of(*requests)
    with torch.no_grad():
        together = classifier(payloads.tokens, payloads.segments, payloads.parameters)
    assert together.shape == (len(requests), 1)
    return together[:, 0]


@pytest.fixture(scope="module")
def trained():
    normal = [library(number) for number in range(100)]
    attacks = [library(number, attack) for number in range(10) for attack in ATTACKS]
    labels = torch.tensor([0.0] * len(normal) + [1.0] * len(attacks))
    classifier = PayloadClassifier()
    classifier.fit(of(*normal, *attacks), labels, epochs=30)
    return classifier


def copy_of(trained):
    classifier = PayloadClassifier()
    classifier.load_state_dict(trained.state_dict())
    return classifier


def test_attacks_are_known_on_a_site_that_was_not_learned(trained):
    normal = scores(trained, *(shop(number) for number in range(50)))
    attacks = scores(trained, *(shop(3, name=attack) for attack in ATTACKS))
    assert attacks.min() > 0.5 > normal.max()


def test_parameter_names_matter_only_if_malformed(trained):
    first, second, odd = scores(
        trained, *(("/shop", f"{name}=1' or 1=1--") for name in ("a", "remember", "x' or 1"))
    )
    assert float(first) == pytest.approx(float(second))
    assert odd > 0.5


def test_score_independent_of_the_batch(trained):
    requests = [shop(1), ("",), ("/a%00",), library(2), ("/", "&=&=="), ("/" + "a1" * 200,)]
    requests += [shop(2, name="' or 1=1--"), ("/", "&" * 100 + "a=' or 1=1--")]
    together = scores(trained, *requests)
    assert torch.isfinite(together).all()
    assert torch.allclose(together, torch.cat([scores(trained, each) for each in requests]))


def test_zero_byte_does_not_end_text(trained):
    assert scores(trained, ("/", "q=%00' or 1=1--"))[0] > 0.5


def test_encoded_attacks_are_decoded(trained):
    values = ("1' or 1=1--", "1%27%20or%201%3D1--", "1%2527%2520OR%25201%253d1--")
    plain, *encoded = scores(trained, *(("/s", f"q={value}") for value in values))
    assert [float(each) for each in encoded] == pytest.approx([float(plain)] * 2)


def test_weights_of_no_token_are_not_learned(trained):
    assert trained.weight[0] == 0
    assert trained.weight.count_nonzero() > 0


def test_adapted_classifier_knows_anomalies_of_its_site(trained):
    odd = [shop(1, id="a?"), shop(2, zip="1a/3*4"), ("/shop/cart.bak",), shop(3, role="admin")]
    requests = [shop(number) for number in range(80)]
    requests += [shop(number, id="x|") for number in range(20)]
    requests += [(f"/old{number}.inc",) for number in range(20)]
    classifier = copy_of(trained)
    assert scores(classifier, *odd).max() < 0.5

    classifier.adapt(of(*requests), torch.tensor([0.0] * 80 + [1.0] * 40))
    later = scores(classifier, *(shop(number) for number in range(80, 160)))
    assert scores(classifier, *odd).min() > later.max()
    assert scores(classifier, shop(90, name="' or 1=1--"))[0] > 0.5

    payloads = of(odd[0])
    with pytest.raises(ValueError, match="needs `parameters`"):
        classifier(payloads.tokens, payloads.segments)


def test_feedback_is_learned(trained):
    classifier = copy_of(trained)
    missed = shop(1, name="{{config}}")
    normal = [shop(number) for number in range(20)]
    assert scores(classifier, missed)[0] < 0.5
    for _ in range(200):
        if scores(classifier, missed)[0] > 0.5:
            break
        classifier.learn(of(missed), torch.ones(1))
    ordinary = scores(classifier, *normal).max()
    assert scores(classifier, missed)[0] > 0.5 > ordinary
    assert scores(classifier, library(3, "{{config}}"))[0] > ordinary
    assert classifier.weight[0] == 0


def test_weights_are_kept_in_files(trained, tmp_path):
    path = tmp_path / "weights.safetensors"
    trained.save(path)
    requests = [shop(1), shop(1, name="' or 1=1--")]
    loaded = PayloadClassifier.pretrained(path)
    assert torch.allclose(scores(loaded, *requests), scores(trained, *requests), atol=1e-2)
    assert path.stat().st_mode & 0o777 == 0o644

    adapted = PayloadClassifier.pretrained(path)
    normal = [shop(number) for number in range(40)]
    adapted.adapt(of(*normal, *[("/x",)] * 9), torch.arange(49) // 40 * 1.0)
    adapted.save(path)
    again = scores(PayloadClassifier.pretrained(path), *requests)
    assert torch.allclose(again, scores(adapted, *requests), atol=1e-2)

    other = tmp_path / "other.safetensors"
    save_file({"bias": torch.zeros(())}, other)
    with pytest.raises(ValueError, match="no weights of a PayloadClassifier"):
        PayloadClassifier.pretrained(other)


def test_shipped_weights_know_common_attacks():
    attacks = [
        ("/item", "id=7' union select password from users--"),
        ("/login", "", "user=admin' or '1'='1&pass=x"),
        ("/c", "q=<script>alert(document.cookie)</script>"),
        ("/c", "<img/src=x onerror=alert(1)>=1"),
        ("/view", "file=../../../../etc/passwd"),
        ("/ping", "host=127.0.0.1;cat+/etc/passwd"),
        ("/hello", "name={{7*7}}"),
        ("/index.php.bak",),
        ("/.git/config",),
    ]
    normal = [
        ("/",),
        ("/articles/2024/05/why-nginx.html", "page=2&sort=date"),
        ("/login", "", "user=maria.lopez@example.org&pass=Tr0ub4dor"),
        ("/search", "q=blue suede shoes size 42"),
        ("/search", "q=select a gift for o'brien & sons"),
    ]
    classifier = PayloadClassifier.pretrained()
    assert scores(classifier, *attacks).min() > 0.5 > scores(classifier, *normal).max()


def test_corpus_is_reproducible_and_learnable():
    made = list(corpus.requests(3000))
    assert made == list(corpus.requests(3000))
    assert made != list(corpus.requests(3000, seed=1))
    assert 1300 < sum(each.label for each in made) < 1700

    classifier = PayloadClassifier()
    classifier.fit(*table.tensors(made))
    payloads, labels = table.tensors(list(corpus.requests(500, seed=2)))
    with torch.no_grad():
        logits = classifier.logits(payloads)
    assert ((logits > 0) == (labels == 1)).float().mean() > 0.9


@pytest.mark.parametrize(
    ("text", "error"),
    [("    a\n", "line 1: an alternative before"), ("b\n    «c»\n", "there is no rule c")],
)
def test_grammar_errors_are_reported(tmp_path, text, error):
    path = tmp_path / "wrong.grammar"
    path.write_text(text)
    with pytest.raises(ValueError, match=error):
        corpus.Grammar(path)


def novelty(anomaly, *requests):
    payloads = of(*requests)
    return anomaly(payloads.tokens, payloads.segments, payloads.parameters)[:, 0]


def test_anomalies_are_new_in_their_context():
    anomaly = Anomaly()
    anomaly.fit(of(*(shop(number) for number in range(100))))
    later = novelty(anomaly, *(shop(number) for number in range(100, 200)))
    new = [
        ("/shop/cart.old", "id=1&name=ana&zip=10001"),
        shop(1, debug="1"),
        shop(1, id="1'"),
        shop(1, zip="123456789012"),
    ]
    assert novelty(anomaly, *new).min() > 1
    assert (later <= 1).float().mean() > 0.9

    in_name, in_id = novelty(anomaly, shop(1, name="d'arc"), shop(1, id="d'arc"))
    assert in_id > in_name


def test_learned_requests_judged_as_unlearned():
    payloads = of(*(shop(number) for number in range(30)), shop(1, id="9'"))
    learned = Anomaly()
    learned.learn(payloads)
    judged = learned.novelty_without(payloads, torch.ones(31, dtype=torch.bool))
    for number in (0, 7, 30):
        others = payloads[torch.arange(31) != number]
        one = payloads[torch.tensor([number])]
        without = Anomaly()
        without.learn(others[slice(0, 11)])
        without.learn(others[slice(11, 30)])
        alone = without.novelty(one.tokens, one.segments, one.parameters)
        assert torch.allclose(judged[number], alone[0], atol=1e-5)
    last = payloads[torch.tensor([30])]
    seen = learned.novelty(last.tokens, last.segments, last.parameters)
    assert seen.sum() == 0 < judged[30].sum()


def test_recent_requests_are_found_by_their_ids():
    recent = Recent(64, tokens=64)
    payloads = of(*(shop(number) for number in range(3)))
    ids = torch.randint(256, (3, 16), generator=torch.Generator().manual_seed(1)).byte()
    recent.add(ids, payloads)
    names = [bytes(each.tolist()).hex() for each in ids]

    found, known = recent.find([names[2], "0" * 31 + "1", names[0]])
    assert known.tolist() == [True, False, True]
    assert torch.equal(found.tokens, payloads.tokens[[2, 0]])
    assert torch.equal(found.segments, payloads.segments[[2, 0]])
    assert torch.equal(found.parameters, payloads.parameters[[2, 0]])

    for wrong in ("", "0" * 31, "z" * 32):
        with pytest.raises(ValueError):
            recent.find([wrong])
    assert recent.find([])[1].tolist() == []


def test_command_trains(tmp_path):
    labelled = tmp_path / "table.tsv"
    lines = [f"a\t0\tnormal\tGET\t/s\tq={name}" for name in NAMES]
    lines += [f"a\t1\tsqli\tPOST\t/s\tq=1%27%20or%20{number}={number}--" for number in range(10)]
    lines += ["a\t2\todd\tGET\t/s\tq=odd", "b\t1\todd\tGET\t/s\tq=ana"]
    labelled.write_text("\n".join(lines) + "\n")
    out = tmp_path / "out.safetensors"

    def run(*options):
        command = [sys.executable, "-m", "webtorch.detect", labelled, "--source", "a", "--out", out]
        return subprocess.run([*command, *options], capture_output=True, text=True)

    done = run("--epochs", "40", "--corpus", "0")
    assert done.returncode == 0, done.stderr
    assert "20 requests learned" in done.stdout
    classifier = PayloadClassifier.pretrained(out)
    normal, attack = scores(classifier, ("/", "q=eva"), ("/", "q=2' or 8=8--"))
    assert attack > 0.5 > normal

    labelled.write_text("a\t0\tnormal\tGET\t/\t\n")
    done = run("--corpus", "0")
    assert "normal requests and attacks are needed" in done.stderr

    labelled.write_text("a\t0\tnormal\n")
    done = run()
    assert done.returncode != 0
    assert "line 1: not a labelled request" in done.stderr
