"""npy, safetensors and raw rows, as NumPy and the safetensors library write and read them."""

import io
import json

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from answers import check_error
from files import load_numpy as load
from files import npy
from nginx import Nginx
from wire import connect, connections, request

APP = """
import jaxtyping as j, torch, webtorch
from torch import Tensor

@webtorch.infer
def double(x: j.Float32[Tensor, "batch 2"]) -> j.Float32[Tensor, "batch 2"]:
    return 2 * x

@webtorch.infer
def matrix(x: j.Float32[Tensor, "batch 2 3"]) -> j.Float32[Tensor, "batch 3 2"]:
    return x.mT

@webtorch.infer
def one(x: j.Float32[Tensor, "2 3"]) -> j.Float32[Tensor, "3"]:
    return x.sum(dim=0)

@webtorch.infer
def mask(x: j.Bool[Tensor, "batch 3"]) -> j.Bool[Tensor, "batch 3"]:
    return ~x

@webtorch.infer
def half(x: j.BFloat16[Tensor, "batch 2"]) -> j.BFloat16[Tensor, "batch 2"]:
    return 2 * x

@webtorch.infer
def label(x: j.Int64[Tensor, "batch"]) -> j.Int64[Tensor, "batch"]:
    return x + 1

@webtorch.infer
def swap(
    a: j.Float64[Tensor, "batch 2"], b: j.UInt8[Tensor, "batch"]
) -> tuple[j.UInt8[Tensor, "batch"], j.Float64[Tensor, "batch 2"]]:
    return b + 1, -a

@webtorch.infer
def wide(x: j.Float32[Tensor, "batch"]) -> j.Float32[Tensor, "batch 262144"]:
    return x[:, None].expand(-1, 262144) + torch.arange(262144)

@webtorch.infer
def total(x: j.Float32[Tensor, "batch 262144"]) -> j.Float64[Tensor, "batch"]:
    return x.double().sum(dim=1)

@webtorch.train
def train(x: j.Float32[Tensor, "batch 2"]) -> j.Float32[Tensor, "batch 2"]:
    return x
"""
NAMES = ("double", "matrix", "one", "mask", "half", "label", "swap", "wide", "total", "train")
SERVER = "client_max_body_size 16m;" + "".join(
    f"location = /{name} {{ webtorch_handler app:{name}; }}\n"
    f"location = /memory/{name} {{ webtorch_handler app:{name}; client_body_buffer_size 4m; }}\n"
    for name in NAMES
)

NPY = "application/x-npy"
SAFETENSORS = "application/vnd.safetensors"
RAW = "application/octet-stream"
RNG = np.random.default_rng(0)


def post(server: Nginx, path: str, body: bytes, content_type: str, **headers: str):
    return server.post(path, data=body, headers={"Content-Type": content_type, **headers})


# --- npy ---


@pytest.mark.parametrize("rows", [1, 3])
def test_npy(server, rows):
    x = RNG.standard_normal((rows, 2), dtype=np.float32)
    answer = post(server, "/double", npy(x), NPY)
    assert answer.headers["Content-Type"] == NPY
    assert np.array_equal(load(answer.content), 2 * x)


def test_npy_of_a_row_is_answered_by_a_row(server):
    assert np.array_equal(
        load(post(server, "/double", npy(np.float32([1, 2])), NPY).content), [2, 4]
    )
    assert load(post(server, "/label", npy(np.int64(7)), NPY).content) == 8


def test_npy_of_more_axes(server):
    x = RNG.standard_normal((4, 2, 3), dtype=np.float32)
    assert np.array_equal(load(post(server, "/matrix", npy(x), NPY).content), x.transpose(0, 2, 1))
    assert np.allclose(load(post(server, "/one", npy(x[0]), NPY).content), x[0].sum(axis=0))
    check_error(post(server, "/one", npy(x), NPY), 422, "wrong_shape", "[2, 3]", "[4, 2, 3]")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_in_its_versions(server, version):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.float32([[1, 2]]), version=version)
    assert np.array_equal(load(post(server, "/double", file.getvalue(), NPY).content), [[2, 4]])


