"""webtorch._schema.schema, as far as the tests of configurations do not go."""

from dataclasses import dataclass
from typing import TypedDict

import pytest
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from webtorch import Missing, SignatureError, State, Strings
from webtorch._schema.missing import Gaps
from webtorch._schema.schema import Schema, TensorSpec


def test_signature():
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


def test_batch_axis_is_the_first_one():
    def f(x: Float32[Tensor, "3 batch"]) -> Float32[Tensor, "3"]: ...

    with pytest.raises(SignatureError, match='the axis "batch" of "x" is not its first one'):
        Schema.of(f)


def test_variable_axes():
    def f(
        x: Int64[Tensor, "batch seq"], y: Float32[Tensor, "batch 3 width seq"]
    ) -> tuple[Float32[Tensor, "batch seq 4"], Float32[Tensor, "batch found width"]]: ...

    schema = Schema.of(f)
    assert schema.inputs[1].shape == (3, "width", "seq")
    assert schema.outputs[1].shape == ("found", "width")
    assert (schema.axes, schema.bound) == (("seq", "width", "found"), 2)
    assert schema.place_of("found") == (1, 1)
    inputs = [torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 3, 7, 5)]
    assert schema.sizes_of(inputs) == {"seq": 5, "width": 7}
    assert schema.inputs[1].describe(schema.batched) == "float32 [batch, 3, width, seq]"


@pytest.mark.parametrize("axis", ["_", "_n", "*rest", "...", "#n", "n+1", "n*2", "n=m", "?n", "0"])
def test_axes_that_cannot_be_served(axis):
    namespace = {"Float32": Float32, "Tensor": Tensor}
    exec(f'def f(x: Float32[Tensor, "batch {axis}"]) -> Float32[Tensor, "batch"]: ...', namespace)
    with pytest.raises(SignatureError, match=r'of "x" is neither a size, .*, nor a name'):
        Schema.of(namespace["f"])


def test_too_many_variable_axes():
    def f(x: Float32[Tensor, "a b c d e f g h"]) -> Float32[Tensor, "i"]: ...

    with pytest.raises(SignatureError, match="more than 8 variable axes"):
        Schema.of(f)


def test_long_name_of_an_axis():
    namespace = {"Float32": Float32, "Tensor": Tensor}
    exec(f'def f(x: Float32[Tensor, "{"n" * 64}"]) -> Float32[Tensor, "2"]: ...', namespace)
    with pytest.raises(SignatureError, match="longer than 63 bytes"):
        Schema.of(namespace["f"])


def test_annotations_as_strings():
    def f(x: 'Float32[Tensor, "2"]') -> 'Float32[Tensor, "2"]': ...

    assert not Schema.of(f).batched


def test_long_names_are_refused():
    namespace = {"Float32": Float32, "Tensor": Tensor}
    exec(f'def f({"x" * 64}: Float32[Tensor, "2"]) -> Float32[Tensor, "2"]: ...', namespace)
    with pytest.raises(SignatureError, match="longer than 63 bytes"):
        Schema.of(namespace["f"])


X = Float32[Tensor, "batch"]


def test_state_without_a_stream():
    def f(x: X, s: State[X]) -> X: ...

    with pytest.raises(SignatureError, match='"s" is a state, which functions under'):
        Schema.of(f)


class Named(TypedDict):
    x: Tensor


@dataclass
class Grouped:
    x: Tensor


@pytest.mark.parametrize(
    ("annotation", "hint"),
    [
        (str, r'webtorch\.Strings\[list\[str\], "batch"\]'),
        (list[bytes], r'webtorch\.Strings\[list\[bytes\], "batch"\]'),
        (dict[str, Tensor], "a NamedTuple that is returned"),
        (Named, "a NamedTuple that is returned"),
        (Grouped, "a NamedTuple that is returned"),
        (int, "numbers are tensors, .*@webtorch.handler"),
        (Tensor, r'as in Float32\[Tensor, "batch 2"\]'),
    ],
)
def test_annotations_in_place_of_others(annotation, hint):
    def takes(x: annotation) -> X: ...

    def returns(x: X) -> annotation: ...

    for function in (takes, returns):
        with pytest.raises(SignatureError, match=f"is not annotated with a dtype .*{hint}"):
            Schema.of(function)


def test_describe():
    spec = TensorSpec("x", torch.float32, (3, 4))
    assert spec.describe(True) == "float32 [batch, 3, 4]"
    assert TensorSpec("x", torch.bool, ()).describe(False) == "bool []"


def test_gaps():
    def f(
        a: Missing[Int64[Tensor, "batch"]] | None,
        b: Missing[Float32[Tensor, "batch 2"]],
        c: Strings[list[str], "batch"] | None = None,
        d: Float32[Tensor, "batch 2"] = (1, 2.5),
        e: Strings[list[str], "batch"] = "x",
    ) -> Float32[Tensor, "batch"]: ...

    schema = Schema.of(f)
    gaps = [spec.gaps for spec in schema.inputs]
    assert gaps[:3] == [Gaps(True, True), Gaps(False, True), Gaps(True)]
    assert gaps[3].default == torch.tensor([1, 2.5]).numpy().tobytes()
    assert gaps[4].default == b"x"
    assert schema.masks == ((0, 5),) and schema.optional == (0, 2)
    assert schema.buffers[5] == TensorSpec("a", torch.bool, ())


@pytest.mark.parametrize(
    ("annotation", "default", "text"),
    [
        (Float32[Tensor, "batch"], None, "must allow that"),
        (Int64[Tensor, "batch"], 1.5, "torch.float32, which is not converted to torch.int64"),
        (UInt8[Tensor, "batch"], 256, "out of range of torch.uint8"),
        (Float32[Tensor, "batch 2"], [1.0, 2.0, 3.0], r"shape of a row, \[2\]"),
        (Float32[Tensor, "batch"], "x", "is not a number, but str"),
        (Strings[list[str], "batch"], b"x", "is not str, but bytes"),
        (Strings[list[str], "batch"], 300 * "x", "more than 256 bytes"),
        (Float32[Tensor, "batch seq"], 0.0, 'no other tensor has its axis "seq"'),
        (Float32[Tensor, "batch out"] | None, None, "only in inputs that may be absent"),
    ],
    ids=[*map(str, range(9))],
)
def test_defaults_that_cannot_be_served(annotation, default, text):
    def f(y, x=default): ...

    f.__annotations__ = {
        "y": Float32[Tensor, "batch"],
        "x": annotation,
        "return": Float32[Tensor, "batch out" if "only" in text else "batch"],
    }
    with pytest.raises(SignatureError, match=text):
        Schema.of(f)
