"""The answer's format: by Accept, else as the request is written."""

import pytest

from apps import DOUBLE
from apps import ROWS_APP as APP  # noqa: F401 - the server fixture reads them
from apps import ROWS_SERVER as SERVER  # noqa: F401

TENSOR = DOUBLE.format("1|2|1|1", "2|1 2")
JSON = "application/json"
TORCH7 = "text/plain"
NPY = "application/x-npy"
RAW = "application/octet-stream"
SAFETENSORS = "application/vnd.safetensors"


@pytest.mark.parametrize(
    ("accept", "for_json", "for_torch7"),
    [
        (None, JSON, TORCH7),
        ("*/*", JSON, TORCH7),
        ("application/json", JSON, JSON),
        ("text/plain", TORCH7, TORCH7),
        ("Text/Plain", TORCH7, TORCH7),
        ("text/*", TORCH7, TORCH7),
        ("application/*", JSON, JSON),
        ("text/html, application/json;q=0.9, */*;q=0.8", JSON, JSON),
        ("application/json;q=0.5, text/plain;q=0.7", TORCH7, TORCH7),
        ("application/json;q=0.555, text/plain;q=0.55", JSON, JSON),
        ("*/*, application/json;q=0", NPY, TORCH7),
        ("application/*, application/json;q=0", NPY, NPY),
        ("application/octet-stream", RAW, RAW),
        ("application/npy, text/plain;q=0.9", NPY, NPY),
        ("application/x-safetensors", SAFETENSORS, SAFETENSORS),
        ("text/plain;charset=utf-8;q=0.1, application/json ; Q=0.2", JSON, JSON),
        ("application/json,text/plain", JSON, TORCH7),
        ("application/json;q=0, text/plain;q=0.0", None, None),
        ("image/png", None, None),
        ("application/jso", None, None),
        ("", JSON, TORCH7),
        (",;q=,,", None, None),
    ],
)
def test_accept_selects_format(server, accept, for_json, for_torch7):
    # requests would send an Accept of its own
    headers = {"Accept": accept}
    answers = [
        server.post("/f32", [[1, 2]], headers=headers),
        server.post(
            "/f32", data=TENSOR.replace("|", "\n"), headers=headers | {"Content-Type": TORCH7}
        ),
    ]
    for answer, expected in zip(answers, (for_json, for_torch7), strict=True):
        assert answer.status_code == (200 if expected else 406), answer.text
        assert answer.headers["Content-Type"] == (expected or JSON)
