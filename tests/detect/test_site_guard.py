"""SiteGuard: fields of a site, thresholds of locations, and marks of operators."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from webtorch.detect import FieldClassifier, RecentFields, RecentWindows, SiteGuard
from webtorch.detect._seen import _name
from webtorch.detect._site import LEAST, SURE

LOCATION = torch.tensor([[5]])
TARGET = torch.tensor([[0.001]])
NONE = torch.zeros(1, 1)
WORD, QUOTE = 1, 1 | 1 << 6  # letters, and letters with an apostrophe


@pytest.fixture
def guard() -> SiteGuard:
    """Return a guard for which number n has the logit n / 4 - 20, alone in its window."""
    classifier = FieldClassifier(torch.arange(1, 201))
    with torch.no_grad():
        classifier.table.zero_()
        classifier.table[1:, 0] = torch.arange(1, 201) / 4 - 20
        classifier.out.weight.zero_()
        classifier.out.bias.zero_()
    return SiteGuard(classifier, size=64)


Row = tuple[Tensor, Tensor, Tensor]


def request(logit: float, field: int = 7, address: int = 3, alphabet: int = WORD) -> Row:
    """Return a request with one field, and the window of the request as a whole."""
    numbers = torch.tensor([[round(4 * (logit + 20)), 4]], dtype=torch.int32)
    windows = torch.tensor([[0, 1]])
    traits = torch.tensor(
        [[[100 * address + field, address], [field, 0], [9, 0], [alphabet, 0]]], dtype=torch.int32
    )
    return numbers, windows, traits


def learn(guard: SiteGuard, *rows: Row, location: Tensor = LOCATION) -> None:
    parts = (torch.cat(each) for each in zip(*rows, strict=True))
    guard.learn(*parts, location.expand(len(rows), 1))


def logit(guard: SiteGuard, row: Row, target: Tensor = NONE) -> float:
    guard._since = 0.0  # what is kept for a second
    return float(guard(*row, LOCATION, target)[0].double().logit())


def threshold(guard: SiteGuard, target: float) -> float:
    return float(guard.thresholds(LOCATION[0], torch.tensor([target])))


def test_unlearned_request_has_score_of_classifier(guard):
    row = request(1.5)
    score, window, kind = guard(*row, LOCATION, NONE)
    plain = guard.classifier(*row[:2])
    assert torch.equal(score, plain[0])
    assert window.tolist() == [[0]] and torch.equal(kind, plain[2])
    # with a target the threshold is high at first
    assert logit(guard, row, TARGET) == pytest.approx(1.5 - SURE, abs=1e-3)


def test_field_may_hold_what_it_has_held(guard):
    learn(guard, *[request(4.0)] * 20, *[request(-6.0, field=8)] * 20)
    assert logit(guard, request(4.0)) == pytest.approx(-1, abs=0.1)
    assert logit(guard, request(6.0)) >= 6
    assert logit(guard, request(4.0, field=8)) >= 4
    # at another address, where it was not yet, too
    assert logit(guard, request(4.0, address=9)) == pytest.approx(-1, abs=0.1)


def test_new_punctuation_and_new_fields_weigh_more(guard):
    learn(guard, *[request(-6.0)] * 50)
    assert logit(guard, request(-2.0)) == pytest.approx(-2, abs=0.1)
    assert -0.5 < logit(guard, request(-2.0, alphabet=QUOTE)) < 2.9
    assert logit(guard, request(-2.0, field=12)) == pytest.approx(-1, abs=0.1)
    assert logit(guard, request(-2.0, field=12, address=9)) == pytest.approx(-2, abs=0.1)


@pytest.mark.parametrize(("attacks", "is_taught"), [(2, False), (5, False), (20, True)])
def test_few_attacks_teach_nothing(guard, attacks, is_taught):
    learn(guard, *[request(-6.0)] * 100, *[request(5.0)] * attacks)
    assert (logit(guard, request(5.0)) < 1) == is_taught


@pytest.mark.parametrize("count", [1, 99, 500, 998, 999, 5000])
@pytest.mark.parametrize("target", [0.01, 0.001])
def test_thresholds_of_what_was_seen(guard, count, target):
    """Of scores from -4 to 0 the greatest ones are above the threshold, as many as they may."""
    scores = torch.linspace(-4, 0, count)
    guard._learn_scores(scores.numpy(), LOCATION[0].expand(count).numpy(), None)
    found = threshold(guard, target)
    rank = target * (count + 1)
    if rank < 1:
        wanted = float(scores.max()) - math.log(rank)
    else:
        wanted = float(scores.sort(descending=True).values[int(rank) - 1])
        assert (scores >= found).sum() <= rank
    assert max(LEAST, min(SURE, wanted)) - 0.13 <= found <= max(LEAST, min(SURE, wanted + 0.13))


def test_share_of_normal_requests_that_are_denied(guard):
    torch.manual_seed(0)
    scores = torch.randn(40_000).clamp(-4, 4) - 1
    guard._learn_scores((scores[:20_000]).numpy(), LOCATION[0].expand(20_000).numpy(), None)
    for target in (0.1, 0.01, 0.003):
        denied = float((scores[20_000:] >= threshold(guard, target)).float().mean())
        assert denied < 1.3 * target
        assert denied > 0.3 * target or threshold(guard, target) == LEAST


def test_attacks_that_are_sure_do_not_move_a_threshold(guard):
    scores = torch.linspace(-4, 0.5, 2000)
    guard._learn_scores((scores).numpy(), LOCATION[0].expand(2000).numpy(), None)
    before = threshold(guard, 0.001)
    guard._learn_scores((torch.full((20,), 9.0)).numpy(), LOCATION[0].expand(20).numpy(), None)
    assert threshold(guard, 0.001) == pytest.approx(before, abs=0.01)
    # another location has not seen anything
    assert float(guard.thresholds(torch.tensor([6]), torch.tensor([0.001]))) == SURE


def test_tables_do_not_grow(guard):
    sizes = {name: each.shape for name, each in guard.state_dict().items()}
    learn(guard, *[request(4.0)] * 20)
    for begin in range(20, 4000, 500):
        learn(guard, *(request(-6.0, field=each, address=5) for each in range(begin, begin + 500)))
    for each in range(2000):
        guard._learn_scores(np.zeros(1, np.float32), np.array([each + 10]), None)
    assert {name: each.shape for name, each in guard.state_dict().items()} == sizes
    assert logit(guard, request(4.0)) < 0  # it was not replaced
    assert len(guard.describe()["fields"]) <= 64
    keys = guard.fields.table.keys
    assert len(keys[keys != 0].unique()) == int((keys != 0).sum())


def test_invented_fields_make_room_again(guard):
    """Fields of a scan, each seen some times, do not keep the site's own out for good."""
    learn(guard, *[request(4.0)] * 100)
    for field in range(1000, 1400, 20):
        rows = [request(-6.0, field=each, address=each) for each in range(field, field + 20)]
        learn(guard, *rows * 3)
        learn(guard, *rows * 3)
    assert logit(guard, request(4.0, field=8)) > 0
    for _ in range(30):
        learn(guard, *[request(4.0, field=8)] * 2)
    assert logit(guard, request(4.0, field=8)) < 0
    assert logit(guard, request(4.0)) < 0


