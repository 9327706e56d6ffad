"""webtorch.client with format="torch": tensors of all dtypes as files of torch.save()."""

import numpy as np
import pytest
import torch

from apps import KINDS
from apps import TORCH_APP as APP  # noqa: F401 - the server fixture reads them
from apps import TORCH_SERVER as SERVER  # noqa: F401
from files import load_torch as load
from webtorch.client import Client, ServerError


@pytest.fixture
def torch_client(server):
    with Client(server.url("/"), timeout=30, format="torch") as client:
        yield client


def infer_of(other, path, x, format="torch"):
    """Call another server."""
    with Client(f"http://127.0.0.1:{other.server_port}/", timeout=10, format=format) as client:
        return client.infer(path, x)


@pytest.mark.parametrize("name", KINDS)
def test_dtypes(torch_client, name):
    x = torch.tensor([[0, 1], [1, 1]]).to(getattr(torch, name))
    for y in (torch_client.infer(name, x), torch_client.infer(name, x=x)):
        assert y.dtype is x.dtype and y.tolist() == x.tolist()


def test_several_by_name(torch_client):
    y = torch_client.infer("two", a=np.float32([[1, 2]]), ß=torch.tensor([True]))
    assert {name: (value.dtype, value.tolist()) for name, value in y.items()} == {
        "total": (torch.float32, [3]),
        "größe": (torch.int64, [2]),
    }


@pytest.mark.parametrize(
    "x",
    [
        np.asfortranarray(np.ones((3, 2), ">f4")),
        np.broadcast_to(np.float32(1), (3, 2)),
        torch.ones(2, 3).t(),
        torch.ones(1, 2).expand(3, 2),
        torch.nn.Parameter(torch.ones(3, 2)),
        torch.ones(3, 2, requires_grad=True) * 1,
        torch.complex(torch.ones(3, 2), -torch.ones(3, 2)).conj().imag,
    ],
    ids=["fortran", "read-only", "transposed", "expanded", "parameter", "result", "negative"],
)
def test_request_body(torch_client, x):
    y = torch_client.infer("half", x)
    assert y.tolist() == [[0.5, 0.5]] * 3 and not y.requires_grad


def test_view_is_sent_without_the_rest(echo):
    infer_of(echo, "torch/tensor", torch.ones(10**6)[:2])
    _, headers, body = echo.seen[0]
    assert headers["Content-Type"] == headers["Accept"] == "application/x-pytorch"
    assert load(body).tolist() == [1, 1] and len(body) < 10_000


def test_sparse_tensor(torch_client):
    with pytest.raises(TypeError, match=r"send x\.to_dense\(\)"):
        torch_client.infer("half", torch.ones(3, 2).to_sparse())


def test_errors_of_the_server(torch_client):
    with pytest.raises(ServerError, match="webtorch_torch_load") as caught:
        torch_client.infer("off", torch.ones(1, 2))
    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")
    with pytest.raises(ServerError) as caught:
        torch_client.infer("half", torch.ones(1, 3))
    assert caught.value.code == "wrong_shape"


@pytest.mark.parametrize("path", ["torch/noise", "torch/words", "torch/nothing", "html"])
def test_answers_that_are_not_tensors(echo, path):
    with pytest.raises(ServerError, match="the answer is not arrays"):
        infer_of(echo, path, torch.ones(1))


def test_other_formats_load_no_torch_files(echo):
    with pytest.raises(ServerError, match="its Content-Type is application/x-pytorch"):
        infer_of(echo, "torch/tensor", torch.ones(1), "npy")
