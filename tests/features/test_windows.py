"""Windows: the numbers of a field's tokens, by which a model scores it."""

import pytest

from fields import Field, read, windows

ATTACK = b"' or sleep(5) -- "
WORDS = b" ".join(b"word%d" % number for number in range(400))


def numbers(library, value: bytes, **others) -> set[int]:
    found = windows(library, [Field("query", "query.q", value, **others)])
    assert len(found.numbers) == 1
    return found.numbers[0]


def test_windows_of_a_short_value(library):
    found = windows(
        library, [Field("query", "query.a", b"red shoes"), Field("json", "body.b", b"x")]
    )
    assert found.fields == [0, 1]
    assert all(found.numbers)
    assert not found.full


def test_windows_of_a_long_value_are_as_large_as_others(library):
    found = windows(library, [Field("text", "body", WORDS)])
    assert len(found.numbers) > 40
    assert max(len(each) for each in found.numbers) < 250


@pytest.mark.parametrize("padding", [b"x ", b"a=1;", b"' ", b"(a) b, "])
def test_windows_have_room_after_text_that_repeats_itself(library, padding):
    found = windows(library, [Field("form", "body.a", padding * 40000 + ATTACK)])
    alone = windows(library, [Field("form", "body.a", padding * 6 + ATTACK)]).numbers[-1]
    assert not found.full
    assert len(alone & found.numbers[-1]) > len(alone) // 3


@pytest.mark.parametrize("at", range(0, len(WORDS), 397))
def test_windows_do_not_cut_an_attack(library, at):
    alone = windows(library, [Field("text", "body", b"word " + ATTACK + b"word")]).numbers[0]
    padded = WORDS[:at] + b" " + ATTACK + WORDS[at:]
    found = windows(library, [Field("text", "body", padded)]).numbers
    shared = max(len(alone & each) for each in found)
    # all but numbers of what is before and after, and of the lengths
    assert shared >= len(alone) - 40
    words = windows(library, [Field("text", "body", WORDS)]).numbers[0]
    assert shared > len(alone & words)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"UNION SELECT", b"union select"),
        (b"id=17", b"id=98765"),
        (b"a\tb", b"a b"),
    ],
)
def test_windows_have_equal_tokens(library, one, other):
    assert len(numbers(library, one) ^ numbers(library, other)) <= 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"it's", b"its"),
        (b"a;b", b"a:b"),
        (b"select", b"selects"),
        (b"--", b"-"),
    ],
)
def test_windows_differ(library, one, other):
    assert numbers(library, one) ^ numbers(library, other)


def test_windows_know_place_name_and_decodings(library):
    field = Field("query", "query.q", b"x")
    plain = numbers(library, b"x")
    for other in (
        field._replace(place="json"),
        field._replace(name="query.code"),
        field._replace(decoded=frozenset({"overlong"})),
        field._replace(flags=frozenset({"key"})),
    ):
        assert windows(library, [other]).numbers[0] != plain
    assert windows(library, [field._replace(name="query.Q7")]).numbers[0] == plain


def test_windows_of_an_opaque_value_have_no_words(library):
    flags = frozenset({"opaque"})
    assert numbers(library, b"a" * 64, flags=flags) == numbers(library, b"b" * 64, flags=flags)


def test_windows_that_do_not_fit(library):
    found = windows(library, [Field("text", "body", WORDS)], size=100)
    assert found.full


def test_windows_of_requests_read(library):
    request = read(library, path=b"/a", query=b"q=%27+or+1", headers=((b"Host", b"example.com"),))
    assert len(windows(library, request.fields).numbers) == len(request.fields)
