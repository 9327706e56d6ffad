"""A classifier of JPEG and PNG files, which Pillow decodes; pictures of all clients are one batch.

Run it with `./build.sh run nginx-conf/images.conf`. The network is small and its weights are
random: replace it by your own.
"""

import io
from typing import NamedTuple

import torch
from jaxtyping import Float32
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

import webtorch
from webtorch import Strings

SIZE = 32
CLASSES = ("cat", "dog", "nginx")

# a larger image would take gigabytes; Pillow raises an error above twice this number
Image.MAX_IMAGE_PIXELS = 16 * 1024 * 1024

torch.manual_seed(0)
classifier = webtorch.Model(
    "images",
    nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, len(CLASSES)),
        nn.Softmax(dim=1),
    ),
)


class Classes(NamedTuple):
    """The most probable class of each picture, and the probabilities of all."""

    label: Strings[list[str], "batch"]
    probabilities: Float32[Tensor, "batch 3"]


def decode(file: bytes) -> Tensor:
    """Decode a file to uint8 pixels, [3, SIZE, SIZE]."""
    try:
        with Image.open(io.BytesIO(file), formats=["JPEG", "PNG"]) as image:
            # the JPEG decoder skips details that the small picture cannot show
            image.draft("RGB", (SIZE, SIZE))
            pixels = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise webtorch.HTTPError(422, f"this is no JPEG or PNG file: {error}") from None
    flat = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
    return flat.view(SIZE, SIZE, 3).permute(2, 0, 1)


@webtorch.infer
def classify(files: Strings[list[bytes], "batch"]) -> Classes:
    """Classify the body, or each file of a form."""
    pixels = torch.stack([decode(file) for file in files])
    probabilities = classifier(pixels.float() / 255)
    return Classes([CLASSES[i] for i in probabilities.argmax(dim=1).tolist()], probabilities)
