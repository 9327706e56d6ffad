"""Asks nginx-conf/embeddings.conf, and draws how similar sentences are.

.venv/bin/python examples/embeddings/watch.py [URL] [--plot build/embeddings.svg]
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import requests
from matplotlib import pyplot

QUESTIONS = [
    "How do I keep my model when the server restarts?",
    "Who is allowed to call this from a web page?",
    "The graphics card is slow",
    "Stop hackers from breaking into my site",
]

SENTENCES = [
    "A cat sleeps on the sofa.",
    "The kitten is napping on the couch.",
    "Dogs love to run in the park.",
    "The server answers requests quickly.",
    "nginx has a low latency.",
    "Our web site is very fast.",
    "I would like a cup of coffee.",
    "Could you bring me an espresso?",
]


def draw(similarity: Any, path: Path) -> None:
    """Draw the similarities of all pairs."""
    figure, axes = pyplot.subplots(figsize=(8, 4.6), layout="constrained")
    image = axes.imshow(similarity, vmin=0, vmax=1, cmap="Greens")
    for (row, column), value in np.ndenumerate(similarity):
        color = "white" if value > 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=8)
    axes.set_yticks(range(len(SENTENCES)), SENTENCES)
    axes.set_xticks([])
    figure.colorbar(image, label="similarity")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Ask the questions, and compare the sentences."""
    parser = argparse.ArgumentParser(description="Asks the model of sentences.")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:3000")
    parser.add_argument("--plot", type=Path, default=Path("build/embeddings.svg"))
    options = parser.parse_args()

    for question in QUESTIONS:
        answer = requests.get(f"{options.url}/search", {"q": question}, timeout=60)
        answer.raise_for_status()
        print(question)
        for found in answer.json():
            print(f"    {found['score']:.3f}  {found['section']}")

    answer = requests.post(f"{options.url}/v1/embed", json=SENTENCES, timeout=60)
    answer.raise_for_status()
    vectors = np.array(answer.json())
    draw(vectors @ vectors.T, options.plot)
    print(f"written to {options.plot}")


if __name__ == "__main__":
    main()