def test_npy_of_bool(server):
    x = np.array([[True, False, True]])
    answer = load(post(server, "/mask", npy(x), NPY).content)
    assert answer.dtype == bool and np.array_equal(answer, ~x)
    check_error(
        post(server, "/mask", npy(x)[:-1] + b"\x02", NPY), 422, "out_of_range", '"x"', "0 or 1"
    )


def test_npy_of_an_array_in_fortran_order(server):
    x = np.asfortranarray(RNG.standard_normal((2, 2), dtype=np.float32))
    check_error(post(server, "/double", npy(x), NPY), 422, "wrong_shape", "ascontiguousarray")


GOOD = npy(np.float32([[1, 2]]))


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (npy(np.float64([[1, 1e40]])), 422, "out_of_range", "from float64 to float32"),
        (npy(np.float32([[1, 2, 3]])), 422, "wrong_shape", "found float32 [1, 3]"),
        (npy(np.float32([[]])), 422, "wrong_shape", "found float32 [1, 0]"),
        (npy(np.zeros((0, 2), "f4")), 422, "wrong_shape", "found float32 [0, 2]"),
        (npy(np.array([[1, 2]], ">f4")), 422, "wrong_dtype", "little-endian is expected"),
        (npy(np.zeros((1, 2), [("a", "f4")])), 422, "wrong_dtype", "structured"),
        (npy(np.array([["a", "b"]])), 422, "wrong_dtype", "<U1"),
        (npy(np.complex64([[1, 2]])), 422, "wrong_dtype", "<c8"),
        (npy(np.zeros((1,) * 12, "f4")), 422, "wrong_shape", "more than 9 axes"),
        (GOOD[:-1], 400, "malformed_body", "7 bytes"),
        (GOOD + b"x", 400, "malformed_body", "9 bytes"),
        (GOOD.replace(b"(1, 2)", b"(9, 2)"), 400, "malformed_body", "8 bytes"),
        (GOOD.replace(b"(1, 2)", b"(1,)  "), 422, "wrong_shape", "[1]"),
        (GOOD.replace(b"(1, 2)", b"(-1,2)"), 400, "malformed_body", "a size is not a number"),
        (GOOD[:8] + b"\xff\xff" + GOOD[10:], 400, "malformed_body", "cut off"),
        (GOOD.replace(b"\x01\x00", b"\x09\x00", 1), 400, "malformed_body", "version"),
        (GOOD.replace(b"'shape'", b"'shaPe'"), 400, "malformed_body", "unknown key"),
        (GOOD.replace(b"'descr'", b"'shape'"), 400, "malformed_body", ""),
        (GOOD.replace(b"'<f4'", b"''   "), 422, "wrong_dtype", ""),
        (GOOD.replace(b"'<f4'", b"'Xf4'"), 422, "wrong_dtype", "Xf4"),
        (GOOD[:5], 400, "malformed_body", "no magic string"),
        (b"PK\x03\x04 but no array at all", 400, "malformed_body", "no magic string"),
    ],
)
def test_bad_npy(server, body, status, code, text):
    check_error(post(server, "/double", body, NPY), status, code, text)
    assert post(server, "/double", GOOD, NPY).ok


def test_npy_never_unpickles(server):
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    check_error(post(server, "/double", file.getvalue(), NPY), 422, "wrong_dtype", "|O")


def test_npy_carries_one_tensor(server):
    answer = post(server, "/swap", GOOD, NPY)
    check_error(answer, 415, "unsupported_media_type", "application/vnd.safetensors")


# --- safetensors ---


@pytest.mark.parametrize("rows", [1, 3])
def test_safetensors(server, rows):
    x = RNG.standard_normal((rows, 2), dtype=np.float32)
    answer = post(server, "/double", safetensors.numpy.save({"x": x}), SAFETENSORS)
    assert answer.headers["Content-Type"] == SAFETENSORS
    found = safetensors.numpy.load(answer.content)
    assert list(found) == ["output"] and np.array_equal(found["output"], 2 * x)


@pytest.mark.parametrize("alias", ["application/x-safetensors", "application/safetensors"])
def test_safetensors_by_other_names(server, alias):
    answer = post(server, "/double", safetensors.numpy.save({"x": np.float32([[1, 2]])}), alias)
    assert answer.ok and answer.headers["Content-Type"] == SAFETENSORS


