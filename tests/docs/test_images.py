"""nginx-conf/images.conf: JPEG and PNG files, decoded by Pillow and computed together."""

import io
import json
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from nginx import ROOT, Nginx, running


@pytest.fixture(scope="module")
def shared_server():
    """Run the real location, at another port and in another directory."""
    text = (ROOT / "nginx-conf/images.conf").read_text()
    location = text[text.index("        location = /v1/classify") : text.rindex("    }\n}")]
    with running(Nginx(location, http=f"webtorch_path {ROOT}/examples/images;")) as server:
        yield server


@pytest.fixture
def images(server) -> Nginx:
    return server


def picture(form: str, color: tuple[int, ...] | int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (300, 200), color).save(file, form)
    return file.getvalue()


def classify(images: Nginx, body: bytes, content_type: str = "image/jpeg"):
    return images.post("/v1/classify", data=body, headers={"Content-Type": content_type})


def test_pictures(images):
    files = [
        picture("JPEG", (255, 0, 0)),
        picture("PNG", (255, 0, 0)),
        picture("PNG", (255, 0, 0, 9), "RGBA"),
        picture("JPEG", (0, 0, 255)),
    ]
    answers = [classify(images, file).json() for file in files]
    for answer in answers:
        assert answer["label"] in ("cat", "dog", "nginx")
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    red, same, with_alpha, blue = (np.array(answer["probabilities"]) for answer in answers)
    np.testing.assert_allclose(red, same, atol=0.01)
    np.testing.assert_allclose(same, with_alpha, atol=1e-6)
    assert abs(red - blue).max() > 0.001

    answer = images.request("POST", "/v1/classify", files=[("file", file) for file in files]).json()
    assert answer["label"] == [each["label"] for each in answers]
    np.testing.assert_allclose(
        answer["probabilities"], [each["probabilities"] for each in answers], atol=1e-6
    )


def test_curl_with_a_form(images, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(picture("JPEG", (255, 0, 0)))
    done = subprocess.run(
        ["curl", "-sS", "-F", f"file=@{path}", images.url("/v1/classify")],
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    expected = classify(images, path.read_bytes()).json()
    assert answer["label"] == [expected["label"]]


def bomb() -> bytes:
    """Write a PNG that claims to be of a gigapixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "body",
    [
        b"no picture",
        picture("PNG", 0)[:100],
        picture("JPEG", 0)[:200],
        picture("GIF", 0, "P"),
        bomb(),
    ],
    ids=["text", "png cut off", "jpeg cut off", "gif", "bomb"],
)
def test_invalid_pictures(images, body):
    answer = classify(images, body)
    assert answer.status_code == 422
    assert "no JPEG or PNG" in answer.json()["error"]
    assert classify(images, picture("PNG", 0)).ok
