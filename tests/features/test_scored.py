"""Requests that C scores by a net: the same scores as those of the model in Python."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch

import fields
from scored import MEMO, RawNet, Request, Scorer
from webtorch.detect import FieldClassifier, RecentWindows, SiteGuard
from webtorch.detect._site import _Windows

BROWSER = (
    (b"Host", b"shop.example"),
    (
        b"User-Agent",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36",
    ),
    (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"Cookie", b"session=0af7651916cd43dd; theme=dark; q=%3Cb%3E; =; ;a"),
    (b"Referer", b"https://shop.example/list?page=2&sort=price"),
)
FORM = (b"Content-Type", b"application/x-www-form-urlencoded")
JSON = (b"Content-Type", b"application/json")

REQUESTS = [
    Request(),
    Request(b"/list/17/items.html?page=3&&q=red+shoes&=&x", headers=BROWSER),
    Request(b"/?id=1%27+or+1%3D1--&a=b", headers=BROWSER),
    Request(b"/a/%2e%2e/%2e%2e/etc/passwd", headers=BROWSER),
    Request(b"/login", b"POST", (*BROWSER, FORM), b"user=o%27neil&password=%3Cscript%3E"),
    Request(b"/api", b"POST", (JSON,), b'{"a": {"b": ["x y z", "1 union select 2"]}, "n": 3}'),
    Request(b"/api", b"POST", (JSON,), b'{"a": "no end'),
    Request(b"/api", b"PUT", (JSON,), b'{"t": "' + b"some words; " * 300 + b'"}'),
    Request(b"/", headers=((b"X-Data", b"eyJhIjogIjxzY3JpcHQ+In0="), (b"cookie", b"a=1;b=2"))),
]


@pytest.fixture(scope="module")
def classifier() -> FieldClassifier:
    return FieldClassifier.pretrained()


def rows(library, request: Request):
    """Return numbers, windows and traits of a request, as the features have them."""
    numbers, windows = fields.row(
        library, request.method, request.target, request.headers, request.body
    )
    numbers, windows = torch.tensor([numbers], dtype=torch.int32), torch.tensor([windows])
    return numbers, windows


def check(library, scorer: Scorer, classifier: FieldClassifier, request: Request) -> None:
    numbers, windows = rows(library, request)
    with torch.no_grad():
        score, window, kind = classifier(numbers, windows)
    found = scorer.score(request)
    assert found.score == pytest.approx(float(score), rel=1e-4, abs=1e-6)
    assert found.window == int(window)
    assert found.kind.encode().ljust(8, b"\0") == bytes(kind[0].tolist())


def test_scored_is_what_the_classifier_returns(library, classifier):
    scorer = Scorer(library, classifier.net())
    # the second time they are in the memo, and then in another order
    for request in (*REQUESTS, *REQUESTS, *reversed(REQUESTS)):
        check(library, scorer, classifier, request)


@pytest.mark.parametrize("hidden", [1, 3, 32])
def test_scored_by_nets_of_other_sizes(library, hidden):
    torch.manual_seed(hidden)
    known = torch.unique(torch.randint(1, 1 << 20, (1 << 19,), dtype=torch.int32))
    classifier = FieldClassifier(known, ("some", "kind"))
    net = classifier.net()
    with torch.no_grad():
        classifier.table[1:, 0].normal_(std=0.1)
        classifier.out.weight.normal_()
        classifier.shift += 0.7
    net = replace(
        net,
        table=classifier.table[:, : 1 + hidden].contiguous(),
        bias=classifier.bias[:hidden].contiguous(),
        weight=classifier.out.weight[:, :hidden].contiguous(),
    )
    with torch.no_grad():
        classifier.table[:, 1 + hidden :] = 0
        classifier.bias[hidden:] = 0
    scorer = Scorer(library, net)
    for request in REQUESTS:
        check(library, scorer, classifier, request)


def test_scored_refuses_other_nets(library, classifier):
    net = classifier.net()
    for known in (net.known.flip(0), net.known * 0, net.known + (1 << 20)):
        assert Scorer(library, replace(net, known=known)).net is None
    wide = RawNet(10, 65, 2)
    assert not library.ngx_webtorch_net_size(ctypes.byref(wide))
    assert not library.ngx_webtorch_net_size(ctypes.byref(RawNet(10, 32, 34)))


def guard_of(classifier: FieldClassifier, library) -> SiteGuard:
    """Return a guard that has learned and was taught some requests."""
    guard = SiteGuard(classifier, 64)
    scorer = Scorer(library, classifier.net())
    recent = RecentWindows(64, 16)
    for number in range(40):
        request = Request(
            b"/list/%d?q=%d+red&code=if+(x)+{+return+y;+}" % (number, number), headers=BROWSER
        )
        guard.learn_scored(*scorer.score(request).rows(), torch.tensor([[7]]))
    marked = REQUESTS[3:5]
    ids = torch.arange(32, dtype=torch.uint8).view(2, 16)
    for id, request in zip(ids, marked, strict=True):
        guard.keep_scored(recent, id[None], *scorer.score(request).rows())
    names = [bytes(each.tolist()).hex() for each in ids]
    assert guard.mark(recent, [names[0], "f" * 32], attack=True) == [True, False]
    assert guard.mark(recent, names[1:], attack=False) == [True]
    return guard


def returned(guard: SiteGuard, library, request: Request, found, target: float):
    """Return what the guard itself does, for traits that C has found."""
    numbers, windows = rows(library, request)
    n = numbers.shape[1]
    traits = np.zeros((1, 4, n), np.int32)
    traits[0, :, : min(n, found.traits.shape[1])] = found.traits[:, :n]
    each = torch.from_numpy(traits), torch.tensor([[7]]), torch.tensor([[target]])
    score, window, _ = guard(numbers, windows, *each)
    return float(score), int(window), _Windows(guard.classifier, numbers, windows, each[0]).prints()


def test_scored_allows_what_operators_do(library, classifier):
    """A field may hold what scores as high as what was marked, and no more, nor may others."""
    guard, recent = SiteGuard(classifier, 64), RecentWindows(1024, 16)
    scorer = Scorer(library, guard.net())
    places = [b"/%c%c" % (97 + number % 17, 97 + number // 17) for number in range(17 * 17)]

    def scores(text):
        requests = [Request(b"%s?name=%s" % (place, text), headers=BROWSER) for place in places]
        found = [scorer.score(request) for request in requests]
        for request, each in [*zip(requests, found, strict=True)][::23]:
            score, window, _ = returned(guard, library, request, each, 0.0)
            assert each.score == pytest.approx(score, rel=1e-4, abs=1e-6)
            assert each.window == window
        return np.array([each.score for each in found])

    texts = b"a+or+1=1", b"%27+or+1=1--"
    before = [scores(text) for text in texts]
    marked = np.zeros(len(places), np.bool_)
    for number, place in [*enumerate(places)][::2]:
        request = Request(b"%s?name=or+%s=%s+or+1=1" % (place, place, place), headers=BROWSER)
        id = number.to_bytes(16, "big")
        row = torch.tensor([[*id]], dtype=torch.uint8)
        guard.keep_scored(recent, row, *scorer.score(request).rows())
        # another request may have its place among the recent ones
        marked[number] = guard.mark(recent, [id.hex()], attack=False)[0]
    assert marked.sum() > 100
    after = [scores(text) for text in texts]
    # the numbers of some values are those of another one, which has the mark
    assert (after[0][marked] < before[0][marked] / 5).mean() > 0.9
    assert (after[0][~marked] > before[0][~marked] / 2).all()
    assert (after[1] > before[1] / 2).all()


@pytest.mark.parametrize("target", [0.0, 0.01, 0.2])
def test_scored_is_what_a_guard_returns(library, classifier, target):
    guard = guard_of(classifier, library)
    scorer = Scorer(library, guard.net())
    requests = [*REQUESTS, Request(b"/list/3?q=select+1&code=(';)", headers=BROWSER)]
    for request in [*requests, *requests]:
        found = scorer.score(request, 7, target)
        score, window, prints = returned(guard, library, request, found, target)
        assert found.score == pytest.approx(score, rel=1e-4, abs=1e-6)
        assert found.window == window
        assert [*found.prints[: len(prints)]] == [*prints]
        assert not found.prints[len(prints) :].any()


def test_scored_keeps_no_header_that_says_what_the_body_is(library, classifier):
    text = b'[1, "1\' union select password from users-- <script>alert(1)</script>"]'
    length = b"Inference-Header-Content-Length"
    said, none = (length, b"%d" % len(text)), (length, b"x")
    body = text + bytes([0x80, 0xFF, 0, 1]) * 400
    attack = Request(b"/api", b"POST", (JSON, said), body)
    without = Request(b"/api", b"POST", (JSON, said, none), body)
    fresh = [Scorer(library, classifier.net()).score(each) for each in (attack, without)]
    assert fresh[0].score > 0.99 > 0.1 > fresh[1].score
    scorer = Scorer(library, classifier.net())
    for headers in ((said,) * 4, (none,) * 4, (said, none) * 4, (none, said) * 4):
        scorer.score(Request(b"/api", b"POST", (JSON, *headers)))
        assert [scorer.score(each).score for each in (attack, without)] == [
            each.score for each in fresh
        ]


def test_scored_needs_no_more_room_than_there_is(library, classifier):
    scorer = Scorer(library, classifier.net())
    text = b" ".join(b"%x'" % (number * 2654435761 % (1 << 32)) for number in range(9000))
    large = Request(b"/", b"POST", ((b"Content-Type", b"text/plain"),), text)
    for _ in range(2):
        assert not scorer.read(large)
        # what follows is as before
        check(library, scorer, classifier, REQUESTS[1])


class Key(ctypes.Structure):
    _fields_ = (
        ("len", ctypes.c_uint32),
        ("hash", ctypes.c_uint64),
        ("data", ctypes.c_ubyte * 8192),
    )


def test_memo_hashes_depend_on_its_seed(library):
    memo, length = ctypes.create_string_buffer(MEMO), ctypes.c_size_t()
    seeds = [0x123456789ABCDEF * (2 * number + 1) % (1 << 64) for number in range(50)]
    # the bits that made keys of the same hash: the last one of a word, and two of the next
    texts = [bytes(64), bytes(15) + b"\x80" + bytes(3) + b"\x80" + bytes(3) + b"\x80" + bytes(40)]
    found = set()
    for seed in seeds:
        library.ngx_webtorch_memo_init(memo, ctypes.c_uint64(seed))
        for text in texts:
            key = Key()
            library.ngx_webtorch_memo_begin(ctypes.byref(key), 1)
            library.ngx_webtorch_memo_part(ctypes.byref(key), text, ctypes.c_size_t(len(text)))
            library.ngx_webtorch_memo_find(memo, ctypes.byref(key), ctypes.byref(length))
            found.add(key.hash)
    assert len(found) == len(seeds) * len(texts)


def test_scored_forgets_the_oldest(library, classifier):
    scorer = Scorer(library, classifier.net())
    for number in range(30000):
        assert scorer.read(Request(b"/?q=%d+%d+%s" % (number, number, b"x" * 200)))
    for request in REQUESTS:
        check(library, scorer, classifier, request)
