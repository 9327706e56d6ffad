"""CSV: what is read, what is refused with its place, and what is written."""

import csv
import io

import numpy as np
import pandas
import pytest

from answers import check_error
from apps import TABLES_APP as APP  # noqa: F401 - the server fixture reads them
from apps import TABLES_SERVER as SERVER  # noqa: F401

CSV = "text/csv"


def post(server, path, body, **headers):
    data = body.encode() if isinstance(body, str) else body
    return server.post(path, data=data, headers={"Content-Type": CSV, **headers})


def rows(answer):
    assert answer.ok, answer.text
    assert answer.headers["Content-Type"] == CSV
    return [*csv.reader(io.StringIO(answer.text))]


def test_columns_in_any_order(server):
    answer = post(server, "/plain", "n,job,age\n1,cook,31\n-2,clerk,0.5\n")
    assert answer.text == "total,label\n32,COOK\n-1.5,CLERK\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_ends_of_lines_and_byte_order_marks(server, end, mark, last):
    text = mark + end.join(["age,job,n", "1,a,2", "3,,4"]) + end * last
    assert rows(post(server, "/plain", text))[1:] == [["3", "A"], ["7", ""]]


def test_quotes(server):
    text = 'age,"job",n\n"1","a ""b"", c\r\nd",2\n3,"",4\n'
    found = rows(post(server, "/plain", text))
    assert found[1:] == [["3", 'A "B", C\r\nD'], ["7", ""]]


def test_rows_of_a_shape(server):
    answer = post(server, "/pairs", "x.1,n,x.0\n2,3,1\n5,6,4\n")
    assert rows(answer) == [["output.0", "output.1"], ["3", "6"], ["24", "30"]]


def test_gaps(server):
    text = 'x,n,b,s\n1,,True,\n,5.0,,t\n2,3,0,""\n'
    answer = post(server, "/missing", text, Accept="application/json").json()
    assert answer["output_0"] == [1, None, 2]
    assert answer["output_1"] == [10, 5, 0]
    assert answer["output_2"] == ["0", "5t", "3"]
    assert rows(post(server, "/missing", text))[2] == ["NaN", "5", "5t"]
    assert rows(post(server, "/optional", "x\n1\n2\n"))[1:] == [["-1"], ["-2"]]
    assert rows(post(server, "/filled", "x\n1\n"))[1:] == [["12", "none"]]


def test_numbers_as_text(server):
    text = "x.0,x.1\nnan,-inf\n1e-400, 2.5 \n-0.0,1E+3\n"
    answer = post(server, "/double", text)
    assert rows(answer)[1:] == [["NaN", "-inf"], ["0", "5"], ["-0.0", "2000"]]


def test_long_numbers(server):
    zeros = 400 * "0"
    small = [f"-0.{zeros}1", f"0.{zeros}1e+5", f"1{zeros}e-900", "1e-99999999999", f".{zeros}1"]
    text = "x.0,x.1\n" + "".join(f"{number},1\n" for number in small)
    assert [float(x) for x, _ in rows(post(server, "/double", text))[1:]] == [0.0] * 5
    for number in (
        f"1{zeros}e-5",
        f"-1{zeros}",
        f"0.{zeros}1e+900",
        f"1{zeros}.0E-9",
        "1e99999999999",
    ):
        answer = post(server, "/double", f"x.0,x.1\n{number},1\n")
        check_error(answer, 422, "out_of_range")
    assert rows(post(server, "/double", f"x.0,x.1\n1{zeros}e-400,1\n"))[1:] == [["2", "2"]]


def test_data_frames(server):
    frame = pandas.DataFrame({"age": [1.5, 2], "job": ["a", 'b"'], "n": [1, 2]})
    answer = post(server, "/plain", frame.to_csv(index=False))
    found = pandas.read_csv(io.StringIO(answer.text))
    assert found["total"].tolist() == [2.5, 4] and found["label"].tolist() == ["A", 'B"']


def test_large_tables(server):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20000, 2))
    text = "x.0,x.1\n" + "".join(f"{a!r},{b!r}\n" for a, b in x.tolist())
    found = np.loadtxt(io.StringIO(post(server, "/double", text).text), delimiter=",", skiprows=1)
    assert np.array_equal(found.astype(np.float32), 2 * x.astype(np.float32))


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "texts"),
    [
        ("/plain", "age,job,n\n1,a,2\n3,4\n", 400, "malformed_body", ("line 3 has 2 fields", "3")),
        ("/plain", "age,job,n\n1,a,2,3\n", 400, "malformed_body", ("line 2 has more than 3",)),
        ("/plain", "age,job,n\n\n1,a,2\n", 400, "malformed_body", ("line 2 has 1",)),
        ("/plain", 'age,job,n\n1,"a,2\n', 400, "malformed_body", ("line 2, column 3", "closed")),
        ("/plain", 'age,job,n\n1,"a"b,2\n', 400, "malformed_body", ("line 2, column 6",)),
        ("/plain", b"age,job,n\n1,\xe4,2\n", 400, "malformed_body", ("line 2, column 3", "UTF-8")),
        ("/plain", "age,job,n\n1,a,2\n".encode("utf-16"), 400, "malformed_body", ("UTF-16",)),
        ("/plain", "age,job,n\n1,a,2\nold,b,1\n", 422, "wrong_dtype",
         ("line 3, column 1", '"age"', '"old" is not float32')),
        ("/plain", "age,job,n\n1,a,2.5\n", 422, "wrong_dtype", ('"2.5" is not int64',)),
        ("/plain", "age,job,n\n,a,2\n", 422, "wrong_dtype", ("line 2, column 1", "empty")),
        ("/plain", "age,job,n\n1e39,a,2\n", 422, "out_of_range", ("line 2", '"1e39"')),
        ("/plain", "age,job,n\n1e999,a,2\n", 422, "out_of_range", ('"1e999"',)),
        ("/plain", "age,job,n\n1,a,9223372036854775808\n", 422, "out_of_range", ("column 3",)),
        ("/plain", "age,job\n1,a\n", 422, "missing_tensor", ('"n"',)),
        ("/plain", "age,job,n,z\n1,a,2,3\n", 422, "unknown_tensor", ('"z"', '"age", "job", "n"')),
        ("/plain", ",age,job,n\n0,1,a,2\n", 422, "unknown_tensor", ("to_csv(index=False)",)),
        ("/plain", "age;job;n\n1;a;2\n", 422, "unknown_tensor", ("separated by commas",)),
        ("/plain", "age,job,n,n\n1,a,2,3\n", 400, "malformed_body", ('"n" is given twice',)),
        ("/plain", "age,job,n\n", 422, "wrong_shape", ("0 rows",)),
        ("/pairs", "x.0,n\n1,2\n", 422, "wrong_shape", ('"x"', "1 of its 2 columns")),
        ("/pairs", "x,n\n1,2\n", 422, "wrong_shape", ('"x.0" to "x.1"',)),
        ("/pairs", "x.0,x.2,n\n1,2,3\n", 422, "wrong_shape", ('"x.1"',)),
    ],
    ids=[*map(str, range(22))],
)  # fmt: skip
def test_malformed_csv(server, path, body, status, code, texts):
    check_error(post(server, path, body), status, code, *texts)
