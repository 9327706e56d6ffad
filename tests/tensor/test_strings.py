"""Strings instead of tensors: in JSON and in the inference protocol, as str and as bytes."""

import json

import numpy as np
import pytest
import tritonclient.http as triton
from jaxtyping import Float32
from torch import Tensor

import webtorch
from answers import check_error
from nginx import Nginx
from webtorch import Strings
from webtorch._schema import strings
from webtorch._schema.schema import Schema
from wire import connections, send_at_once

APP = """
import jaxtyping as j, torch, webtorch
from torch import Tensor
from webtorch import Strings

calls = []

@webtorch.infer
def upper(texts: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    calls.append(len(texts))
    return [text.upper() for text in texts]

@webtorch.infer
def lengths(texts: Strings[list[str], "batch"]) -> j.Int64[Tensor, "batch"]:
    return torch.tensor([len(text) for text in texts])

@webtorch.infer
def labels(x: j.Int64[Tensor, "batch"]) -> tuple[
    Strings[list[str], "batch"], j.Int64[Tensor, "batch"]
]:
    return ["x" * n for n in x.tolist()], x + 1

@webtorch.infer
def pairs(
    texts: Strings[list[list[str]], "batch 2"], n: j.Int64[Tensor, "batch"]
) -> Strings[list[list[list[str]]], "batch 2 1"]:
    return [[[b * k], [a * k]] for (a, b), k in zip(texts, n.tolist(), strict=True)]

@webtorch.infer
def joined(texts: Strings[list[list[str]], "batch 2"]) -> Strings[list[str], "batch"]:
    found = [row.pop() + row.pop() for row in texts]
    if "poison!" in found:
        raise RuntimeError("poison")
    return found

@webtorch.infer
def reverse(data: Strings[list[bytes], "batch"]) -> Strings[list[bytes], "batch"]:
    return [item[::-1] for item in data]

@webtorch.infer
def one(text: Strings[str, ""]) -> Strings[str, ""]:
    return text + "!"

@webtorch.infer
def words(text: Strings[list[str], "words"]) -> Strings[str, ""]:
    return " ".join(text)

@webtorch.infer
def split(texts: Strings[list[str], "batch"]) -> Strings[list[list[str]], "batch longest"]:
    if "poison" in texts:
        texts.clear()
        raise RuntimeError("poison")
    parts = [text.split() for text in texts]
    longest = max(map(len, parts))
    return [part + [""] * (longest - len(part)) for part in parts]

@webtorch.infer
def variable(
    texts: Strings[list[list[str]], "batch n"]
) -> tuple[Strings[list[list[str]], "batch n"], j.Int64[Tensor, "batch n"]]:
    return [row[::-1] for row in texts], torch.tensor([[len(t) for t in row] for row in texts])

@webtorch.infer
def wrong(x: j.Int64[Tensor, "batch"]) -> Strings[list[str], "batch"]:
    return [[1], ["a", "b"], "ab", ("a",), [b"a"], ["\\ud800"]][int(x[0])]

@webtorch.train
def train(texts: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    return texts

@webtorch.handler
def seen(request):
    answer = {"calls": list(calls)}
    calls.clear()
    return answer
"""
NAMES = (
    "upper", "lengths", "labels", "pairs", "joined", "reverse", "one", "words", "split",
    "variable", "wrong", "train",
)  # fmt: skip
SERVER = (
    "client_max_body_size 64m;\n"
    + "".join(f"location = /{name} {{ webtorch_handler app:{name}; }}\n" for name in NAMES)
    + """
location = /late/upper { webtorch_handler app:upper max_delay=200ms; }
location = /late/split { webtorch_handler app:split max_delay=200ms; }
location = /late/joined { webtorch_handler app:joined max_delay=200ms; }
location = /thread/upper { webtorch_handler app:upper mode=thread; }
location = /seen { webtorch_handler app:seen mode=inline; }
location /v2 { webtorch_inference_protocol; }
"""
)

TEXTS = ["", "a", "äöü \u4e2d\u6587 \U0001f600", '"\\/\b\f\n\r\t\0\x1f', "x" * 5000]


