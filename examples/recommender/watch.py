"""Visits nginx-conf/recommender.conf, and watches the visitors click more often.

    .venv/bin/python examples/recommender/watch.py [URL] [--plot build/recommender.svg]

200 visitors come again and again. Each of them has a taste, which the server is never sent: a genre
that is clicked with a probability of 0.6, and one of 0.3; others have 0.05.
"""

import argparse
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

from webtorch.client import Client

FILMS, GENRES, VISITORS, CLIENTS = 60, 6, 200, 8
CHANCES = (0.6, 0.3)
OTHERS = 0.05
GUESSING = (sum(CHANCES) + OTHERS * (GENRES - 2)) / GENRES
STEP = 200
"""Visits between two lines."""


def chance(visitor: int, film: int) -> float:
    """Return the probability that a visitor clicks a film."""
    taste = random.Random(visitor).sample(range(GENRES), len(CHANCES))
    genre = film % GENRES
    return CHANCES[taste.index(genre)] if genre in taste else OTHERS


def watch(url: str, visits: int) -> list[tuple[int, float]]:
    """Return the share of clicked films in each part of the visits."""
    curve = []
    choose = random.Random(1)
    with Client(url) as client, ThreadPoolExecutor(CLIENTS) as clients:

        def visit(turn: tuple[int, float]) -> int:
            visitor, seed = turn
            films = client.infer("v1/recommend", [visitor])["film"]
            dice = random.Random(seed)
            clicked = [[dice.random() < chance(visitor, int(film)) for film in films[0]]]
            client.infer("v1/learn", visitor=[visitor], film=films, clicked=clicked)
            return sum(clicked[0])

        for at in range(0, visits, STEP):
            turns = [(choose.randrange(VISITORS), choose.random()) for _ in range(STEP)]
            share = sum(clients.map(visit, turns)) / (3 * STEP)
            curve.append((at + STEP, share))
            print(f"{at + STEP:5} visits  clicked {share:5.1%}  {'#' * round(60 * share)}")
    return curve


def draw(curve: list[tuple[int, float]], path: Path) -> None:
    """Draw the share of clicks."""
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(*zip(*curve, strict=True), color="tab:green", linewidth=2, label="recommended")
    axes.axhline(GUESSING, color="gray", linestyle=":", label="random films")
    axes.axhline(CHANCES[0], color="gray", linestyle="--", label="if all tastes were known")
    axes.set(xlabel="visits", ylabel="share of shown films that are clicked", ylim=(0, 0.7))
    axes.legend(loc="center right")
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Watch a server, and draw what was seen."""
    parser = argparse.ArgumentParser(description="Watches clicks being learned.")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:3000")
    parser.add_argument("--plot", type=Path, default=Path("build/recommender.svg"))
    parser.add_argument("--visits", type=int, default=5000)
    options = parser.parse_args()
    draw(watch(options.url, options.visits), options.plot)
    print(f"written to {options.plot}")


if __name__ == "__main__":
    main()
