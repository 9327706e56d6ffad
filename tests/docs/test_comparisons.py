"""The services of docs/triton.md, litserve.md and torchserve.md answer as these pages say.

The services before them need other servers; they are only compiled.
"""

import io
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from nginx import Nginx, running
from pages import block, blocks, files

TRITON = dict(files("docs/triton.md"))
(LITSERVE,) = [text for name, text in files("docs/litserve.md") if name == "app.py"]
(TORCHSERVE,) = [text for name, text in files("docs/torchserve.md") if name == "app.py"]


@pytest.fixture(scope="module")
def shared_server():
    location = block("docs/torchserve.md", "nginx").replace("app:", "pictures:")
    location += block("docs/litserve.md", "nginx") + block("docs/triton.md", "nginx")
    server = Nginx(location, app=LITSERVE)
    server.write_app(TORCHSERVE, "pictures")
    server.write_app(TRITON["scores.py"], "scores")
    weights = server.prefix / "app/scores.pt"
    torch.save({"weight": torch.eye(2, 4), "bias": torch.zeros(2)}, weights)
    weights.chmod(0o644)
    with running(server):
        yield server


def test_client_of_triton(server):
    module = ModuleType("client")
    exec(TRITON["client.py"].replace("8000", str(server.port)), module.__dict__)
    np.testing.assert_array_equal(module.y, [[1, 1]])


def test_row_of_litserve(server):
    ((first, second),) = server.post("/predict", json={"x": [[1, 2, 3, 4]]}).json()["scores"]
    assert isinstance(first, float) and isinstance(second, float)


def test_picture_of_torchserve(server):
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(picture, "JPEG")
    headers = {"Content-Type": "image/jpeg"}
    answer = server.post("/predictions/pictures", data=picture.getvalue(), headers=headers)
    assert answer.ok, answer.text
    assert answer.json() in range(10)


def test_services_before():
    for page in ("triton", "litserve", "torchserve"):
        for text in blocks(f"docs/{page}.md", "python"):
            compile(text, page, "exec")
