"""Sends pictures to nginx-conf/images.conf, and draws them with what was read.

    .venv/bin/python examples/images/watch.py [FILE ...] [--url URL] [--plot build/images.svg]

Without a FILE it sends three.png, which somebody has written by hand.
"""

import argparse
import io
import mimetypes
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import requests
from matplotlib import pyplot
from PIL import Image

PICTURE = Path(__file__).parent / "three.png"


def read(url: str, files: list[Path]) -> list[tuple[bytes, int, list[float]]]:
    """Return each picture with the digit that was read and the probabilities of all ten."""
    contents = [file.read_bytes() for file in files]
    form = [
        ("file", (file.name, content, mimetypes.guess_type(file.name)[0]))
        for file, content in zip(files, contents, strict=True)
    ]
    answer = requests.post(f"{url}/v1/classify", files=form, timeout=60)
    answer.raise_for_status()
    found = answer.json()
    return [*zip(contents, found["label"], found["probabilities"], strict=True)]


def draw(found: list[tuple[bytes, int, list[float]]], path: Path) -> None:
    """Draw each picture, and the probabilities beside it."""
    figure, rows = pyplot.subplots(
        len(found), 2, figsize=(7, 2.6 * len(found)), layout="constrained", squeeze=False
    )
    axes: Any
    for axes, (content, label, probabilities) in zip(rows, found, strict=True):
        axes[0].imshow(Image.open(io.BytesIO(content)).convert("L"), cmap="gray", vmin=0, vmax=255)
        axes[0].axis("off")
        colors = ["tab:green" if digit == label else "lightgray" for digit in range(10)]
        axes[1].bar(range(10), probabilities, color=colors)
        axes[1].set(xticks=range(10), ylim=(0, 1), xlabel="digit", ylabel="probability")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Send pictures and draw what was read."""
    parser = argparse.ArgumentParser(description="Sends pictures of digits.")
    parser.add_argument("files", nargs="*", type=Path, default=[PICTURE])
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--plot", type=Path, default=Path("build/images.svg"))
    options = parser.parse_args()
    found = read(options.url, options.files)
    for file, (_, label, probabilities) in zip(options.files, found, strict=True):
        print(f"{file.name}: {label}, probability {probabilities[label]:.2f}")
    draw(found, options.plot)
    print(f"written to {options.plot}")


if __name__ == "__main__":
    main()