# --- JSON ---


@pytest.mark.parametrize("ascii_only", [False, True])
def test_json(server, ascii_only):
    body = json.dumps(TEXTS, ensure_ascii=ascii_only).encode()
    assert server.post("/upper", data=body).json() == [text.upper() for text in TEXTS]
    assert server.post("/upper", {"texts": TEXTS[:1]}).json() == {"output": [""]}
    assert server.post("/upper", "a row").json() == "A ROW"
    assert server.post("/lengths", TEXTS).json() == [len(text) for text in TEXTS]
    assert server.post("/train", TEXTS).json() == TEXTS
    assert server.post("/labels", [0, 3]).json() == {"output_0": ["", "xxx"], "output_1": [1, 4]}


def test_several_axes(server):
    body = {"texts": [["a", "b"], ["c", "dd"]], "n": [1, 2]}
    assert server.post("/pairs", body).json() == {"output": [[["b"], ["a"]], [["dddd"], ["cc"]]]}
    found = server.post("/variable", [["a", "bb", ""], ["c", "", "ddd"]]).json()
    assert found["output_0"] == [["", "bb", "a"], ["ddd", "", "c"]]
    assert found["output_1"] == [[1, 2, 0], [1, 0, 3]]
    assert server.post("/split", ["a b", "c", "d e f"]).json() == [
        ["a", "b", ""], ["c", "", ""], ["d", "e", "f"],
    ]  # fmt: skip


def test_strings_without_batch_axis(server):
    assert server.post("/one", "a").json() == "a!"
    assert server.post("/words", ["a", "b", "c"]).json() == "a b c"


def test_bytes_in_json(server):
    assert server.post("/reverse", ["abc", "ä"]).json() == ["cba", "\ufffd\ufffd"]


@pytest.mark.parametrize(
    ("path", "body", "code", "text"),
    [
        ("/upper", [1], "wrong_dtype", "expected str [batch], found int64 among its elements"),
        ("/upper", ["a", None], "wrong_dtype", "found null among its elements"),
        ("/upper", [["a"]], "wrong_shape", "expected str [batch], found a string [1, 1]"),
        ("/upper", ["a", ["b"]], "wrong_shape", "in a ragged array"),
        ("/upper", [], "wrong_shape", "found nothing [0]"),
        ("/labels", ["a"], "wrong_dtype", "expected int64 [batch], found a string"),
        ("/variable", [["a"], ["b", "c"]], "wrong_shape", "in a ragged array"),
        ("/pairs", {"texts": [["a", "b"]], "n": [1, 2]}, "wrong_shape", "differ in rows"),
    ],
)
def test_strings_mismatches(server, path, body, code, text):
    check_error(server.post(path, body), 422, code, text)


@pytest.mark.parametrize("text", [r'"\ud800"', r'"\udc00\ud800"', '"\udcff"', r'"\ud83d\ude0"'])
def test_text_that_is_not_unicode(server, text):
    body = f"[{text}]".encode("utf-8", "surrogateescape")
    check_error(server.post("/upper", data=body), 400, "malformed_body", "invalid JSON")


def test_large_body_decoded_in_a_thread(server):
    texts = [f"text {number} ä" * (number % 7) for number in range(20_000)]
    assert len(json.dumps(texts)) > 128 * 1024
    assert server.post("/upper", texts).json() == [text.upper() for text in texts]


# --- formats that cannot hold strings ---


def test_unknown_format(server):
    answer = server.post("/upper", data=b"a", headers={"Content-Type": "application/x-a"})
    check_error(answer, 415, "unsupported_media_type", "send application/json; known are")


def test_formats_without_strings(server):
    for content_type in (
        "application/x-npy", "application/x-npz", "application/vnd.safetensors",
        "application/octet-stream", "text/plain",
    ):  # fmt: skip
        answer = server.post("/upper", data=b"a", headers={"Content-Type": content_type})
        check_error(answer, 415, "unsupported_media_type", "carries no strings")
        answer = server.post("/upper", ["a"], headers={"Accept": content_type})
        check_error(answer, 406, "not_acceptable", "accept application/json")
        answer = server.post("/upper", ["a"], headers={"Accept": f"{content_type}, */*;q=0.1"})
        assert answer.json() == ["A"]

    # tensors in a binary format, strings in the only one that has them
    body = np.array([2]).tobytes()
    headers = {"Content-Type": "application/octet-stream"}
    assert server.post("/labels", data=body, headers=headers).json()["output_0"] == ["xx"]


