"""Measures tensors in their formats against nginx without them; see bench/README.md.

Usage: .venv/bin/python bench/tensors.py [--only NAME] [--repeat 3] [--seconds 5] [--json PATH]
"""

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from server import Server
from table import Measure, Row, Settings, at_least, compare, compare_to_loop, main

LOCATIONS = """
# nginx alone, reading the body, as a mirror wants it; there is no such file
location = /read {
    client_body_buffer_size 1m;
    mirror /read/mirror;
    error_page 404 =200 /ok;
}
location = /read/mirror { return 204; }
# a third of the connections in a batch: one is computed while others are received and answered
location = /classify { webtorch_handler tensor_app:classify mode=thread max_batch=20; }
location = /beginning {
    client_body_buffer_size 1m;
    webtorch_handler tensor_app:beginning;
}
location = /recognize {
    client_body_buffer_size 1m;
    webtorch_handler tensor_app:recognize;
}
location = /output { webtorch_handler xor_app:output; }
location /v2 { webtorch_inference_protocol; }
"""

RAW = "application/octet-stream"
NPY = "application/x-npy"
JSON = "application/json"
IMAGE = (1, 3, 224, 224)


def array(*shape: int) -> np.ndarray:
    """Make numbers as a client would have them: of pictures, or of sensors."""
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x, allow_pickle=False)
    return file.getvalue()


def json_rows(x: np.ndarray) -> bytes:
    """Write float32 as shortly as they can be, as the server does."""
    return ("[" + ",".join(f"[{','.join(str(v) for v in row)}]" for row in x) + "]").encode()


def v2_json(x: np.ndarray) -> bytes:
    data = json_rows(x).decode()
    tensor = f'{{"name":"x","shape":{json.dumps(x.shape)},"datatype":"FP32","data":{data}}}'
    return f'{{"inputs":[{tensor}]}}'.encode()


def v2_binary(x: np.ndarray) -> tuple[bytes, int]:
    """Write a request as tritonclient does; return it and the length of its JSON."""
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32"}
    request = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": x.nbytes}}],
        "parameters": {"binary_data_output": True},
    }
    header = json.dumps(request, separators=(",", ":")).encode()
    return header + x.tobytes(), len(header)


@contextmanager
def script(body: bytes, **headers: str) -> Iterator[str]:
    """Write a script of wrk that posts a body."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        lines = [
            'wrk.method = "POST"',
            f'wrk.body = io.open("{file.name}", "rb"):read("*a")',
            *(f'wrk.headers["{k.replace("_", "-")}"] = "{v}"' for k, v in headers.items()),
        ]
        yield "\n".join(lines) + "\n"


def row(
    name: str,
    target: float,
    path: str,
    body: bytes,
    reference: str = "/ok",
    connections: int = 64,
    **headers: str,
) -> Measure:
    """Make the measurement of a ratio to a reference that gets the same requests."""

    def measure(settings: Settings) -> Row:
        with Server(LOCATIONS, "/output") as server, script(body, **headers) as text:
            load = {"script": text, "connections": connections}
            return at_least(name, target, compare(server, path, settings, reference, **load))

    return measure


def recognition(settings: Settings) -> Row:
    """A network of 50 ms a picture, against the same in a bare loop on one core."""
    longer = replace(settings, seconds=max(settings.seconds, 10))
    name = "like ResNet18, 602 KB raw, 8 connections, ratio to a bare loop"
    with (
        Server(LOCATIONS, "/output") as server,
        script(array(*IMAGE).tobytes(), Content_Type=RAW) as text,
    ):
        load = {"script": text, "connections": 8}
        ratios = compare_to_loop(server, "/recognize", "bare_resnet.py", longer, **load)
    return at_least(name, 0.97, ratios)


MLP = array(1, 784)
XOR = array(1, 2)
XOR_BINARY, XOR_HEADER = v2_binary(XOR)
MLP_BINARY, MLP_HEADER = v2_binary(MLP)

ROWS: dict[str, Measure] = {
    "mlp-raw": row("MLP, raw float32", 0.40, "/classify", MLP.tobytes(), Content_Type=RAW),
    "mlp-npy": row("MLP, npy", 0.40, "/classify", npy(MLP), Content_Type=NPY),
    "mlp-json": row("MLP, JSON", 0.22, "/classify", json_rows(MLP), Content_Type=JSON),
    "mlp-v2": row(
        "MLP, V2 JSON", 0.22, "/v2/models/classify/infer", v2_json(MLP), Content_Type=JSON
    ),
    "xor-v2": row("XOR, V2 JSON", 0.60, "/v2/models/output/infer", v2_json(XOR), Content_Type=JSON),
    "xor-v2-binary": row(
        "XOR, V2 binary",
        0.60,
        "/v2/models/output/infer",
        XOR_BINARY,
        Inference_Header_Content_Length=str(XOR_HEADER),
    ),
    "identity": row(
        "602 KB raw, answer of 4 KB, 8 connections, ratio to reading it",
        0.60,
        "/beginning",
        array(*IMAGE).tobytes(),
        reference="/read",
        connections=8,
        Content_Type=RAW,
    ),
    "resnet": recognition,
}


if __name__ == "__main__":
    main(__doc__, "tensors", ROWS)
