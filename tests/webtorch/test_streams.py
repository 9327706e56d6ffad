"""Stream functions without nginx: schemas, states, calls that fail."""

import gc
import types
import weakref
from typing import NamedTuple

import pytest
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

import webtorch
from webtorch import HTTPError, Missing, State, Strings
from webtorch._handlers.functions import Span
from webtorch._schema.schema import SignatureError, TensorSpec
from webtorch._streams.state_tables import TensorTable
from webtorch._streams.streams import StreamFunction
from webtorch.cli._discovery import _functions
from webtorch.cli._examples import curl, order


def places(*pairs: tuple[int, int]) -> Tensor:
    """Return rows to read from and to write to, as C gives them."""
    return torch.tensor(pairs)


@webtorch.stream
def total(
    x: Float32[Tensor, "batch 2"], s: State[Float32[Tensor, "batch 2"]]
) -> tuple[Float32[Tensor, "batch 2"], State[Float32[Tensor, "batch 2"]]]:
    return s + x, s + x


class Step(NamedTuple):
    done: Bool[Tensor, "batch"]
    y: Float32[Tensor, "batch"]
    window: State[list[list[float]]]
    n: State[Int64[Tensor, "batch"]]
    label: Strings[list[str], "batch"]


def make_step() -> StreamFunction:
    @webtorch.stream
    def step(
        window: State[list[list[float]]],
        x: Float32[Tensor, "batch"],
        n: State[Int64[Tensor, "batch"]],
    ) -> Step:
        windows = [[] if each is None else each for each in window]
        for each, value in zip(windows, x.tolist(), strict=True):
            each.append(value)
        n += 1
        if (x < 0).any():
            raise ValueError("negative")
        sums = torch.tensor([sum(each) for each in windows])
        return Step(n >= 3, sums, windows, n, [f"{each}" for each in n.tolist()])

    return step


# --- schemas ---


def test_schema_has_no_states():
    schema = total.schema
    assert [spec.name for spec in schema.inputs] == ["x", "state rows"]
    assert [spec.name for spec in schema.outputs] == ["output"]
    assert not total.signature.has_done


def test_schema_of_a_named_tuple():
    step = make_step()
    assert [spec.name for spec in step.schema.inputs] == ["x", "state rows"]
    assert [spec.name for spec in step.schema.outputs] == ["y", "label", "done"]
    assert step.signature.has_done
    assert step.has_close  # objects are released


def make(signature: str) -> StreamFunction:
    namespace = globals() | {"T": Tensor}
    exec(f"def f{signature}: ...", namespace)
    return webtorch.stream(namespace["f"])


X = 'x: Float32[T, "batch 2"]'
S = 'State[Float32[T, "batch 2"]]'


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        pytest.param(f"({X})", "no return annotation", id="no_return"),
        pytest.param(f"({X}, s: {S}) -> {S}", "nothing that could be sent", id="state_alone"),
        pytest.param(
            f'({X}, s: {S}) -> Float32[T, "batch 2"]',
            "takes 1 states and returns 0",
            id="not_returned",
        ),
        pytest.param(
            f'({X}, s: {S}) -> tuple[Float32[T, "batch 2"], State[Float32[T, "batch 3"]]]',
            r'state "s" is float32 \[batch, 2\] as an argument, but is returned as float32 '
            r"\[batch, 3\]",
            id="another_shape",
        ),
        pytest.param(
            f'({X}, s: {S}) -> tuple[Float32[T, "batch 2"], State[list[int]]]',
            "is returned as a list of objects",
            id="another_kind",
        ),
        pytest.param(
            f'({X}, s: State[Float32[T, "2"]]) '
            '-> tuple[Float32[T, "batch 2"], State[Float32[T, "2"]]]',
            'the first axis of the state "s" is not "batch"',
            id="state_without_batch",
        ),
        pytest.param(
            f'({X}, s: State[Float32[T, "batch n"]]) '
            '-> tuple[Float32[T, "batch 2"], State[Float32[T, "batch n"]]]',
            "sizes are fixed",
            id="variable_state",
        ),
        pytest.param(
            f'({X}, s: {S} = None) -> tuple[Float32[T, "batch 2"], {S}]',
            'the state "s" has a default',
            id="default_of_a_state",
        ),
        pytest.param(
            f'({X}, s: State[Missing[Float32[T, "batch 2"]]]) -> tuple[Float32[T, "batch 2"], {S}]',
            'state "s" cannot be absent or have missing elements',
            id="missing_state",
        ),
        pytest.param(
            f'({X}, s: State[Float32[T, "batch 2"] | None]) '
            '-> tuple[Float32[T, "batch 2"], State[Float32[T, "batch 2"]]]',
            'state "s" cannot be absent or have missing elements',
            id="optional_state",
        ),
        pytest.param(
            f'({X}, s: State[int]) -> tuple[Float32[T, "batch 2"], State[int]]',
            'state "s": "x" is not annotated',
            id="state_of_a_number",
        ),
        pytest.param(
            '(x: Float32[T, "2"]) -> Float32[T, "2"]',
            "the first axis of a stream's tensors is",
            id="no_batch",
        ),
        pytest.param(
            f'({X}) -> Float32[T, "batch found"]', "has no size in an input", id="unbound_axis"
        ),
        pytest.param(f"(s: {S}) -> tuple[{S}]", "nothing that could be sent", id="no_output"),
        pytest.param(
            f'(s: {S}) -> tuple[Float32[T, "batch 2"], {S}]', "it takes no tensors", id="no_input"
        ),
    ],
)
def test_signature_is_refused(signature, message):
    with pytest.raises(SignatureError, match=message):
        _ = make(signature).schema