def test_counts_are_halved(guard):
    for _ in range(60):
        learn(guard, *[request(-6.0)] * 100)
    (field,) = [each for each in guard.describe()["fields"] if each["length"]]
    assert 2000 < field["values"] < 4200
    learn(guard, *[request(5.0)] * 600)
    assert logit(guard, request(5.0)) < 1


def keep(rows: list[Row]) -> tuple[RecentFields, list[str]]:
    """Return recent requests, and their ids."""
    recent = RecentFields(size=64, numbers=8, traits=4)
    ids = [f"{number:08x}{'0' * 23}1" for number in range(len(rows))]
    for each, row in zip(ids, rows, strict=True):
        recent.add(torch.tensor([list(bytes.fromhex(each))], dtype=torch.uint8), *row)
    return recent, ids


def test_marks_count_and_are_kept(guard):
    normal, attack, other = request(6.0), request(-5.0), request(-4.0)
    learn(guard, *[request(-8.0)] * 50)
    recent, ids = keep([normal, attack, other])
    assert guard.mark(recent, [ids[0]], attack=False) == [True]
    assert guard.mark(recent, [ids[1], "f" * 32], attack=True) == [True, False]
    again = copy.deepcopy(guard)
    again.reset()
    again.load_state_dict(guard.state_dict())
    for each in (guard, again):
        assert logit(each, normal, TARGET) < 0
        assert logit(each, attack, TARGET) > 0
        assert logit(each, other, TARGET) < 0
        # a similar value of the field of a normal request
        assert logit(each, request(5.75)) < 1.5
        assert logit(each, request(8.0)) > 5
    assert {each["id"]: each["verdict"] for each in guard.describe()["marks"]} == {
        ids[0]: "normal",
        ids[1]: "attack",
    }
    # an operator changes his mind
    guard.mark(recent, [ids[1]], attack=False)
    assert logit(guard, attack, TARGET) < 0
    guard.reset(learned=False)
    assert not guard.describe()["marks"] and guard.describe()["requests"] == 50
    guard.reset()
    assert guard.describe() == {"requests": 0, "locations": [], "fields": [], "marks": []}
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        guard.mark(recent, ["x"], attack=True)


