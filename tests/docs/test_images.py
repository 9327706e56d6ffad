"""nginx-conf/images.conf: JPEG and PNG files, decoded by Pillow in a handler."""

import io
import struct
import zlib

import pytest
from PIL import Image

from nginx import ROOT, Nginx, running


@pytest.fixture(scope="module")
def shared_server():
    """Run the real location, at another port and in another directory."""
    text = (ROOT / "nginx-conf/images.conf").read_text()
    location = text[text.index("        location = /v1/classify") : text.rindex("    }\n}")]
    with running(Nginx(location, http=f"webtorch_path {ROOT}/examples;")) as server:
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
    answers = []
    for body in (
        picture("JPEG", (255, 0, 0)),
        picture("PNG", (255, 0, 0)),
        picture("PNG", (255, 0, 0, 9), "RGBA"),
        picture("JPEG", (0, 0, 255)),
    ):
        probabilities = classify(images, body).json()
        assert list(probabilities) == ["cat", "dog", "nginx"]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        answers.append(probabilities)
    red, same, with_alpha, blue = answers
    assert red["cat"] == pytest.approx(same["cat"], abs=0.01)
    assert same == with_alpha
    assert red["cat"] != pytest.approx(blue["cat"], abs=0.001)


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
        b"",
        b"no picture",
        picture("PNG", 0)[:100],
        picture("JPEG", 0)[:200],
        picture("GIF", 0, "P"),
        bomb(),
    ],
    ids=["empty", "text", "png cut off", "jpeg cut off", "gif", "bomb"],
)
def test_invalid_pictures(images, body):
    answer = classify(images, body)
    assert answer.status_code == 422
    assert "no JPEG or PNG" in answer.json()["error"]
    assert classify(images, picture("PNG", 0)).ok
