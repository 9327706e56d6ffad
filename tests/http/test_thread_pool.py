"""What takes the event loop more than a millisecond is left to threads of nginx's pool."""

import gzip
import io
import json
import random
import signal
import struct
import subprocess
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from gate import GATE_APP, GATE_SERVER, Gate
from nginx import BINARY, Nginx, running, wait_for
from wire import connections, request, settle

WIDTH = 100_000
RAW = "application/octet-stream"
NPZ = "application/x-npz"
SAFETENSORS = "application/vnd.safetensors"

APP = (
    GATE_APP
    + f"""
from jaxtyping import Float32
from webtorch import Strings

kept = []
state = torch.arange({WIDTH}, dtype=torch.float32)

@webtorch.infer
def first(x: Float32[Tensor, "batch 1024"]) -> Float32[Tensor, "batch"]:
    return x[:, 0]

@webtorch.infer
def wide(x: Float32[Tensor, "batch {WIDTH}"]) -> Float32[Tensor, "batch 2"]:
    calls.append([len(x)])
    gate.wait()
    return x[:, [0, -1]]

@webtorch.infer
def keep(x: Float32[Tensor, "batch {WIDTH}"]) -> Float32[Tensor, "batch"]:
    kept.append(x)
    return torch.stack([torch.stack([k.sum() for k in kept]).max()] * len(x))

@webtorch.infer
def upper(texts: Strings[list[str], "batch"]) -> Strings[list[str], "batch"]:
    return [text.upper() for text in texts]

@webtorch.infer
def much(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch {WIDTH}"]:
    return x + torch.arange({WIDTH})

@webtorch.infer
def states(x: Float32[Tensor, "1"]) -> Float32[Tensor, "{WIDTH}"]:
    return state

@webtorch.infer
def add(x: Float32[Tensor, "1"]) -> Float32[Tensor, "1"]:
    state.add_(1)
    return x

@webtorch.handler
def tensor(request): return torch.arange({WIDTH}, dtype=torch.float32)

@webtorch.handler
def length(request): return str(len(request.body))
"""
)

SERVER = GATE_SERVER + "client_max_body_size 16m;\n" + "\n".join(
    f"""
location = /{name} {{ webtorch_handler app:{name}; }}
location = /memory/{name} {{ webtorch_handler app:{name}; client_body_buffer_size 16m; }}
"""
    for name in ("first", "keep", "upper", "much", "states", "add", "tensor", "length")
) + """
location = /wide { webtorch_handler app:wide mode=thread; }
location /v2 { webtorch_inference_protocol; }
"""  # fmt: skip


def rows(count: int, width: int = 1024) -> np.ndarray:
    x = np.random.default_rng(count).random((count, width), dtype=np.float32)
    x[:, 0] = np.arange(count)
    return x


def text(x: np.ndarray) -> bytes:
    return json.dumps(x.tolist()).encode()


def npz(x: np.ndarray, compress: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, x=x)
    return file.getvalue()


def v2(name: str, shape: list[int], data: list[object], datatype: str = "FP32") -> bytes:
    tensor = {"name": name, "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def large_header(x: np.ndarray) -> bytes:
    return save({"x": x}, {str(number): "x" * 90 for number in range(2000)})


@pytest.fixture(scope="module")
def watched():
    if (
        "--with-debug"
        not in subprocess.run([BINARY.path, "-V"], capture_output=True, text=True).stderr
    ):
        pytest.skip("this nginx does not log the tasks of its pool")
    with running(Nginx(SERVER, APP, main="error_log tasks.log debug;")) as server:
        yield server


def count_tasks(server) -> int:
    """Return how many tasks the pool got."""
    return (server.prefix / "tasks.log").read_text(errors="replace").count("added to thread pool")


SMALL = rows(8)
CODED = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("path", "body", "media", "headers"),
    [
        ("/first", text(rows(8)), "application/json", {}),
        ("/first", gzip.compress(b"[" + bytes(1 << 20).replace(b"\0", b" ")), RAW, CODED),
        ("/first", gzip.compress(bytes(1 << 20)), RAW, CODED),
        ("/first", gzip.compress(random.Random(0).randbytes(8192)), RAW, CODED),
        ("/length", gzip.compress(bytes(1 << 20)), RAW, CODED),
        ("/first", npz(np.zeros((256, 1024), np.float32), compress=True), NPZ, {}),
        ("/first", npz(rows(2), compress=True), NPZ, {}),
        ("/first", npz(rows(64)), NPZ, {}),
        ("/first", large_header(SMALL), SAFETENSORS, {}),
        ("/first", rows(512).tobytes(), RAW, {}),
        ("/memory/first", rows(512).tobytes(), RAW, {}),
        ("/v2/models/first/infer", v2("x", [8, 1024], rows(8).tolist()), "application/json", {}),
    ],
)
def test_bodies_for_a_thread(watched, path, body, media, headers):
    before = count_tasks(watched)
    watched.post(path, data=body, headers={"Content-Type": media, **headers})
    assert count_tasks(watched) > before


