"""A classifier of JPEG and PNG files, which Pillow decodes in a handler.

Run it with `./build.sh run nginx-conf/images.conf`. The network is small and its weights are
random: replace it by your own.
"""

import io

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

import webtorch

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


def decode(body: memoryview) -> Tensor:
    """Decode a file to uint8 pixels, [3, SIZE, SIZE]."""
    try:
        with Image.open(io.BytesIO(body), formats=["JPEG", "PNG"]) as image:
            # the JPEG decoder skips details that the small picture cannot show
            image.draft("RGB", (SIZE, SIZE))
            pixels = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise webtorch.HTTPError(422, f"the body is no JPEG or PNG file: {error}") from None
    flat = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
    return flat.view(SIZE, SIZE, 3).permute(2, 0, 1)


@webtorch.handler(methods=["POST", "PUT"])
def classify(request: webtorch.Request) -> dict[str, float]:
    """Return the probability of each class."""
    pixels = decode(request.body)
    (probabilities,) = classifier(pixels[None].float() / 255)
    return dict(zip(CLASSES, probabilities.tolist(), strict=True))
