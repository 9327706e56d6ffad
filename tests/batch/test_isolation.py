"""Every answer is that of its own request, whatever else is in its batch."""

import random
import threading
from collections.abc import Callable

import pytest

from gate import GATE_APP, affine, rows_of
from wire import Wire, connections, request

APP = (
    GATE_APP
    + '''
from jaxtyping import Float32, Int64


@webtorch.infer
def picky(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Answer 2x + 1, fail where there is a negative number."""
    if (x < 0).any():
        raise ValueError("a negative number")
    return 2 * x + 1


@webtorch.infer
def swap(a: Float64[Tensor, "batch 2"], b: Int64[Tensor, "batch"]) -> tuple[
    Int64[Tensor, "batch"], Float64[Tensor, "batch 2"]
]:
    """Answer several tensors of other types."""
    return b + 1, a.flip(1)


kept: list[Tensor] = []


@webtorch.infer
def keep(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    """Keep some inputs, which must not change afterwards, and answer the input itself."""
    if len(kept) < 1000 and x[0, 0] < 0.5:
        kept.append((x, x.clone()))
    return x


@webtorch.handler
def kept_well(request: webtorch.Request) -> dict:
    """Tell how many inputs are kept, and how many of them have changed."""
    changed = sum(not torch.equal(tensor, copy) for tensor, copy in kept)
    return {"kept": len(kept), "changed": changed}


@webtorch.handler
def echo(request: webtorch.Request) -> bytes:
    """Answer the body."""
    return bytes(request.body)
'''
)

MODES = ("inline", "thread", "auto")
VARIANTS = {"plain": "", "delay": "max_delay=2ms", "few": "max_batch=7"}

SERVER = "\n".join(
    [
        f"location = /{function}/{mode}/{variant} "
        f"{{ webtorch_handler app:{function} mode={mode} {options}; }}"
        for function in ("affine", "picky", "swap", "keep", "echo")
        for mode in MODES
        for variant, options in VARIANTS.items()
    ]
    + ["location = /kept_well { webtorch_handler app:kept_well mode=thread; }"]
)

Exchange = Callable[[Wire, random.Random], None]


def in_parallel(server, clients: int, times: int, exchange: Exchange) -> None:
    """Exchange requests and answers over many connections at once."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(clients)
    with connections(server, clients) as wires:

        def client(seed: int) -> None:
            generator = random.Random(seed)
            barrier.wait()
            try:
                for _ in range(times):
                    exchange(wires[seed], generator)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def numbers(generator: random.Random, low: float = 0.0) -> list[float]:
    """Make some numbers, mostly few."""
    count = generator.choice((1, 1, 1, 2, 3, 5, 8, 40))
    return [generator.uniform(low, 1.0) for _ in range(count)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", MODES)
def test_rows(server, mode, variant):
    def exchange(wire: Wire, generator: random.Random) -> None:
        rows = rows_of(*numbers(generator))
        wire.post(f"/affine/{mode}/{variant}", rows)
        answer = wire.answer()
        assert (answer.status, answer.json()) == (200, affine(rows))

    in_parallel(server, 64, 50, exchange)


@pytest.mark.parametrize("mode", MODES)
def test_failing_request_fails_alone(server, mode):
    def exchange(wire: Wire, generator: random.Random) -> None:
        rows = rows_of(*numbers(generator, low=-0.02))
        wire.post(f"/picky/{mode}/plain", rows)
        answer = wire.answer()
        if min(rows)[0] < 0:
            assert (answer.status, answer.json()["code"]) == (500, "handler_failed")
        else:
            assert (answer.status, answer.json()) == (200, affine(rows))

    in_parallel(server, 16, 30, exchange)


@pytest.mark.parametrize("mode", MODES)
def test_bad_requests_between_good_ones(server, mode):
    bad = (b"[[", b'[["x"]]', b"[[1, 2]]", b"[[1], [2], [3, 4]]", b"[[1], [2], [null]]")

    def exchange(wire: Wire, generator: random.Random) -> None:
        if generator.random() < 0.3:
            wire.send(request(f"/affine/{mode}/plain", generator.choice(bad)))
            assert wire.answer().status in (400, 422)
        rows = rows_of(*numbers(generator))
        wire.post(f"/affine/{mode}/plain", rows)
        assert wire.answer().json() == affine(rows)

    in_parallel(server, 64, 30, exchange)


@pytest.mark.parametrize("mode", MODES)
def test_several_tensors(server, mode):
    def exchange(wire: Wire, generator: random.Random) -> None:
        pairs = [[number, -number] for number in numbers(generator)]
        wire.post(f"/swap/{mode}/plain", {"a": pairs, "b": list(range(len(pairs)))})
        assert wire.answer().json() == {
            "output_0": list(range(1, len(pairs) + 1)),
            "output_1": [[right, left] for left, right in pairs],
        }

    in_parallel(server, 64, 30, exchange)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", MODES)
def test_bodies_of_custom_handlers(server, mode, variant):
    def exchange(wire: Wire, generator: random.Random) -> None:
        body = generator.randbytes(generator.choice((1, 10, 100, 10_000, 100_000)))
        wire.send(request(f"/echo/{mode}/{variant}", body))
        assert wire.answer().body == body

    in_parallel(server, 32, 10, exchange)


@pytest.mark.parametrize("mode", MODES)
def test_inputs_that_a_handler_keeps_and_returns(server, mode):
    def exchange(wire: Wire, generator: random.Random) -> None:
        rows = rows_of(*numbers(generator))
        wire.post(f"/keep/{mode}/plain", rows)
        assert wire.answer().json() == rows

    in_parallel(server, 64, 30, exchange)
    told = server.get("/kept_well").json()
    assert told["kept"] > 0
    assert told["changed"] == 0


def test_handlers_of_all_kinds_at_once(server):
    def exchange(wire: Wire, generator: random.Random) -> None:
        mode, variant = generator.choice(MODES), generator.choice(tuple(VARIANTS))
        rows = rows_of(*numbers(generator))
        if generator.random() < 0.5:
            wire.post(f"/affine/{mode}/{variant}", rows)
            assert wire.answer().json() == affine(rows)
        else:
            body = generator.randbytes(100)
            wire.send(request(f"/echo/{mode}/{variant}", body))
            assert wire.answer().body == body

    in_parallel(server, 64, 50, exchange)
