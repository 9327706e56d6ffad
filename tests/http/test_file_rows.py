"""Files as rows of a batch: the body, or each file of a form; and JSON sent as text/plain."""

import gzip
import json

import pytest
import requests

from answers import check_error
from nginx import Nginx

APP = """
import torch, webtorch
from jaxtyping import Float32, Int64
from torch import Tensor
from webtorch import Missing, Strings

@webtorch.infer
def sizes(files: Strings[list[bytes], "batch"]) -> Int64[Tensor, "batch 2"]:
    if b"poison" in files:
        raise webtorch.HTTPError(422, "no such file")
    return torch.tensor([[len(file), sum(file)] for file in files])

@webtorch.infer
def present(files: Missing[Strings[list[bytes], "batch"]]) -> Int64[Tensor, "batch"]:
    return torch.tensor([-1 if m else len(f) for f, m in zip(files.values, files.mask)])

@webtorch.infer
def reverse(files: Strings[list[bytes], "batch"]) -> Strings[list[bytes], "batch"]:
    return [file[::-1] for file in files]

@webtorch.infer
def upper(texts: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    return [text.upper() for text in texts]

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x
"""

SERVER = """
client_max_body_size 64m;
location = /sizes { webtorch_handler app:sizes; }
location = /present { webtorch_handler app:present; }
location = /reverse { webtorch_handler app:reverse; }
location = /upper { webtorch_handler app:upper; }
location = /double { webtorch_handler app:double; }
location = /unbuffered { client_body_in_file_only clean; webtorch_handler app:sizes; }
"""


def form(server: Nginx, path: str, files, data=None) -> requests.Response:
    return server.request("POST", path, files=files, data=data)


def post(server: Nginx, path: str, body: bytes, content_type: str, **headers: str):
    return server.post(path, data=body, headers={"Content-Type": content_type, **headers})


def row(file: bytes) -> list[int]:
    return [len(file), sum(file)]


@pytest.mark.parametrize(
    "content_type",
    ["image/jpeg", "Audio/Wav", "video/mp4; codecs=x", "application/octet-stream", "image/x;y"],
)
def test_body_is_a_row(server, content_type):
    answer = post(server, "/sizes", b"\xff\0\r\n", content_type)
    assert (answer.json(), answer.headers["Content-Type"]) == (
        row(b"\xff\0\r\n"),
        "application/json",
    )


def test_files_of_a_form_are_rows(server):
    files = [
        ("first", ("a.jpg", b"\xff\xd8\r\n--", "image/jpeg")),
        ("second", ("b", b"", "application/octet-stream")),
        ("second", ("ä.txt", b"text")),
    ]
    answer = form(server, "/sizes", files, data={"comment": "not a file"})
    assert answer.json() == [row(b"\xff\xd8\r\n--"), [0, 0], row(b"text")]
    answer = form(server, "/sizes", files[:1])
    assert answer.json() == [row(b"\xff\xd8\r\n--")]


def test_files_are_not_missing_after_elements_that_are(server):
    for _ in range(5):
        assert server.post("/present", [None] * 3).json() == [-1] * 3
        files = [("file", (f"{k}.jpg", b"x" * k)) for k in range(3)]
        assert form(server, "/present", files).json() == [0, 1, 2]
        assert server.post("/present", [None] * 3).json() == [-1] * 3
        assert post(server, "/present", b"abc", "image/jpeg").json() == 3


def test_strings_as_answers(server):
    assert form(server, "/reverse", {"file": b"abc"}).json() == ["cba"]
    assert post(server, "/reverse", b"abc", "image/png").json() == "cba"


def test_json_still_works(server):
    assert server.post("/sizes", ["ab", ""]).json() == [row(b"ab"), [0, 0]]
    assert post(server, "/sizes", b'["ab"]', "text/plain").json() == [row(b"ab")]


def test_accept_sets_the_format_of_the_answer(server):
    answer = post(server, "/sizes", b"abc", "image/png", Accept="application/octet-stream")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.content == b"".join(n.to_bytes(8, "little") for n in row(b"abc"))


def test_inputs_without_a_chosen_file_are_left_out(server):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\n\r\n'
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n1\r\n--x--\r\n'
    )
    assert post(server, "/sizes", body, "multipart/form-data; boundary=x").json() == [row(b"1")]


@pytest.mark.parametrize("path", ["/sizes", "/unbuffered"])
def test_large_files(server, path):
    files = [bytes([n]) * 3_000_000 for n in range(1, 5)]
    answer = form(server, path, [("file", (str(n), file)) for n, file in enumerate(files)])
    assert answer.json() == [row(file) for file in files]
    assert post(server, path, files[1], "image/png").json() == row(files[1])


def test_compressed_form(server):
    request = requests.Request("POST", server.url("/sizes"), files={"a": b"x" * 300_000}).prepare()
    answer = post(
        server,
        "/sizes",
        gzip.compress(request.body),
        request.headers["Content-Type"],
        **{"Content-Encoding": "gzip"},
    )
    assert answer.json() == [row(b"x" * 300_000)]


