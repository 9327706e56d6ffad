"""Functions of several columns: records, gaps, defaults, conversions between dtypes."""

import concurrent.futures
import io
import json
import re

import numpy as np
import pytest
import safetensors.numpy

from answers import check_error
from apps import TABLES_APP as APP  # noqa: F401 - the server fixture reads them
from apps import TABLES_SERVER as SERVER  # noqa: F401
from files import npy, npz
from nginx import peak_memory

NPY = "application/x-npy"


def post(server, path, body, content_type, **headers):
    return server.post(path, data=body, headers={"Content-Type": content_type, **headers})


# --- records ---

PEOPLE = [
    {"age": 31, "job": "cook", "n": 1},
    {"n": 2, "age": 0.5, "job": "clerk"},
    {"job": 'a"b', "n": -3, "age": 1e3},
]


def test_records_are_answered_by_records(server):
    answer = server.post("/plain", PEOPLE)
    assert answer.json() == [
        {"total": 32.0, "label": "COOK"},
        {"total": 2.5, "label": "CLERK"},
        {"total": 997.0, "label": 'A"B'},
    ]


def test_records_with_rows_of_a_shape(server):
    body = [{"x": [1, 2], "n": 3}, {"x": [4, 5], "n": 6}]
    assert server.post("/pairs", body).json() == [{"output": [3, 6]}, {"output": [24, 30]}]
    assert server.post("/double", [{"x": [1, 2]}]).json() == [{"output": [2, 4]}]


def test_one_record_is_a_row(server):
    assert server.post("/plain", PEOPLE[0]).json() == {"total": 32.0, "label": "COOK"}


def test_many_records(server):
    body = [{"age": k, "job": f"j{k}", "n": -k} for k in range(20000)]
    answer = server.post("/plain", body).json()
    assert [row["label"] for row in answer] == [f"J{k}" for k in range(20000)]
    assert not any(row["total"] for row in answer)


