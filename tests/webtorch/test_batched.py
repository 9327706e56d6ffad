"""batched() outside nginx, as tests of users call it."""

import asyncio
from typing import NamedTuple

import numpy as np
import pytest
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

import webtorch
from webtorch import Strings


class Both(NamedTuple):
    total: Float32[Tensor, "batch"]
    count: Int64[Tensor, "batch"]


@webtorch.infer
def both(x: Float32[Tensor, "batch n"]) -> Both:
    return Both(x.sum(1), torch.full((len(x),), x.shape[1]))


@webtorch.infer
def scaled(
    x: Float32[Tensor, "batch 2"], by: Float32[Tensor, "batch"]
) -> Float32[Tensor, "batch 2"]:
    assert not torch.is_grad_enabled()
    return x * by[:, None]


@webtorch.infer
def lengths(texts: Strings[list[str], "batch"]) -> Int64[Tensor, "batch"]:
    return torch.tensor([len(text) for text in texts])


@webtorch.infer
def gaps(x: webtorch.Missing[Int64[Tensor, "batch"]]) -> Int64[Tensor, "batch"]:
    return x.values


@webtorch.infer
def may_be_absent(
    x: Float32[Tensor, "batch"], y: Float32[Tensor, "batch"] | None
) -> Float32[Tensor, "batch"]:
    return x


@webtorch.infer
def fails(x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
    raise LookupError("always")


def test_the_function_is_called():
    found = both.batched(torch.ones(2, 3))
    assert isinstance(found, Both)
    assert found.total.tolist() == [3, 3] and found.count.tolist() == [3, 3]
    assert lengths.batched(["a", "bc"]).tolist() == [1, 2]


def test_arrays_lists_and_names():
    expected = [[2, 4], [9, 12]]
    array = np.array([[1, 2], [3, 4]])
    assert scaled.batched(array, [2, 3]).tolist() == expected
    assert scaled.batched(array.tolist(), by=np.float64([2, 3])).tolist() == expected
    assert scaled.batched(by=torch.tensor([2, 3]), x=torch.tensor(array)).tolist() == expected
    assert scaled.batched(torch.ones(2, 4)[:, ::2], torch.ones(2)).tolist() == [[1, 1], [1, 1]]


def test_inputs_with_gaps_are_refused():
    for function, args in ((gaps, ([1],)), (may_be_absent, ([1.0], None))):
        with pytest.raises(TypeError, match="may be None or have gaps"):
            function.batched(*args)


def test_empty_axes_are_refused():
    with pytest.raises(TypeError, match=r'"x" is annotated as float32 \[batch, n\], \[1, 0\] was'):
        both.batched(torch.ones(1, 0))


def test_future_in_a_loop():
    async def call():
        found = await asyncio.gather(both.batched(torch.ones(1, 3)), both.batched([[1.0]]))
        with pytest.raises(LookupError, match="always"):
            await fails.batched([1.0])
        return found

    assert [result.total.tolist() for result in asyncio.run(call())] == [[3], [1]]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((torch.ones(1, 3), [1.0]), {}, r'"x" is annotated as float32 \[batch, 2\], \[1, 3\] was'),
        ((torch.ones(1, 2), [1.0, 2.0]), {}, r'"by" is annotated as float32 \[batch\], \[2\] was'),
        ((torch.ones(2), [1.0]), {}, r'"x" is annotated as float32 \[batch, 2\], \[2\] was given'),
        ((torch.ones(1, 2, dtype=torch.complex64), [1.0]), {}, "torch.complex64 was given"),
        ((torch.ones(1, 2),), {}, "2 inputs are annotated, 1 were given"),
        ((torch.ones(1, 2),), {"bye": [1]}, "inputs are .*, given are also .*bye"),
    ],
)
def test_inputs_that_do_not_fit(args, kwargs, message):
    with pytest.raises(TypeError, match=message):
        scaled.batched(*args, **kwargs)


def test_strings_that_do_not_fit():
    with pytest.raises(TypeError, match=r'"texts" is annotated as str \[batch\]'):
        lengths.batched(["a", 1])


def test_errors_are_those_of_http():
    assert webtorch.QueueFullError("full").status == 503
    late = webtorch.BatchTimeoutError("late")
    assert late.status == 504 and isinstance(late, TimeoutError) and str(late) == "late"


def test_coroutine_is_called_like_a_function():
    @webtorch.handler
    async def hello(request):
        return "hello"

    assert asyncio.run(hello(None)) == "hello"


def test_coroutine_has_no_threads():
    with pytest.raises(ValueError, match="has no threads"):

        @webtorch.handler(threads=2)
        async def hello(request):
            return "hello"