@pytest.mark.parametrize("first", [True, False], ids=["attack_first", "normal_first"])
def test_later_mark_of_a_request_replaces_the_former(guard, first):
    """What is usual in it is not taken for the attack, and what was allowed no longer is."""
    learn(guard, *[request(-8.0)] * 50)
    # a field that scores high, one that all requests have, and the window of the request
    numbers, windows = torch.tensor([[104, 70, 4]]).int(), torch.tensor([[0, 1, 2]])
    traits = torch.tensor([[[307, 308, 3], [7, 8, 0], [9, 9, 0], [WORD, WORD, 0]]]).int()
    marked, usual = (numbers, windows, traits), request(70 / 4 - 20, field=8)
    similar, other = request(5.75), request(5.5, field=9)
    before = [logit(guard, each) for each in (usual, similar, other)]
    recent, ids = keep([marked])
    for attack in (first, not first):
        assert guard.mark(recent, ids, attack=attack) == [True]
    (mark,) = {each["verdict"] for each in guard.describe()["marks"]}
    assert mark == ("normal" if first else "attack")
    assert (logit(guard, marked) > 5) == (not first)
    found = [logit(guard, each) for each in (usual, similar, other)]
    assert found[0] < 0
    if first:
        assert found[1] < 1
    else:
        assert found == pytest.approx(before, abs=1e-3)
    guard.reset(learned=False)
    found = [logit(guard, each) for each in (usual, similar, other)]
    assert found == pytest.approx(before, abs=1e-3)
    assert all(each["address"] or each["field"] for each in guard.describe()["fields"])


def test_mark_of_what_another_request_was_marked_for(guard):
    recent, ids = keep([request(-5.0), request(-5.0)])
    guard.mark(recent, [ids[0]], attack=True)
    assert logit(guard, request(-5.0)) > 5
    guard.mark(recent, [ids[1]], attack=False)
    assert logit(guard, request(-5.0)) < -5