def test_safetensors_of_several_tensors(server):
    a, b = RNG.standard_normal((3, 2)), np.uint8([1, 2, 255])
    answer = post(server, "/swap", safetensors.numpy.save({"a": a, "b": b}), SAFETENSORS)
    found = safetensors.numpy.load(answer.content)
    assert np.array_equal(found["output_0"], b + 1) and np.array_equal(found["output_1"], -a)


def test_safetensors_of_bfloat16(server):
    x = torch.tensor([[1.5, -0.25]], dtype=torch.bfloat16)
    answer = post(server, "/half", safetensors.torch.save({"x": x}), SAFETENSORS)
    assert torch.equal(safetensors.torch.load(answer.content)["output"], 2 * x)


def test_safetensors_with_metadata(server):
    body = safetensors.numpy.save({"x": np.float32([[1, 2]])}, metadata={"format": "pt"})
    assert post(server, "/double", body, SAFETENSORS).ok


def raw_safetensors(header: object, data: bytes = b"12345678", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (raw_safetensors({"x": {**ENTRY, "dtype": "F64"}}), 400, "malformed_body", "8 bytes"),
        (raw_safetensors({"x": {**ENTRY, "dtype": "F8_E4M3"}}), 422, "wrong_dtype", "F8_E4M3"),
        (raw_safetensors({"x": {**ENTRY, "shape": [2, 1]}}), 422, "wrong_shape", "[2, 1]"),
        (raw_safetensors({"x": {**ENTRY, "shape": [7, 2]}}), 400, "malformed_body", "8 bytes"),
        (raw_safetensors({"y": ENTRY}), 422, "unknown_tensor", '"y"'),
        (raw_safetensors({}, b""), 422, "missing_tensor", '"x"'),
        (raw_safetensors({"x": ENTRY}, b"123456789"), 400, "malformed_body", "not fill the data"),
        (
            raw_safetensors({"x": {**ENTRY, "data_offsets": [0, 80]}}),
            400,
            "malformed_body",
            "exceed",
        ),
        (
            raw_safetensors({"x": {**ENTRY, "data_offsets": [8, 0]}}),
            400,
            "malformed_body",
            "exceed",
        ),
        (raw_safetensors({"x": {**ENTRY, "shape": [-1, 2]}}), 400, "malformed_body", "axis 0"),
        (
            raw_safetensors({"x": {"dtype": "F32", "shape": [1, 2]}}),
            400,
            "malformed_body",
            "data_o",
        ),
        (raw_safetensors({"x": 5}), 400, "malformed_body", "a tensor is not an object"),
        (raw_safetensors([]), 400, "malformed_body", "the header is not an object"),
        (raw_safetensors(b'{"x":'), 400, "malformed_body", "invalid safetensors"),
        (raw_safetensors({"x": ENTRY}, length=2**63), 400, "malformed_body", "cut off"),
        (b"\x08\x00\x00", 400, "malformed_body", "length is missing"),
    ],
)
def test_bad_safetensors(server, body, status, code, text):
    check_error(post(server, "/double", body, SAFETENSORS), status, code, text)
    assert post(server, "/double", raw_safetensors({"x": ENTRY}), SAFETENSORS).ok


def test_safetensors_with_a_tensor_twice(server):
    entry = json.dumps(ENTRY)
    body = raw_safetensors(f'{{"x": {entry}, "x": {entry}}}'.encode())
    check_error(post(server, "/double", body, SAFETENSORS), 400, "malformed_body", "twice")


# --- raw ---


def test_raw_rows(server):
    x = RNG.standard_normal((3, 2), dtype=np.float32)
    answer = post(server, "/double", x.tobytes(), RAW)
    assert answer.headers["Content-Type"] == RAW
    assert np.array_equal(np.frombuffer(answer.content, np.float32).reshape(3, 2), 2 * x)
    assert np.frombuffer(post(server, "/one", x.tobytes(), RAW).content, np.float32).shape == (3,)


@pytest.mark.parametrize(
    ("path", "size", "text"),
    [
        ("/double", 7, "8 bytes a row, found 7 bytes"),
        ("/double", 12, "float32 [batch, 2]"),
        ("/one", 48, "24 bytes a row, found 48 bytes"),
    ],
)
def test_raw_rows_that_do_not_fit(server, path, size, text):
    check_error(post(server, path, bytes(size), RAW), 422, "wrong_shape", '"x"', text)


