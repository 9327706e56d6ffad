"""nginx-conf/tables.conf: tables with gaps as CSV, records, and data frames."""

import csv
import io
import subprocess
import sys

import pandas
import polars
import pytest

from nginx import ROOT, Nginx, running
from webtorch.client import Client

EXAMPLE = ROOT / "examples/tables/tables.py"


@pytest.fixture(scope="module")
def shared_server():
    """Run the real file, at another port and in another directory."""
    text = (ROOT / "nginx-conf/tables.conf").read_text()
    server_block = text[text.index("        location = /v1/income") : text.rindex("    }\n}")]
    http = (
        f"webtorch_path {ROOT}/examples/tables; webtorch_zone models:1m; client_max_body_size 64m;"
    )
    with running(Nginx(server_block, http=http)) as server:
        yield server


def made(*options: str) -> str:
    command = [sys.executable, EXAMPLE, "300", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def probabilities(server: Nginx, text: str) -> list[float]:
    answer = server.post("/v1/income", data=text, headers={"Content-Type": "text/csv"})
    assert answer.headers["Content-Type"] == "text/csv"
    return [float(row["output"]) for row in csv.DictReader(io.StringIO(answer.text))]


def test_network_learns_from_csv(server):
    labelled = made("--income")
    high = [row["high"] == "True" for row in csv.DictReader(io.StringIO(labelled))]
    for _ in range(300):
        headers = {"Content-Type": "text/csv", "Accept": "application/json"}
        answer = server.post("/v1/train", data=labelled, headers=headers)
        found = [output > 0.5 for output in answer.json()["output"]]
        if sum(a == b for a, b in zip(found, high, strict=True)) > 0.85 * len(high):
            break
    else:
        raise AssertionError("it has not learned")


def test_data_frames_get_the_answers_of_csv(server):
    text = made()
    expected = probabilities(server, text)
    assert len(expected) == 300
    with Client(server.url("")) as client:
        pandas_frame = pandas.read_csv(io.StringIO(text))
        pandas_frame["years"] = pandas_frame["years"].astype("Int64")
        found = client.infer("v1/income", pandas_frame)
        assert isinstance(found, pandas.DataFrame)
        assert found["output"].tolist() == pytest.approx(expected)
        polars_frame = polars.read_csv(io.StringIO(text))
        found = client.infer("v1/income", polars_frame)
        assert isinstance(found, polars.DataFrame)
        assert found["output"].to_list() == pytest.approx(expected)
    answer = server.post("/v1/income", polars_frame.to_dicts()).json()
    assert [row["output"] for row in answer] == pytest.approx(expected)


def test_columns_may_be_absent(server):
    body = [{"age": 31, "job": "cook", "years": 12}]
    with_hours = [body[0] | {"hours": 40}]
    assert server.post("/v1/income", body).json() == server.post("/v1/income", with_hours).json()