@pytest.mark.parametrize(
    ("body", "code", "texts"),
    [
        ([PEOPLE[0], 5], "wrong_shape", ("record 2 is int64",)),
        ([PEOPLE[0], {"age": 1, "job": "a"}], "missing_tensor", ('"n"', "record 2")),
        ([PEOPLE[0], PEOPLE[1] | {"z": 1}], "unknown_tensor", ('"z"', '"age", "job", "n"')),
        ([PEOPLE[0], PEOPLE[1] | {"age": "old"}], "wrong_dtype", ('"age"', "a string", "record 2")),
        ([PEOPLE[0], PEOPLE[1] | {"age": None}], "wrong_dtype", ('"age"', "null", "record 2")),
        ([PEOPLE[0], PEOPLE[1] | {"n": 1.5}], "wrong_dtype", ('"n"', "float64", "record 2")),
        ([PEOPLE[0], PEOPLE[1] | {"age": [1]}], "wrong_shape", ('"age"', "record 2")),
        ([PEOPLE[0] | {"age": 1e39}], "out_of_range", ('"age"', "record 1")),
        ([{}], "missing_tensor", ('"age"',)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_records(server, body, code, texts):
    check_error(server.post("/plain", body), 422, code, *texts)


TABLES = [
    '[{"age":31,"job":"cook","n":1},{"age":0.5,"job":"clerk","n":-2}]',
    '\n[ { "n" : 1,\n "job" : "é]}{",\t"age" : 1e-3 } ,\n'
    ' { "n" : 18,\n "job" : "",\t"age" : -0.0 } ]\n',
    '[{"age":3,"job":"a","n":4},{"n":4,"job":"a","age":3}]',
    '[{"age":3,"job":"a","n":4},{"age":3,"job":"\\u00e9","n":4}]',
    '[{"age":0.12345678901234567890,"job":"a","n":999999999},{"age":123456789012345678901,"job":"a","n":0}]',
    '[{"age":1,"job":"a","n":1},{"age":1,"job":"a","n":1}',
    '[{"age":1,"job":"a","n":1},{"age":1,"job":"a","n":1},]',
    '[{"age":1,"job":"a","n":1},{"age":1.,"job":"a","n":1}]',
    '[{"age":1,"job":"a","n":1},{"age":01,"job":"a","n":1}]',
    '[{"age":1,"job":"a","n":1},{"age":1,"job":"\t","n":1}]',
    '[{"age":1,"job":"a","n":1},{"age":1,"job":"a","n":1.0}]',
    '[{"age":1,"job":"a","n":1},{"age":1,"job":"a","n":9223372036854775808}]',
    '[{"age":1,"job":"a","n":1},{"age":1,"job":"a","age":1}]',
    '[{"age":1,"job":"a","n":1},{"age":null,"job":"a","n":1}]',
    '[{"age":1,"job":"a","n":1},{"age":1,"job":"a","n":1,"z":1}]',
    '[{"age":1,"age":1,"n":1},{"age":1,"age":1,"n":1}]',
    '[{"age":1,"job":"a","n":1}] 2',
    '[{"age":1,"job":"' + "{" * 5000 + '","n":1},{"age":1,"job":"{},{","n":1}]',
    '[{"age":1,"job":"","n":1}]',
    "[" + ",".join(['{"age":1,"job":"","n":1}'] * 999) + "]",
]


def test_plain_tables_and_other_records(server):
    # a byte order mark makes the reader of other records read them
    for body in TABLES:
        plain = post(server, "/plain", body.encode(), "application/json")
        other = post(server, "/plain", b"\xef\xbb\xbf" + body.encode(), "application/json")
        texts = [re.sub(r"byte \d+", "", answer.text) for answer in (plain, other)]
        assert plain.status_code == other.status_code, body
        assert texts[0] == texts[1], body
    gaps = b'[{"x":1,"n":null,"b":true,"s":"a"},{"x":null,"n":2,"b":null,"s":null}]'
    plain = post(server, "/missing", gaps, "application/json")
    other = post(server, "/missing", b"\xef\xbb\xbf" + gaps, "application/json")
    assert plain.status_code == 200
    assert plain.text == other.text
    not_utf8 = b'[{"age":1,"job":"a","n":1},{"age":1,"job":"\xff","n":1}]'
    check_error(post(server, "/plain", not_utf8, "application/json"), 400, "malformed_body")


BRACES_APP = """
import webtorch
from jaxtyping import Int64
from torch import Tensor
from webtorch import Missing, Strings

@webtorch.infer
def f(
    text: Strings[list[str], "batch"],
    ARGUMENTS
) -> Int64[Tensor, "batch"]:
    return m0.values
""".replace("ARGUMENTS", ", ".join(f'm{k}: Missing[Int64[Tensor, "batch"]]' for k in range(16)))


def test_braces_in_a_string_take_no_memory(start):
    """Rows are allocated for records, of which a table has as many as its text has room for."""
    server = start(
        "client_max_body_size 16m; location = /f { webtorch_handler app:f; }", BRACES_APP
    )

    def peak_after(brace: str) -> int:
        record = {"text": brace * (8 << 20)} | {f"m{k}": k + 7 for k in range(16)}
        assert server.post("/f", [record]).json() == [{"output": 7}]
        return peak_memory(server)

    # the mask of a column has a byte for each row: 128 MB of them otherwise
    before = peak_after("}")
    assert peak_after("{") - before < 64 * 1024


def test_record_with_duplicate_name(server):
    body = '[{"x":[1,2]},{"x":[1,2],"x":[1,2]}]'
    answer = server.post("/double", data=body)
    check_error(answer, 400, "malformed_body", '"x"', "twice", "record 2")


def test_number_beyond_all_floats(server):
    for number in ("1e999", "-1e999", "1" + 400 * "0", "1e39"):
        check_error(server.post("/double", data=f"[[0, {number}]]"), 422, "out_of_range")


# --- gaps ---


def test_absent_tensor_is_none(server):
    assert server.post("/optional", {"x": [1, 2], "y": [3, 4]}).json() == {"output": [4, 6]}
    for body in ({"x": [1, 2]}, {"x": [1, 2], "y": None}):
        assert server.post("/optional", body).json() == {"output": [-1, -2]}
    assert server.post("/optional", [{"x": 1}, {"x": 2, "y": None}]).json() == [
        {"output": -1},
        {"output": -2},
    ]
    check_error(server.post("/optional", {"y": [3]}), 422, "missing_tensor", '"x"')
    check_error(
        server.post("/optional", [{"x": 1}, {"x": 1, "y": 2}]), 422, "missing_tensor", '"y"'
    )
    check_error(
        server.post("/optional", [{"x": 1, "y": 2}, {"x": 1}]), 422, "missing_tensor", '"y"'
    )


def test_absent_tensor_in_binary_formats(server):
    body = io.BytesIO()
    np.savez(body, x=np.float32([1, 2]))
    answer = post(server, "/optional", body.getvalue(), "application/x-npz")
    assert np.load(io.BytesIO(answer.content))["output"].tolist() == [-1, -2]
    for arrays, expected in ({"x": [1]}, [-1]), ({"x": [1], "y": [5]}, [6]):
        file = safetensors.numpy.save({k: np.float32(v) for k, v in arrays.items()})
        answer = post(server, "/optional", file, "application/vnd.safetensors")
        assert safetensors.numpy.load(answer.content)["output"].tolist() == expected


def test_requests_with_and_without_a_tensor_at_once(server):
    bodies = [{"x": [k]} if k % 2 else {"x": [k], "y": [1]} for k in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda body: server.post("/slow", body).json()["output"], bodies)]
    assert answers == [[-k] if k % 2 else [k + 1] for k in range(40)]


def test_missing_elements(server):
    body = {"x": [1, None], "n": [None, 5], "b": [True, None], "s": [None, "t"]}
    answer = server.post("/missing", body).json()
    assert answer == {"output_0": [1, None], "output_1": [10, 5], "output_2": ["0", "5t"]}
    records = [
        {"x": 1, "n": None, "b": True},
        {"x": None, "n": 5, "s": "t"},
    ]
    answer = server.post("/missing", records).json()
    assert [row["output_1"] for row in answer] == [10, 5]
    assert [row["output_2"] for row in answer] == ["0", "5t"]
    row = {"x": None, "n": None, "b": None, "s": None}
    assert server.post("/missing", row).json() == {
        "output_0": None,
        "output_1": 15,
        "output_2": "0",
    }
    check_error(server.post("/missing", {"x": [1]}), 422, "missing_tensor", '"n"')
    # a record has the same answer alone as beside others
    one = {"x": 1, "n": 1, "b": True}
    answer = server.post("/missing", [one]).json()
    assert answer == [{"output_0": 1, "output_1": 8, "output_2": "1"}]
    assert server.post("/missing", [one, one | {"s": "t"}]).json()[0]["output_1"] == 8


def test_masks_are_zero_after_missing_elements(server):
    for _ in range(3):
        body = {"x": [None] * 3, "n": [None] * 3, "b": [None] * 3, "s": [None] * 3}
        assert server.post("/missing", body).json()["output_1"] == [15] * 3
        body = {"x": [1.0] * 3, "n": [1] * 3, "b": [True] * 3, "s": ["a"] * 3}
        assert server.post("/missing", body).json()["output_1"] == [0] * 3


def test_missing_elements_are_trained_on(server):
    assert server.post("/train", [1, None]).json() == [1, -1]
    body = npy(np.float32([1, np.nan]))
    answer = post(server, "/train", body, NPY, Accept="application/json")
    assert answer.json() == [1, -1]


@pytest.mark.parametrize("number", [np.inf, -np.inf])
def test_infinities_are_not_missing(server, number):
    answer = post(server, "/train", npy(np.float32([1, np.nan, number])), NPY)
    check_error(answer, 422, "not_finite", 'tensor "x": infinities cannot be trained on')


def test_tables_defaults(server):
    assert server.post("/filled", {"x": [1, 2]}).json() == {
        "output_0": [12, 13],
        "output_1": ["none", "none"],
    }
    records = [{"x": 1}, {"x": 2, "s": "t", "n": 0}, {"x": 3, "y": [0, 0]}]
    assert server.post("/filled", records).json() == [
        {"output_0": 12, "output_1": "none"},
        {"output_0": 6, "output_1": "t"},
        {"output_0": 10, "output_1": "none"},
    ]
    check_error(server.post("/filled", {"n": [1]}), 422, "missing_tensor", '"x"')


def test_absent_tensors_take_no_memory(server):
    body = {"x": [*range(1000)]}
    image = np.ones((1, 3, 224, 224), "i8")
    for _ in range(2):
        assert server.post("/wide", body).json()["output"] == [-x for x in body["x"]]
        records = [{"x": x} for x in body["x"]]
        assert [row["output"] for row in server.post("/wide", records).json()] == [
            -x for x in body["x"]
        ]
        answer = server.post("/wide", {"x": [5], "image": image.tolist()})
        assert answer.json() == {"output": [5 + image.size]}
    large = {"x": np.zeros(100_000).tolist()}
    assert len(server.post("/wide", large).json()["output"]) == 100_000


def test_absent_tensors_of_any_size(server):
    for n, m, rows in ((1, 1, 1), (2, 3, 2), (16, 16, 1), (1, 64, 4), (40, 40, 1), (3, 2, 30)):
        body = {"x": np.ones((rows, n)).tolist(), "y": np.ones((rows, m)).tolist()}
        assert server.post("/widening", body).json()["output"] == [-n] * rows
        body["product"] = np.ones((rows, n, m)).tolist()
        assert server.post("/widening", body).json()["output"] == [n * m + m] * rows


def test_absent_tensors_in_training(server):
    for _ in range(3):
        assert server.post("/train_wide", {"x": [1, 2]}).json() == {"output": [1, 2]}
        body = {"x": [1, 2], "y": np.ones((2, 1000)).tolist()}
        assert server.post("/train_wide", body).json() == {"output": [1001, 1002]}


def test_memory_of_defaults(server):
    assert server.post("/wide_default", {"x": [1, 2]}).json() == {"output": [2, 3]}
    assert server.post("/wide_default", [{"x": 1}, {"x": 2}]).json()[1] == {"output": 3}
    for body in ({"x": [0] * 1000}, [{"x": 0}] * 1000):
        answer = server.post("/wide_default", body)
        check_error(answer, 413, "too_many_rows", '"y"', "defaults of 1000 rows")


def test_memory_of_defaults_of_variable_axes(server):
    row = {"x": [1, 2], "y": [1, 2, 3]}
    assert server.post("/widening_default", row).json() == {"output": 6}
    assert server.post("/widening_default", [row]).json() == [{"output": 6}]
    rows = [row, row | {"product": None}]
    assert server.post("/widening_default", rows).json() == [{"output": 6}] * 2

    row = {"x": np.ones(1000).tolist(), "y": np.ones(1000).tolist()}
    assert server.post("/widening_default", row).json() == {"output": 1_000_000}
    assert server.post("/widening_default", [row]).json() == [{"output": 1_000_000}]

    # the default of one row has 36 MB
    row = {"x": np.ones(3000).tolist(), "y": np.ones(3000).tolist()}
    arrays = {name: np.ones((1, 3000), "f4") for name in row}
    for answer in (
        server.post("/widening_default", row),
        server.post("/widening_default", [row]),
        post(server, "/widening_default", npz(**arrays), "application/x-npz"),
    ):
        check_error(answer, 413, "too_many_rows", '"product"', "defaults of 1 row are larger")


def test_default_strings_of_records(server):
    records = [
        {"x": 1, "job": None},
        {"x": 2, "city": None, "tags": None},
        {"x": 3, "job": "cook", "city": "Rome", "tags": ["a", None]},
    ] * 50
    rows = ["unknown:nowhere:none:none", "unknown::none:none", "cook:Rome:a:"] * 50
    for _ in range(3):
        assert server.post("/texts", records).json() == [{"output": row} for row in rows]
    assert server.post("/texts", [{"x": 1, "job": None}]).json() == [{"output": rows[0]}]


# a null, then the value that replaces it
TAGS_TWICE = '[{"x":1,"job":"","city":"","tags":null,"tags":["",""]}]'


@pytest.mark.parametrize(
    "body", [TAGS_TWICE, TAGS_TWICE.replace('"x":1', '"x":1,"job":null')], ids=["tags", "job"]
)
def test_record_string_default_and_value(server, body):
    check_error(server.post("/texts", data=body), 400, "malformed_body", "twice", "record 1")
    assert server.post("/texts", [{"x": 1, "tags": None}]).json()[0]["output"].endswith("none:none")


@pytest.mark.parametrize("name", ["job", "city", "tags"])
def test_record_string_default_twice(server, name):
    body = f'[{{"x":1}},{{"x":1,"{name}":"","{name}":""}}]'
    answer = server.post("/texts", data=body)
    assert answer.status_code in (400, 422), answer.text


# --- conversions ---


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u1", "?"])
def test_numbers_of_the_same_kind_are_converted(server, dtype):
    rows = np.arange(2 * 150).reshape(150, 2).astype(dtype)
    answer = post(server, "/double", npy(rows), NPY)
    assert np.array_equal(np.load(io.BytesIO(answer.content)), 2 * rows.astype(np.float32))
    file = safetensors.numpy.save({"x": rows})
    answer = post(server, "/double", file, "application/vnd.safetensors")
    expected = 2 * rows.astype(np.float32)
    assert np.array_equal(safetensors.numpy.load(answer.content)["output"], expected)


def test_integers_are_converted_in_range(server):
    for dtype in ("i8", "u4", "u8", "i1", "?"):
        rows = np.array([0, 1, 100], dtype)
        answer = post(server, "/whole", npy(rows), NPY)
        assert np.load(io.BytesIO(answer.content)).tolist() == rows.tolist()
    for number, dtype in ((2**31, "i8"), (-(2**31) - 1, "i8"), (2**63, "u8"), (2**31, "u4")):
        for place in (0, 99, 199):
            rows = np.zeros(200, dtype)
            rows[place] = number
            answer = post(server, "/whole", npy(rows), NPY)
            check_error(answer, 422, "out_of_range", '"x"', "to int32")


def test_floats_beyond_the_range(server):
    for number, dtype in ((1e39, "f8"), (-1e39, "f8")):
        answer = post(server, "/double", npy(np.array([[0, number]], dtype)), NPY)
        check_error(answer, 422, "out_of_range", "float64 to float32")
    check_error(post(server, "/half", npy(np.int64([70000])), NPY), 422, "out_of_range", "int64")
    answer = post(server, "/double", npy(np.array([[np.inf, np.nan]])), NPY)
    assert np.array_equal(np.load(io.BytesIO(answer.content)), [[np.inf, np.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("path", "array", "texts"),
    [
        ("/whole", np.float64([1]), ("float64 to int32", "fractions")),
        ("/flag", np.int64([1]), ("int64 to bool", "other than 0 and 1")),
        ("/flag", np.float32([1]), ("float32 to bool",)),
        ("/double", np.complex64([[1, 2]]), ("complex64",)),
    ],
    ids=["float", "int", "float-bool", "complex"],
)
def test_conversions_that_lose_something(server, path, array, texts):
    check_error(post(server, path, npy(array), NPY), 422, "wrong_dtype", '"x"', *texts)


def test_text_of_integers_as_floats(server):
    tensor = "4|1|3|V 1|16|torch.LongTensor|1|2|1|1|4|2|3|V 1|17|torch.LongStorage|2|3 4|"
    tensor = tensor.replace("|", "\n")
    answer = post(server, "/double", tensor, "text/plain", Accept="application/json")
    assert answer.json() == [6, 8]


def test_bodies_of_records_are_json(server):
    answer = server.post("/plain", data=json.dumps(PEOPLE).encode("utf-8-sig"))
    assert len(answer.json()) == 3