@pytest.mark.parametrize(
    ("path", "body", "media", "headers"),
    [
        ("/first", text(rows(1)), "application/json", {}),
        ("/first", gzip.compress(bytes(64 << 10)), RAW, CODED),
        ("/first", npz(np.zeros((8, 1024), np.float32), compress=True), NPZ, {}),
        ("/first", npz(rows(8)), NPZ, {}),
        ("/first", save({"x": SMALL}), SAFETENSORS, {}),
        ("/first", rows(128).tobytes(), RAW, {}),
        ("/length", bytes(900_000), RAW, {}),
        ("/memory/length", bytes(900_000), RAW, {}),
    ],
)
def test_bodies_for_the_event_loop(watched, path, body, media, headers):
    before = count_tasks(watched)
    answer = watched.post(path, data=body, headers={"Content-Type": media, **headers})
    assert answer.ok, answer.text
    assert count_tasks(watched) == before


ONE = np.ones((1, 1), np.float32).tobytes()
EXPECTED = np.arange(WIDTH, dtype=np.float32)


def answer_of(server, path: str, accept: str = "application/json") -> np.ndarray:
    headers = {"Content-Type": RAW, "Accept": accept}
    answer = server.post(path, data=ONE, headers=headers)
    assert answer.ok, answer.text
    if accept == "application/json":
        return np.array(answer.json(), np.float32).flatten()
    if accept == NPZ:
        assert zipfile.ZipFile(io.BytesIO(answer.content)).testzip() is None
        return np.load(io.BytesIO(answer.content))["output"].flatten()
    if accept == "application/x-pytorch":
        found = torch.load(io.BytesIO(answer.content))
        return (found["output"] if isinstance(found, dict) else found).numpy().flatten()
    assert accept == SAFETENSORS
    return load(answer.content)["output"].flatten()


TEXT_AND_SUMS = ["application/json", NPZ, "application/x-pytorch"]


@pytest.mark.parametrize("accept", [*TEXT_AND_SUMS, SAFETENSORS])
@pytest.mark.parametrize("path", ["/much", "/tensor", "/states"])
def test_answers_for_a_thread(watched, path, accept):
    before = count_tasks(watched)
    assert np.array_equal(answer_of(watched, path, accept), EXPECTED + (path == "/much"))
    assert (count_tasks(watched) > before) == (accept in TEXT_AND_SUMS)


@pytest.mark.parametrize("accept", [*TEXT_AND_SUMS, SAFETENSORS])
@pytest.mark.parametrize("path", ["/much", "/tensor"])
def test_answers_encoded_in_a_thread(server, path, accept):
    assert np.array_equal(answer_of(server, path, accept), EXPECTED + (path == "/much"))


@pytest.mark.parametrize("binary", [False, True])
def test_protocol_answers_encoded_in_a_thread(server, binary):
    body = json.loads(v2("x", [1, 1], [1]))
    body["outputs"] = [{"name": "output", "parameters": {"binary_data": binary}}]
    answer = server.post("/v2/models/much/infer", json=body)
    if binary:
        json_length = int(answer.headers["Inference-Header-Content-Length"])
        found = np.frombuffer(answer.content[json_length:], np.float32)
    else:
        found = np.array(answer.json()["outputs"][0]["data"], np.float32)
    assert np.array_equal(found, EXPECTED + 1)


@pytest.mark.parametrize("size", [10, 200_000])
def test_strings(server, size):
    texts = ["ab" * size, "", "cd" * size]
    assert server.post("/upper", texts).json() == [text.upper() for text in texts]
    answer = server.post("/v2/models/upper/infer", data=v2("texts", [3], texts, "BYTES"))
    assert answer.json()["outputs"][0]["data"] == [text.upper() for text in texts]


def test_outputs_that_change_while_they_are_encoded(server):
    with connections(server, 8) as wires:
        for wire in wires:
            wire.send(request("/states", ONE, "Accept: application/json", content_type=RAW))
            wire.send(request("/add", ONE, content_type=RAW))
        for wire in wires:
            found = np.array(wire.answer().json())
            # all of it is of one moment
            assert len(np.unique(found - EXPECTED)) == 1
            wire.answer()


