"""webtorch.client: against an HTTP server of NumPy's formats, and the real one in JSON."""

import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import requests
import torch

import webtorch
from apps import ROWS_APP as APP  # noqa: F401 - the server fixture reads them
from apps import ROWS_SERVER as SERVER  # noqa: F401
from nginx import free_port, wait_for
from webtorch.client import Client, ServerError

NPY, NPZ, TORCH = "application/x-npy", "application/x-npz", "application/x-pytorch"


@pytest.fixture
def client(echo):
    with Client(f"http://127.0.0.1:{echo.server_port}/", timeout=10) as client:
        yield client


BASE = np.arange(24, dtype=np.float32).reshape(4, 6)

ARRAYS = {
    "float32": BASE,
    "float64": BASE.astype(np.float64),
    "int64": BASE.astype(np.int64),
    "bool": BASE % 2 == 0,
    "strides": BASE[::-2, 1::2],
    "columns": np.asfortranarray(BASE),
    "big-endian": BASE.astype(">f4"),
    "no axes": np.array(2.5, dtype=np.float32),
    "a number of NumPy": np.float32(2.5),
    "no rows": BASE[:0],
    "read-only": np.broadcast_to(BASE[0], (3, 6)),
    "not finite": np.array([np.nan, np.inf, -np.inf]),
    "lists": [[0.5, 0.25], [1, 2]],
}

TENSORS = {
    "float32": torch.from_numpy(BASE),
    "int64": torch.arange(3),
    "bool": torch.tensor([True, False]),
    "transposed": torch.from_numpy(BASE).t(),
    "expanded": torch.ones(1, 3).expand(2, 3),
    "no axes": torch.tensor(2.5),
    "with a gradient": torch.ones(2, 2, requires_grad=True),
    "a result": torch.ones(2, 2, requires_grad=True) * 2,
    "a parameter": torch.nn.Parameter(torch.ones(3)),
    "negative by a flag": torch.tensor([1 + 2j]).conj().imag,
}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("x", ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays(client, echo, x, named):
    y = client.infer("echo", x=x) if named else client.infer("echo", x)
    expected = np.asarray(x)
    assert isinstance(y, np.ndarray)
    expected = expected.astype(expected.dtype.newbyteorder("="))
    np.testing.assert_array_equal(y, expected, strict=True)

    _, headers, body = echo.seen[0]
    assert headers["Content-Type"] == (NPZ if named else NPY)
    if not named:
        assert body[:8] == b"\x93NUMPY\x01\x00"
        assert b"'fortran_order': False" in body and b"'>f4'" not in body


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS.keys())
def test_tensors(client, x, named):
    y = client.infer("echo", x=x) if named else client.infer("echo", x)
    assert isinstance(y, torch.Tensor) and not y.requires_grad
    torch.testing.assert_close(y, x.detach(), rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_tensor_on_a_gpu(client):
    y = client.infer("echo", torch.ones(2, 2, device="cuda"))
    assert y.is_cpu and y.tolist() == [[1, 1], [1, 1]]


def test_several_by_name(client):
    names = ("x", "self", "path", "array", "arr_0", "größe")
    sent = {name: np.full((2, 3), index) for index, name in enumerate(names)}
    received = client.infer("echo", **sent)
    assert received.keys() == sent.keys()
    for name, value in received.items():
        np.testing.assert_array_equal(value, sent[name])

    both = client.infer("echo", x=torch.ones(2), mask=np.array([True, False]))
    assert all(isinstance(value, torch.Tensor) for value in both.values())


def test_names_that_are_arguments_of_savez(client, echo):
    assert client.infer("pair", file=[1], allow_pickle=[2]).keys() == {"best", "index"}
    loaded = np.load(io.BytesIO(echo.seen[0][2]), allow_pickle=False)
    assert sorted(loaded) == ["allow_pickle", "file"] and loaded["file"].tolist() == [1]


def test_several_outputs(client):
    y = client.infer("/pair", [1.0])
    assert {name: (value.dtype.name, value.tolist()) for name, value in y.items()} == {
        "best": ("float32", [[1]]),
        "index": ("int64", [3]),
    }


def test_answers_of_other_servers(client):
    y = client.infer("big-endian", torch.ones(1))
    assert y.dtype is torch.float32 and y.tolist() == [0, 1, 2]
    y = client.infer("null", [1])
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, [[1, np.nan], [1e20, 2]])


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2).to(torch.float8_e5m2),
        torch.ones(2).to_sparse(),
    ],
    ids=["bfloat16", "float8", "sparse"],
)
def test_dtypes_unknown_to_numpy(client, x):
    with pytest.raises(TypeError, match=r'"x" is a tensor of torch\..*convert it'):
        client.infer("echo", x=x)


@pytest.mark.parametrize("x", ["text", [None], [{}], [[1], [1, 2]], b"1", np.zeros(1, "M8[s]")])
def test_invalid_arrays(client, echo, x):
    with pytest.raises(ValueError):
        client.infer("echo", x)
    assert not echo.seen


def test_wrong_calls(client):
    with pytest.raises(TypeError, match="either one array or several by name"):
        client.infer("echo")
    with pytest.raises(TypeError, match="either one array or several by name"):
        client.infer("echo", [1], x=[1])
    with pytest.raises(ValueError, match="one of npy, json"):
        Client("http://127.0.0.1", format="xml")


# --- errors ---