def test_long_requests_are_kept_by_their_worst_windows(guard):
    """An attack in the body, after headers that have all the room, is what a mark counts for."""
    recent, ids = keep([request(1.0)] * 3)
    id = torch.tensor([list(bytes.fromhex(each)) for each in ids], dtype=torch.uint8)
    # six windows of two numbers each, that of the body at the end, then the request's; then zeros
    numbers = torch.tensor([[21, 20, 22, 19, 23, 18, 24, 17, 25, 16, 70, 75, 4, 0, 0, 0]]).int()
    windows = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 6]])
    traits = torch.arange(1, 65, dtype=torch.int32).view(1, 4, 16)
    header = (torch.tensor([[25, 16, 4]]).int(), torch.tensor([[0, 0, 1]]), traits)
    body = (torch.tensor([[70, 75, 4]]).int(), torch.tensor([[0, 0, 1]]), traits)
    recent.add(id[:1], numbers, windows, traits)
    assert guard.mark(recent, ids[:1], attack=True) == [False]
    short = torch.tensor([[70, 4, *[0] * 14]]).int(), torch.tensor([[0, *[1] * 15]]), traits
    both = (torch.cat(each) for each in zip((numbers, windows, traits), short, strict=True))
    guard.keep(recent, id[1:], *both)
    found = recent.find_traits(ids[1:])
    assert found[0][0].count_nonzero() == 7 and found[0][0].tolist()[-4:] == [70, 75, 4, 0]
    assert found[1][0].tolist()[-4:] == [2, 2, 3, 3]
    assert found[2][0].tolist()[0][2:] == [6, 7]
    assert found[0][1].tolist() == [70, 4, 0, 0, 0, 0, 0, 0]
    before = logit(guard, header)
    assert guard.mark(recent, ids[1:2], attack=True) == [True]
    assert logit(guard, header) == before < 0 < logit(guard, body)
    # without traits the first ones are kept, but for the one that is cut
    plain = RecentFields(size=64, numbers=9)
    plain.add(id[:1], numbers, windows)
    kept, places, known = plain.find(ids[:1])
    assert kept.tolist() == [[21, 20, 22, 19, 23, 18, 24, 17, 0]] and known.all()
    assert places.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 3]]


def test_long_scored_requests_are_kept_by_their_worst_windows(guard):
    """That is one which an operator has marked, though the net finds it harmless."""
    recent = RecentWindows(size=64, windows=3)
    ids = [f"{number:032x}" for number in (1, 2, 3)]
    rows = torch.tensor([list(bytes.fromhex(each)) for each in ids], dtype=torch.uint8)
    logits = torch.tensor([[-7.0, -3.0, -4.0, -3.5, -8.0, -torch.inf]])
    prints = torch.tensor([[11, 12, 13, 14, 15, 0]])
    traits = torch.arange(1, 25, dtype=torch.int32).view(1, 4, 6)
    alone = torch.tensor([[-7.0, -8.0]]), torch.tensor([[11, 15]]), traits[:, :, [0, 4]]
    guard.keep_scored(recent, rows[:1], *alone)
    assert guard.mark(recent, ids[:1], attack=True) == [True]
    guard.keep_scored(recent, rows[1:2], logits, prints, traits)
    kept = recent.find(ids[1:2])
    assert kept[1].tolist() == [[11, 12, 15]] and kept[0].tolist() == [[-7.0, -3.0, -8.0]]
    assert kept[2][0, 0].tolist() == [1, 2, 5]
    assert guard.mark(recent, ids[1:2], attack=False) == [True]
    assert guard.verdicts[guard.marks.keys == 11].tolist() == [-1]


class OnDevice(Tensor):
    """A tensor that is not in memory of the CPU, as NumPy sees it."""

    def numpy(self, *, force=False):
        raise TypeError("can't convert a tensor of a device to numpy")

    def cpu(self, *_args):
        return self.as_subclass(Tensor)


