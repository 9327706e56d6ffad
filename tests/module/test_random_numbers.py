"""Workers draw different random numbers, and have the same initial weights."""

import pytest

from nginx import wait_for

APP = """
import os, random
import numpy as np
import torch
import webtorch

{seed}
weights = [float(np.random.rand()), float(torch.rand(1))]

@webtorch.handler
def draw(request):
    drawn = [random.random(), float(np.random.rand()), float(torch.rand(1))]
    return {{"pid": os.getpid(), "weights": weights, "drawn": drawn}}
"""

SEED = "random.seed(0); np.random.seed(0); torch.manual_seed(0)"

SERVER = "location = /draw { webtorch_handler app:draw; }"


def first_draws(server, workers=2):
    """Return the first answer of each worker."""
    first = {}

    def ask() -> bool:
        answer = server.get("/draw").json()
        first.setdefault(answer["pid"], answer)
        return len(first) == workers

    wait_for(ask, "all workers to answer")
    return list(first.values())


@pytest.mark.parametrize("seed", ["", SEED])
def test_random_numbers_differ_between_workers_and_after_a_reload(start, seed):
    server = start(SERVER, APP.format(seed=seed), workers=2)
    first = first_draws(server)
    server.reload()
    second = first_draws(server)
    assert len({str(answer["weights"]) for answer in first + second}) == 1
    for numbers in zip(*(answer["drawn"] for answer in first + second), strict=True):
        assert len(set(numbers)) == 4


def test_random_numbers_with_a_seed_can_be_repeated(start):
    def numbers() -> list[list[float]]:
        server = start(SERVER, APP.format(seed=SEED), workers=2)
        return sorted(answer["drawn"] for answer in first_draws(server))

    assert numbers() == numbers()


def test_random_numbers_differ_after_modules_are_imported_again(start):
    app = APP.format(seed=SEED)
    server = start(SERVER, app, http="webtorch_reload on;", workers=2)
    before = first_draws(server)
    server.write_app(app + "\n# changed\n")
    wait_for(lambda: server.log().count("the new code is served") == 2, "both workers")
    after = first_draws(server)
    for numbers in zip(*(answer["drawn"] for answer in before + after), strict=True):
        assert len(set(numbers)) == 4
