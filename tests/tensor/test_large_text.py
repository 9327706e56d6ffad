"""Large bodies of text are decoded in nginx's thread pool, with the same answers."""

import json
import threading

import numpy as np
import pytest

from apps import LARGE_APP as APP
from gate import affine, rows_of
from nginx import seconds_of_threads, wait_for
from wire import connections, request

SERVER = """
client_max_body_size 64m;
location = /f { webtorch_handler app:f; }
location = /two { webtorch_handler app:two; }
location = /train { webtorch_handler app:train; }
location = /buffered { webtorch_handler app:f; client_body_buffer_size 32m; }
location = /mirrored { mirror /f; webtorch_handler app:f; }
location /v2 { webtorch_inference_protocol; }
"""

# of about 18 bytes each, so that their text is larger than 128 KB
NUMBERS = [number / 7 for number in range(20_000)]
LARGE = json.dumps(rows_of(*NUMBERS)).encode()


def torch7(rows: int, words: str) -> str:
    """Write a column of numbers."""
    storage = f"4|2|3|V 1|19|torch.DoubleStorage|{rows}|{words}|"
    return f"4|1|3|V 1|18|torch.DoubleTensor|2|{rows} 1|1 1|1|{storage}"


@pytest.mark.parametrize("path", ["/f", "/buffered"])
def test_json(server, path):
    assert len(LARGE) > 128 * 1024
    assert server.post(path, data=LARGE).json() == affine(rows_of(*NUMBERS))


def test_several_tensors(server):
    a = [[number, -number] for number in NUMBERS]
    b = list(range(len(a)))
    answer = server.post("/two", {"a": a, "b": b}).json()
    assert answer["output_0"] == [[-x, -y] for x, y in a]
    assert answer["output_1"] == [number + 1 for number in b]


def test_large_text_torch7(server):
    x = np.linspace(0, 1, 20_000)
    words = " ".join(repr(float(number)) for number in x)
    answer = server.post_text("/f", torch7(20_000, words))
    assert [float(word) for word in answer.text.split()[-20_000:]] == list(2 * x + 1)


def test_inference_protocol(server):
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(NUMBERS), 1], "data": NUMBERS}
    answer = server.post("/v2/models/f/infer", {"inputs": [tensor], "id": "large"}).json()
    assert answer["id"] == "large"
    assert answer["outputs"][0]["data"] == [2 * number + 1 for number in NUMBERS]


def test_decoded_outside_the_event_loop(server):
    (pid,) = server.workers()
    body = json.dumps(rows_of(*range(1_000_000))).encode()
    before = seconds_of_threads(pid)
    for _ in range(5):
        answer = server.post("/f", data=body, headers={"Accept": "application/octet-stream"})
        assert answer.ok and len(answer.content) == 8_000_000
    assert seconds_of_threads(pid) > before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (LARGE[:-1], 400, "malformed_body"),
        (LARGE.replace(b"[0.0]", b"[0.0, 1]"), 422, "wrong_shape"),
        (LARGE.replace(b"[0.0]", b'["a"]'), 422, "wrong_dtype"),
        (b" " * 200_000, 400, "malformed_body"),
        (b"[" * 200_000, 400, "malformed_body"),
    ],
)
def test_large_text_bad_bodies(server, body, status, code):
    answer = server.post("/f", data=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert server.post("/f", rows_of(1)).json() == [[3]]


def test_not_finite_not_trained_on(server):
    words = " ".join(["nan"] * 50_000)
    tensor = torch7(50_000, words)
    assert server.post_text("/train", tensor).json()["code"] == "not_finite"
    assert server.post_text("/f", tensor).ok


def test_subrequest(server):
    def count() -> int:
        (stats,) = server.get("/v2/models/f/stats").json()["model_stats"]
        return stats["inference_count"]

    before = count()
    assert server.post("/mirrored", data=LARGE).json() == affine(rows_of(*NUMBERS))
    wait_for(lambda: count() > before, "the mirror's request to be served")


def test_concurrent_requests_get_their_own_answers(server):
    failures = []

    def post(number: int) -> None:
        numbers = [number + k / 10_000 for k in range(20_000)]
        for _ in range(3):
            if server.post("/f", rows_of(*numbers)).json() != affine(rows_of(*numbers)):
                failures.append(number)
            if server.post("/f", rows_of(number)).json() != affine(rows_of(number)):
                failures.append(number)

    threads = [threading.Thread(target=post, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_clients_may_leave(server):
    body = json.dumps(rows_of(*range(300_000))).encode()
    for _ in range(5):
        with connections(server, 10) as wires:
            for wire in wires:
                wire.send(request("/buffered", body))
            for wire in wires[:5]:
                wire.reset()
            assert wires[9].answer().status == 200
    assert server.post("/f", rows_of(1)).json() == [[3]]


def test_pipelined_requests(server):
    with connections(server, 1) as (wire,):
        wire.send(request("/f", LARGE) + request("/f", b"[[1]]") + request("/f", LARGE))
        assert wire.answer().json() == affine(rows_of(*NUMBERS))
        assert wire.answer().json() == [[3]]
        assert wire.answer().json() == affine(rows_of(*NUMBERS))


def test_shutdown_answers_first(start):
    server = start(SERVER, APP)
    body = json.dumps(rows_of(*range(1_000_000))).encode()
    with connections(server, 4) as wires:
        for wire in wires:
            wire.send(request("/buffered", body))
        wait_for(lambda: server.get("/alive").ok, "the worker to have read them")
        server.reload()
        for wire in wires:
            assert wire.answer().status == 200
