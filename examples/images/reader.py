"""What is read of a picture, and the network that reads it."""

import io

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

import webtorch

SIZE = 8
"""Pixels of a side of what the network reads."""

# a larger image would take gigabytes; Pillow raises an error above twice this number
Image.MAX_IMAGE_PIXELS = 16 * 1024 * 1024


def network() -> nn.Module:
    """Make the network, which takes ink from 0 to 1."""
    return nn.Sequential(
        nn.Unflatten(1, (1, SIZE)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def decode(file: bytes) -> Tensor:
    """Decode a file to the ink of the digit in it, [SIZE, SIZE], from 0 to 1."""
    try:
        with Image.open(io.BytesIO(file), formats=["JPEG", "PNG"]) as image:
            # the JPEG decoder skips details that the small picture cannot show
            image.draft("L", (16 * SIZE, 16 * SIZE))
            ink = _ink(image)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise webtorch.HTTPError(422, f"this is no JPEG or PNG file: {error}") from None
    # paper is not quite even
    box = ink.point(lambda value: 255 * (value > 64)).getbbox()
    if box is None:
        raise webtorch.HTTPError(422, "the picture is blank")
    digit = ink.crop(box)
    square = Image.new("L", (max(digit.size), max(digit.size)))
    square.paste(digit, ((square.width - digit.width) // 2, (square.height - digit.height) // 2))
    pixels = square.resize((SIZE, SIZE), Image.Resampling.BOX)
    flat = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
    return flat.view(SIZE, SIZE).float() / 255


def _ink(image: Image.Image) -> Image.Image:
    """Return how dark a picture is: from 0, its paper, to 255; it is dark on light."""
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    gray = image.convert("L")
    low, high = gray.getextrema()
    if high - low < 32:
        return Image.new("L", gray.size)
    return ImageOps.autocontrast(ImageOps.invert(gray))