def test_guard_on_a_device(guard):
    """The classifier is on the device, the tables are not; the scores are the same."""
    rows = [request(4.0), request(-2.0, alphabet=QUOTE), request(0.5)]
    batch = [torch.cat(each) for each in zip(*rows, strict=True)]
    location, target = LOCATION.expand(3, 1), TARGET.expand(3, 1)
    plain = copy.deepcopy(guard)
    recent, ids = keep([request(1.0)])
    id = torch.tensor([list(bytes.fromhex(ids[0]))] * 3, dtype=torch.uint8)
    there = [each.as_subclass(OnDevice) for each in (*batch, location, target)]
    names = torch.zeros(3, 64, dtype=torch.uint8)
    for _ in range(20):
        plain.learn(*batch, location, names)
        guard.learn(*there[:4], names.as_subclass(OnDevice))
    guard.keep(recent, id.as_subclass(OnDevice), *there[:3])
    assert guard.mark(recent, ids, attack=False) == plain.mark(recent, ids, attack=False) == [True]
    for found, wanted in zip(guard(*there), plain(*batch, location, target), strict=True):
        assert torch.equal(found.as_subclass(Tensor), wanted)
    guard.to("meta")
    assert guard.classifier.table.is_meta
    assert {each.device.type for each in (*guard.fields.buffers(), guard.scores)} == {"cpu"}


def test_usual_length_stays_usual_after_a_mark(guard):
    recent, ids = keep([request(-2.0)])
    learn(guard, *[request(-2.0)] * 4)
    before = logit(guard, request(1.0))
    guard.mark(recent, ids, attack=False)
    assert logit(guard, request(1.0)) <= before + 0.01


def test_marks_are_for_good(guard):
    """What was marked stays marked; when there is no room, that is said."""
    n = 5000
    numbers = torch.zeros(n, 8, dtype=torch.int32)
    numbers[:, :5] = torch.arange(n).unsqueeze(1) // torch.tensor([1, 10, 100, 1000, 10**4]) % 10
    numbers[:, :5] += torch.tensor([1, 11, 21, 31, 41])
    windows, traits = torch.zeros(n, 8).long(), torch.zeros(n, 4, 1, dtype=torch.int32)
    id = torch.zeros(n, 16, dtype=torch.uint8)
    id[:, 2], id[:, 3], id[:, 15] = torch.arange(n) // 256, torch.arange(n) % 256, 1
    ids = [bytes(each.tolist()).hex() for each in id]
    recent = RecentFields(size=8192, numbers=8, traits=1)
    recent.add(id, numbers, windows, traits)
    marks = [guard.mark(recent, ids[at : at + 100], attack=True) for at in range(0, n, 100)]
    marked = torch.tensor(marks).view(-1)
    assert 1500 < marked.sum() < 4097
    scores = guard(numbers, windows, traits, LOCATION.expand(n, 1), TARGET.expand(n, 1))[0][:, 0]
    assert torch.equal(scores > 0.5, marked)
    # one that is there can be marked again
    first, last = ids[0], ids[int((~marked).nonzero()[0, 0])]
    assert guard.mark(recent, [first, last], attack=False) == [True, False]


def test_names_are_kept(guard):
    text = b"/a/*\x000 query.q\x001 \xffb\0"
    names = torch.zeros(1, 64, dtype=torch.uint8)
    names[0, : len(text)] = torch.tensor(list(text), dtype=torch.uint8)
    guard.learn(*request(-6.0), LOCATION, names)
    guard.learn(*request(-6.0), LOCATION, names)
    found = guard.describe()
    assert found["locations"][0]["example"] == "/a/*"
    assert {(each["address"], each["field"]) for each in found["fields"]} >= {("/a/*", "query.q")}
    assert guard.describe(0)["fields"] == []
    # a window of a field whose name was cut is not of the one before
    cut = b"/a\x000 query.q\x001 query.r\x002 que"
    assert [_name(cut, each)[1] for each in range(4)] == [b"query.q", b"query.r", b"", b""]


def test_size_is_a_power_of_two(guard):
    with pytest.raises(ValueError, match="power of two"):
        SiteGuard(guard.classifier, size=100)