@pytest.mark.parametrize(
    ("path", "status", "code", "retry_after", "text"),
    [
        ("full", 503, "queue_full", 2.0, "more than 4096 wait"),
        ("later", 503, None, None, "503 Service Unavailable"),
        ("down", 502, None, None, "502 Bad Gateway"),
    ],
)
def test_client_server_errors(client, path, status, code, retry_after, text):
    with pytest.raises(ServerError) as caught:
        client.infer(path, [1])
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.status, error.code, error.retry_after) == (status, code, retry_after)
        assert str(error) == text
        assert isinstance(error, requests.RequestException)
        assert error.response.status_code == status


@pytest.mark.parametrize(
    "path", ["pickle", "words", "truncated", "no-zip", "nothing", "html", "json"]
)
def test_answers_that_are_not_arrays(client, path):
    with pytest.raises(ServerError, match="the answer is not arrays: ") as caught:
        client.infer(path, [1])
    assert caught.value.status == 200 and caught.value.code is None


def test_refused_connection():
    with (
        Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(requests.ConnectionError),
    ):
        client.infer("echo", [1])


# --- connections ---


def test_connection_is_kept(client, echo):
    for _ in range(3):
        client.infer("echo", [1])
        with pytest.raises(ServerError):
            client.infer("full", [1])
    assert len({address for address, _, _ in echo.seen}) == 1


def test_kept_error_keeps_no_connection(server):
    before = server.count_descriptors()
    with Client(server.url(""), format="json") as client, pytest.raises(ServerError) as caught:
        client.infer("f32", [[1]])
    wait_for(lambda: server.count_descriptors() == before, "the connection to be closed")
    assert caught.value.response.json()["error"] == str(caught.value)


def test_session_of_the_caller(echo):
    closed = []

    class Session(requests.Session):
        def close(self):
            closed.append(self)

    session = Session()
    session.headers["Authorization"] = "Bearer secret"
    with Client(f"http://127.0.0.1:{echo.server_port}", session=session) as client:
        client.infer("echo", [1])
    assert echo.seen[0][1]["Authorization"] == "Bearer secret"
    assert not closed
    requests.Session.close(session)


# --- the real server ---


@pytest.fixture
def json_client(server):
    with Client(server.url(""), format="json") as client:
        yield client


def test_json(json_client):
    x = np.float32([[0.1, 2], [3, 4]])
    np.testing.assert_array_equal(json_client.infer("f32", x).astype(np.float32), x)
    np.testing.assert_array_equal(json_client.infer("f32", x=x.T).astype(np.float32), x.T)
    assert json_client.infer("zero_d", 41).tolist() == 42
    assert json_client.infer("i64", [[2**63 - 1, -(2**63)]]).tolist() == [[2**63 - 1, -(2**63)]]
    assert json_client.infer("boolean", np.array([[True, False]])).tolist() == [[False, True]]
    assert json_client.infer("add", a=[[1, 2]], b=[[3, 4]]).tolist() == [[31, 42]]


def test_json_of_tensors_and_several_outputs(json_client):
    y = json_client.infer("named", torch.tensor([[1.0, 2.5], [4.0, 3.0]], requires_grad=True))
    assert all(isinstance(value, torch.Tensor) for value in y.values())
    assert y["value"].tolist() == [2.5, 4] and y["index"].tolist() == [1, 0]


def test_json_has_no_nan(json_client):
    with pytest.raises(requests.RequestException):
        json_client.infer("f32", [[np.nan, 1]])


def test_errors_of_the_server(json_client):
    with pytest.raises(ServerError, match=r'tensor "x": expected float32 \[batch, 2\]') as caught:
        json_client.infer("f32", [[1, 2, 3]])
    assert (caught.value.status, caught.value.code) == (422, "wrong_shape")
    with pytest.raises(ServerError) as caught:
        json_client.infer("f32", y=[[1, 2]])
    assert caught.value.status == 422 and caught.value.retry_after is None
    with pytest.raises(ServerError) as caught:
        json_client.infer("nowhere", [[1, 2]])
    assert (caught.value.status, caught.value.code) == (404, None)


# --- imports ---


def run_python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def test_client_imports_no_torch(echo):
    done = run_python(f"""
import sys
import webtorch.client
assert "torch" not in sys.modules, "torch is imported"

sys.modules["torch"] = None    # as if it were not installed
client = webtorch.client.Client("http://127.0.0.1:{echo.server_port}")
print(client.infer("echo", [1, 2]).tolist(), client.infer("pair", x=[1])["index"].tolist())
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[1,", "2]", "[3]"]


def test_requests_not_installed():
    done = run_python("""
import sys
sys.modules["requests"] = None
import webtorch.client
""")
    assert done.returncode == 1
    assert "ImportError: webtorch.client needs requests" in done.stderr


def test_names_of_the_package_are_imported_when_they_are_used():
    done = run_python("""
import json, sys
import webtorch
before = "torch" in sys.modules
listed = dir(webtorch)
from webtorch import *
print(json.dumps([before, listed, [name for name in webtorch.__all__ if name in globals()]]))
""")
    assert done.returncode == 0, done.stderr
    before, listed, imported = json.loads(done.stdout)
    assert not before
    assert set(webtorch.__all__) <= set(listed)
    assert imported == webtorch.__all__
    assert webtorch.Model.__module__ == "webtorch._models.model"
    with pytest.raises(AttributeError, match="module 'webtorch' has no attribute 'nothing'"):
        webtorch.nothing  # noqa: B018
