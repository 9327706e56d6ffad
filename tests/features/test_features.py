"""Features of requests: what C shows to models is what webtorch.features computes for training."""

import ctypes
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nginx import ROOT
from webtorch import features

INT32, INT64 = 7, 8


class Part(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("len", ctypes.c_size_t))


class Text(ctypes.Structure):
    _fields_ = (
        ("path", Part),
        ("query", Part),
        ("body", Part),
        ("escapes", ctypes.c_uint32),
        ("double_escapes", ctypes.c_uint32),
        ("query_offset", ctypes.c_size_t),
        ("body_offset", ctypes.c_size_t),
        ("nmarks", ctypes.c_uint32),
        ("marks", ctypes.c_uint16 * 256),
        ("len", ctypes.c_size_t),
        ("text", ctypes.c_ubyte * features.TEXT_SIZE),
    )


class Request(ctypes.Structure):
    _fields_ = (
        ("method", ctypes.c_uint32),
        ("http", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("headers", ctypes.c_uint64),
        ("body", ctypes.c_uint64),
        ("user_agent", ctypes.c_uint64),
        ("cookie", ctypes.c_uint64),
    )


def text_in_c(library, *parts: bytes) -> Text:
    text = Text(*(Part(part, len(part)) for part in parts))
    library.ngx_webtorch_features_text(ctypes.byref(text))
    return text


def ngrams_in_c(library, text: Text, size: int, dtype: int) -> np.ndarray:
    row = np.zeros(size, np.int32 if dtype == INT32 else np.int64)
    library.ngx_webtorch_features_ngrams(
        ctypes.c_void_p(row.ctypes.data), dtype, size, ctypes.byref(text)
    )
    return row


def tokens_in_c(library, text: Text, size: int) -> features.Tokens:
    made = features.Tokens(
        np.full((1, 5, size), -7, np.int32),
        np.full((1, size), -7, np.int64),
        np.full((1, 3, 64), -7, np.int32),
    )
    cut = ctypes.create_string_buffer(CUT_SIZE)
    library.ngx_webtorch_tokens_cut(cut, ctypes.byref(text))
    tokens, segments, parameters = (ctypes.c_void_p(each.ctypes.data) for each in made)
    library.ngx_webtorch_features_tokens(tokens, size, cut)
    library.ngx_webtorch_features_segments(segments, size, cut)
    library.ngx_webtorch_features_parameters(parameters, cut)
    return made


def request_in_c(library, text: Text, request: Request) -> np.ndarray:
    row = np.zeros(len(features.REQUEST), np.float32)
    library.ngx_webtorch_features_request(
        ctypes.c_void_p(row.ctypes.data), len(row), ctypes.byref(request), ctypes.byref(text)
    )
    return row


# of ngx_webtorch_tokens_t: numbers of n-grams, segments and parameters
CUT_SIZE = 4 + features.TEXT_SIZE * (5 * 4 + 1) + 3 * 64 * 4

SNIPPETS = [b"%25", b"%2527", b"%", b"%4", b"+", b"%2B", b"<ScRiPt>", b"/", b"../", b"%00", b"a1"]
SEPARATORS = [b"&", b"=", b"&b=", b"%26", b"%3d", b"[x]=", b"\x1d", b"\x1e"]

encoded = st.lists(
    st.one_of(
        st.sampled_from(SNIPPETS + SEPARATORS),
        st.binary(min_size=1, max_size=4),
    )
).map(b"".join)


@settings(deadline=None)
@given(path=encoded, query=encoded, body=encoded, size=st.integers(1, 200))
def test_c_and_python_agree(library, path, query, body, size):
    text = text_in_c(library, path, query, body)
    expected = features.text(path, query, body)
    assert bytes(text.text[: text.len]) == expected

    for code, dtype in ((INT32, np.int32), (INT64, np.int64)):
        row = ngrams_in_c(library, text, size, code)
        np.testing.assert_array_equal(row, features.ngrams([expected], size, dtype)[0])

    expected = features.tokens([(path, query, body)], size)
    for in_c, in_python in zip(tokens_in_c(library, text, size), expected, strict=True):
        np.testing.assert_array_equal(in_c, in_python)

    row = request_in_c(library, text, Request(method=2, http=7, body=len(body)))
    np.testing.assert_allclose(row, features.request("POST", path, query, body), rtol=1e-6)


@pytest.mark.parametrize("argument", [b"a=b", b"&", b"=", b"a%26=1", b"<x>=y"])
@pytest.mark.parametrize("count", [60, 61, 62, 63, 127, 128, 129, 300, 9000])
def test_many_parameters_are_cut_equally(library, argument, count):
    parts = b"/p", b"&".join([argument] * count), b"&".join([argument] * (count // 2))
    text = text_in_c(library, *parts)
    expected = features.tokens([parts], 500)
    for in_c, in_python in zip(tokens_in_c(library, text, 500), expected, strict=True):
        np.testing.assert_array_equal(in_c, in_python)


@pytest.mark.parametrize("part", range(3))
def test_long_parts_are_cut_equally(library, part):
    parts = [b"/p", b"a=b", b"c%3Dd"]
    parts[part] = b"%2541+" * features.TEXT_SIZE
    text = text_in_c(library, *parts)
    assert bytes(text.text[: text.len]) == features.text(*parts)
    row = request_in_c(library, text, Request(method=0, http=7, body=len(parts[2])))
    np.testing.assert_allclose(row, features.request("GET", *parts), rtol=1e-6)
    for size in (1, 4 * features.TEXT_SIZE):
        np.testing.assert_array_equal(
            ngrams_in_c(library, text, size, INT32),
            features.ngrams([features.text(*parts)], size)[0],
        )


def test_text_decoded_twice_and_lower_cased():
    assert features.text("/A%2FB", "q=%2527+OR+1%2B1", "%3Cb%3E+%zz") == (
        b"/a/b\x1dq=' or 1+1\x1e<b> %zz"
    )
    assert features.text("/a+b") == b"/a+b\x1d\x1e"


def test_numbers_of_ngrams_are_those_of_fnv():
    # the test vectors of FNV-1a, 32 bit, without the highest bit
    known = {b"a": 0xE40C292C, b"b": 0xE70C2DE5, b"ab": 0x4D2505CA}
    (row,) = features.ngrams([b"ab"], 5)
    assert row.tolist() == [
        *(known[ngram] & 0x7FFFFFFF for ngram in (b"a", b"ab", b"b")),
        -1,
        -1,
    ]


def test_request_columns_have_names():
    row = features.request(
        "PUT",
        "/a%2e",
        "x=1&y",
        b"body",
        headers={"Host": "[::1]:80", "User-Agent": "curl", "X-Some": "thing"},
        version="2",
        tls=True,
    )
    columns = dict(zip(features.REQUEST, row.tolist(), strict=True))
    ones = {name for name, value in columns.items() if value == 1}
    assert ones == {"put", "http_2", "tls", "host", "host_is_address", "user_agent"}
    assert columns["headers"] == pytest.approx(np.log(4))
    assert columns["arguments"] == pytest.approx(np.log(3))
    assert columns["body"] == columns["user_agent_length"] == pytest.approx(np.log(5))
    assert columns["escapes"] == pytest.approx(np.log(2))


def test_documentation_names_all_columns():
    text = (ROOT / "docs/features.md").read_text()
    sections = {
        part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)
    }
    for section, columns in {
        "request": features.REQUEST,
        "client": [name for name in features.CLIENT if not name.startswith("kind_")],
        "site": features.SITE,
        "outcome": [name for name in features.OUTCOME if not name.startswith("status_")],
    }.items():
        for name in columns:
            assert f"`{name}`" in sections[section], name


def test_c_has_as_many_columns():
    header = (ROOT / "ngx_webtorch/features/ngx_webtorch_columns.h").read_text()
    assert len(features.REQUEST) == 29 + 16
    assert len(features.CLIENT) == 15 + 16
    assert f"NGX_WEBTORCH_SITE_COLUMNS     {len(features.SITE)}\n" in header
    assert f"NGX_WEBTORCH_OUTCOME_COLUMNS  {len(features.OUTCOME)}\n" in header
