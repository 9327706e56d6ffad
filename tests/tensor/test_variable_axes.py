"""Axes whose size a request chooses: in all formats, and batches of rows of the same size."""

import concurrent.futures
import io
import json
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import tritonclient.http as triton

from answers import check_error
from files import load_numpy as load
from files import npy, npz
from nginx import Nginx, wait_for
from webtorch.client import Client
from wire import at_once, connections, request, send_at_once, settle

APP = """
import threading
import jaxtyping as j, torch, webtorch
from torch import Tensor, nn, optim

calls = []
gate = threading.Event()
gate.set()

@webtorch.infer
def embed(ids: j.Int64[Tensor, "batch seq"]) -> j.Float32[Tensor, "batch seq 2"]:
    calls.append(list(ids.shape))
    return torch.stack([ids, -ids], -1).float()

@webtorch.infer
def gated(ids: j.Int64[Tensor, "batch seq"]) -> j.Int64[Tensor, "batch"]:
    calls.append(list(ids.shape))
    gate.wait()
    return ids.sum(dim=1)

@webtorch.infer
def pooled(
    x: j.Float32[Tensor, "batch seq 3"], mask: j.Bool[Tensor, "batch seq"]
) -> tuple[j.Float32[Tensor, "batch 3"], j.Int64[Tensor, "batch seq"]]:
    return (x * mask[..., None]).sum(dim=1), mask.long().cumsum(dim=1)

@webtorch.infer
def transposed(x: j.Float64[Tensor, "batch h w"]) -> j.Float64[Tensor, "batch w h"]:
    return x.mT

@webtorch.infer
def square(x: j.Float32[Tensor, "batch n n"]) -> j.Float32[Tensor, "batch n"]:
    return x.diagonal(dim1=1, dim2=2)

@webtorch.infer
def alone(x: j.Float32[Tensor, "seq 2"]) -> j.Float32[Tensor, "2"]:
    return x.sum(dim=0)

@webtorch.infer
def wave(x: j.Float32[Tensor, "samples"]) -> j.Float32[Tensor, "samples"]:
    return -x

@webtorch.infer
def grow(x: j.Int64[Tensor, "batch"]) -> tuple[
    j.Int64[Tensor, "batch found"], j.Float32[Tensor, "batch found 4"]
]:
    if (x == 13).any():
        raise RuntimeError("thirteen")
    count = torch.arange(int(x.max()))
    calls.append([len(x), len(count)])
    return x[:, None] + count, torch.zeros(len(x), len(count), 4)

@webtorch.infer
def disagree(x: j.Int64[Tensor, "batch"]) -> tuple[
    j.Int64[Tensor, "batch n"], j.Int64[Tensor, "batch n"]
]:
    return x[:, None], torch.stack([x, x], 1)

@webtorch.infer
def longer(x: j.Int64[Tensor, "batch seq"]) -> j.Int64[Tensor, "batch seq"]:
    return torch.cat([x, x], 1)

@webtorch.infer
def kept(x: j.Int64[Tensor, "batch seq"]) -> j.Int64[Tensor, "batch seq"]:
    history.append(x)
    return x + len(history)

history = []

@webtorch.infer
def poison(x: j.Int64[Tensor, "batch seq"]) -> j.Int64[Tensor, "batch seq"]:
    if (x == 13).any():
        raise RuntimeError("thirteen")
    return x + 1

@webtorch.infer
def wide(x: j.Float32[Tensor, "batch seq"]) -> j.Float32[Tensor, "batch seq 512"]:
    return x[..., None].expand(*x.shape, 512) + torch.arange(512)

model = webtorch.Model("line", nn.Linear(1, 1), optimizer=lambda p: optim.SGD(p, lr=0.0))

@webtorch.train
def train(x: j.Float32[Tensor, "batch seq"]) -> j.Float32[Tensor, "batch"]:
    calls.append(list(x.shape))
    y = model(x[..., None])
    model.step(y.square().mean())
    return x.sum(dim=1)

@webtorch.train
def learn_to_grow(x: j.Float32[Tensor, "batch"]) -> j.Float32[Tensor, "batch found"]:
    if (x == 13).any():
        raise RuntimeError("thirteen")
    model.step(model(x[:, None]).square().mean())
    return x[:, None].expand(len(x), int(x.max())).contiguous()

@webtorch.infer
def mixed(ids: j.Int64[Tensor, "batch seq"]) -> j.Int64[Tensor, "batch seq"]:
    return ids + 1

@webtorch.handler
def control(request):
    if request.args == "shut":
        gate.clear()
    if request.args == "open":
        gate.set()
    answer = {"calls": list(calls)}
    if request.args == "clear":
        calls.clear()
    return answer
"""
NAMES = (
    "embed", "pooled", "transposed", "square", "alone", "wave", "grow", "disagree", "longer",
    "kept", "poison", "wide", "train", "mixed",
)  # fmt: skip
SERVER = (
    "client_max_body_size 64m; client_body_buffer_size 1m;\n"
    + "".join(f"location = /{name} {{ webtorch_handler app:{name}; }}\n" for name in NAMES)
    + """
location = /inline/embed { webtorch_handler app:embed mode=inline; }
location = /few/embed { webtorch_handler app:embed mode=inline max_batch=4; }
location = /late/embed { webtorch_handler app:embed max_delay=300ms; }
location = /thread/mixed { webtorch_handler app:mixed mode=thread; }
location = /gated { webtorch_handler app:gated mode=thread; }
location = /poison/late { webtorch_handler app:poison max_delay=200ms; }
location = /grow/late { webtorch_handler app:grow max_delay=200ms; }
location = /learn_to_grow { webtorch_handler app:learn_to_grow max_delay=200ms; }
location = /control { webtorch_handler app:control mode=inline; }
location /v2 { webtorch_inference_protocol; }
"""
)

