"""Bad input: a clear error, and no effect on other requests."""

import concurrent.futures
import math

import pytest

from answers import check_error
from nginx import body_of

APP = """
import torch, webtorch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor, nn, optim

model = webtorch.Model("m", nn.Linear(2, 1), optimizer=lambda p: optim.SGD(p, lr=0.1))

@webtorch.infer
def f32(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x

@webtorch.infer
def i64(n: Int64[Tensor, "batch"]) -> Int64[Tensor, "batch"]:
    return n

@webtorch.infer
def two(a: Float32[Tensor, "batch 2"], b: Bool[Tensor, "batch"]) -> Float32[Tensor, "batch 2"]:
    return a

@webtorch.infer
def poison(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    if (x == 13).any():
        raise RuntimeError("secret detail of the server")
    if (x == 14).any():
        raise webtorch.HTTPError(409, "fourteen is not wanted")
    return x + 1

@webtorch.infer
def wrong_shape(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x[:, :1]

@webtorch.infer
def wrong_dtype(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return x.double()

@webtorch.infer
def no_tensor(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return None

@webtorch.train
def train(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    out = model(x)
    model.step((out - 1).pow(2).mean())
    return out.detach()

@webtorch.infer
def weights(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 1"]:
    return model(x)
"""

SERVER = """
location = /f32 { webtorch_handler app:f32; }
location = /i64 { webtorch_handler app:i64; }
location = /two { webtorch_handler app:two; }
location = /poison { webtorch_handler app:poison max_delay=50ms; }
location = /wrong_shape { webtorch_handler app:wrong_shape; }
location = /wrong_dtype { webtorch_handler app:wrong_dtype; }
location = /no_tensor { webtorch_handler app:no_tensor; }
location = /train { webtorch_handler app:train max_delay=50ms; }
location = /weights { webtorch_handler app:weights; }
location = /small { client_max_body_size 100; webtorch_handler app:f32; }
"""

JSON = {"Content-Type": "application/json"}
TORCH7 = {"Content-Type": "text/plain"}
EXPECTED = 'tensor "x": expected float32 [batch, 2], found '


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        ("", 400, "empty_body", "tensors are expected"),
        ("[[1, 2]", 400, "malformed_body", "invalid JSON"),
        ("[[1, 2]]x", 400, "malformed_body", "invalid JSON"),
        ("[[NaN, 1]]", 400, "malformed_body", "invalid JSON"),
        ("[[Infinity, 1]]", 400, "malformed_body", "invalid JSON"),
        ("[[1e999, 1]]", 422, "out_of_range", "the number at byte 3 is out of range"),
        ("[[01, 1]]", 400, "malformed_body", "invalid JSON"),
        ("[" * 100000, 400, "malformed_body", "invalid JSON"),
        ("[" * 5000 + "]" * 5000, 400, "malformed_body", "invalid JSON"),
        ('{"a":' * 5000 + "1" + "}" * 5000, 400, "malformed_body", "invalid JSON"),
        ("[]", 422, "wrong_shape", EXPECTED + "nothing [0]"),
        ("[[]]", 422, "wrong_shape", EXPECTED + "nothing [1, 0]"),
        ("[[1, 2, 3]]", 422, "wrong_shape", EXPECTED + "int64 [1, 3]"),
        ("[[[1, 2]]]", 422, "wrong_shape", EXPECTED + "int64 [1, 1, 2]"),
        ("1", 422, "wrong_shape", EXPECTED + "int64 []"),
        ('"x"', 422, "wrong_shape", EXPECTED + "a string []"),
        ("null", 422, "wrong_shape", EXPECTED + "null []"),
        ("[[1, 2], [3]]", 422, "wrong_shape", EXPECTED + "int64 in a ragged array"),
        ("[[1, 2], 3]", 422, "wrong_shape", EXPECTED + "int64 in a ragged array"),
        ('[[1, "2"]]', 422, "wrong_dtype", EXPECTED + "a string among its elements"),
        ("[[1, true]]", 422, "wrong_dtype", EXPECTED + "bool among its elements"),
        ("[[1, null]]", 422, "wrong_dtype", EXPECTED + "null among its elements"),
        ("[[1, 1e39]]", 422, "out_of_range", 'tensor "x": a number is out of range of float32'),
        ("{}", 422, "missing_tensor", 'tensor "x" is missing'),
        ('{"y": [[1, 2]]}', 422, "unknown_tensor", 'no tensor is named "y"'),
        ('{"x": [[1, 2]], "y": 1}', 422, "unknown_tensor", 'no tensor is named "y"'),
        ('{"x": [[1, 2]], "x": [[1, 2]]}', 400, "malformed_body", 'tensor "x" is given twice'),
        ('{"\\"\\n": 1}', 422, "unknown_tensor", 'no tensor is named ""\n"'),
        ('{"' + "ü" * 100 + '": 1}', 422, "unknown_tensor", "no tensor is named"),
    ],
)
def test_json(server, body, status, code, text):
    check_error(server.post("/f32", data=body.encode(), headers=JSON), status, code, text)
    assert server.post("/f32", [[1, 2]]).json() == [[1, 2]]