# --- the inference protocol ---


def infer(server: Nginx, name: str, binary: bool, **inputs: np.ndarray):
    given = []
    for key, array in inputs.items():
        datatype = "BYTES" if array.dtype == object else "INT64"
        tensor = triton.InferInput(key, array.shape, datatype)
        given.append(tensor.set_data_from_numpy(array, binary_data=binary))
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        outputs = [
            triton.InferRequestedOutput(output["name"], binary)
            for output in client.get_model_metadata(name)["outputs"]
        ]
        return client.infer(name, given, outputs=outputs)


def array_of(values, encoded: bool = True):
    return np.array([v.encode() if encoded and isinstance(v, str) else v for v in values], object)


@pytest.mark.parametrize("binary", [False, True])
def test_inference_client(server, binary):
    found = infer(server, "upper", binary, texts=array_of(TEXTS)).as_numpy("output")
    expected = [text.upper() for text in TEXTS]
    assert [item if isinstance(item, str) else item.decode() for item in found] == expected

    texts = np.array([[b"a", b"b"], [b"c", b"dd"]], object)
    found = infer(server, "pairs", binary, texts=texts, n=np.array([1, 2])).as_numpy("output")
    assert found.shape == (2, 2, 1)
    assert [str(item, "utf-8") if isinstance(item, bytes) else item for item in found.ravel()] == [
        "b", "a", "dddd", "cc",
    ]  # fmt: skip

    found = infer(server, "labels", binary, x=np.array([1, 2]))
    assert found.as_numpy("output_1").tolist() == [2, 3]
    assert found.as_numpy("output_0").shape == (2,)


def test_any_bytes(server):
    data = [bytes(range(256)), b"", b"\xff\xfe\0" * 5000]
    found = infer(server, "reverse", True, data=array_of(data)).as_numpy("output")
    assert list(found) == [item[::-1] for item in data]
    # empty strings alone are bytes of lengths, too
    found = infer(server, "reverse", True, data=array_of([b""] * 5000)).as_numpy("output")
    assert list(found) == [b""] * 5000


def test_metadata(server):
    metadata = server.get("/v2/models/pairs").json()
    assert metadata["inputs"][0] == {"name": "texts", "datatype": "BYTES", "shape": [-1, 2]}
    assert metadata["outputs"][0] == {"name": "output", "datatype": "BYTES", "shape": [-1, 2, 1]}
    config = server.get("/v2/models/pairs/config").json()
    assert config["input"][0] == {"name": "texts", "data_type": "TYPE_STRING", "dims": [2]}


