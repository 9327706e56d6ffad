"""nginx-conf/images.conf: JPEG and PNG files, decoded by Pillow and computed together."""

import io
import json
import re
import runpy
import struct
import subprocess
import sys
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageDraw

from nginx import ROOT, Nginx, running

FOLDER = ROOT / "examples/images"
THREE = FOLDER / "three.png"


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


def picture(form: str, size: tuple[int, int] = (300, 200), mode: str = "L") -> bytes:
    """Draw a one, dark on light."""
    image = Image.new(mode, size, 0 if mode == "RGBA" else 230)
    draw = ImageDraw.Draw(image)
    x, y = size[0] // 2, size[1] // 8
    ink = (0, 0, 0, 255) if mode == "RGBA" else 20
    draw.line([(x, y), (x, size[1] - y)], fill=ink, width=size[1] // 8)
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def classify(images: Nginx, body: bytes, content_type: str = "image/jpeg"):
    return images.post("/v1/classify", data=body, headers={"Content-Type": content_type})


def test_pictures(images):
    files = [
        THREE.read_bytes(),
        picture("PNG"),
        picture("JPEG", (3000, 4000)),
        picture("PNG", mode="RGBA"),
    ]
    answers = [classify(images, file).json() for file in files]
    for answer in answers:
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answers[0]["label"] == 3 and answers[0]["probabilities"][3] > 0.9
    # what is transparent is paper
    _, png, _, transparent = (np.array(answer["probabilities"]) for answer in answers)
    np.testing.assert_allclose(png, transparent, atol=0.01)
    assert {answer["label"] for answer in answers[1:]} == {1}

    answer = images.request("POST", "/v1/classify", files=[("file", file) for file in files]).json()
    assert answer["label"] == [each["label"] for each in answers]
    np.testing.assert_allclose(
        answer["probabilities"], [each["probabilities"] for each in answers], atol=1e-5
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_accuracy_on_unseen_digits(images, monkeypatch, form):
    monkeypatch.syspath_prepend(FOLDER)
    program = runpy.run_path(str(FOLDER / "train.py"))
    _, unseen, _, right = program["handwriting"]()
    read = []
    for rows in np.split(np.arange(len(right)), 4):
        files = [("file", program["picture"](unseen[row], form)) for row in rows]
        read += images.request("POST", "/v1/classify", files=files).json()["label"]
    # the README says 98 %
    assert (np.array(read) == right).mean() > 0.975
    three = program["picture"](unseen[np.flatnonzero(right == 3)[0]])
    with Image.open(THREE) as ours, Image.open(io.BytesIO(three)) as theirs:
        np.testing.assert_allclose(np.int64(ours), np.int64(theirs), atol=2)


def test_images_watch_script(images, tmp_path):
    plot = tmp_path / "images.svg"
    (tmp_path / "one.png").write_bytes(picture("PNG"))
    command = [sys.executable, FOLDER / "watch.py", "--url", images.url(""), "--plot", plot]
    done = subprocess.run(
        [*command, THREE, tmp_path / "one.png"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"three\.png: 3, probability (0\.9\d|1\.00)", lines[0])
    assert lines[1].startswith("one.png: 1, ")
    # the pictures are in it
    assert len(ElementTree.parse(plot).getroot().findall(".//{*}image")) == 2


def test_curl_with_a_form(images):
    done = subprocess.run(
        ["curl", "-sS", "-F", f"file=@{THREE}", images.url("/v1/classify")],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["label"] == [3]


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
        picture("PNG")[:100],
        picture("JPEG")[:200],
        picture("GIF"),
        bomb(),
    ],
    ids=["text", "png cut off", "jpeg cut off", "gif", "bomb"],
)
def test_invalid_pictures(images, body):
    answer = classify(images, body)
    assert answer.status_code == 422
    assert "no JPEG or PNG" in answer.json()["error"]
    assert classify(images, picture("PNG")).ok


def test_blank_picture(images):
    file = io.BytesIO()
    Image.new("RGB", (300, 200), (200, 30, 30)).save(file, "PNG")
    answer = classify(images, file.getvalue())
    assert answer.status_code == 422
    assert "blank" in answer.json()["error"]