@pytest.mark.parametrize("media", [RAW, NPZ, SAFETENSORS, "application/json"])
@pytest.mark.parametrize("path", ["/first", "/memory/first"])
def test_many_rows_become_a_batch(server, path, media):
    x = rows(400)
    encode = {RAW: np.ndarray.tobytes, NPZ: npz, SAFETENSORS: large_header}.get(media, text)
    bodies = [encode(x), encode(x[:1]), encode(x[:300])]
    with connections(server, 9) as wires:
        for wire, body in zip(wires, 3 * bodies, strict=True):
            wire.send(request(path, body, f"Accept: {RAW}", content_type=media))
        for wire, count in zip(wires, 3 * [400, 1, 300], strict=True):
            found = np.frombuffer(wire.answer().body, np.float32)
            assert np.array_equal(found, np.arange(count))


def test_strings_become_a_batch(server):
    texts = ["x" * 100 + str(number) for number in range(20_000)]
    assert server.post("/upper", texts).json() == [text.upper() for text in texts]


def test_inputs_of_an_own_batch_may_be_kept(server):
    for number in range(1, 6):
        x = np.full((4, WIDTH), number, np.float32)
        answer = server.post("/keep", data=x.tobytes(), headers={"Content-Type": RAW})
        # memory that was freed and used again would give another sum
        assert np.frombuffer(answer.content, np.float32)[0] == number * 4 * WIDTH


def test_batches_of_wide_rows(server, gate):
    """Rows that cannot be copied to larger buffers quickly continue in another batch."""
    x = rows(40, WIDTH)
    with gate, connections(server, 41) as (first, *wires):
        first.send(request("/wide", x[:1].tobytes(), content_type=RAW))
        gate.wait_for_calls(1)
        for row, wire in zip(x, wires, strict=True):
            wire.send(request("/wide", row.tobytes(), content_type=RAW))
            settle(server)
        gate.open()
        for row, wire in zip(x, wires, strict=True):
            assert np.frombuffer(wire.answer().body, np.float32).tolist() == [row[0], row[-1]]
        assert sum(sum(gate.calls(), [])) == 41


def test_abort_among_wide_rows(server, gate):
    """A request stays in its batch if the rows after it are too many to be moved."""
    x = rows(12, WIDTH)
    parts = [slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 10), slice(10, 12)]
    for leaving in range(5):
        with gate, connections(server, 6) as (first, *wires):
            first.send(request("/wide", x[:1].tobytes(), content_type=RAW))
            gate.wait_for_calls(1)
            for part, wire in zip(parts, wires, strict=True):
                wire.send(request("/wide", x[part].tobytes(), content_type=RAW))
                settle(server)
            wires[leaving].close()
            settle(server)
            gate.open()
            for number, (part, wire) in enumerate(zip(parts, wires, strict=True)):
                if number != leaving:
                    found = np.frombuffer(wire.answer().body, np.float32).reshape(-1, 2)
                    assert np.array_equal(found, x[part][:, [0, -1]])


def test_aborts_while_a_thread_works(server):
    body = text(rows(200))
    for leave in ("close", "reset"):
        for _ in range(10):
            with connections(server, 4) as wires:
                for wire in wires[:2]:
                    wire.send(request("/first", body))
                for wire in wires[2:]:
                    wire.send(request("/much", b"[[1]]"))
                settle(server)
                for wire in wires:
                    getattr(wire, leave)()
    assert np.array_equal(answer_of(server, "/much"), EXPECTED + 1)


def test_graceful_quit_while_a_thread_works(start):
    server = start(SERVER, APP)
    gate = Gate(server)
    gate.shut()
    x = rows(4, WIDTH)
    with connections(server, 2) as (first, opener):
        first.send(request("/wide", x.tobytes(), "Accept: application/json", content_type=RAW))
        gate.wait_for_calls(1)
        opener.send(request("/gate?open", method="GET")[:-2])
        settle(server)
        server.process.send_signal(signal.SIGQUIT)
        opener.send(b"\r\n")
        assert np.allclose(first.answer().json(), x[:, [0, -1]])
    assert wait_for(lambda: server.process.poll() is not None, "nginx to quit")


def test_lengths_that_lie(server):
    """A claimed length is not what decides how much is inflated in the event loop."""
    body = bytearray(npz(np.zeros((256, 1024), np.float32), compress=True))
    entry = body.rindex(b"PK\x01\x02")
    struct.pack_into("<I", body, entry + 24, 100)
    answer = server.post("/first", data=bytes(body), headers={"Content-Type": NPZ})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")
