"""webtorch_inference_protocol: the Open Inference Protocol, with unmodified clients."""

import asyncio
import gzip
import json
import os
import re
import signal
import time
import zlib

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

import webtorch
from answers import check_error
from apps import DTYPES_APP, KINDS
from nginx import wait_for

APP = (
    DTYPES_APP
    + """
import time
from typing import NamedTuple
from jaxtyping import Bool, Float32, Int64


class Both(NamedTuple):
    total: Float32[Tensor, "batch"]
    twice: Int64[Tensor, "batch 2 3"]


@webtorch.infer
def several(a: Int64[Tensor, "batch 2 3"], b: Float32[Tensor, "batch"]) -> Both:
    return Both(a.sum(dim=(1, 2)) + b, a * 2)


@webtorch.infer
def whole(x: Float32[Tensor, "2"]) -> Float32[Tensor, "1"]:
    return x.sum()[None]


@webtorch.infer
def large(x: Float32[Tensor, "batch 1024"]) -> Float32[Tensor, "batch 1024"]:
    return x + 1


@webtorch.infer
def poison(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    if (x == 13).any():
        raise RuntimeError("secret detail of the server")
    if (x == 14).any():
        raise webtorch.HTTPError(409, "fourteen is not wanted")
    return x / (x != 15)


@webtorch.train
def learn(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x


@webtorch.infer
def scalar(x: jaxtyping.Float64[Tensor, ""]) -> jaxtyping.Float64[Tensor, ""]:
    return x


@webtorch.infer
def slow(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    time.sleep(x.max().item())
    return x


@webtorch.handler
def page(request: webtorch.Request) -> str:
    return "page"
"""
)

DTYPE_LOCATIONS = "".join(
    f"location = /{name} {{ webtorch_handler app:{name}; }}\n" for name in KINDS
)

SERVER = (
    DTYPE_LOCATIONS
    + """
location = /several { webtorch_handler app:several max_batch=64; }
location = /several/again { webtorch_handler app:several max_batch=1; }
location = /whole { webtorch_handler app:whole; }
location = /large { webtorch_handler app:large; }
location = /poison { webtorch_handler app:poison max_delay=50ms; }
location = /learn { webtorch_handler app:learn; }
location = /scalar { webtorch_handler app:scalar; }
location = /slow { webtorch_handler app:slow mode=thread max_batch=1 queue=2 timeout=300ms; }
location = /page { webtorch_handler app:page; }
location /v2 { webtorch_inference_protocol; }
location /small/v2 { client_max_body_size 100; webtorch_inference_protocol; }
"""
)

DATATYPES = {
    "bool": "BOOL", "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64",
    **{name: name.upper() for name in KINDS if "int" in name},
}  # fmt: skip

MALFORMED = (400, "malformed_body")
X = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
GOOD = {"inputs": [{**X, "data": [1, 2]}]}


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def tensor(name, array, **options):
    datatype = DATATYPES[array.dtype.name]
    found = triton.InferInput(name, list(array.shape), datatype)
    found.set_data_from_numpy(array, **options)
    return found


def floats(*rows):
    return np.array(rows, np.float32)


