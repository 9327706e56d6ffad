"""Tensors that are not plain, as outputs, inputs and answers: C reads the memory of an address."""

import numpy as np
import pytest
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.masked import masked_tensor

import webtorch
from webtorch._core import plain_tensors
from webtorch.testing import Client

X = Float32[Tensor, "batch 2"]

pytestmark = pytest.mark.filterwarnings("ignore:.*(MaskedTensor|Sparse CSR)")


class Marked(Tensor):
    """A tensor with memory of its own."""


def negative(x: Tensor) -> Tensor:
    """Return the numbers with the other sign, which is a bit of the tensor alone."""
    found = torch.complex(torch.zeros_like(x), x).conj().imag
    assert found.is_neg()
    return found


def masked(x: Tensor) -> Tensor:
    return masked_tensor(x, torch.ones_like(x, dtype=torch.bool))


SAME = {
    "sparse": Tensor.to_sparse,
    "csr": Tensor.to_sparse_csr,
    "mkldnn": Tensor.to_mkldnn,
    "negative": lambda x: negative(-x),
    "negative_contiguous": lambda x: torch._neg_view(-x),
    "expanded": lambda x: x[:, :1].expand(-1, 2),
    "parameter": torch.nn.Parameter,
    "subclass": lambda x: x.as_subclass(Marked),
    "plain": lambda x: x + 0,
}


@webtorch.infer
def convert(x: X, kind: webtorch.Strings[list[str], "batch"]) -> X:
    return SAME[kind[0]](x)


@webtorch.infer
def hide(x: X) -> X:
    return masked(x)


@webtorch.infer
def copy(x: X) -> X:
    return x.clone()


@webtorch.handler
def answer(request: webtorch.Request) -> Tensor:
    return SAME[request.args](torch.full((1, 2), 3.0))


@webtorch.handler
def answer_hidden(request: webtorch.Request) -> Tensor:
    return masked(torch.ones(2))


@pytest.fixture(scope="module")
def client():
    functions = (convert, hide, copy, answer, answer_hidden)
    return Client({function.__name__: function for function in functions})


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", SAME)
def test_output_of_a_function(client, kind, rows):
    body = {"x": [[3, 3]] * rows, "kind": [kind] * rows}
    assert client.post("/convert", json=body).json() == {"output": [[3, 3]] * rows}


@pytest.mark.parametrize("kind", SAME)
def test_tensor_of_a_handler(client, kind):
    assert client.post(f"/answer?{kind}").json() == [[3, 3]]


def test_tensors_without_memory_are_errors(client):
    with pytest.raises(TypeError, match="a MaskedTensor has no elements of its own"):
        client.post("/hide", json=[[1, 2]])
    with pytest.raises(TypeError, match="a MaskedTensor has no elements of its own"):
        client.post("/answer_hidden")
    with pytest.raises(TypeError, match="a MaskedTensor has no elements of its own"):
        copy.batched(masked(torch.ones(1, 2)))


@webtorch.infer
def array(x: X) -> X:
    return x.numpy()


def test_array_in_place_of_a_tensor():
    with pytest.raises(TypeError, match=r'"output" is annotated as .*: use torch\.from_numpy'):
        array.batched(torch.ones(1, 2))


@pytest.mark.parametrize("kind", SAME)
def test_rows_for_a_batch(kind):
    assert copy.batched(SAME[kind](torch.full((1, 2), 3.0))).tolist() == [[3, 3]]


def test_plain_tensors_are_left_as_they_are():
    tensor = torch.ones(2, 2)
    assert plain_tensors.is_plain(tensor) and plain_tensors.is_dense(tensor)
    assert plain_tensors.is_dense(tensor.T[:1]) and not plain_tensors.is_plain(torch.ones(2, 3).T)
    assert plain_tensors.plain(tensor).data_ptr() == tensor.data_ptr()
    assert np.array_equal(plain_tensors.plain(negative(tensor)), -tensor)
