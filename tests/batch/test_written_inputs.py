"""Functions that write to their inputs, in batches of which a request fails."""

from types import SimpleNamespace

import pytest
import torch

from gate import GATE_APP, GATE_SERVER, rows_of
from webtorch._handlers.isolation import Span, isolate
from wire import connections, settle

APP = (
    GATE_APP
    + '''
@webtorch.infer
def double(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Check the input, and then double it in place."""
    calls.append(x.flatten().tolist())
    gate.wait()
    if (x < 0).any():
        raise ValueError("negative")
    return x.mul_(2).clone()
'''
)

SERVER = GATE_SERVER + "location = /double { webtorch_handler app:double mode=thread; }"

FLOAT = SimpleNamespace(dtype=torch.float32)


def rows_of_one(values: list[float]) -> list[Span]:
    return [Span(index, 1) for index in range(len(values))]


def check(inputs, rows):
    (x,) = inputs
    if bool((x < 0).any()):
        raise ValueError("negative")
    return x


def widen(inputs, rows):
    """Double the input in place; the output has as many columns as its largest value."""
    x = check(inputs, rows).mul_(2)
    output = torch.zeros(rows, int(x.max()))
    output[:, 0] = x[:, 0]
    return [output]


def fail_late(inputs, rows):
    """Double the input in place, and then fail."""
    x = inputs[0]
    is_bad = bool((x < 0).any())
    x.mul_(2)
    if is_bad:
        raise ValueError("negative")
    return [x.clone()]


@pytest.mark.parametrize("function", [widen, fail_late])
def test_rows_that_run_again_are_as_they_were(function):
    values = [1.0, 1.0, 5.0, -1.0]
    inputs = [torch.tensor(values).unsqueeze(1)]
    (output,), failures = isolate(
        function, [FLOAT], inputs, rows_of_one(values), ValueError("negative")
    )
    assert output[:3, 0].tolist() == [2.0, 2.0, 10.0]
    assert [*failures] == [3]
    assert inputs[0][:, 0].tolist() == values


def test_writes_of_batches_before(server, gate):
    """What an earlier batch has written to its buffers does not keep others from running again."""
    with connections(server, 5) as wires:
        for _ in range(4):
            with gate:
                wires[0].post("/double", rows_of(1))
                gate.wait_for_calls(1)
                for number, wire in enumerate(wires[1:], 1):
                    wire.post("/double", rows_of(-1 if number == 2 else number))
                    settle(server)
                gate.open()
                answers = [wire.answer() for wire in wires]
                assert [1, -1, 3, 4] in gate.calls()
            assert [answer.status for answer in answers] == [200, 200, 500, 200, 200]
            values = [answer.json()[0][0] for answer in answers if answer.status == 200]
            assert values == [2, 2, 6, 8]
