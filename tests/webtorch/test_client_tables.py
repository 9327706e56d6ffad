"""webtorch.client: data frames, and conversions by the signature that the server reports."""

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest

from answers import check_error
from apps import TABLES_APP as APP  # noqa: F401 - the server fixture reads them
from apps import TABLES_SERVER as SERVER  # noqa: F401
from webtorch.client import Client, ServerError


@pytest.fixture
def client(server):
    with Client(server.url("")) as client:
        yield client


COLUMNS = {"age": [31.5, 2.0], "job": ["cook", "clerk"], "n": [1, -2]}
ANSWER = {"total": [32.5, 0.0], "label": ["COOK", "CLERK"]}


def test_frames_of_pandas(client):
    frame = pandas.DataFrame(COLUMNS, index=["a", "b"])
    found = client.infer("plain", frame)
    assert isinstance(found, pandas.DataFrame)
    assert found.to_dict("list") == ANSWER and found.index.tolist() == ["a", "b"]
    frame["job"] = frame["job"].astype("category")
    assert client.infer("plain", frame).to_dict("list") == ANSWER


def test_frames_of_polars(client):
    frame = polars.DataFrame(COLUMNS)
    found = client.infer("plain", frame)
    assert isinstance(found, polars.DataFrame) and found.to_dict(as_series=False) == ANSWER
    frame = frame.with_columns(polars.col("job").cast(polars.Categorical))
    assert client.infer("plain", frame).to_dict(as_series=False) == ANSWER


def test_tables_of_arrow(client):
    found = client.infer("plain", pa.table(COLUMNS))
    assert isinstance(found, pa.Table) and found.to_pydict() == ANSWER
    categories = pa.table(COLUMNS | {"job": pa.array(COLUMNS["job"]).dictionary_encode()})
    assert client.infer("plain", categories).to_pydict() == ANSWER


def test_integers_with_gaps_are_explained(client):
    frame = pandas.DataFrame(COLUMNS | {"n": [1, None]})
    with pytest.raises(ServerError, match=r'in pandas .* "Int64", .* webtorch\.Missing'):
        client.infer("plain", frame)
    frame["n"] = frame["n"].astype("Int64")
    with pytest.raises(ServerError, match=r"unless it is annotated with webtorch\.Missing"):
        client.infer("plain", frame)
    # without a gap fractions are the reason
    with pytest.raises(ServerError) as error:
        client.infer("plain", pandas.DataFrame(COLUMNS | {"n": [1.0, 2.0]}))
    assert "would lose fractions" in str(error.value) and "Missing" not in str(error.value)


def test_gaps_in_frames(client):
    frame = pandas.DataFrame(
        {
            "x": [1, None],
            "n": pandas.array([None, 5], "Int64"),
            "b": pandas.array([True, None], "boolean"),
            "s": [None, "t"],
        }
    )
    found = client.infer("missing", frame)
    assert found["output_1"].tolist() == [10, 5] and found["output_2"].tolist() == ["0", "5t"]
    assert client.infer("optional", polars.DataFrame({"x": [1.0]}))["output"].to_list() == [-1]


def test_errors_of_frames(client):
    with pytest.raises(ServerError, match='"job" is missing') as raised:
        client.infer("plain", pandas.DataFrame({"age": [1.0], "n": [1]}))
    assert raised.value.code == "missing_tensor"


def test_arrays_and_lists_are_converted(client):
    sent = []
    client._session.hooks["response"].append(lambda answer, **_: sent.append(answer.request))
    for rows in ([[1, 2]], np.array([[1.0, 2.0]]), [[1.0, 2.0]], np.array([[1, 2]])):
        found = client.infer("double", rows)
        assert found.dtype == np.float32 and found.tolist() == [[2, 4]]
    assert [request.method for request in sent] == ["OPTIONS"] + 4 * ["POST"]
    assert all(b"'<f4'" in request.body for request in sent[1:])
    assert client.infer("whole", [1, 2]).dtype == np.int32
    assert client.infer("pairs", x=[[1, 2]], n=[3]).tolist() == [[3, 6]]


def test_numbers_that_are_not_converted(client):
    for rows, code in (([0.5], "wrong_dtype"), ([2**31], "out_of_range")):
        with pytest.raises(ServerError) as raised:
            client.infer("whole", rows)
        assert raised.value.code == code
    with pytest.raises(ServerError) as raised:
        client.infer("double", [[1e39, 0]])
    assert raised.value.code == "out_of_range"


def test_signature_of_a_function(server):
    answer = server.request("OPTIONS", "/missing")
    assert answer.status_code == 200 and answer.headers["Allow"] == "POST, PUT, OPTIONS"
    found = answer.json()
    assert found["name"] == "app:missing"
    assert found["inputs"][1] == {
        "name": "n",
        "datatype": "INT64",
        "shape": [-1],
        "parameters": {"optional": False, "missing": True},
    }
    inputs = server.request("OPTIONS", "/filled").json()["inputs"]
    optional = [tensor.get("parameters", {}).get("optional", False) for tensor in inputs]
    assert optional == [False, True, True, True]
    check_error(server.request("GET", "/missing"), 405, "method_not_allowed")