NPY = "application/x-npy"
NPZ = "application/x-npz"
RAW = "application/octet-stream"
SAFETENSORS = "application/vnd.safetensors"
RNG = np.random.default_rng(0)


def post(server: Nginx, path: str, body: bytes, content_type: str, **headers: str):
    headers = {"Content-Type": content_type, **headers}
    return server.post(path, data=body, headers=headers)


def calls(server: Nginx) -> list[list[int]]:
    return server.get("/control?clear").json()["calls"]


def torch7(array) -> bytes:
    """Write an array of integers as a LongTensor."""
    sizes = " ".join(map(str, array.shape))
    strides = " ".join(str(stride // array.itemsize) for stride in array.strides)
    words = " ".join(map(str, array.ravel().tolist()))
    return (
        f"4\n1\n3\nV 1\n16\ntorch.LongTensor\n{array.ndim}\n{sizes}\n{strides}\n1\n"
        f"4\n2\n3\nV 1\n17\ntorch.LongStorage\n{array.size}\n{words}\n"
    ).encode()


def embedded(ids):
    return np.stack([ids, -ids], -1).astype(np.float32)


# --- formats ---


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 2), (1, 700), (5, 1), (2, 3)])
def test_tensor_in_each_format(server, shape):
    ids = RNG.integers(-100, 100, shape)
    expected = embedded(ids)

    assert server.post("/embed", ids.tolist()).json() == expected.tolist()
    assert server.post("/embed", {"ids": ids.tolist()}).json() == {"output": expected.tolist()}
    assert (load(post(server, "/embed", npy(ids), NPY).content) == expected).all()
    assert (load(post(server, "/embed", npz(ids=ids), NPZ).content)["output"] == expected).all()

    body = safetensors.numpy.save({"ids": ids})
    answer = post(server, "/embed", body, SAFETENSORS)
    assert (safetensors.numpy.load(answer.content)["output"] == expected).all()

    header = {"Tensor-Shape": ", ".join(map(str, shape))}
    answer = post(server, "/embed", ids.tobytes(), RAW, **header)
    assert answer.headers["Tensor-Shape"] == ",".join(map(str, expected.shape))
    found = np.frombuffer(answer.content, np.float32).reshape(expected.shape)
    assert (found == expected).all()

    lines = post(server, "/embed", torch7(ids), "text/plain").text.splitlines()
    assert lines[6:8] == ["3", " ".join(map(str, expected.shape))]
    assert [float(word) for word in lines[-1].split()] == expected.ravel().tolist()