def post(server, body, path="/v2/models/float32/infer", rest=b"", **options):
    """Post JSON, with bytes after it if there are some; return the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = options.pop("headers", {})
    if rest:
        headers = {"Inference-Header-Content-Length": str(len(data)), **headers}
    return server.request("POST", path, data=data + rest, headers=headers, **options)


# --- metadata ---


def test_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("several")
    assert client.is_model_ready("several", "1")
    assert client.is_model_ready("app:several")
    assert not client.is_model_ready("several", "2")
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("page"), "it takes no tensors"


def test_server_metadata(client):
    metadata = client.get_server_metadata()
    assert metadata["name"] == "webtorch"
    assert metadata["version"] == webtorch.__version__
    assert "binary_tensor_data" in metadata["extensions"]


@pytest.mark.parametrize("name", ["several", "app:several", "app%3Aseveral"])
def test_model_metadata(client, name):
    metadata = client.get_model_metadata(name.replace("%3A", ":"))
    assert metadata == {
        "name": "several",
        "versions": ["1"],
        "platform": "webtorch_python",
        "inputs": [
            {"name": "a", "datatype": "INT64", "shape": [-1, 2, 3]},
            {"name": "b", "datatype": "FP32", "shape": [-1]},
        ],
        "outputs": [
            {"name": "total", "datatype": "FP32", "shape": [-1]},
            {"name": "twice", "datatype": "INT64", "shape": [-1, 2, 3]},
        ],
    }
    assert client.get_model_metadata("several", "1") == metadata


def test_metadata_without_a_batch_axis(client):
    assert client.get_model_metadata("whole")["inputs"][0]["shape"] == [2]
    assert client.get_model_config("whole")["max_batch_size"] == 0


def test_first_directive_serves(client):
    config = client.get_model_config("several")
    assert config["max_batch_size"] == 64
    assert config["input"][0] == {"name": "a", "data_type": "TYPE_INT64", "dims": [2, 3]}
    assert config["output"][0] == {"name": "total", "data_type": "TYPE_FP32", "dims": []}


def test_index(client, server):
    index = client.get_model_repository_index()
    names = [entry["name"] for entry in index]
    assert len(names) == len(set(names)) == len(KINDS) + 7
    assert "several" in names and "page" not in names
    assert {entry["state"] for entry in index} == {"READY"}
    assert post(server, b"", "/v2/repository/index").json() == index
    assert post(server, {"ready": True}, "/v2/repository/index").json() == index


def test_statistics(client):
    def stats():
        return client.get_inference_statistics("whole")["model_stats"][0]

    before = stats()
    client.infer("whole", [tensor("x", np.array([1, 2], np.float32))])
    after = stats()
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["execution_count"] == before["execution_count"] + 1
    assert after["inference_stats"]["success"]["count"] == after["inference_count"]
    assert after["last_inference"] > 1_600_000_000_000
    every = client.get_inference_statistics()["model_stats"]
    assert after in every and len(every) == len(KINDS) + 7


def test_head(server):
    for path in ("/v2", "/v2/", "/v2/health/ready", "/v2/models/whole", "/v2/models/whole/stats"):
        answer = server.request("HEAD", path)
        assert answer.status_code == 200 and not answer.content
        assert server.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2", "GET, HEAD"),
        ("DELETE", "/v2/health/live", "GET, HEAD"),
        ("POST", "/v2/models/whole", "GET, HEAD"),
        ("GET", "/v2/models/whole/infer", "POST"),
        ("PUT", "/v2/models/whole/infer", "POST"),
        ("GET", "/v2/models/whole/generate", "POST"),
        ("GET", "/v2/repository/index", "POST"),
    ],
)
def test_methods(server, method, path, allowed):
    answer = server.request(method, path, data=b"x" * 1000)
    check_error(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/v2x", "/v2/health", "/v2/health/live/x", "/v2/models", "/v2/models/nothing",
        "/v2/models/page", "/v2/models/app:page", "/v2/models/whole/nothing",
        "/v2/models/whole/versions/1/nothing",
        "/v2/models/app:", "/v2/models/:whole", "/v2/models/who",
    ],
)  # fmt: skip
def test_unknown_paths(server, path):
    check_error(server.get(path), 404, "not_found")


@pytest.mark.parametrize("path", ["versions", "versions/2", "versions/11", "versions/2/ready"])
def test_unknown_versions(server, path):
    check_error(server.get(f"/v2/models/whole/{path}"), 404, "unknown_version")


def test_unknown_paths_of_posts(server, client):
    check_error(post(server, GOOD, "/v2/models/nothing/infer"), 404, "not_found")
    with pytest.raises(InferenceServerException, match="there is nothing at this address"):
        client.load_model("whole")


# --- infer ---


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_dtypes(client, name, binary_in, binary_out):
    dtype = ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
    array = np.array([[0, 1], [1, 100]]).astype(dtype)
    if name == "bfloat16" and not binary_in:
        return  # a client does not send it
    answer = client.infer(
        name,
        [tensor("x", array, binary_data=binary_in)],
        outputs=[triton.InferRequestedOutput("output", binary_data=binary_out)],
    )
    found = answer.as_numpy("output")
    assert found.dtype == array.dtype and np.array_equal(found, array)
    output = answer.get_output("output")
    assert ("data" in output) is not binary_out
    assert output["datatype"] == DATATYPES[name]


def test_json_of_the_small_floats(server):
    for name in ("float16", "bfloat16"):
        body = {"inputs": [{**X, "datatype": DATATYPES[name], "data": [0.5, -2]}]}
        answer = post(server, body, f"/v2/models/{name}/infer").json()
        assert answer["outputs"][0]["data"] == [0.5, -2]


SEVERAL_A = np.arange(12, dtype=np.int64).reshape(2, 2, 3)
SEVERAL_B = np.array([0.5, -0.5], np.float32)


def check_several(answer):
    assert np.array_equal(answer.as_numpy("twice"), SEVERAL_A * 2)
    assert np.array_equal(answer.as_numpy("total"), SEVERAL_A.sum(axis=(1, 2)) + SEVERAL_B)


@pytest.mark.parametrize("binary_a", [True, False])
@pytest.mark.parametrize("binary_b", [True, False])
def test_several_tensors(client, binary_a, binary_b):
    a = tensor("a", SEVERAL_A, binary_data=binary_a)
    b = tensor("b", SEVERAL_B, binary_data=binary_b)
    for inputs in ([a, b], [b, a]):
        answer = client.infer("several", inputs, model_version="1")
        check_several(answer)
        assert [o["name"] for o in answer.get_response()["outputs"]] == ["total", "twice"]


@pytest.mark.parametrize("binary", [(True, True), (True, False), (False, True), (False, False)])
def test_requested_outputs(client, binary):
    inputs = [tensor("a", SEVERAL_A), tensor("b", SEVERAL_B)]
    outputs = [
        triton.InferRequestedOutput(name, binary_data=b)
        for name, b in zip(("twice", "total"), binary, strict=True)
    ]
    answer = client.infer("several", inputs, outputs=outputs)
    check_several(answer)
    assert [o["name"] for o in answer.get_response()["outputs"]] == ["twice", "total"]

    answer = client.infer("several", inputs, outputs=outputs[:1])
    assert np.array_equal(answer.as_numpy("twice"), SEVERAL_A * 2)
    assert answer.as_numpy("total") is None


@pytest.mark.parametrize("rows", [1, 2, 200])
def test_large_answers(client, rows):
    array = np.random.default_rng(0).random((rows, 1024), np.float32)
    inputs = [tensor("x", array)]
    for _ in range(3):
        assert np.array_equal(client.infer("large", inputs).as_numpy("output"), array + 1)


def test_ids_are_echoed(client):
    inputs = [tensor("x", floats([1, 2]))]
    for name in ("a", 'a"\\\n\x01/ü', "x" * 256):
        answer = client.infer("float32", inputs, request_id=name)
        assert answer.get_response()["id"] == name
    assert "id" not in client.infer("float32", inputs).get_response()
    with pytest.raises(InferenceServerException, match='"id" is not a string of at most 256 bytes'):
        client.infer("float32", inputs, request_id="x" * 257)


def test_models_answer_by_their_name(client):
    inputs = [tensor("x", floats([1, 2]))]
    for name in ("float32", "app:float32"):
        response = client.infer(name, inputs).get_response()
        assert (response["model_name"], response["model_version"]) == ("float32", "1")


def test_parameters_that_are_not_known(client):
    answer = client.infer(
        "float32", [tensor("x", floats([1, 2]))], sequence_id=7, sequence_start=True,
        priority=3, timeout=1, parameters={"anything": "goes"},
    )  # fmt: skip
    assert answer.as_numpy("output").tolist() == [[1, 2]]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed(client, algorithm):
    array = np.zeros((20, 1024), np.float32)
    answer = client.infer("large", [tensor("x", array)], request_compression_algorithm=algorithm)
    assert np.array_equal(answer.as_numpy("output"), array + 1)
    answer = client.infer(
        "float32",
        [tensor("x", floats([1, 2]), binary_data=False)],
        request_compression_algorithm=algorithm,
    )
    assert answer.as_numpy("output").tolist() == [[1, 2]]


def test_requests_that_come_together(client):
    futures = [client.async_infer("poison", [tensor("x", floats([i, 0]))]) for i in (1, 2, 3)]
    for i, future in enumerate(futures, 1):
        assert future.get_result().as_numpy("output").tolist() == [[i, 0]]


def test_asynchronous_client(server):
    async def run():
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("several")
            assert (await client.get_server_metadata())["name"] == "webtorch"
            assert (await client.get_model_config("several"))["max_batch_size"] == 64
            assert await client.get_model_repository_index()
            inputs = [tensor("a", SEVERAL_A), tensor("b", SEVERAL_B, binary_data=False)]
            answers = await asyncio.gather(
                *(client.infer("several", inputs, request_id=str(i)) for i in range(20)),
                *(
                    client.infer("several", inputs, request_compression_algorithm=name)
                    for name in ("gzip", "deflate")
                ),
            )
            for answer in answers:
                check_several(answer)
            assert [a.get_response().get("id") for a in answers][:20] == [str(i) for i in range(20)]
            with pytest.raises(InferenceServerException, match='tensor "b" is missing'):
                await client.infer("several", inputs[:1])

    asyncio.run(run())


@pytest.mark.parametrize(
    "part",
    [
        {"data": [[1, 2]]},
        {"data": [1, 2]},
        {"data": [1, 2], "parameters": None},
        {"data": [1, 2], "parameters": {}},
        {"data": [1, 2], "shape": [2]},
        {"shape": [2, 2], "data": [[1, 2], [1, 2]]},
        {"shape": [2, 2], "data": [1, 2, 1, 2]},
    ],
)
def test_data_nested_or_not(server, part):
    answer = post(server, {"inputs": [{**X, **part}], "id": None, "outputs": None}).json()
    shape = part.get("shape", [1, 2])
    assert answer == {
        "model_name": "float32",
        "model_version": "1",
        "outputs": [
            {
                "name": "output",
                "datatype": "FP32",
                "shape": shape,
                "data": [1, 2] * (shape[0] if len(shape) == 2 else 1),
            }
        ],
    }


def test_binary_output_without_the_header(server):
    answer = post(server, {**GOOD, "parameters": {"binary_data_output": True}})
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert np.frombuffer(answer.content[length:], np.float32).tolist() == [1, 2]


def test_nan(server):
    body = {"inputs": [{**X, "data": [15, 0]}]}
    answer = post(server, body, "/v2/models/poison/infer").json()
    assert answer["outputs"][0]["data"] == [None, 0]


# --- errors ---


def with_input(**part):
    return {"inputs": [{**X, **part}]}


def binary(size, **part):
    return with_input(parameters={"binary_data_size": size}, **part)


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        (b"", 400, "empty_body", "tensors are expected"),
        (b"{", *MALFORMED, "invalid JSON"),
        (b"[]", *MALFORMED, "it is not an object"),
        (b"[" * 100000, *MALFORMED, "invalid JSON"),
        (b'{"inputs": [{"name": "\xff"}]}', *MALFORMED, "invalid JSON"),
        ({}, *MALFORMED, 'it has no "inputs"'),
        ({"inputs": {}}, *MALFORMED, 'it has no "inputs"'),
        ({"inputs": []}, 422, "missing_tensor", 'tensor "x" is missing'),
        ({"inputs": [1]}, *MALFORMED, "an input has no name"),
        ({"inputs": [{"name": 1}]}, *MALFORMED, "an input has no name"),
        ({"inputs": [{"name": "y"}]}, 422, "unknown_tensor", 'no tensor is named "y"'),
        ({"inputs": [{"name": "x"}]}, *MALFORMED, 'tensor "x": it has no "shape" that'),
        ({"inputs": [{**X, "data": [1, 2]}] * 2}, *MALFORMED, 'tensor "x" is given twice'),
        (with_input(), *MALFORMED, "it has neither data nor binary_data_size"),
        (with_input(data=None), *MALFORMED, "it has neither data nor binary_data_size"),
        (with_input(shape="x"), *MALFORMED, 'it has no "shape" that is an array'),
        (with_input(shape=[-1, 2], data=[1, 2]), *MALFORMED, "axis 0 of its shape is -1"),
        (with_input(shape=[1.0, 2], data=[1, 2]), *MALFORMED, "shape is float64"),
        (with_input(shape=[2**63, 2], data=[1, 2]), *MALFORMED, "from 0 to 2^63 - 1"),
        (with_input(shape=[2**62, 2**62], data=[1]), *MALFORMED, "do not fit its shape"),
        (with_input(shape=[2**32, 2**32], data=[]), *MALFORMED, "do not fit its shape"),
        (with_input(shape=[1] * 10, data=[1]), 422, "wrong_shape", "more than 9 axes"),
        (with_input(shape=[1, 3], data=[1, 2]), *MALFORMED, "do not fit its shape"),
        (with_input(shape=[9, 2], data=[1, 2]), *MALFORMED, "do not fit its shape"),
        (with_input(data=[]), *MALFORMED, "do not fit its shape"),
        (with_input(data=1), *MALFORMED, "do not fit its shape"),
        (with_input(data={}), *MALFORMED, "do not fit its shape"),
        (
            with_input(shape=[1, 3], data=[1, 2, 3]),
            422,
            "wrong_shape",
            'tensor "x": expected float32 [batch, 2], found float32 [1, 3]',
        ),
        (with_input(shape=[0, 2], data=[]), 422, "wrong_shape", "found float32 [0, 2]"),
        (with_input(shape=[1, 1, 2], data=[1, 2]), 422, "wrong_shape", "found float32 [1, 1, 2]"),
        (with_input(shape=[2, 2], data=[[1, 2], [3]]), 422, "wrong_shape", "ragged"),
        (with_input(data=[1, [2]]), 422, "wrong_shape", "ragged"),
        (with_input(data=[[1, 2, 3], [4]]), *MALFORMED, "do not fit its shape"),
        (with_input(shape=[4, 2], data=[[[1, 2]] * 4]), 422, "wrong_shape", "int64 [1, 4, 2]"),
        (
            with_input(datatype="FP64", data=[1, 1e40]),
            422,
            "out_of_range",
            'tensor "x": a number is out of range of float32',
        ),
        (with_input(datatype="BYTES", data=["a", "b"]), 422, "wrong_dtype", "found BYTES [1, 2]"),
        (with_input(datatype="x" * 99, data=[1, 2]), 422, "wrong_dtype", "found xxx"),
        (with_input(datatype=1, data=[1, 2]), *MALFORMED, "it has no datatype"),
        (with_input(data=[1, "2"]), 422, "wrong_dtype", "found a string among its elements"),
        (with_input(data=[1, None]), 422, "wrong_dtype", "found null among its elements"),
        (with_input(data=[1, 1e39]), 422, "out_of_range", "out of range of float32"),
        (with_input(data=[1, 2], parameters=1), *MALFORMED, '"parameters" is not an object'),
        (
            with_input(data=[1, 2], parameters={"binary_data_size": 8}),
            *MALFORMED,
            "it has both data and binary_data_size",
        ),
        (
            with_input(parameters={"shared_memory_region": "r"}),
            *MALFORMED,
            'the parameter "shared_memory_region" is not supported',
        ),
        (binary(8), *MALFORMED, "its binary_data_size exceeds the body"),
        (binary(2**63), *MALFORMED, "its binary_data_size exceeds the body"),
        (binary(-1), *MALFORMED, "its binary_data_size exceeds the body"),
        (binary("8"), *MALFORMED, "its binary_data_size exceeds the body"),
        (binary(0), *MALFORMED, "its data, 0 bytes, do not fit its shape"),
        ({**GOOD, "id": 1}, *MALFORMED, '"id" is not a string'),
        ({**GOOD, "parameters": []}, *MALFORMED, '"parameters" is not an object'),
        (
            {**GOOD, "parameters": {"binary_data_output": 1}},
            *MALFORMED,
            '"binary_data_output" is neither true nor false',
        ),
        ({**GOOD, "outputs": {}}, *MALFORMED, '"outputs" is not an array'),
        ({**GOOD, "outputs": [1]}, *MALFORMED, "an output has no name"),
        ({**GOOD, "outputs": [{"name": "y"}]}, 422, "unknown_tensor", 'no tensor is named "y"'),
        ({**GOOD, "outputs": [{"name": "output"}] * 2}, *MALFORMED, '"output" is given twice'),
        (
            {**GOOD, "outputs": [{"name": "output", "parameters": {"classification": 3}}]},
            *MALFORMED,
            'the parameter "classification" is not supported',
        ),
        (
            {**GOOD, "outputs": [{"name": "output", "parameters": {"binary_data": "yes"}}]},
            *MALFORMED,
            '"binary_data" is neither true nor false',
        ),
    ],
)
def test_bad_requests(server, body, status, code, text):
    check_error(post(server, body), status, code, text)
    assert post(server, GOOD).ok


TWO = floats([1, 2]).tobytes()


@pytest.mark.parametrize(
    ("body", "rest", "text"),
    [
        (binary(8), TWO[:7], "its binary_data_size exceeds the body"),
        (binary(7), TWO[:7], "its data, 7 bytes, do not fit its shape"),
        (binary(8), TWO + b"x", "the tensors do not fill the body"),
        (binary(16), TWO * 2, "its data, 16 bytes, do not fit its shape"),
        (binary(8, shape=[2**62, 2]), TWO, "its data, 8 bytes, do not fit its shape"),
        (GOOD, TWO, "the tensors do not fill the body"),
    ],
)
def test_bad_bytes(server, body, rest, text):
    check_error(post(server, body, rest=rest), *MALFORMED, text)
    assert post(server, binary(8), rest=TWO).ok


@pytest.mark.parametrize(
    ("length", "text"),
    [
        ("x", "is not a number"),
        ("", "is not a number"),
        ("-1", "is not a number"),
        ("99999999999999999999", "is not a number"),
        ("1000", "exceeds the body"),
        ("9223372036854775807", "exceeds the body"),
        ("0", "invalid JSON"),
        ("5", "invalid JSON"),
    ],
)
def test_wrong_json_lengths(server, length, text):
    headers = {"Inference-Header-Content-Length": length}
    check_error(post(server, binary(8), rest=TWO, headers=headers), *MALFORMED, text)


def test_bytes_that_are_no_bool(server):
    body = {"inputs": [{**X, "datatype": "BOOL", "parameters": {"binary_data_size": 2}}]}
    answer = post(server, body, "/v2/models/bool/infer", rest=b"\1\2")
    check_error(answer, 422, "out_of_range", "bytes of a bool are 0 or 1")


@pytest.mark.parametrize(("data", "answer"), [(0.5, [0.5]), ([2], [2])])
def test_scalars(server, data, answer):
    body = {"inputs": [{"name": "x", "shape": [], "datatype": "FP64", "data": data}]}
    (output,) = post(server, body, "/v2/models/scalar/infer").json()["outputs"]
    assert (output["shape"], output["data"]) == ([], answer)


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        ({}, "wrong_shape", "found an object []"),
        ([{}], "wrong_shape", "found an object [1]"),
        ("x", "wrong_dtype", "found a string among its elements"),
    ],
)
def test_non_scalars(server, data, code, text):
    body = {"inputs": [{"name": "x", "shape": [], "datatype": "FP64", "data": data}]}
    check_error(post(server, body, "/v2/models/scalar/infer"), 422, code, text)


def test_full_queue_and_timeouts(server):
    url = f"127.0.0.1:{server.port}"
    with triton.InferenceServerClient(url, concurrency=5) as client:
        futures = [client.async_infer("slow", [tensor("x", floats([1, 0]))]) for _ in range(5)]
        texts = []
        for future in futures:
            with pytest.raises(InferenceServerException) as caught:
                future.get_result()
            texts.append((caught.value.status(), caught.value.message()))
        assert texts.count(("503", "too many requests wait for the handler")) == 3
        assert texts.count(("504", "the handler did not answer in time")) == 2

    def is_served() -> bool:
        answer = post(server, with_input(data=[0, 0]), "/v2/models/slow/infer")
        return answer.status_code == 200

    wait_for(is_served, "the thread to be free again")


def test_client_abort(server):
    body = json.dumps(with_input(data=[0.2, 0])).encode()
    head = b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    for text in (head % len(body) + body, head % len(body) + body[:-5]):
        with server.connection() as s:
            s.sendall(text)
            time.sleep(0.05)
    wait_for(lambda: post(server, with_input(data=[0, 0]), "/v2/models/slow/infer").ok, "an answer")


def test_rows_that_differ(server):
    a = {"name": "a", "shape": [1, 2, 3], "datatype": "INT64", "data": [1] * 6}
    b = {"name": "b", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    answer = post(server, {"inputs": [a, b]}, "/v2/models/several/infer")
    check_error(answer, 422, "wrong_shape", 'tensors "a" and "b" differ in rows: 1 and 2')


def test_not_finite_not_trained_on(server):
    nan = floats([np.nan, 1]).tobytes()
    check_error(post(server, binary(8), "/v2/models/learn/infer", rest=nan), 422, "not_finite")
    assert post(server, binary(8), "/v2/models/learn/infer", rest=TWO).ok


def test_wrong_compressed_bodies(server):
    body = zlib.compress(json.dumps(GOOD).encode())
    for data, name in ((body[:-5], "deflate"), (b"x" * 20, "gzip")):
        answer = post(server, data, headers={"Content-Encoding": name})
        check_error(answer, *MALFORMED)
    headers = {"Content-Encoding": "br"}
    check_error(post(server, body, headers=headers), 415, "unsupported_media_type")
    packed = gzip.compress(json.dumps(binary(8)).encode() + TWO)
    length = str(len(json.dumps(binary(8))))
    headers = {"Content-Encoding": "gzip", "Inference-Header-Content-Length": length}
    assert post(server, packed, headers=headers).ok


def test_content_type_is_ignored(server):
    for name in ("text/plain", "application/octet-stream", "x"):
        assert post(server, GOOD, headers={"Content-Type": name, "Accept": "image/png"}).ok


def test_errors_are_raised_by_the_client(client):
    with pytest.raises(InferenceServerException) as caught:
        client.infer("float32", [tensor("x", floats([1, 2, 3]))])
    text = 'tensor "x": expected float32 [batch, 2], found float32 [1, 3]'
    assert (caught.value.message(), caught.value.status()) == (text, "422")

    with pytest.raises(InferenceServerException, match="no model has this name"):
        client.infer("nothing", [])
    with pytest.raises(InferenceServerException, match="is not loaded"):
        client.infer("float32", [tensor("x", floats([1, 2]))], model_version="3")
    with pytest.raises(InferenceServerException, match="shared_memory_region"):
        shared = triton.InferInput("x", [1, 2], "FP32").set_shared_memory("region", 8)
        client.infer("float32", [shared])

    # on the same connection
    assert client.infer("float32", [tensor("x", floats([1, 2]))]).as_numpy("output").size == 2


def test_failures_do_not_hurt_others(client):
    def send(number):
        return client.async_infer("poison", [tensor("x", floats([number, 0]))])

    with triton.InferenceServerClient(client._parsed_url.netloc, concurrency=8) as client:
        futures = {number: send(number) for number in (1, 13, 2, 14, 3)}
        for number, future in futures.items():
            if number == 13:
                with pytest.raises(InferenceServerException, match="the handler failed"):
                    future.get_result()
            elif number == 14:
                with pytest.raises(InferenceServerException, match="fourteen is not wanted"):
                    future.get_result()
            else:
                assert future.get_result().as_numpy("output").tolist() == [[number, 0]]


def test_errors_of_nginx(server, client):
    with pytest.raises(InferenceServerException, match="client_max_body_size"):
        client.infer("large", [tensor("x", np.zeros((300, 1024), np.float32))])
    check_error(post(server, b"x" * 200, "/small/v2/models/float32/infer"), 413, "too_large")
    assert post(server, GOOD, "/small/v2/models/float32/infer").ok


def test_keep_alive_after_errors(server):
    with server.connection() as s:
        file = s.makefile("rb")
        for body in (b"{", json.dumps(GOOD).encode(), b"[]", json.dumps(GOOD).encode()):
            s.sendall(
                b"POST /v2/models/float32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                % len(body)
                + body
            )
            status = file.readline()
            assert (b"200" in status) is (body[:3] == b'{"i')
            length = 0
            while (line := file.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert json.loads(file.read(length))


# --- configurations ---

TINY = """
import webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def f(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x + {}
"""


def test_functions_that_share_a_name(configured):
    server = configured(
        """
        location = /a { webtorch_handler app:f; }
        location = /b { webtorch_handler other:f max_batch=3; }
        location = /c { webtorch_handler other:f max_batch=9; }
        location / { webtorch_inference_protocol; }
        """,
        TINY.format(1),
    )
    server.write_app(TINY.format(2), "other")
    server.start()
    index = post(server, b"", "/v2/repository/index").json()
    assert [entry["name"] for entry in index] == ["app:f", "other:f"]
    for name, data in (("app:f", [2, 3]), ("other:f", [3, 4]), ("other%3Af", [3, 4])):
        answer = post(server, GOOD, f"/v2/models/{name}/infer").json()
        assert answer["outputs"][0]["data"] == data
        assert answer["model_name"] == name.replace("%3A", ":")
    check_error(server.get("/v2/models/f"), 404, "not_found")
    assert server.get("/v2/models/other:f/config").json()["max_batch_size"] == 3
    assert server.quit() == 0


def test_function_not_loaded(start):
    server = start(
        "location = /f { webtorch_handler app:f; } location /v2 { webtorch_inference_protocol; }",
        TINY.format(1),
        expected=(r"exited on signal 9",),
    )
    server.write_app("1 / 0")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(server.workers()) == 1 and server.workers() != [worker], "a new worker")
    assert server.get("/v2/health/live").ok
    check_error(server.get("/v2/health/ready"), 400, "not_ready")
    check_error(server.get("/v2/models/f/ready"), 400, "not_ready")
    check_error(post(server, GOOD, "/v2/models/f/infer"), 503, "not_loaded")
    assert post(server, b"", "/v2/repository/index").json()[0]["state"] == "UNAVAILABLE"


def test_no_handlers(start):
    server = start("location /v2 { webtorch_inference_protocol; }")
    assert server.get("/v2").json()["name"] == "webtorch"
    assert server.get("/v2/health/ready").ok
    assert post(server, b"", "/v2/repository/index").json() == []
    check_error(server.get("/v2/models/x"), 404, "not_found")


def test_location_with_trailing_slash(start):
    server = start("location /v2/ { webtorch_inference_protocol; }")
    answer = server.get("/v2", allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (301, server.url("/v2/"))
    assert server.get("/v2").json()["name"] == "webtorch"


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_advice_for_such_a_location(configured, path):
    server = configured(f"location {path} {{ webtorch_inference_protocol; }}")
    status, output = server.check()
    assert status == 0
    advice = (
        '[warn] "GET /v2", the server\'s metadata, is redirected to "location /v2/", '
        'use "location /v2" instead in '
    )
    assert ("[warn]" in output) == (path == "/v2/")
    assert path == "/v2" or re.search(re.escape(advice), re.sub(r"\d+#\d+: ", "", output))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "webtorch_inference_protocol; webtorch_inference_protocol;",
            '"webtorch_inference_protocol" directive is duplicate',
        ),
        (
            "webtorch_inference_protocol; webtorch_handler app:f;",
            '"webtorch_handler" directive conflicts with "webtorch_inference_protocol"',
        ),
        (
            "webtorch_handler app:f; webtorch_inference_protocol;",
            '"webtorch_inference_protocol" directive conflicts with "webtorch_handler"',
        ),
        (
            "webtorch_inference_protocol on;",
            'invalid number of arguments in "webtorch_inference_protocol" directive',
        ),
    ],
)
def test_locations_that_are_refused(configured, text, message):
    status, output = configured(f"location /v2 {{ {text} }}", TINY.format(1)).check()
    assert status == 1
    assert message in output


def test_outside_of_a_location(configured):
    status, output = configured("webtorch_inference_protocol;").check()
    assert status == 1
    assert '"webtorch_inference_protocol" directive is not allowed here' in output