@pytest.mark.parametrize(
    ("data", "shape", "status", "code", "text"),
    [
        (b"\x01\0\0\0a", [2], 400, "malformed_body", "do not fit its shape"),
        (b"\x01\0\0\0a\x01\0\0\0", [2], 400, "malformed_body", "exceeds its data"),
        (b"\xff\xff\xff\xffa", [1], 400, "malformed_body", "exceeds its data"),
        (b"\x01\0\0", [1], 400, "malformed_body", "exceeds its data"),
        (b"", [0], 422, "wrong_shape", "found str [0]"),
        (b"\x01\0\0\0\xff", [1], 422, "wrong_dtype", "a string is not UTF-8"),
        (b"\x01\0\0\0a", [1, 1], 422, "wrong_shape", "expected str [batch], found str [1, 1]"),
    ],
)
def test_malformed_strings(server, data, shape, status, code, text):
    x = {"name": "texts", "datatype": "BYTES", "shape": shape}
    head = json.dumps({"inputs": [{**x, "parameters": {"binary_data_size": len(data)}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = server.post("/v2/models/upper/infer", data=head + data, headers=headers)
    check_error(answer, status, code, text)


def test_strings_where_numbers_are_expected(server):
    x = {"name": "texts", "datatype": "FP32", "shape": [1], "data": [1]}
    answer = server.post("/v2/models/upper/infer", {"inputs": [x]})
    check_error(answer, 422, "wrong_dtype", "expected str [batch], found float32 [1]")
    x = {"name": "texts", "datatype": "BYTES", "shape": [1], "data": [1]}
    answer = server.post("/v2/models/upper/infer", {"inputs": [x]})
    check_error(answer, 422, "wrong_dtype", "found int64 among its elements")


# --- batches ---


@pytest.mark.parametrize("path", ["/late/upper", "/thread/upper"])
def test_requests_share_a_call(server, path):
    server.get("/seen")
    bodies = [[f"text {n}" * n, "ä" * n] for n in range(40)]
    for body, answer in zip(bodies, send_at_once(server, path, bodies), strict=True):
        assert answer.json() == [text.upper() for text in body]
    assert max(server.get("/seen").json()["calls"]) > 2


def test_client_abort(server):
    with connections(server, 9) as wires:
        for n, wire in enumerate(wires):
            wire.post("/late/upper", [f"text {n}"] * (1 + n % 3))
        for wire in wires[::2]:
            wire.reset()
        for n, wire in list(enumerate(wires))[1::2]:
            assert wire.answer().json() == [f"TEXT {n}"] * (1 + n % 3)


def test_failing_request(server):
    """Others are served, though the handler had cleared its list, with sizes of their own."""
    answers = send_at_once(server, "/late/split", [["a b"], ["poison"], ["c"], ["d e f"]])
    assert answers[1].status == 500
    assert [answers[n].json() for n in (0, 2, 3)] == [
        [["a", "b", ""]], [["c", "", ""]], [["d", "e", "f"]],
    ]  # fmt: skip


def test_lists_that_a_failed_call_has_changed(server):
    bodies = [[[str(n), "x"]] for n in range(5)] + [[["!", "poison"]]]
    answers = send_at_once(server, "/late/joined", bodies)
    assert [answer.json() for answer in answers[:5]] == [[f"x{n}"] for n in range(5)]
    assert answers[5].status == 500


@pytest.mark.parametrize("index", range(5))
def test_invalid_output_strings(server, index):
    answer = server.post("/wrong", [index])
    assert (answer.status_code, answer.json()["code"]) == (500, "handler_failed")
    server.wait_for_log(r'TypeError: "output" is annotated as str \[batch\], it returned')


def test_surrogate(server):
    assert server.post("/wrong", [5]).json() == ["?"]


# --- annotations ---


def test_schema():
    def f(
        a: Strings[list[list[bytes]], "batch n"], x: Float32[Tensor, "batch"]
    ) -> Strings[list[str], "batch"]: ...

    schema = Schema.of(f)
    assert schema.inputs[0].dtype is bytes and schema.inputs[0].shape == ("n",)
    assert schema.outputs[0].dtype is str and schema.outputs[0].has_strings
    assert schema.inputs[0].describe(True) == "bytes [batch, n]"
    assert schema.sizes_of([[[b"a", b"b"]], None]) == {"n": 2}


@pytest.mark.parametrize("kind", [list[int], str, list[list[str]], list, Tensor])
def test_lists_that_are_not_as_deep_as_the_axes(kind):
    def f(a: Strings[kind, "batch"]) -> Float32[Tensor, "batch"]: ...

    f.__annotations__["a"] = Strings[kind, "batch"]
    with pytest.raises(webtorch.SignatureError, match='strings of "a" are not in lists as deep'):
        Schema.of(f)


def test_encode_and_decode():
    for value in ([["a", ""], ["ä", "b"]], [[b"\xff", b""], [b"b", b"c"]]):
        kind = type(value[0][0])
        assert strings.decode(*strings.encode(value, (2, 2)), kind) == value
    assert strings.full(str, (2, 0)) == [[], []]
    assert strings.decode(*strings.encode("a", ()), str) == "a"
    assert not strings.matches([["a"], "b"], str, (2, 1))
