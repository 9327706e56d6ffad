"""webtorch.schema, as far as the tests of configurations do not go."""

import pytest
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from webtorch import SignatureError
from webtorch.schema import Schema, TensorSpec


def test_a_signature():
    def f(
        x: Float32[Tensor, "batch channels=3 4"], n: Int64[Tensor, "batch"]
    ) -> Float32[Tensor, "batch 1"]: ...

    schema = Schema.of(f)
    assert schema.batched
    assert schema.inputs == (
        TensorSpec("x", torch.float32, (3, 4)),
        TensorSpec("n", torch.int64, ()),
    )
    assert schema.outputs == (TensorSpec("output", torch.float32, (1,)),)


def test_a_batch_axis_is_the_first_one():
    def f(x: Float32[Tensor, "3 batch"]) -> Float32[Tensor, "3"]: ...

    with pytest.raises(SignatureError, match='axis "batch" of "x" is not a size'):
        Schema.of(f)


def test_annotations_as_strings():
    def f(x: 'Float32[Tensor, "2"]') -> 'Float32[Tensor, "2"]': ...

    assert not Schema.of(f).batched


def test_long_names_are_refused():
    namespace = {"Float32": Float32, "Tensor": Tensor}
    exec(f'def f({"x" * 64}: Float32[Tensor, "2"]) -> Float32[Tensor, "2"]: ...', namespace)
    with pytest.raises(SignatureError, match="longer than 63 bytes"):
        Schema.of(namespace["f"])


def test_describe():
    spec = TensorSpec("x", torch.float32, (3, 4))
    assert spec.describe(True) == "float32 [batch, 3, 4]"
    assert TensorSpec("x", torch.bool, ()).describe(False) == "bool []"