def test_json_that_is_not_utf_8(server):
    answer = server.post("/f32", data=b'{"\xff": [[1, 2]]}', headers=JSON)
    check_error(answer, 400, "malformed_body", "invalid JSON")


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ("[1, 2.5]", "wrong_dtype", "expected int64 [batch], found float64 among its elements"),
        ("[9223372036854775808]", "out_of_range", "out of range of int64"),
        ("[true]", "wrong_dtype", "expected int64 [batch], found bool among its elements"),
    ],
)
def test_json_integers(server, body, code, text):
    check_error(server.post("/i64", data=body, headers=JSON), 422, code, text)


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ("[[1, 2]]", "missing_tensor", "expected an object of 2 tensors by name, found an array"),
        ('{"a": [[1, 2]]}', "missing_tensor", 'tensor "b" is missing'),
        (
            '{"a": [[1, 2]], "b": [true, false]}',
            "wrong_shape",
            'tensors "a" and "b" differ in rows: 1 and 2',
        ),
        (
            '{"a": [[1, 2]], "b": true}',
            "wrong_shape",
            'tensor "a" has a batch axis, "b" has none: give one to all',
        ),
        (
            '{"a": [1, 2], "b": [true]}',
            "wrong_shape",
            'tensor "b" has a batch axis, "a" has none',
        ),
        ('{"a": [[1, 2]], "b": [0]}', "wrong_dtype", "expected bool [batch], found int64 among"),
    ],
)
def test_json_of_several_tensors(server, body, code, text):
    check_error(server.post("/two", data=body, headers=JSON), 422, code, text)


GOOD = "4|1|3|V 1|18|torch.DoubleTensor|1|2|1|1|4|2|3|V 1|19|torch.DoubleStorage|2|1 2|"


@pytest.mark.parametrize("length", range(1, len(GOOD) - 2))
def test_torch7_truncated_anywhere(server, length):
    answer = server.post("/f32", data=body_of(GOOD[:length]), headers=TORCH7)
    check_error(answer, 400, "malformed_body", "invalid Torch7 serialization: ")


@pytest.mark.parametrize(
    ("old", "new", "status", "text"),
    [
        ("|2|1 2|", "|3|1 2|", 400, "fewer elements than the storage's length"),
        ("|2|1 2|", "|999999999999|1 2|", 400, "fewer elements than the storage's length"),
        ("|2|1 2|", "|-1|1 2|", 400, "fewer elements than the storage's length"),
        ("|2|1 2|", "|1|1 2|", 400, "the tensor is larger than its storage"),
        ("|2|1 2|", "|2|1 2 3|", 400, "more elements than the storage's length"),
        ("|2|1 2|", "|2|1 x|", 400, "an element is not a number of its type"),
        ("|2|1 2|", "|2|1 1e999|", 400, "an element is not a number of its type"),
        ("|2|1 2|", "|2|1 1e300|", 400, "an element is not a number of its type"),
        ("|1|2|1|1|", "|1|2|5|1|", 400, "the tensor is larger than its storage"),
        ("|1|2|1|1|", "|1|2|1|2|", 400, "the tensor is larger than its storage"),
        ("|1|2|1|1|", "|1|2|1|0|", 400, "the storage's offset is out of range"),
        ("|1|2|1|1|", "|0|1|", 400, "between 1 and 8 dimensions expected"),
        ("|1|2|1|1|", "|1|-2|1|1|", 400, "a size is out of range"),
        ("|1|2|1|1|", "|1|2|-1|1|", 400, "a stride is out of range"),
        ("|18|torch.DoubleT", "|99|torch.DoubleT", 400, "a class name expected"),
        ("|18|torch.DoubleT", "|-1|torch.DoubleT", 400, "a class name expected"),
        ("torch.DoubleTensor", "torch.HappyyTensor", 400, "the class is not one of"),
        ("|19|torch.DoubleS", "|18|torch.FloatS", 400, "the storage is not of the tensor's type"),
        ("V 1", "V 9", 400, 'the version is not "V 1"'),
        ("4|1|3", "3|1|3", 400, "the object is not a tensor"),
        ("|1|2|1|1|", "|1|1|1|1|", 422, EXPECTED + "float64 [1]"),
        ("|1|2|1|1|", "|1|1000000000|0|1|", 422, EXPECTED + "float64 [1000000000]"),
        ("|1|2|1|1|", "|2|1000000000 2|0 1|1|", 422, EXPECTED + "float64 [1000000000, 2]"),
        ("18|torch.Double", "16|torch.Long", 400, "not of the tensor's type"),
    ],
)
def test_torch7(server, old, new, status, text):
    assert old in GOOD
    answer = server.post("/f32", data=body_of(GOOD.replace(old, new)), headers=TORCH7)
    check_error(answer, status, "malformed_body" if status == 400 else "wrong_shape", text)
    assert server.post_text("/f32", GOOD).ok