def test_row_without_batch_axis(server):
    ids = np.arange(4)
    assert server.post("/embed", [0, 1, 2, 3]).json() == embedded(ids).tolist()
    assert load(post(server, "/embed", npy(ids), NPY).content).shape == (4, 2)
    answer = post(server, "/embed", ids.tobytes(), RAW, **{"Tensor-Shape": "4"})
    assert answer.headers["Tensor-Shape"] == "4,2"
    lines = post(server, "/embed", torch7(ids), "text/plain").text.splitlines()
    assert lines[6:8] == ["2", "4 2"]


def pooled(x, mask):
    return (x * mask[..., None]).sum(axis=1), mask.cumsum(axis=1)


@pytest.mark.parametrize("length", [1, 4, 17, 3000])
def test_several_tensors_share_an_axis(server, length):
    x = RNG.integers(0, 9, (2, length, 3)).astype(np.float32)
    mask = RNG.random((2, length)) < 0.5
    first, second = pooled(x, mask)

    def check(found):
        assert (np.asarray(found["output_0"]) == first).all()
        assert (np.asarray(found["output_1"]) == second).all()

    check(server.post("/pooled", {"mask": mask.tolist(), "x": x.tolist()}).json())
    check(load(post(server, "/pooled", npz(x=x, mask=mask), NPZ).content))
    body = safetensors.numpy.save({"x": x, "mask": mask})
    check(safetensors.numpy.load(post(server, "/pooled", body, SAFETENSORS).content))


def test_several_axes(server):
    for shape in ((2, 3, 4), (1, 7, 1), (3, 2, 2)):
        x = RNG.random(shape)
        found = load(post(server, "/transposed", npy(x), NPY).content)
        assert (found == x.transpose(0, 2, 1)).all()
        assert server.post("/transposed", x.tolist()).json() == found.tolist()


def test_function_without_batch_axis(server):
    x = RNG.integers(0, 9, (5, 2)).astype(np.float32)
    assert server.post("/alone", x.tolist()).json() == x.sum(axis=0).tolist()
    # its only variable axis is what the length leaves for it
    answer = post(server, "/alone", x.tobytes(), RAW)
    assert np.frombuffer(answer.content, np.float32).tolist() == x.sum(axis=0).tolist()
    assert answer.headers["Tensor-Shape"] == "2"

    answer = post(server, "/wave", x.tobytes(), RAW)
    assert answer.content == (-x).tobytes() and answer.headers["Tensor-Shape"] == "10"
    assert server.post("/wave", [1, 2, 3]).json() == [-1, -2, -3]


def test_shape_header_of_a_fixed_row(start):
    app = """
import jaxtyping as j, webtorch
from torch import Tensor

@webtorch.infer
def f(x: j.UInt8[Tensor, "batch 2 3"]) -> j.UInt8[Tensor, "batch 3 2"]:
    return x.mT
"""
    server = start("location = /f { webtorch_handler app:f; }", app)
    body = bytes(range(12))

    answer = post(server, "/f", body, RAW)
    assert answer.content == bytes([0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11])
    assert "Tensor-Shape" not in answer.headers
    answer = post(server, "/f", body, RAW, **{"Tensor-Shape": "2,2,3"})
    assert answer.headers["Tensor-Shape"] == "2,3,2"
    answer = post(server, "/f", body[:6], RAW, **{"Tensor-Shape": "2,3"})
    assert answer.headers["Tensor-Shape"] == "3,2" and answer.content == bytes([0, 3, 1, 4, 2, 5])

    check_error(
        post(server, "/f", body, RAW, **{"Tensor-Shape": "2,3,2"}),
        422, "wrong_shape", "expected uint8 [batch, 2, 3], found uint8 [2, 3, 2]",
    )  # fmt: skip
    check_error(
        post(server, "/f", body, RAW, **{"Tensor-Shape": "3,2,3"}),
        400, "malformed_body", "its data, 12 bytes, do not fit its shape",
    )  # fmt: skip


