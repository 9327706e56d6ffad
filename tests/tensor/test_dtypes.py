"""All dtypes, in JSON: what is sent, out of range, and answered."""

import math
import random

import numpy as np
import pytest
import torch

from apps import DTYPES_APP, KINDS
from webtorch._schema.schema import DTYPES

INTEGERS = [name for name in KINDS if "int" in name]
FLOATS = [name for name in KINDS if "float" in name]

APP = DTYPES_APP + "".join(
    f"""
@webtorch.train
def missing_{name}(
    x: webtorch.Missing[jaxtyping.{KINDS[name]}[Tensor, "batch 2"]],
) -> jaxtyping.{KINDS[name]}[Tensor, "batch 2"]:
    return x.nan_to_num(-1.0)
"""
    for name in FLOATS
)

SERVER = "".join(
    f"location = /{name} {{ webtorch_handler app:{name}; }}\n"
    f"location = /train/{name} {{ webtorch_handler app:train_{name}; }}\n"
    for name in KINDS
) + "".join(
    f"location = /missing/{name} {{ webtorch_handler app:missing_{name}; }}\n" for name in FLOATS
)


def test_every_dtype_is_tried():
    assert list(KINDS) == list(DTYPES)


def test_bool(server):
    assert server.post("/bool", [[True, False]]).json() == [[True, False]]
    assert server.post("/bool", [[1, 0]]).json()["code"] == "wrong_dtype"


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_at_their_limits(server, name):
    info = torch.iinfo(DTYPES[name])
    assert server.post(f"/{name}", [[info.min, info.max]]).json() == [[info.min, info.max]]
    for beyond in (info.min - 1, info.max + 1):
        answer = server.post(f"/{name}", [[0, beyond]])
        # simdjson has integers of 64 bits: what is beyond them is a float or no number at all
        assert answer.status_code in (400, 422)
        if -(2**63) <= beyond < 2**64:
            assert answer.json()["code"] == "out_of_range"
            assert name in answer.json()["error"]
    assert server.post(f"/{name}", [[0, 0.5]]).json()["code"] == "wrong_dtype"


@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_rounded_to_the_nearest(server, name):
    dtype = DTYPES[name]
    info = torch.finfo(dtype)
    random.seed(0)
    numbers = [0.0, -0.0, 1.0, 0.1, 1 / 3, info.max, info.min, info.tiny, info.smallest_normal / 4]
    numbers += [random.uniform(-1, 1) * 2.0 ** random.randint(-30, 15) for _ in range(500)]
    numbers += [1 + k * info.eps / 2 for k in range(8)]  # ties
    rows = [[number, -number] for number in numbers]
    answer = torch.tensor(server.post(f"/{name}", rows).json(), dtype=torch.float64)
    if name == "bfloat16":  # NumPy has none, and PyTorch rounds twice, over float32
        expected = torch.tensor(rows, dtype=torch.float64).to(dtype).double()
        assert torch.allclose(answer, expected, rtol=info.eps, atol=0)
    else:
        assert np.array_equal(answer.numpy().astype(name), np.array(rows).astype(name))
    assert math.copysign(1, answer[1, 0]) == -1


@pytest.mark.parametrize("name", FLOATS)
def test_floats_beyond_the_range(server, name):
    beyond = 1e999 if name == "float64" else float(torch.finfo(DTYPES[name]).max) * 1.01
    answer = server.post(f"/{name}", data=f"[[0, {beyond!r}]]".replace("inf", "1e999"))
    assert answer.status_code in (400, 422)
    if name != "float64":
        assert answer.json()["code"] == "out_of_range"


TORCH7 = "4|1|3|V 1|18|torch.DoubleTensor|1|2|1|1|4|2|3|V 1|19|torch.DoubleStorage|2|0.5 {}|"


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_not_finite_not_trained_on(server, name, number):
    assert server.post_text(f"/{name}", TORCH7.format(number)).ok
    answer = server.post_text(f"/train/{name}", TORCH7.format(number))
    assert answer.status_code == 422 and answer.json()["code"] == "not_finite"
    assert server.post_text(f"/train/{name}", TORCH7.format(0.25)).ok


@pytest.mark.parametrize("name", FLOATS)
def test_missing_elements_are_not_infinities(server, name):
    largest = torch.finfo(DTYPES[name]).max
    for number in (np.nan, largest, -largest, 0.0, -0.0):
        assert server.post_text(f"/missing/{name}", TORCH7.format(number)).ok
    for number in (np.inf, -np.inf):
        answer = server.post_text(f"/missing/{name}", TORCH7.format(number))
        assert answer.status_code == 422 and answer.json()["code"] == "not_finite"


@pytest.mark.parametrize(
    ("name", "cls"),
    {
        "uint8": "Byte",
        "int8": "Short",
        "int16": "Short",
        "uint16": "Int",
        "int32": "Int",
        "uint32": "Long",
        "int64": "Long",
        "float16": "Float",
        "bfloat16": "Float",
    }.items(),
)
def test_torch7_writes_the_smallest_class_that_holds_them(server, name, cls):
    headers = {"Accept": "text/plain"}
    answer = server.post(f"/{name}", [[1, 2]], headers=headers).text
    assert f"torch.{cls}Tensor" in answer
    assert answer.split()[-2:] == ["1", "2"]
    again = server.post(f"/{name}", data=answer, headers={"Content-Type": "text/plain"})
    assert again.text == answer