# --- all ---


def test_answer_in_the_accepted_format(server):
    x = np.float32([[1, 2]])
    bodies = {
        NPY: npy(x),
        SAFETENSORS: safetensors.numpy.save({"x": x}),
        RAW: x.tobytes(),
        "application/json": b"[[1, 2]]",
    }
    answers = {
        NPY: load,
        SAFETENSORS: lambda data: safetensors.numpy.load(data)["output"],
        RAW: lambda data: np.frombuffer(data, np.float32)[None],
    }
    for content_type, body in bodies.items():
        for accept, read in answers.items():
            answer = post(server, "/double", body, content_type, Accept=accept)
            assert answer.headers["Content-Type"] == accept
            assert np.array_equal(read(answer.content), 2 * x)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_not_finite_inferred_but_not_trained_on(server, number):
    body = npy(np.float32([[1, number]]))
    assert np.array_equal(
        load(post(server, "/double", body, NPY).content), [[2, 2 * number]], equal_nan=True
    )
    check_error(post(server, "/train", body, NPY), 422, "not_finite", '"x"')


@pytest.mark.parametrize("place", ["", "/memory"])
@pytest.mark.parametrize("size", [1, 3, 15])
def test_large_bodies_in_files_and_in_memory(server, place, size):
    x = RNG.standard_normal((size, 262144), dtype=np.float32)
    answer = post(server, f"{place}/total", npy(x), NPY)
    assert np.allclose(load(answer.content), x.astype(np.float64).sum(axis=1))


def test_bodies_in_files_end_anywhere_in_a_page(server):
    for rows in (511, 512, 513, 1024, 2040, 2048, 4096):
        x = np.full((rows, 2), 0.5, np.float32)
        for body, content_type in ((x.tobytes(), RAW), (npy(x), NPY)):
            answer = post(server, "/double", body, content_type, Accept="application/json")
            assert answer.json() == [[1, 1]] * rows
        body = json.dumps(x.tolist()).encode()
        body += b" " * (-len(body) % 4096)
        assert server.post("/double", data=body).json() == [[1, 1]] * rows


def expected_wide(x: float) -> np.ndarray:
    return np.float32(x) + np.arange(262144, dtype=np.float32)


@pytest.mark.parametrize("content_type", [NPY, SAFETENSORS, RAW])
def test_large_answers(server, content_type):
    for x in range(3):
        answer = post(
            server, "/wide", json.dumps([x]).encode(), "application/json", Accept=content_type
        )
        if content_type == NPY:
            found = load(answer.content)
        elif content_type == SAFETENSORS:
            found = safetensors.numpy.load(answer.content)["output"]
        else:
            found = np.frombuffer(answer.content, np.float32)[None]
        assert np.array_equal(found, expected_wide(x)[None])


def test_large_answers_stay_as_they_are_while_they_are_sent(server):
    """Slow readers keep their batches' outputs, while others go on."""
    with connections(server, 100) as wires:
        for number, wire in enumerate(wires):
            wire.send(request("/wide", f"[{number}]".encode(), f"Accept: {NPY}"))
        for number in range(100, 120):
            answer = post(server, "/wide", f"[{number}]".encode(), "application/json", Accept=NPY)
            assert np.array_equal(load(answer.content)[0], expected_wide(number))
        for number, wire in enumerate(wires):
            assert np.array_equal(load(wire.answer().body)[0], expected_wide(number))


def test_readers_of_large_answers_may_leave(server):
    for _ in range(3):
        with connections(server, 80) as wires:
            for wire in wires:
                wire.send(request("/wide", b"[1]", f"Accept: {NPY}"))
            wires[0].answer()
            for wire in wires:
                wire.reset()
    answer = post(server, "/wide", b"[5]", "application/json", Accept=NPY)
    assert np.array_equal(load(answer.content)[0], expected_wide(5))


def test_head_and_pipelined_requests(server):
    wire = connect(server)
    try:
        one = request("/wide", b"[1]", f"Accept: {NPY}")
        two = request("/wide", b"[2]", f"Accept: {NPY}")
        wire.send(one + two)
        assert np.array_equal(load(wire.answer().body)[0], expected_wide(1))
        assert np.array_equal(load(wire.answer().body)[0], expected_wide(2))
    finally:
        wire.close()
