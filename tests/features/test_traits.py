"""The features `traits` and `names`: which field a window is of, its length and characters."""

import ctypes

import pytest

from fields import PLACES, Field, RawField, RawNames, RawTraits, RawWindows, Reader, part

BITS = (*("a-z", "A-Z", "0-9", "blank", "high", "control"), *"'\"<>();%\\/.$={[|&#*-,@!:?")


def traits(library, path: bytes, fields: list[Field]) -> tuple[list[tuple[int, ...]], bytes]:
    """Return the traits of each window, the address's last, and the names."""
    size = 1 << 16
    numbers, rows = ((ctypes.c_int32 * size)() for _ in range(2))
    found, raw, names = RawWindows(), RawTraits(), RawNames()
    library.ngx_webtorch_windows_init(ctypes.byref(found), numbers, rows, size)
    found.traits, found.names = ctypes.addressof(raw), ctypes.addressof(names)
    library.ngx_webtorch_traits_init(ctypes.byref(raw), ctypes.byref(part(path)))
    library.ngx_webtorch_names_init(ctypes.byref(names), ctypes.byref(part(path)))
    for each in fields:
        field = RawField(
            PLACES.index(each.place),
            0,
            0,
            ctypes.cast(ctypes.c_char_p(each.name.encode()), ctypes.c_void_p),
            len(each.name),
            ctypes.cast(ctypes.c_char_p(each.value), ctypes.c_void_p),
            len(each.value),
        )
        library.ngx_webtorch_windows_field(ctypes.byref(found), ctypes.byref(field))
    assert not found.full or len(fields) > 4096
    fits = not found.full and found.nwindows < 4096
    library.ngx_webtorch_windows_request(
        ctypes.byref(found), ctypes.byref(Reader()), ctypes.byref(part(b"GET"))
    )
    assert fits != bool(found.full)
    row = (ctypes.c_int32 * (4 * (raw.count + 1)))()
    library.ngx_webtorch_features_traits(row, raw.count + 1, ctypes.byref(raw))
    n = raw.count + 1
    columns = [tuple(row[at * n + window] for at in range(4)) for window in range(n)]
    assert columns.pop() == (0, 0, 0, 0)
    return columns, bytes(names)[8 : 8 + names.len]


def one(library, path: bytes, place: str, name: str, value: bytes = b"x") -> tuple[int, ...]:
    return traits(library, path, [Field(place, name, value)])[0][0]


def test_traits_of_a_field(library):
    value = b"Anna's \xc3\xa4 <1> [b]"
    rows, names = traits(
        library,
        b"/users/17/edit",
        [Field("query", "query.q", value), Field("json", "body.b", b"y")],
    )
    (key, field, length, alphabet), other, address = rows
    assert length == len(value)
    assert {kind for bit, kind in enumerate(BITS) if alphabet >> bit & 1} == {
        *("a-z", "A-Z", "0-9", "blank", "high"),
        *"'<>[",
    }
    assert len({key, field, other[0], other[1], address[0]}) == 5
    assert min(key, field, address[0]) > 0
    assert address[1:] == (0, 0, 0)
    assert names == b"\0".join([b"/users/*/edit", b"0 query.q", b"1 body.b", b""])


@pytest.mark.parametrize("value", [bytes([each]) for each in range(256)], ids=range(256))
def test_traits_have_bits_of_all_bytes(library, value):
    alphabet = one(library, b"/", "query", "query.q", value)[3]
    assert alphabet.bit_count() == (value not in (b"_", b"+", b"~", b"^", b"`"))


@pytest.mark.parametrize(
    ("path", "same"),
    [
        (b"/users/4/edit", True),
        (b"/users/" + b"x" * 25 + b"/edit", True),
        (b"/users/%34/edit", True),
        (b"/users/%41/edit", False),
        (b"/%75s%65rs/17/edit", True),
        (b"//users/.//17/%2e/edit", True),
        (b"/../a/../users/x/%2E./17%2fedit", True),
        (b"/a/b/c/d/e/f/g/h/i" + b"/.." * 9 + b"/users/17/edit", True),
        (b"/users/17/edit/..", False),
        (b"/users/17/edit%2", False),
        (b"/users/anna/edit", False),
        (b"/users/17/edit/", True),
        (b"/users/17/edit/more", False),
        (b"/users/17", False),
    ],
)
def test_traits_of_addresses(library, path, same):
    known = one(library, b"/users/17/edit", "query", "query.q")
    found = one(library, path, "query", "query.q")
    assert (found[0] == known[0]) == same
    assert found[1] == known[1]


@pytest.mark.parametrize(
    ("place", "name", "same"),
    [
        ("json", "BODY.items.23.name", True),
        ("json", "body.items.1.name", True),
        ("json", "body.items.1.names", False),
        ("form", "body.items.1.name", False),
    ],
)
def test_traits_of_names(library, place, name, same):
    known = one(library, b"/", "json", "body.items.0.name")
    assert (one(library, b"/", place, name)[:2] == known[:2]) == same


def test_traits_of_many_and_long_fields(library):
    fields = [Field("json", "body." + "n" * 200, b"w") for _ in range(4095)]
    assert len(traits(library, b"/", fields)[0]) == 4096
    assert len(traits(library, b"/", [*fields, fields[0]])[0]) == 4096
    fields *= 2
    rows, names = traits(library, b"/" + b"a/" * 40, fields)
    assert len(rows) == 4096
    assert len(set(rows)) == 1
    assert len(names) <= 16384 and names.endswith(b"\0")
    assert names.startswith(b"/a/a/a/a/a/a/a/a\0")
