"""If-Match, If-None-Match and the like: what nginx decides, and what is left to the handler."""

import pytest

from answers import check_error
from wire import connections, request

APP = """
import torch, webtorch
from jaxtyping import Float32
from torch import Tensor

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
steps = 0

@webtorch.train
def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    global steps
    steps += 1
    return x

@webtorch.infer
def infer(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return x

@webtorch.handler
def count(request):
    return str(steps)

@webtorch.handler
def tagged(request):
    return webtorch.Response("text", headers=[("ETag", '"a"')])

@webtorch.handler
def dated(request):
    return webtorch.Response("text", headers=[("Last-Modified", DATE)])

@webtorch.handler
def tagged_tensor(request):
    return webtorch.Response(torch.ones(1), headers=[("ETag", '"a"')])

@webtorch.handler
def fresh(request):
    headers = [("ETag", '"a"'), ("Cache-Control", "max-age=9")]
    return webtorch.Response("text", status=304, headers=headers)
"""
NAMES = ("train", "infer", "count", "tagged", "dated", "tagged_tensor", "fresh")
SERVER = (
    "".join(f"location = /{name} {{ webtorch_handler app:{name}; }}\n" for name in NAMES)
    + "location /v2 { webtorch_inference_protocol; }\n"
)

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
OLD = "Sat, 05 Nov 1994 08:49:37 GMT"
CONDITIONS = [
    {"If-Match": '"b"'},
    {"If-Unmodified-Since": OLD},
    {"If-None-Match": "*"},
    {"If-Modified-Since": DATE},
]


@pytest.mark.parametrize("headers", CONDITIONS)
def test_answers_after_work_are_final(server, headers):
    steps = int(server.get("/count", headers=headers).text)
    assert server.post("/train", [[1]], headers=headers).json() == [[1]]
    assert server.request("PUT", "/infer", json=[[1]], headers=headers).json() == [[1]]
    assert int(server.get("/count").text) == steps + 1
    for path in ("/tagged", "/dated"):
        assert server.request("PUT", path, headers=headers).text == "text"
    assert server.post("/tagged_tensor", headers=headers).json() == [1]
    assert server.get("/v2", headers=headers).ok


@pytest.mark.parametrize(
    ("path", "header", "value", "status"),
    [
        ("/tagged", "If-None-Match", '"b", "a"', 304),
        ("/tagged", "If-None-Match", "*", 304),
        ("/tagged", "If-None-Match", '"b"', 200),
        ("/tagged", "If-Match", '"b"', 412),
        ("/tagged", "If-Match", '"a"', 200),
        ("/tagged_tensor", "If-None-Match", '"a"', 304),
        ("/dated", "If-Modified-Since", DATE, 304),
        ("/dated", "If-Modified-Since", OLD, 200),
        ("/dated", "If-Unmodified-Since", OLD, 412),
    ],
)
def test_conditions_of_get(server, path, header, value, status):
    answer = server.get(path, headers={header: value})
    if status == 412:
        check_error(answer, 412, "precondition_failed")
        assert not {"ETag", "Last-Modified"} & set(answer.headers)
    else:
        assert answer.status_code == status
        assert answer.headers.get("ETag", '"a"') == '"a"'
        assert answer.headers.get("Last-Modified", DATE) == DATE


@pytest.mark.parametrize("path", ["/fresh", "/tagged"])
def test_not_modified_has_no_length_and_type(server, path):
    with connections(server, 1) as (wire,):
        for _ in range(2):
            wire.send(request(path, b"", 'If-None-Match: "a"', method="GET"))
            answer = wire.answer(head=True)
            assert answer.status == 304 and answer.headers["etag"] == '"a"'
            unexpected = {"content-length", "content-type", "transfer-encoding"}
            assert not unexpected & set(answer.headers)