def test_schema_on_the_wire():
    wire = make_step().signature.wire_schema
    assert [spec.name for spec in wire.inputs] == ["x"]
    assert [spec.name for spec in wire.outputs] == ["y", "label"]


def test_examples_of_the_command_line():
    module = types.SimpleNamespace(total=total)
    (function,) = _functions(module)
    assert order([function]) == [function]
    assert curl(function, "http://host/total") == "curl --json '[0.5, 0.5]' http://host/total"


@pytest.mark.parametrize(
    ("batched", "body"),
    [
        (False, '{"prompt": [1, 1, 1, 1], "temperature": 0.5}'),
        (True, '{"prompt": [[1, 1, 1, 1]], "temperature": [0.5]}'),
    ],
    ids=["row", "batch"],
)
def test_examples_of_generations(batched, body):
    class Step(NamedTuple):
        token: Int64[Tensor, "batch"]
        h: State[Float32[Tensor, "batch 3"]]

    @webtorch.generate
    def write(h: State[Float32[Tensor, "batch 3"]]) -> Step: ...

    def begin(prompt, temperature=1.0): ...

    axes = "batch length" if batched else "length"
    begin.__annotations__ = {
        "prompt": Int64[Tensor, axes],
        "temperature": Float32[Tensor, "batch" if batched else ""],
        "return": Float32[Tensor, "batch 3" if batched else "3"],
    }
    write.open(begin)
    (function,) = _functions(types.SimpleNamespace(write=write))
    assert [tensor.name for tensor in function.inputs] == ["prompt", "temperature"]
    assert [tensor.name for tensor in function.outputs] == ["token"]
    assert curl(function, "http://host/write") == f"curl --json '{body}' http://host/write"


def test_open_without_states():
    @webtorch.stream
    def f(x: Float32[Tensor, "batch"]) -> Float32[Tensor, "batch"]:
        return x

    @f.open
    def begin(request: webtorch.Request) -> None: ...

    assert f.schema
    f.begin(0, None)

    @f.open
    def other(request: webtorch.Request) -> Float32[Tensor, ""]: ...

    copy = webtorch.stream(f.__wrapped__)
    copy.open(other)
    with pytest.raises(SignatureError, match="a tuple of 0"):
        _ = copy.schema


def test_done_has_to_be_bool():
    class Wrong(NamedTuple):
        y: Float32[Tensor, "batch"]
        done: Float32[Tensor, "batch"]

    @webtorch.stream
    def f(x: Float32[Tensor, "batch"]) -> Wrong: ...

    with pytest.raises(SignatureError, match="is not annotated as Bool"):
        _ = f.schema


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (Float32[Tensor, "3"], r"returns float32 \[3\] for state \"s\", which is float32 \[2\]"),
        (Float32[Tensor, "batch 2"], r"returns float32 \[batch, 2\]"),
    ],
    ids=["another_shape", "a_batch_axis"],
)
def test_open_is_checked(returns, message):
    copy = webtorch.stream(total.__wrapped__)

    @copy.open
    def begin(request: webtorch.Request) -> returns: ...

    with pytest.raises(SignatureError, match=message):
        _ = copy.schema


