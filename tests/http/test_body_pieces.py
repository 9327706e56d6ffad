"""Bodies that come in pieces: with the headers, and by one read or several."""

import hashlib
import json
import time

import numpy as np
import pytest

from wire import connections, request

APP = """
import hashlib
import webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def same(x: Float32[Tensor, "batch 1000"]) -> Float32[Tensor, "batch 1000"]:
    return x

@webtorch.infer
def first(x: Float32[Tensor, "batch 1000"]) -> Float32[Tensor, "batch 3"]:
    return x[:, :3]

@webtorch.handler
def digest(request: webtorch.Request) -> str:
    return hashlib.sha256(request.body).hexdigest()
"""

SERVER = """
client_body_buffer_size 2m;
client_max_body_size 8m;
location = /same { webtorch_handler app:same; }
location = /first { webtorch_handler app:first; }
location = /digest { webtorch_handler app:digest; }
location = /mirrored {
    client_body_in_single_buffer on;
    mirror /mirror;
    proxy_pass http://127.0.0.1:$server_port/digest;
}
location = /mirror { internal; webtorch_handler app:same; }
location = /redirected { proxy_pass http://127.0.0.1:1; error_page 502 = /digest; }
"""

RAW = "application/octet-stream"
ROWS = (1, 7, 100, 400)
"""The last ones have more than a megabyte."""


def cut(data: bytes, header: int, how: str) -> list[bytes]:
    """Cut a request: after its header, within its body, or in many places."""
    if how == "whole":
        return [data]
    if how == "behind header":
        return [data[:header], data[header:]]
    if how == "within body":
        return [data[: header + 5], data[header + 5 :]]
    pieces = [data[: header + 300]]
    return pieces + [data[at : at + 50_001] for at in range(header + 300, len(data), 50_001)]


@pytest.mark.parametrize("how", ["whole", "behind header", "within body", "many"])
@pytest.mark.parametrize("path", ["/same", "/digest", "/redirected", "/mirrored"])
def test_body_in_pieces(server, path, how):
    for rows in ROWS:
        x = np.random.default_rng(rows).random((rows, 1000), dtype=np.float32)
        data = request(path, x.tobytes(), content_type=RAW)
        with connections(server, 1) as (wire,):
            for piece in cut(data, len(data) - x.nbytes, how):
                wire.send(piece)
                time.sleep(0.005)
            answer = wire.answer()
            # the next request finds nothing of this one
            wire.send(request("/digest", b"abc", content_type=RAW))
            assert wire.answer().body == hashlib.sha256(b"abc").hexdigest().encode()
        assert answer.status == 200
        if path == "/same":
            assert answer.body == x.tobytes()
        else:
            assert answer.body.decode() == hashlib.sha256(x.tobytes()).hexdigest()


@pytest.mark.parametrize("how", ["whole", "within body", "many"])
def test_padded_body_in_pieces(server, how):
    x = np.random.default_rng(0).random((60, 1000), dtype=np.float32).round(3)
    body = json.dumps(x.tolist()).encode()
    data = request("/same", body, content_type="application/json")
    with connections(server, 1) as (wire,):
        for piece in cut(data, len(data) - len(body), how):
            wire.send(piece)
            time.sleep(0.005)
        assert np.array_equal(np.array(wire.answer().json(), np.float32), x)


def test_outputs_that_are_small_views_of_inputs(server):
    """They are copied, so that the next batch has the same memory."""
    for number in range(50):
        x = np.full((1, 1000), number, np.float32)
        answer = server.post("/first", data=x.tobytes(), headers={"Content-Type": RAW})
        assert np.array_equal(np.frombuffer(answer.content, np.float32), [number] * 3)