# --- the inference protocol ---


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("length", [1, 5, 2000])
def test_inference_client(server, binary, length):
    x = RNG.integers(0, 9, (2, length, 3)).astype(np.float32)
    mask = RNG.random((2, length)) < 0.5
    inputs = [
        triton.InferInput("x", x.shape, "FP32").set_data_from_numpy(x, binary),
        triton.InferInput("mask", mask.shape, "BOOL").set_data_from_numpy(mask, binary),
    ]
    outputs = [triton.InferRequestedOutput(f"output_{i}", binary) for i in range(2)]
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        result = client.infer("pooled", inputs, outputs=outputs)
    first, second = pooled(x, mask)
    assert (result.as_numpy("output_0") == first).all()
    assert (result.as_numpy("output_1") == second).all()


def test_metadata(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        metadata = client.get_model_metadata("pooled")
        config = client.get_model_config("pooled")
    assert [tensor["shape"] for tensor in metadata["inputs"]] == [[-1, -1, 3], [-1, -1]]
    assert [tensor["shape"] for tensor in metadata["outputs"]] == [[-1, 3], [-1, -1]]
    assert [tensor["dims"] for tensor in config["input"]] == [[-1, 3], [-1]]
    square = server.get("/v2/models/transposed").json()
    assert square["inputs"][0]["shape"] == square["outputs"][0]["shape"] == [-1, -1, -1]


# --- webtorch.client ---


@pytest.mark.parametrize("form", ["npy", "json"])
def test_variable_axes_of_client(server, form):
    with Client(server.url(""), format=form) as client:
        for length in (1, 3, 50):
            ids = RNG.integers(0, 9, (2, length))
            assert (client.infer("embed", ids) == embedded(ids)).all()
            x = RNG.integers(0, 9, (1, length, 3)).astype(np.float32)
            mask = np.ones((1, length), bool)
            found = client.infer("pooled", x=x, mask=mask)
            assert (found["output_0"] == x.sum(axis=1)).all()


# --- errors ---

SHAPE_OF_DATA = "do not fit its shape"


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/embed", [[1, 2], [3]], "expected int64 [batch, seq], found int64 in a ragged array"),
        ("/embed", [[1], [2, 3]], "expected int64 [batch, seq], found int64 in a ragged array"),
        ("/embed", [[1, 2], 3], "in a ragged array"),
        ("/embed", [[[1]]], "expected int64 [batch, seq], found int64 [1, 1, 1]"),
        ("/embed", 5, "expected int64 [batch, seq], found int64 []"),
        ("/embed", [], "expected int64 [batch, seq], found nothing [0]"),
        ("/embed", [[], []], "expected int64 [batch, seq], found nothing [2, 0]"),
        ("/alone", [[1, 2, 3]], "expected float32 [seq, 2], found int64 [1, 3]"),
        ("/square", [[[1, 2], [3, 4], [5, 6]]], 'the axis "n" differs: it is of size 3'),
        ("/transposed", [[[1] * 50] + [[0]] * 49], "in a ragged array"),
        (
            "/pooled",
            {"x": [[[1, 2, 3]]], "mask": [[True, False]]},
            'the axis "seq" differs: it is of size 1 in tensor "x", of 2 in "mask"',
        ),
        (
            "/pooled",
            {"x": [[[1, 2, 3]]], "mask": [[True], [False]]},
            'tensors "x" and "mask" differ in rows: 1 and 2',
        ),
        ("/pooled", {"x": [[[1, 2]]], "mask": [[True]]}, "expected float32 [batch, seq, 3], found"),
    ],
)
def test_wrong_shapes_in_json(server, path, body, text):
    check_error(server.post(path, body), 422, "wrong_shape", text)


