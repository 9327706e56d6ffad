"""nginx-conf/gpgpu.conf: kernels of Warp as tiles, a stream and a filter."""

import concurrent.futures
import io
import json

import numpy as np
import pytest
from PIL import Image

from nginx import ROOT, Nginx, running

pytest.importorskip("warp")


@pytest.fixture(scope="module")
def shared_server():
    """Run the real locations, at another port and in another directory."""
    text = (ROOT / "nginx-conf/gpgpu.conf").read_text()
    locations = text[text.index("        location = / ") : text.rindex("    }\n}")]
    with running(Nginx(locations, http=f"webtorch_path {ROOT}/examples/gpgpu;")) as server:
        yield server


def picture(answer) -> np.ndarray:
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "image/png", answer.text
    return np.array(Image.open(io.BytesIO(answer.content)))


def escapes(x: np.ndarray, y: np.ndarray, limit: int) -> np.ndarray:
    """Return which points leave the Mandelbrot set within so many steps."""
    z = c = x + 1j * y
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(limit):
            z = np.where(np.abs(z) < 16, z * z + c, z)
    return np.abs(z) >= 16


def test_gpgpu_tiles(server):
    tile = picture(server.get("/tile?limit=50"))
    assert tile.shape == (256, 256, 3)
    steps = (np.arange(256) + 0.5) * 3 / 256
    expected = escapes(*np.meshgrid(-2 + steps, 1.5 - steps), limit=50)
    # points at the border may differ by rounding
    assert ((tile.sum(axis=2) > 0) == expected).mean() > 0.995
    with concurrent.futures.ThreadPoolExecutor(6) as clients:
        paths = [f"/tile?left=-{n}&size=0.5&re=-0.8&im=0.156" for n in range(6)]
        tiles = [*clients.map(lambda path: picture(server.get(path)), paths)]
        assert len({each.tobytes() for each in tiles}) == 6
        assert all(
            np.array_equal(picture(server.get(path)), each)
            for path, each in zip(paths, tiles, strict=True)
        )
    for wrong in ("size=0", "limit=100000", "left=nan", "left=x"):
        assert server.get(f"/tile?{wrong}").status_code == 422
    assert "<canvas" in server.get("/").text


def test_gpgpu_bodies_keep_their_momentum(server):
    lines = server.get("/bodies?count=20&frames=30").text.splitlines()
    frames = np.array([json.loads(line)["positions"] for line in lines])
    assert frames.shape == (30, 20, 2)
    assert np.abs(frames[-1] - frames[0]).max() > 0.05
    # no force from outside: the centre moves along a line
    moves = np.diff(frames.mean(axis=1), axis=0)
    assert np.abs(moves - moves[0]).max() < 0.002


def test_gpgpu_edges_of_a_picture(server):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 20:50] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    edges = picture(server.post("/edges", data=file.getvalue()))
    assert edges.shape == (40, 60)
    assert edges[20, 20] == 0 and edges[10, 30] == 0
    assert edges[5, 5] == 255 and edges[20, 35] == 255
    assert server.post("/edges", data=b"no picture").status_code == 422
