"""Tables of what is denied, at thresholds at which parts of the normal requests are."""

import numpy as np
from numpy.typing import NDArray

SHARES = (0.001, 0.005, 0.01)


def thresholds_of(normal: NDArray[np.float32]) -> list[float]:
    """Return the logits at which `SHARES` of the normal requests are denied."""
    ordered = np.sort(normal)[::-1]
    return [float(ordered[int(share * len(ordered))]) for share in SHARES]


def show(name: str, scores: NDArray[np.float32], thresholds: list[float]) -> None:
    """Print the row of a table."""
    rates = " | ".join(f"{100 * np.mean(scores > each):.2f}" for each in thresholds)
    print(f"| {name} | {len(scores)} | {rates} |", flush=True)
