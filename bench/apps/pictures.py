"""A small classifier of JPEG files."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIZE = 32

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(8, 16, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(4),
    nn.Flatten(),
    nn.Linear(16 * 4 * 4, 3),
).eval()


def decode(file: bytes) -> np.ndarray:
    """Decode a file to uint8 pixels, [SIZE, SIZE, 3]."""
    with Image.open(io.BytesIO(file), formats=["JPEG"]) as image:
        image.draft("RGB", (SIZE, SIZE))
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def classify(files: Sequence[bytes]) -> Tensor:
    """Return the logits of each file, [files, 3]."""
    pixels = torch.from_numpy(np.stack([decode(file) for file in files]))
    with torch.no_grad():
        return network(pixels.permute(0, 3, 1, 2).float() / 255)


def jpeg(size: int = 96) -> bytes:
    """Return a file with some structure, as a photograph has."""
    y, x = np.mgrid[0:size, 0:size] / size
    noise = np.random.default_rng(0).normal(0, 0.05, (size, size, 3))
    waves = np.stack([np.sin(9 * x + 3 * y), np.cos(5 * x * y), np.sin(7 * y - x)], axis=2)
    pixels = np.clip(255 * (0.5 + 0.4 * waves + noise), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()