def test_wrong_elements(server):
    answer = server.post("/embed", [[1, 2.5]])
    check_error(answer, 422, "wrong_dtype", "expected int64 [batch, seq], found float64 among")
    check_error(
        server.post("/embed", [[1, 2**64 - 1]]), 422, "out_of_range", "out of range of int64"
    )


@pytest.mark.parametrize("array", [np.zeros((2, 0), int), np.zeros((0, 2), int), np.zeros(0, int)])
def test_empty_arrays(server, array):
    answers = [
        post(server, "/embed", npy(array), NPY),
        post(server, "/embed", safetensors.numpy.save({"ids": array}), SAFETENSORS),
        post(server, "/embed", npz(ids=array), NPZ),
        post(server, "/v2/models/embed/infer", json.dumps({"inputs": [{
            "name": "ids", "datatype": "INT64", "shape": array.shape, "data": array.tolist(),
        }]}).encode(), "application/json"),
    ]  # fmt: skip
    for answer in answers:
        text = 'the axis "seq" is empty' if array.shape[-1] == 0 else "found int64 [0, 2]"
        check_error(answer, 422, "wrong_shape", text)


@pytest.mark.parametrize(
    ("shape", "status", "code", "text"),
    [
        (None, 422, "missing_shape", "[batch, seq] need their shape in the header"),
        ("", 422, "wrong_shape", "expected int64 [batch, seq], found int64 []"),
        ("1,2,3", 422, "wrong_shape", "expected int64 [batch, seq], found int64 [1, 2, 3]"),
        ("2,0", 422, "wrong_shape", 'the axis "seq" is empty'),
        ("0,6", 400, "malformed_body", SHAPE_OF_DATA),
        ("2,2", 400, "malformed_body", SHAPE_OF_DATA),
        ("4611686018427387904,4", 400, "malformed_body", SHAPE_OF_DATA),
        ("1,2305843009213693952", 400, "malformed_body", SHAPE_OF_DATA),
        ("6,4611686018427387905", 400, "malformed_body", SHAPE_OF_DATA),
        ("9223372036854775808,1", 400, "malformed_body", "is not a shape"),
        ("2,", 400, "malformed_body", "is not a shape"),
        (",2", 400, "malformed_body", "is not a shape"),
        ("2;3", 400, "malformed_body", "is not a shape"),
        ("-2,3", 400, "malformed_body", "is not a shape"),
        ("2 3", 400, "malformed_body", "is not a shape"),
        ("1,1,1,1,1,1,1,1,1,6", 400, "malformed_body", "is not a shape"),
    ],
)
def test_shapes_of_raw_rows(server, shape, status, code, text):
    headers = {} if shape is None else {"Tensor-Shape": shape}
    body = np.arange(6).tobytes()
    check_error(post(server, "/embed", body, RAW, **headers), status, code, text)


def test_raw_rows_of_several_axes_without_a_batch(server):
    check_error(post(server, "/wave", b"12345", RAW), 422, "wrong_shape", "4 bytes a row, found 5")
    answer = post(server, "/transposed", bytes(16), RAW)
    check_error(answer, 422, "missing_shape", "[batch, h, w] need their shape")


def test_lengths_that_are_only_claimed(server):
    """A body of a few bytes must not make anybody allocate what it speaks of."""
    text = npy(np.zeros((1, 1), int)).replace(b"(1, 1)", b"(1, 4611686018427387904)")
    text = text.replace(b" " * 18 + b"\n", b"\n")
    check_error(post(server, "/embed", text, NPY), 400, "malformed_body", SHAPE_OF_DATA)

    # strides of zero: one element that stands for 2^60
    tensor = (
        b"4\n1\n3\nV 1\n16\ntorch.LongTensor\n2\n1073741824 1073741824\n0 0\n1\n"
        b"4\n2\n3\nV 1\n17\ntorch.LongStorage\n1\n5\n"
    )
    check_error(post(server, "/embed", tensor, "text/plain"), 422, "wrong_shape", "found int64")

    x = {"name": "x", "datatype": "FP64", "shape": [1, 2**40, 2**40], "data": [1]}
    answer = server.post("/v2/models/transposed/infer", {"inputs": [x]})
    check_error(answer, 400, "malformed_body", "its data do not fit its shape")

    # the first row of the first matrix speaks of 10^12 elements, there are 2 * 10^6
    row = b"[" + b"1," * 999_999 + b"1]"
    body = b"[[" + row + b",[]" * 999_999 + b"]]"
    check_error(server.post("/transposed", data=body), 422, "wrong_shape", "in a ragged array")


