"""Errors of bodies say what is wrong and what to do; what others accept is accepted."""

import gzip
import io
import zipfile

import numpy as np
import pytest

from answers import check_error

APP = """
import torch, webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def f(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x

@webtorch.infer
def two(
    left: Float32[Tensor, "batch"], right: Float32[Tensor, "batch"]
) -> tuple[Float32[Tensor, "batch"], Float32[Tensor, "batch"]]:
    return left, right
"""

SERVER = """
location = /f { webtorch_handler app:f; }
location = /two { webtorch_handler app:two; }
location /v2 { webtorch_inference_protocol; }
"""

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"


def npy(array, header=None) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    if header is None:
        return file.getvalue()
    text = header.encode().ljust(118 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + array.tobytes()


def zipped(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


ROW = np.ones((1, 2), np.float32)


def post(server, path, data, content_type, **headers):
    return server.post(path, data=data, headers={"Content-Type": content_type, **headers})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("[[NaN, 1]]", '"NaN" at byte 3: JSON has no NaN and no infinities'),
        ("[[1, -Infinity]]", '"Infinity" at byte 7: JSON has no NaN and no infinities'),
        ("[[True, 1]]", '"True" at byte 3: this is Python, use json.dumps()'),
        ("{'x': [[1, 2]]}", '"\'" at byte 2: strings are in double quotes'),
        ("[[1, 2],]", '"]" at byte 9: there is no value after the comma'),
        ("[[1,, 2]]", '"," at byte 5: there is no value before the comma'),
        ("[[1, 2]", "it ends within an array or an object"),
        ('{"x', "it ends within a string"),
        ("[[1, 2]]x", '"x" at byte 9: the text continues after its value'),
        ("[[1, 2]] # end", '"#" at byte 10: the text continues after its value'),
        ("[[undefined, 2]]", '"undefined" at byte 3'),
        ("[[1, \0]]", "it has bytes that are not text outside its strings"),
    ],
)
def test_json_that_is_not_json(server, body, text):
    answer = post(server, "/f", body, JSON)
    check_error(answer, 400, "malformed_body", f"invalid JSON: {text}")


def test_words_within_strings_are_not_errors(server):
    answer = post(server, "/f", '{"NaN, \\"True": [[1, 2]]}', JSON)
    check_error(answer, 422, "unknown_tensor", 'no tensor is named "NaN, "True"')


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (NPY, b' {"x": [[1, 2]]}', "JSON, whose content type is application/json"),
        (NPZ, npy(ROW), ".npy, whose content type is application/x-npy"),
        (JSON, npy(ROW), ".npy, whose content type is application/x-npy"),
        (JSON, zipped("x.npy", npy(ROW)), "a zip archive: the content type of .npz is"),
        (
            JSON,
            gzip.compress(b"[[1, 2]]", mtime=0),
            'gzip, which needs the header "Content-Encoding: gzip"',
        ),
        (JSON, "[[1, 2]]".encode("utf-16"), "text in UTF-16, JSON is UTF-8"),
        (NPY, b"\x02\0\0\0\0\0\0\0{}", "safetensors, whose content type is"),
    ],
)
def test_body_of_another_format(server, content_type, body, text):
    answer = post(server, "/f", body, content_type)
    check_error(answer, 400, "malformed_body", f"; the body looks like {text}")


def test_raw_rows_that_look_like_json(server):
    answer = post(server, "/f", b"[[1, 2]]", "application/octet-stream")
    assert answer.ok
    answer = post(server, "/f", b"[[1, 2.5]]", "application/octet-stream")
    check_error(answer, 422, "wrong_shape", "; the body looks like JSON")


def test_no_hint_at_the_format_that_it_has(server):
    for content_type, body in ((JSON, b"[[1, 2"), (NPY, npy(ROW)[:20]), (NPZ, b"PK\3\4")):
        assert "looks like" not in post(server, "/f", body, content_type).text


def test_inference_protocol_with_gzip(server):
    answer = post(server, "/v2/models/f/infer", gzip.compress(b"{}"), JSON)
    assert '"Content-Encoding: gzip"' in answer.json()["error"]


def test_json_with_a_byte_order_mark(server):
    assert post(server, "/f", b"\xef\xbb\xbf[[1,2]]", JSON).json() == [[1, 2]]
    answer = post(server, "/f", b"\xef\xbb\xbf[[NaN,2]]", JSON)
    check_error(answer, 400, "malformed_body", '"NaN" at byte 6')
    check_error(post(server, "/f", b"\xef\xbb\xbf", JSON), 400, "malformed_body", "invalid JSON")


def test_npz_whose_member_has_no_suffix(server):
    assert post(server, "/f", zipped("x", npy(ROW)), NPZ, Accept=JSON).json() == {
        "output": [[1, 1]]
    }


@pytest.mark.parametrize("shape", ["(1L, 2L)", "(1L, 2L,)", "(1, 2L)"])
def test_npy_of_python_2(server, shape):
    body = npy(ROW, f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
    assert post(server, "/f", body, NPY, Accept=JSON).json() == [[1, 1]]


@pytest.mark.parametrize("shape", ["(L, 2)", "(1LL, 2)", "(1l, 2)"])
def test_npy_of_malformed_sizes(server, shape):
    body = npy(ROW, f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
    check_error(post(server, "/f", body, NPY), 400, "malformed_body", "invalid .npy: ")


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ([-1, 2], "axis 0 of its shape is -1, send the size that the data have"),
        ([1, "2"], "axis 1 of its shape is a string, expected an integer"),
        ([1.5, 2], "axis 0 of its shape is float64, expected an integer"),
        (None, 'it has no "shape" that is an array of integers'),
    ],
)
def test_sizes_of_the_inference_protocol(server, shape, text):
    body = {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": [1, 2]}]}
    answer = server.post("/v2/models/f/infer", body)
    assert answer.status_code == 400
    assert f'tensor "x": {text}' in answer.json()["error"]


def test_unknown_name_lists_the_names(server):
    answer = server.post("/two", {"lft": [1], "right": [2]})
    text = 'no tensor is named "lft", the function has "left", "right"'
    check_error(answer, 422, "unknown_tensor", text)


@pytest.mark.parametrize("accept", ["", " ", ","])
def test_empty_accept_excludes_nothing(server, accept):
    with server.connection() as s:
        s.sendall(
            f"POST /f HTTP/1.0\r\nAccept:{accept}\r\nContent-Type: {JSON}\r\n"
            "Content-Length: 7\r\n\r\n[[1,2]]".encode()
        )
        answer = s.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"[[1,2]]")


def test_unknown_types_list_the_known_ones(server):
    answer = post(server, "/f", "x=1", "application/x-www-form-urlencoded")
    check_error(answer, 415, "unsupported_media_type", "known are application/json, ")
    answer = post(server, "/two", "{}", JSON, Accept="image/png")
    check_error(answer, 406, "not_acceptable", "known are application/json, application/x-npz")