def test_close_is_checked():
    copy = webtorch.stream(total.__wrapped__)

    @copy.close
    def end(a: Tensor, b: Tensor) -> None: ...

    with pytest.raises(SignatureError, match="close function does not take 1 states"):
        _ = copy.schema


def test_coroutines_are_refused():
    copy = webtorch.stream(total.__wrapped__)

    @copy.close
    async def end(s: Tensor) -> None: ...

    with pytest.raises(SignatureError, match='its close function is "async def"'):
        _ = copy.schema


# --- calls ---


def test_plain_call():
    y, s = total(torch.ones(1, 2), torch.full((1, 2), 3.0))
    assert y.tolist() == s.tolist() == [[4.0, 4.0]]


def test_states_are_gathered_and_scattered():
    f = webtorch.stream(total.__wrapped__)
    x = torch.tensor([[1.0, 2.0], [10.0, 20.0]])
    f.run([x, places((0, 1), (0, 5))], 2)
    f.run([x, places((1, 2), (5, 6))], 2)
    (y,) = f.run([x.flip(0), places((6, 5), (2, 1))], 2)
    assert y.tolist() == [[30.0, 60.0], [3.0, 6.0]]
    (y,) = f.run([x[:1], places((0, 3))], 1)
    assert y.tolist() == [[1.0, 2.0]]  # a new stream begins with zeros


def test_tables_grow():
    f = webtorch.stream(total.__wrapped__)
    last = TensorTable.FIRST_ROWS * 4 + 1
    f.run([torch.ones(1, 2), places((0, last))], 1)
    (y,) = f.run([torch.ones(1, 2), places((last, last + 500))], 1)
    assert y.tolist() == [[2.0, 2.0]]


def test_tables_of_large_states_begin_small():
    table = TensorTable(TensorSpec("s", torch.float32, (1000, 1000)))
    assert len(table._rows) == 3
    table.write(torch.tensor([7]), torch.ones(1, 1000, 1000))
    assert table.read(torch.tensor([7])).sum() == 1_000_000


def test_tables_do_not_grow_with_errors():
    table = TensorTable(TensorSpec("s", torch.float32, (2,)))
    rows = len(table._rows)
    with pytest.raises(RuntimeError):
        table.write(torch.tensor([1]), torch.ones(1, 2, dtype=torch.float64))
    assert len(table._rows) == rows


def test_arguments_with_gaps():
    @webtorch.stream
    def f(
        k: Missing[Int64[Tensor, "batch"]],
        s: State[Int64[Tensor, "batch"]],
        x: Int64[Tensor, "batch"] | None = None,
    ) -> tuple[Int64[Tensor, "batch"], State[Int64[Tensor, "batch"]]]:
        if (k.values < 0).any():
            raise ValueError("negative")
        s += k.values.masked_fill_(k.mask, 100)
        return s if x is None else s + x, s

    k = webtorch.Masked(torch.tensor([1, 0, -1]), torch.tensor([False, True, False]))
    inputs = [k, None, places((0, 1), (0, 3), (0, 5))]
    with pytest.raises(ValueError, match="negative") as caught:
        f.run(inputs, 3)
    (y,), failures = f.run_each(inputs, [Span(index, 1) for index in range(3)], caught.value)
    assert (y.tolist(), set(failures)) == ([1, 100, 0], {2})
    assert k.values.tolist() == [1, 0, -1]


def test_rows_of_handlers_are_no_chunks():
    with pytest.raises(TypeError, match="is a stream"):
        total.batched(torch.ones(1, 2))


def test_gradients_are_not_recorded():
    weight = torch.ones(2, requires_grad=True)

    @webtorch.stream
    def f(
        x: Float32[Tensor, "batch 2"], s: State[Float32[Tensor, "batch 2"]]
    ) -> tuple[Float32[Tensor, "batch 2"], State[Float32[Tensor, "batch 2"]]]:
        return x * weight, s + x * weight

    (y,) = f.run([torch.ones(1, 2), places((0, 1))], 1)
    assert not y.requires_grad


