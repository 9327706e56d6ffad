"""Sends handwritten digits to nginx-conf/digits.conf, and watches the accuracy rise.

    .venv/bin/python examples/digits/watch.py [URL] [--plot build/digits.svg] [--epochs 3]

Eight clients send 1437 of scikit-learn's digits, each image with its label in a request of its own,
as people would who correct a form. Between them the other 360 are read, which are never learned.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from webtorch.client import Client

CLIENTS = 8
STEP = 120
"""Requests between two measurements."""


def watch(url: str, epochs: int) -> tuple[list[tuple[int, float]], Any]:
    """Return the accuracy after each number of requests, and the images with what was read."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.float32)
    known, unseen, answers, right = train_test_split(images, labels, test_size=360, random_state=0)
    order = np.random.default_rng(0)
    curve: list[tuple[int, float]] = []

    with Client(url) as client, ThreadPoolExecutor(CLIENTS) as clients:

        def learn(number: int) -> None:
            one = slice(number, number + 1)
            client.infer("v1/learn", image=known[one], label=answers[one])

        def measure(sent: int) -> Any:
            read = client.infer("v1/read", unseen)
            accuracy = float((read["label"] == right).mean())
            curve.append((sent, accuracy))
            print(f"{sent:5} requests  accuracy {accuracy:5.1%}  {'#' * round(40 * accuracy)}")
            return read

        read = measure(0)
        for epoch in range(epochs):
            numbers = order.permutation(len(known))
            for at in range(0, len(numbers), STEP):
                part = numbers[at : at + STEP].tolist()
                # the results are read so that an error of a request is raised here
                list(clients.map(learn, part))
                read = measure(epoch * len(known) + at + len(part))
    return curve, (unseen, right, read)


def draw(curve: list[tuple[int, float]], seen: Any, path: Path) -> None:
    """Draw the accuracy, and the images that were read last; wrong ones are red."""
    unseen, right, read = seen
    figure = pyplot.figure(figsize=(9, 4.2), layout="constrained")
    left, images = figure.subfigures(1, 2, width_ratios=(5, 4))
    axes = left.subplots()
    axes.plot(*zip(*curve, strict=True), color="tab:green", linewidth=2)
    axes.axhline(0.1, color="gray", linestyle=":", label="guessing")
    axes.set(xlabel="requests that were learned", ylabel="accuracy on unseen digits", ylim=(0, 1))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    # wrong ones come first
    order = np.argsort(read["label"] == right, kind="stable")
    for cell, number in zip(images.subplots(5, 6).flat, order, strict=False):
        cell.imshow(unseen[number], cmap="gray_r")
        wrong = read["label"][number] != right[number]
        text = f"{read['label'][number]}, not {right[number]}" if wrong else str(right[number])
        cell.set_title(text, fontsize=8, color="tab:red" if wrong else "black")
        cell.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Watch a server, and draw what was seen."""
    parser = argparse.ArgumentParser(description="Watches the digits being learned.")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:3000")
    parser.add_argument("--plot", type=Path, default=Path("build/digits.svg"))
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    draw(*watch(options.url, options.epochs), options.plot)
    print(f"written to {options.plot}")


if __name__ == "__main__":
    main()
