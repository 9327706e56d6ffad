"""Stages outside nginx: what they count, and the statistics of samples."""

import asyncio
import math

import pytest
import torch

import webtorch
from webtorch._metrics import stages


def counts(name: str) -> tuple[int, int, int, int]:
    ints = stages._stages[name].ints
    calls = sum(ints[: stages._SUM])
    return calls, ints[stages._ROWS], ints[stages._ERRORS], ints[stages._SAMPLES]


def averages(name: str) -> list[float]:
    return stages._stages[name].floats[stages._MEAN :].tolist()


def test_stage_counts_calls_rows_and_errors():
    with webtorch.stage("outer") as outer, webtorch.stage("inner") as inner:
        inner.leaves(torch.zeros(3, 2))
        inner.leaves(torch.zeros(()))
        inner.leaves(torch.zeros(0, 3))
        outer.leaves(["a", "b"])
    with pytest.raises(KeyError), webtorch.stage("inner"):
        raise KeyError
    assert counts("outer") == (1, 2, 0, 0)
    assert counts("inner") == (2, 4, 1, 0)

    @webtorch.stage("sync")
    def double(x: torch.Tensor) -> tuple[torch.Tensor, str]:
        """Double."""
        return 2 * x, "more"

    @webtorch.stage("later")
    async def later(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": x}

    assert double(torch.ones(5))[0].sum() == 10
    assert double.__doc__ == "Double."
    asyncio.run(later(torch.ones(7, 1)))
    assert counts("sync") == (1, 5, 0, 0)
    assert counts("later") == (1, 7, 0, 0)
    for name, share in (("", 0), ("a", -0.1), ("a", 2)):
        with pytest.raises(ValueError, match=r"name|between"):
            webtorch.stage(name, sample=share)


def test_stage_is_for_one_block_at_a_time():
    call = webtorch.stage("again")
    for rows in (2, 3):
        with call:
            call.leaves(torch.zeros(rows))
    assert counts("again") == (2, 5, 0, 0)
    with call, pytest.raises(RuntimeError, match="twice"), call:
        pass
    assert counts("again") == (3, 5, 0, 0)


def test_stage_whose_first_sample_is_not_finite():
    for x in (torch.full((2,), math.nan), torch.tensor([4.0, 6.0])):
        with webtorch.stage("late", sample=1) as s:
            s.leaves(x)
    mean, deviation, nan, *_ = averages("late")
    assert (mean, deviation, nan) == (5, 1, 0.5)


def test_stage_samples():
    x = torch.tensor([[0.0, 2.0], [4.0, math.nan]])
    with webtorch.stage("sampled", sample=1) as s:
        s.leaves(x)
    mean, deviation, nan, zero, distance = averages("sampled")
    assert (mean, nan, zero, distance) == (2, 0.25, 0.25, 0)
    assert deviation == pytest.approx(math.sqrt(8 / 3))
    with webtorch.stage("sampled", sample=1) as s:
        s.leaves(torch.full((2,), math.nan))
    assert averages("sampled")[0] == 2
    assert averages("sampled")[2] == pytest.approx((0.25 + 1) / 2)
    assert counts("sampled")[3] == 2

    generator = torch.Generator().manual_seed(1)
    webtorch.stage.reference("moved", torch.randn(10_000, generator=generator))
    webtorch.stage.reference("same", torch.randn(10_000, generator=generator))
    for name, shift in (("moved", 1), ("same", 0)):
        with webtorch.stage(name, sample=1) as s:
            s.leaves(torch.randn(10_000, generator=generator) + shift)
    assert averages("same")[4] < 0.05
    assert averages("moved")[4] > 0.25
    with pytest.raises(ValueError, match="finite"):
        webtorch.stage.reference("moved", torch.tensor([math.nan]))
