"""Large compressed bodies are inflated in nginx's thread pool, with the same answers."""

import gzip
import hashlib
import json
import random
import threading
import zlib

import numpy as np
import pytest

from apps import LARGE_APP
from gate import affine, rows_of
from nginx import seconds_of_threads, wait_for
from wire import connections, raw_deflate, request

APP = (
    LARGE_APP
    + """
import hashlib

@webtorch.handler
def digest(request: webtorch.Request) -> str:
    return hashlib.sha256(request.body).hexdigest()
"""
)
SERVER = """
client_max_body_size 4m;
location = /f { webtorch_handler app:f; }
location = /train { webtorch_handler app:train; }
location = /digest { webtorch_handler app:digest; }
location = /unlimited { webtorch_handler app:digest; client_max_body_size 0; }
location = /buffered { webtorch_handler app:f; client_body_buffer_size 4m; }
location = /mirrored { mirror /f; webtorch_handler app:f; }
location /v2 { webtorch_inference_protocol; }
"""

COMPRESS = {"gzip": ("gzip", gzip.compress), "deflate": ("deflate", zlib.compress)} | {
    "raw deflate": ("deflate", raw_deflate)
}

# of 18 digits each, which makes more than 16 KB of compressed text
NUMBERS = random.Random(0).sample(range(10**6), 5_000)
ROWS = rows_of(*(number / 7 for number in NUMBERS))
TEXT = json.dumps(ROWS).encode()
NOISE = random.Random(1).randbytes(100_000)


def post(server, path, body, kind="gzip", **headers):
    coding, compress = COMPRESS[kind]
    compressed = compress(body)
    assert len(compressed) > 16 * 1024
    return server.post(path, data=compressed, headers={"Content-Encoding": coding, **headers})


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("path", ["/f", "/buffered"])
def test_json(server, kind, path):
    assert post(server, path, TEXT, kind).json() == affine(ROWS)


@pytest.mark.parametrize("kind", COMPRESS)
def test_raw_rows(server, kind):
    x = np.array(ROWS)
    media = {"Content-Type": "application/octet-stream"}
    answer = post(server, "/f", x.tobytes(), kind, **media)
    assert np.frombuffer(answer.content).tolist() == (2 * x + 1).flatten().tolist()


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("path", ["/digest", "/unlimited"])
def test_custom_handler(server, kind, path):
    assert post(server, path, NOISE, kind).text == hashlib.sha256(NOISE).hexdigest()


def test_inference_protocol(server):
    data = [number for (number,) in ROWS]
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(data), 1], "data": data}
    answer = post(server, "/v2/models/f/infer", json.dumps({"inputs": [tensor]}).encode())
    assert answer.json()["outputs"][0]["data"] == [2 * number + 1 for number in data]


def test_inflated_outside_the_event_loop(server):
    (pid,) = server.workers()
    noise = random.Random(2).randbytes(3 << 20)
    before = seconds_of_threads(pid)
    wait_for(
        lambda: post(server, "/digest", noise).ok and seconds_of_threads(pid) > before,
        "the threads to have worked",
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/f", gzip.compress(NOISE)[:-1], 400, "malformed_body"),
        ("/f", gzip.compress(NOISE) + b"x", 400, "malformed_body"),
        ("/f", b"x" * 20_000, 400, "malformed_body"),
        ("/f", gzip.compress(NOISE), 400, "malformed_body"),
        ("/f", gzip.compress(TEXT.replace(b"]]", b"], [1, 2]]")), 422, "wrong_shape"),
        ("/f", gzip.compress(b"") * 1000, 400, "empty_body"),
        ("/f", gzip.compress(bytes(200 << 20), 1), 413, "too_large"),
        ("/digest", gzip.compress(NOISE)[:-1], 400, "malformed_body"),
        ("/digest", gzip.compress(bytes((4 << 20) + 1), 1), 413, "too_large"),
    ],
)
def test_bad_bodies(server, path, body, status, code):
    assert len(body) > 16 * 1024
    answer = server.post(path, data=body, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert post(server, "/f", TEXT).json() == affine(ROWS)


def test_limit_is_exact(server):
    body = NOISE + bytes((4 << 20) - len(NOISE))
    assert post(server, "/digest", body).text == hashlib.sha256(body).hexdigest()
    assert post(server, "/digest", body + b"x").status_code == 413


def test_not_finite_not_trained_on(server):
    x = np.array(ROWS)
    x[-1] = np.nan
    media = {"Content-Type": "application/octet-stream"}
    assert post(server, "/train", x.tobytes(), **media).json()["code"] == "not_finite"


def test_subrequest(server):
    def count() -> int:
        (stats,) = server.get("/v2/models/f/stats").json()["model_stats"]
        return stats["inference_count"]

    before = count()
    assert post(server, "/mirrored", TEXT).json() == affine(ROWS)
    wait_for(lambda: count() > before, "the mirror's request to be served")


def test_concurrent_requests_get_their_own_answers(server):
    failures = []

    def send(seed: int) -> None:
        noise = random.Random(seed).randbytes(50_000 + seed)
        for _ in range(5):
            if post(server, "/digest", noise).text != hashlib.sha256(noise).hexdigest():
                failures.append(seed)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("path", ["/buffered", "/digest"])
def test_clients_may_leave(server, path):
    body = gzip.compress(TEXT * 8 if path == "/digest" else TEXT)
    expected = hashlib.sha256(TEXT * 8).hexdigest().encode()
    for _ in range(5):
        with connections(server, 10) as wires:
            for wire in wires:
                wire.send(request(path, body, "Content-Encoding: gzip"))
            for wire in wires[:5]:
                wire.reset()
            answer = wires[9].answer()
            assert answer.status == 200
            assert path == "/buffered" or answer.body == expected


def test_shutdown_answers_first(start):
    server = start(SERVER, APP)
    body = gzip.compress(TEXT * 16)
    expected = hashlib.sha256(TEXT * 16).hexdigest().encode()
    with connections(server, 4) as wires:
        for wire in wires:
            wire.send(request("/digest", body, "Content-Encoding: gzip"))
        wait_for(lambda: server.get("/alive").ok, "the worker to have read them")
        server.reload()
        assert [wire.answer().body for wire in wires] == [expected] * 4