def test_torch7_of_another_dtype(server):
    answer = server.post("/i64", data=body_of(GOOD), headers=TORCH7)
    check_error(answer, 422, "wrong_dtype", "found float64 [2]")


def test_torch7_for_several_tensors(server):
    check_error(server.post_text("/two", GOOD), 415, "unsupported_media_type", "one tensor")


def test_content_type(server):
    answer = server.post("/f32", data=b"[[1, 2]]", headers={"Content-Type": "image/png"})
    check_error(answer, 415, "unsupported_media_type", "application/json")


def test_accept_not_acceptable(server):
    answer = server.post("/f32", [[1, 2]], headers={"Accept": "image/png"})
    check_error(answer, 406, "not_acceptable", "application/json")


def test_method(server):
    answer = server.get("/f32")
    check_error(answer, 405, "method_not_allowed", "Allow")
    assert answer.headers["Allow"] == "POST, PUT"


def test_too_large_answered_in_json(server):
    answer = server.post("/small", data=b"[" + b" " * 200, headers=JSON)
    check_error(answer, 413, "too_large", "client_max_body_size")


def test_too_large_in_chunks(server):
    answer = server.post("/small", data=iter([b"[" + b" " * 90] * 3), headers=JSON)
    check_error(answer, 413, "too_large", "client_max_body_size")


@pytest.mark.parametrize("path", ["/wrong_shape", "/wrong_dtype", "/no_tensor"])
def test_handler_result_against_its_annotation(server, path):
    check_error(server.post(path, [[1, 2]]), 500, "handler_failed", "see the error log")
    server.wait_for_log('TypeError: "output" is annotated as float32|1 output is annotated')


def test_exception_logged_but_not_sent(server):
    answer = server.post("/poison", [[13, 0]])
    check_error(answer, 500, "handler_failed", "see the error log")
    assert "secret" not in answer.text
    server.wait_for_log(r"Traceback \(most recent call last\)")
    server.wait_for_log("RuntimeError: secret detail of the server")


def test_error_meant_for_the_client(server):
    check_error(server.post("/poison", [[14, 0]]), 409, "conflict", "fourteen is not wanted")


def test_bad_request_does_not_fail_its_batch(server):
    rows = {n: [[n, n + 0.5]] for n in range(10, 26)}
    with concurrent.futures.ThreadPoolExecutor(len(rows)) as pool:
        answers = dict(
            zip(rows, pool.map(lambda r: server.post("/poison", r), rows.values()), strict=True)
        )
    assert answers.pop(13).status_code == 500
    assert answers.pop(14).status_code == 409
    for n, answer in answers.items():
        assert answer.json() == [[n + 1, n + 1.5]]


@pytest.mark.parametrize("word", ["nan", "-nan", "inf", "-inf"])
def test_infinities_are_not_trained_on(server, word):
    answer = server.post_text("/train", GOOD.replace("1 2|", f"1 {word}|"))
    check_error(answer, 422, "not_finite", 'tensor "x": NaN and infinities cannot be trained on')
    assert math.isfinite(server.post("/weights", [[1, 2]]).json()[0][0])


def test_overflowing_loss_changes_nothing(server):
    before = server.post("/weights", [[1, 2]]).json()
    check_error(server.post("/train", [[3e38, 3e38]]), 500, "handler_failed", "error log")
    server.wait_for_log("FloatingPointError: the loss of model")
    assert server.post("/weights", [[1, 2]]).json() == before


def test_infinities_are_served_where_they_hurt_nobody(server):
    answer = server.post_text("/f32", GOOD.replace("1 2|", "nan inf|"))
    assert answer.text.split()[-2:] == ["nan", "inf"]
    as_json = server.post(
        "/f32",
        data=body_of(GOOD.replace("1 2|", "nan inf|")),
        headers=TORCH7 | {"Accept": "application/json"},
    )
    assert as_json.json() == [None, None]
