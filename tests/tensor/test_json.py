"""JSON in and out."""

import json
import math
import struct

import pytest

from apps import ROWS_APP as APP  # noqa: F401 - the server fixture reads them
from apps import ROWS_SERVER as SERVER  # noqa: F401


def f32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/f32", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ("/f32", [1, 2], [1, 2]),
        ("/f32", {"x": [[1, 2]]}, {"output": [[1, 2]]}),
        ("/f32", {"x": [1, 2]}, {"output": [1, 2]}),
        ("/i64", [[2**63 - 1, -(2**63)]], [[2**63 - 1, -(2**63)]]),
        ("/boolean", [[True, False]], [[False, True]]),
        ("/scalars", [1, 2, 3], [1, 2, 3]),
        ("/scalars", 5, 5),
        ("/images", [[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]], [[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]]),
        ("/images", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        ("/alone", [[1, 2, 3], [4, 5, 6]], [5, 7, 9]),
        ("/zero_d", 41, 42),
        ("/zero_d", {"x": 41}, {"output": 42}),
        ("/add", {"b": [[1, 2]], "a": [[3, 4]]}, {"output": [[13, 24]]}),
        ("/pair", [[1, 2], [4, 3]], {"output_0": [3, 7], "output_1": [1, 0]}),
        ("/named", [[1, 2], [4, 3]], {"value": [2, 4], "index": [1, 0]}),
        ("/named", [4, 3], {"value": 4, "index": 0}),
        ("/transposed", [[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]]),
    ],
)
def test_shapes_dtypes_and_names(server, path, body, answer):
    response = server.post(path, body)
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == answer


@pytest.mark.parametrize("value", [0.1, -1.5e-45, 3.4e38, 1e-7, 123456789.0, 1 / 3, 5e-324])
def test_numbers_read_back_the_same(server, value):
    assert server.post("/f64", [[value, -value]]).json() == [[value, -value]]
    echoed = server.post("/f32", [[value, -value]]).json()
    assert [f32(v) for v in echoed[0]] == [f32(value), f32(-value)]


def test_float32_shortest_text(server):
    assert server.post("/f32", [[0.1, 16777216]]).text == "[[0.1,16777216]]"


def test_floats_that_integers_would_not_hold(server):
    """Many parsers take what has neither dot nor exponent for an integer of 64 bits."""
    assert server.post("/f64", data="[[-0.0, 9.25e20]]").text == "[[-0.0,9.25e+20]]"


def test_integers_are_floats_too(server):
    assert server.post("/f64", data="[[18446744073709551615, -3]]").json() == [[2.0**64, -3]]


def test_space_and_a_missing_content_type(server):
    assert server.post("/f32", data=b"\n [ [ 1 ,\t2 ] ] \r\n").json() == [[1, 2]]


def test_content_type_with_parameters(server):
    headers = {"Content-Type": "Application/JSON ; charset=utf-8"}
    assert server.post("/f32", data="[[1, 2]]", headers=headers).json() == [[1, 2]]


def test_rows_by_the_thousand(server):
    rows = [[n, math.sqrt(n)] for n in range(20000)]
    answer = server.post("/f64", data=json.dumps(rows))
    assert answer.json() == rows


@pytest.mark.parametrize(
    "body",
    [
        "[[0.25,-7.5e-3],[1,2]]",
        "[-0, -0.0]",
        "[[1e400, 1]]",
        "[[9007199254740993.5, 0.1234567890123456789]]",
        " [ [ 1 , 2 ] , [ 3 , 4 ] ] ",
        "[[1,2],[3]]",
        "[[1,2],[3,4],]",
        "[[1,2]",
        "[[1,2]]]",
        "[[1,2]] 3",
        "[[01,2]]",
        "[[1.,2]]",
        "[[true,null]]",
        "[]",
        "[[]]",
        "[[[1,2]]]",
        json.dumps([[0.5, 1]] * 2000),
    ],
)
@pytest.mark.parametrize("path", ["/f32", "/f64", "/i64", "/boolean", "/scalars", "/alone"])
def test_plain_rows_are_read_as_others_are(server, path, body):
    """Short rows have a reader of their own, which a byte order mark keeps them from."""
    found = server.post(path, data=body)
    other = server.post(path, data="\ufeff" + body)
    assert found.status_code == other.status_code
    # an error may name a place in the body
    assert found.status_code != 200 or found.text == other.text
