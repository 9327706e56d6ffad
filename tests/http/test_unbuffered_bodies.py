"""Bodies that a proxy without buffering has begun to pass on, when a handler gets the request."""

import numpy as np
import pytest

from wire import connections, request

APP = """
import webtorch
from jaxtyping import Float64
from torch import Tensor

calls: list[int] = []

@webtorch.train
def train(x: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]:
    calls.append(len(x))
    return x

@webtorch.handler
def size(request: webtorch.Request) -> str:
    calls.append(len(request.body))
    return str(len(request.body))

@webtorch.handler
def called(request: webtorch.Request) -> dict:
    return {"calls": calls}
"""

SERVER = """
proxy_request_buffering off;
location /train { proxy_pass http://127.0.0.1:1; error_page 502 = @train; }
location /size { proxy_pass http://127.0.0.1:1; error_page 502 = @size; }
location /v2/ { proxy_pass http://127.0.0.1:1; error_page 502 = @protocol; }
location @train { webtorch_handler app:train; }
location @size { webtorch_handler app:size; }
location @protocol { webtorch_inference_protocol; }
location = /called { webtorch_handler app:called; }
"""


@pytest.mark.parametrize("path", ["/train", "/size", "/v2/models/train/infer"])
def test_body_that_is_not_complete(start, path):
    server = start(SERVER, APP)
    body = np.zeros(1000).tobytes()
    whole = request(path, body, content_type="application/octet-stream")
    with connections(server, 1) as (wire,):
        wire.send(whole[: 3 * 8 - len(body)])
        answer = wire.answer()
    assert answer.status == 500
    assert answer.json()["code"] == "incomplete_body"
    server.wait_for_log("the request body has not been read to its end")
    assert server.get("/called").json() == {"calls": []}


def test_body_that_came_with_the_headers(start):
    server = start(SERVER, APP)
    with connections(server, 1) as (wire,):
        wire.send(request("/train", np.zeros(3).tobytes(), content_type="application/octet-stream"))
        assert wire.answer().status == 200
    assert server.get("/called").json() == {"calls": [3]}