def test_form_without_a_file(server):
    answer = form(server, "/sizes", {"a": (None, "1"), "b": (None, "2")})
    check_error(answer, 422, "missing_file", "the form has no file, but 2 fields")


def test_form_with_many_parts(server):
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n1\r\n'
    answer = post(server, "/sizes", part * 1000 + b"--x--", "multipart/form-data; boundary=x")
    assert answer.json() == [row(b"1")] * 1000
    answer = post(server, "/sizes", part * 10_000 + b"--x--", "multipart/form-data; boundary=x")
    check_error(answer, 413, "too_many_parts", "more than 1000 parts")


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("multipart/form-data", b"--x--", "needs a boundary"),
        ("multipart/form-data; boundary=y", b"--x--", "does not have the boundary"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="'
            + b"a" * 2**20
            + b'"\r\n\r\n1\r\n--x--',
            "part 1 of the form: its header lines have more than 8192 bytes",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="\xe4"; filename="b"\r\n\r\n1',
            'part 1 of the form, "?": no boundary follows',
        ),
    ],
    ids=["no_boundary", "other_boundary", "long_name", "cut"],
)
def test_malformed_form(server, content_type, body, text):
    check_error(post(server, "/sizes", body, content_type), 400, "malformed_body", text)
    assert server.post("/double", [[1, 2]]).json() == [[2, 4]]


def test_empty_body(server):
    check_error(post(server, "/sizes", b"", "image/png"), 400, "empty_body")
    check_error(post(server, "/sizes", b"", "multipart/form-data; boundary=x"), 400, "empty_body")


def test_error_of_one_file_is_that_of_its_request(server):
    answer = form(server, "/sizes", [("file", b"good"), ("file", b"poison")])
    check_error(answer, 422, "unprocessable_content", "no such file")


def test_other_types_name_those_that_are_known(server):
    answer = post(server, "/sizes", b"a=1", "application/x-www-form-urlencoded")
    check_error(
        answer,
        415,
        "unsupported_media_type",
        "application/json",
        "as curl -F file=@name does",
        "multipart/form-data, image/*, audio/*, video/*, application/octet-stream",
    )
    answer = post(server, "/sizes", b"", "application/x-npy")
    check_error(answer, 415, "unsupported_media_type", "carries no strings", "multipart/form-data")


@pytest.mark.parametrize("path", ["/upper", "/double"])
def test_other_functions_take_no_files(server, path):
    check_error(post(server, path, b"abc", "image/png"), 415, "unsupported_media_type")
    check_error(form(server, path, {"file": b"abc"}), 415, "unsupported_media_type")


# --- text/plain ---


@pytest.mark.parametrize("body", ["[[1, 2]]", ' \r\n{"x": [[1, 2]]}', "\ufeff[[1,2]]"])
def test_json_as_text(server, body):
    answer = post(server, "/double", body.encode(), "text/plain;charset=UTF-8")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() in ([[2, 4]], {"output": [[2, 4]]})


def test_strings_in_json_as_text(server):
    assert post(server, "/upper", b'["a"]', "text/plain").json() == ["A"]
    check_error(
        post(server, "/upper", b"4\n1\n", "text/plain"), 415, "unsupported_media_type", "JSON or"
    )


def test_json_as_text_and_accept(server):
    answer = post(server, "/double", b"[[1, 2]]", "text/plain", Accept="text/plain")
    assert answer.text.startswith("4\n1\n3\nV 1\n")
    for accept in ("*/*", "text/*;q=0.5, application/json;q=0.5"):
        answer = post(server, "/double", b"[[1, 2]]", "text/plain", Accept=accept)
        assert answer.headers["Content-Type"] == "application/json"


def test_long_json_as_text(server):
    rows = [[n, n + 0.5] for n in range(100_000)]
    body = json.dumps(rows).encode()
    answer = post(server, "/double", body, "text/plain")
    assert answer.json() == [[2 * a, 2 * b] for a, b in rows]
    answer = post(
        server, "/double", gzip.compress(body), "text/plain", **{"Content-Encoding": "gzip"}
    )
    assert answer.json()[-1] == [2 * rows[-1][0], 2 * rows[-1][1]]


def test_malformed_json_as_text(server):
    check_error(
        post(server, "/double", b"[[1, 2]", "text/plain"), 400, "malformed_body", "invalid JSON"
    )
    answer = post(server, "/double", b"9\n", "text/plain")
    check_error(answer, 400, "malformed_body", "invalid Torch7 serialization")


def test_torch7_is_still_text(server):
    answer = server.post_text(
        "/double",
        "4|1|3|V 1|18|torch.DoubleTensor|2|1 2|2 1|1|4|2|3|V 1|19|torch.DoubleStorage|2|0.25 0.75|",
    )
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.text.endswith("0.5 1.5\n")