def members(files: dict[str, bytes]) -> bytes:
    """Write files by name as a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def claimed(dtype: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """Write an .npy file of any data under a header of any shape."""
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


# bytes of the rows, which are float32, or those of the float64 in the body exceed 64 bits
@pytest.mark.parametrize("size", [2**60, 2**61, 2**61 + 1, 2**62, 2**62 + 1, 2**63 - 16])
def test_sizes_beyond_all_memory(server, size):
    data = np.ones(1).tobytes()
    entry = {"dtype": "F64", "shape": [1, size], "data_offsets": [0, len(data)]}
    header = json.dumps({"x": entry}).encode()
    tensors = len(header).to_bytes(8, "little") + header + data
    file = claimed("<f8", (1, size), data)

    for body, content_type in (
        (file, NPY),
        (members({"x.npy": file}), NPZ),
        (tensors, SAFETENSORS),
    ):
        answer = post(server, "/wide", body, content_type)
        check_error(answer, 400, "malformed_body", 'tensor "x"', SHAPE_OF_DATA)
    answer = post(server, "/wave", claimed("<f8", (size,), data), NPY)
    check_error(answer, 400, "malformed_body", SHAPE_OF_DATA)
    files = {"x.npy": claimed("<f8", (1, size, 3), data), "mask.npy": npy(np.ones((1, 1), bool))}
    check_error(post(server, "/pooled", members(files), NPZ), 400, "malformed_body", SHAPE_OF_DATA)

    assert load(post(server, "/wave", npy(np.ones(2)), NPY).content).tolist() == [-1, -1]


def test_outputs_that_do_not_fit(start):
    server = start(SERVER, APP)
    assert server.post("/longer", [[1, 2], [3, 4]]).status_code == 500
    server.wait_for_log(
        r'TypeError: "output" is annotated as int64 \[batch, seq\], '
        r"it returned int64 \[2, 4\] for 2 rows, seq=2"
    )
    assert server.post("/disagree", [1]).status_code == 500
    server.wait_for_log(
        r'TypeError: "output_1" is annotated as int64 \[batch, n\], '
        r"it returned int64 \[1, 2\] for 1 rows, n=1"
    )


# --- batches ---


def test_rows_batched_by_size(server):
    calls(server)
    lengths = [3, 5, 3, 1, 5, 3, 1, 3]
    bodies = [[[10 * n + k for k in range(length)]] for n, length in enumerate(lengths)]
    answers = send_at_once(server, "/inline/embed", bodies)
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.json() == embedded(np.array(body)).tolist()
    assert sorted(calls(server)) == [[2, 1], [2, 5], [4, 3]]


def test_batch_of_each_size_bounded_by_max_batch(server):
    calls(server)
    bodies = [[[n] * (1 + n % 2)] for n in range(20)]
    answers = send_at_once(server, "/few/embed", bodies)
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.json() == embedded(np.array(body)).tolist()
    found = calls(server)
    assert sum(rows for rows, length in found if length == 1) == 10
    assert all(rows <= 4 for rows, _ in found)


def test_more_sizes_than_open_batches(server):
    """A size too many closes the batch that waits the longest: nothing is lost."""
    calls(server)
    bodies = [[[n] * (1 + n % 50)] for n in range(120)]
    answers = send_at_once(server, "/inline/embed", bodies)
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.json() == embedded(np.array(body)).tolist()
    found = calls(server)
    assert sum(rows for rows, _ in found) == 120
    assert {length for _, length in found} == set(range(1, 51))


def test_waiting_for_others_of_the_same_size(server):
    calls(server)
    with connections(server, 6) as wires:
        for n, wire in enumerate(wires):
            wire.post("/late/embed", [[n] * (1 + n % 2)])
        for n, wire in enumerate(wires):
            assert wire.answer().json() == embedded(np.array([[n] * (1 + n % 2)])).tolist()
    assert sorted(calls(server)) == [[3, 1], [3, 2]]


def test_waiting_batch_takes_more_rows(server):
    calls(server)
    server.get("/control?shut")
    with connections(server, 9) as wires:
        try:
            wires[0].post("/gated", [[1]])
            wait_for(lambda: server.get("/control").json()["calls"], "the first call")
            for n, wire in enumerate(wires[1:]):
                wire.post("/gated", [[n] * (2 + n % 2)])
                settle(server)
        finally:
            server.get("/control?open")
        assert wires[0].answer().json() == [1]
        for n, wire in enumerate(wires[1:]):
            assert wire.answer().json() == [n * (2 + n % 2)]
    assert sorted(calls(server)) == [[1, 1], [4, 2], [4, 3]]


def test_client_abort(server):
    calls(server)
    with connections(server, 12) as wires:
        with at_once(server):
            for n, wire in enumerate(wires):
                wire.post("/late/embed", [[n] * (1 + n % 3)])
        settle(server)
        for wire in wires[::2]:
            wire.reset()
        for n, wire in list(enumerate(wires))[1::2]:
            assert wire.answer().json() == embedded(np.array([[n] * (1 + n % 3)])).tolist()
    assert sorted(calls(server)) == [[2, 1], [2, 2], [2, 3]]


@pytest.mark.parametrize("path", ["/mixed", "/thread/mixed"])
def test_clients_with_many_sizes(server, path):
    def run(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with connections(server, 1) as (wire,):
            for _ in range(60):
                rows, length = rng.integers(1, 5), rng.integers(1, 40)
                ids = rng.integers(0, 1000, (rows, length))
                if rng.random() < 0.5:
                    wire.post(path, ids.tolist())
                    assert wire.answer().json() == (ids + 1).tolist()
                else:
                    wire.send(request(path, npy(ids), content_type=NPY))
                    assert (load(wire.answer().body) == ids + 1).all()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(16)))


def test_buffers_are_used_again_for_other_sizes(server):
    for length in (1, 1000, 3, 50_000, 2, 100_000, 1):
        ids = RNG.integers(0, 9, (2, length))
        assert (load(post(server, "/mixed", npy(ids), NPY).content) == ids + 1).all()


def test_inputs_can_be_kept(server):
    before = server.post("/kept", [[0]]).json()[0][0]
    for n in range(1, 10):
        assert server.post("/kept", [[n] * n]).json() == [[n + before + n] * n]


def test_large_text_body(server):
    ids = RNG.integers(0, 10**9, (3, 20_000))
    assert server.post("/mixed", ids.tolist()).json() == (ids + 1).tolist()
    answer = post(server, "/mixed", torch7(ids), "text/plain").text.splitlines()
    assert [int(word) for word in answer[-1].split()] == (ids + 1).ravel().tolist()


@pytest.mark.parametrize(("form", "of"), [(NPY, load), (SAFETENSORS, safetensors.numpy.load)])
def test_large_answers(server, form, of):
    """What is sent from PyTorch's memory has the batch's sizes, too."""
    for length in (1, 3, 400):
        x = RNG.random((2, length), np.float32)
        found = of(post(server, "/wide", npy(x), NPY, Accept=form).content)
        found = found["output"] if form == SAFETENSORS else found
        assert (found == x[..., None] + np.arange(512, dtype=np.float32)).all()


def test_rows_of_many_bytes_are_a_batch_by_themselves(server):
    """64 MB of inputs close a batch before max_batch does."""
    calls(server)
    ids = np.zeros((1, 3_000_000), int)
    body = npy(ids)
    with connections(server, 3) as wires:
        for wire in wires:
            wire.send(request("/late/embed", body, "Accept: application/x-npy", content_type=NPY))
        for wire in wires:
            assert load(wire.answer().body).shape == (1, 3_000_000, 2)
    assert sum(rows for rows, _ in calls(server)) == 3


# --- axes that only outputs have ---


def test_sizes_that_the_function_chooses(server):
    found = server.post("/grow", [1, 3]).json()
    assert found["output_0"] == [[1, 2, 3], [3, 4, 5]]
    assert np.asarray(found["output_1"]).shape == (2, 3, 4)
    found = load(post(server, "/grow", npy(np.array([2])), NPY, Accept=NPZ).content)
    assert found["output_0"].tolist() == [[2, 3]] and found["output_1"].shape == (1, 2, 4)


def test_outputs_without_elements(server):
    body = [0, 0]
    assert server.post("/grow", body).json() == {"output_0": [[], []], "output_1": [[], []]}
    found = load(post(server, "/grow", npy(np.array(body)), NPY, Accept=NPZ).content)
    assert found["output_0"].shape == (2, 0) and found["output_1"].shape == (2, 0, 4)
    answer = post(server, "/grow", npy(np.array(body)), NPY, Accept=SAFETENSORS)
    assert safetensors.numpy.load(answer.content)["output_1"].shape == (2, 0, 4)
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        x = triton.InferInput("x", [2], "INT64").set_data_from_numpy(np.array(body))
        assert client.infer("grow", [x]).as_numpy("output_0").shape == (2, 0)


def test_sizes_are_of_the_whole_batch(server):
    answers = send_at_once(server, "/grow/late", [[1], [3], [2]])
    assert [answer.json()["output_0"] for answer in answers] == [
        [[1, 2, 3]], [[3, 4, 5]], [[2, 3, 4]],
    ]  # fmt: skip


# --- failures ---


def test_failing_request(server):
    bodies = [[[n] * 2] for n in (1, 13, 3, 4)] + [[[5]], [[13]], [[7]]]
    answers = send_at_once(server, "/poison/late", bodies)
    for body, answer in zip(bodies, answers, strict=True):
        if body[0][0] == 13:
            assert answer.status == 500
        else:
            assert answer.json() == [[number + 1 for number in body[0]]]


def test_failure_keeps_sizes_of_others(server):
    """Halves of the batch have their own sizes, the requests that are left have one."""
    calls(server)
    answers = send_at_once(server, "/grow/late", [[1], [13], [3], [2]])
    assert answers[1].status == 500
    assert [answers[n].json()["output_0"] for n in (0, 2, 3)] == [
        [[1, 2, 3]], [[3, 4, 5]], [[2, 3, 4]],
    ]  # fmt: skip
    assert calls(server)[-1] == [3, 3]


def test_whole_batch_fails(server):
    answers = send_at_once(server, "/grow/late", [[13], [13]])
    assert [answer.status for answer in answers] == [500, 500]


# --- training ---


def test_training(server):
    calls(server)
    assert server.post("/train", [[1, 2, 3], [4, 5, 6]]).json() == [6, 15]
    assert server.post("/train", [[1]]).json() == [1]
    assert calls(server) == [[2, 3], [1, 1]]


def test_samples_are_not_trained_on_twice_for_a_size(server):
    answers = send_at_once(server, "/learn_to_grow", [[1], [13], [3], [3]])
    assert [answer.status for answer in answers] == [500] * 4
    server.wait_for_log("TypeError: it returned tensors of several sizes for the parts of a batch")
    answers = send_at_once(server, "/learn_to_grow", [[3], [13], [3], [3]])
    assert [answer.status for answer in answers] == [200, 500, 200, 200]


def test_not_finite_not_trained_on(server):
    for shape in ((1, 5), (3, 2)):
        x = np.ones(shape, np.float32)
        x[-1, -1] = np.nan
        check_error(post(server, "/train", npy(x), NPY), 422, "not_finite", 'tensor "x"')
        x[-1, -1] = 1
        assert post(server, "/train", npy(x), NPY).ok
