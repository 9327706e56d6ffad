"""Makes digits.safetensors and three.png from handwriting.

    .venv/bin/python examples/images/train.py

scikit-learn's digits were written by 43 people for a data set of the University of California,
Irvine (https://doi.org/10.24432/C50P49, CC BY 4.0). The network learns 1437 of them, each as a
picture that is decoded as those of clients are; the accuracy is that on the other 360, of which
three.png is one.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import reader
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, optim
from torch.nn.functional import cross_entropy

HERE = Path(__file__).parent
EPOCHS = 30
SCALE = 24
"""Pixels of a picture for each of the data."""


def handwriting() -> list[Any]:
    """Return what is learned and what is not, and the digits of both."""
    pixels, labels = load_digits(return_X_y=True)
    return train_test_split(pixels.reshape(-1, 8, 8), labels, test_size=360, random_state=0)


def picture(pixels: Any, form: str = "PNG") -> bytes:
    """Return a file of a digit in dark ink on light paper, with a margin.

    Args:
        pixels: From 0 (paper) to 16 (ink), [8, 8].
        form: PNG or JPEG.

    """
    paper = np.pad(np.uint8(240 - pixels * 13), 2, constant_values=240)
    side = paper.shape[0] * SCALE
    image = Image.fromarray(paper).resize((side, side), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def decoded(digits: Any) -> Tensor:
    """Decode a picture of each digit."""
    return torch.stack([reader.decode(picture(pixels)) for pixels in digits])


def train(digits: Any, labels: Any) -> torch.nn.Module:
    """Return a network that has learned digits."""
    torch.manual_seed(0)
    # the steps are too small for several
    torch.set_num_threads(1)
    network = reader.network()
    steps = optim.Adam(network.parameters(), lr=0.003)
    ink, right = decoded(digits), torch.as_tensor(labels)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(ink)).split(64):
            steps.zero_grad()
            cross_entropy(network(ink[rows]), right[rows]).backward()
            steps.step()
    return network.eval()


def main() -> None:
    """Write the files."""
    learned, unseen, labels, right = handwriting()
    network = train(learned, labels)
    with torch.no_grad():
        read = network(decoded(unseen)).argmax(dim=1).numpy()
    print(f"accuracy {(read == right).mean():.3f} on {len(right)} unseen digits")
    save_file(network.state_dict(), HERE / "digits.safetensors")
    number = int(np.flatnonzero(right == 3)[0])
    (HERE / "three.png").write_bytes(picture(unseen[number]))


if __name__ == "__main__":
    main()