def test_objects_and_done():
    step = make_step()
    for n in range(1, 4):
        rows = places(*[(stream * 2 + n % 2, stream * 2 + 1 - n % 2) for stream in (1, 2)])
        if n == 1:
            rows[:, 0] = 0
        y, label, done = step.run([torch.tensor([1.0, 10.0]), rows], 2)
        assert y.tolist() == [n, 10.0 * n]
        assert label == [str(n)] * 2
        assert done.tolist() == [n == 3] * 2


def test_failed_chunk_changes_no_other_stream():
    """The call changes its arguments in place before it raises."""
    step = make_step()
    x = torch.tensor([1.0, 2.0, 3.0])
    step.run([x, places((0, 1), (0, 3), (0, 5))], 3)
    bad = [torch.tensor([1.0, -1.0, 3.0]), places((1, 2), (3, 4), (5, 6))]
    with pytest.raises(ValueError, match="negative") as caught:
        step.run(bad, 3)
    spans = [Span(index, 1) for index in range(3)]
    outputs, failures = step.run_each(bad, spans, caught.value)
    assert set(failures) == {1}
    assert outputs[0].tolist() == [2.0, 0.0, 6.0]
    assert outputs[1] == ["2", "", "2"]
    assert bad[0].tolist() == [1.0, -1.0, 3.0]
    # the failed chunk's stream could go on from where it was
    y, label, _ = step.run([x, places((2, 1), (3, 4), (6, 5))], 3)
    assert y.tolist() == [3.0, 4.0, 9.0]
    assert label == ["3", "2", "3"]


def test_state_of_another_shape_is_refused():
    @webtorch.stream
    def f(
        x: Float32[Tensor, "batch"], s: State[Float32[Tensor, "batch 2"]]
    ) -> tuple[Float32[Tensor, "batch"], State[Float32[Tensor, "batch 2"]]]:
        return x, s[:, :1]

    with pytest.raises(TypeError, match=r'state "s" is annotated .* float32 \[1, 1\] for 1 rows'):
        f.run([torch.ones(1), places((0, 1))], 1)


def test_stream_without_states():
    @webtorch.stream
    def echo(x: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
        return x

    assert echo.run([["a", "b"], places((0, 0), (0, 0))], 2) == (["a", "b"],)


def request() -> webtorch.Request:
    return webtorch.Request("POST")


def test_open_and_close():
    f = webtorch.stream(total.__wrapped__)
    ended = []

    @f.open
    def begin(request: webtorch.Request) -> Float32[Tensor, "2"]:
        if request.path != "/":
            raise HTTPError(403, "no")
        return torch.tensor([5.0, 6.0])

    f.close(lambda s: ended.append(s.tolist()))
    assert f.has_open and f.has_close

    f.begin(7, request())
    (y,) = f.run([torch.ones(1, 2), places((7, 8))], 1)
    assert y.tolist() == [[6.0, 7.0]]
    f.end(8, 7)
    assert ended == [[6.0, 7.0]]


def test_open_that_returns_too_little():
    f = webtorch.stream(total.__wrapped__)

    @f.open
    def begin(request: webtorch.Request) -> Tensor:
        return torch.zeros(3)

    with pytest.raises(TypeError, match=r"float32 \[1, 3\] for 1 rows"):
        f.begin(1, request())


def test_end_releases_objects():
    step = make_step()

    class Thing(list):
        pass

    step.tables[0].write(torch.tensor([3]), [thing := Thing()])
    seen = weakref.ref(thing)
    del thing
    step.end(0, 3)
    gc.collect()
    assert seen() is None


def test_new_code_continues_streams():
    old = webtorch.stream(total.__wrapped__)
    old.run([torch.ones(1, 2), places((0, 1))], 1)
    new = webtorch.stream(total.__wrapped__)
    assert old.serves_like(new)
    new.take_over(old)
    (y,) = new.run([torch.ones(1, 2), places((1, 2))], 1)
    assert y.tolist() == [[2.0, 2.0]]
    assert not old.serves_like(make_step())
