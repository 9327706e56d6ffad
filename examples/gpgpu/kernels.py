"""Kernels in NVIDIA Warp, which compiles them for the CPU and for CUDA: a thread for each element.

Arrays of Warp and tensors of PyTorch are views of the same memory.
"""

# a variable that a loop of Warp changes begins with a call of its type
# ruff: noqa: RUF046, UP018

from collections.abc import Sequence
from typing import Any

import torch
import warp as wp
from torch import Tensor

import webtorch

wp.config.quiet = True
wp.init()

TILE = 256
"""Pixels of a tile's side."""


@wp.func
def colour(count: float, phase: float):
    return wp.uint8(wp.clamp(127.5 + 127.5 * wp.cos(0.15 * count + phase), 0.0, 255.0))


@wp.kernel
def fractal(
    views: wp.array2d(dtype=wp.float64),
    limits: wp.array(dtype=wp.int32),
    pixels: wp.array4d(dtype=wp.uint8),
):
    """Colour a pixel of a tile; a view is left, top, size, Julia's constant, and 1 for Julia."""
    b, row, column = wp.tid()
    step = views[b, 2] / wp.float64(TILE)
    x = views[b, 0] + (wp.float64(column) + wp.float64(0.5)) * step
    y = views[b, 1] - (wp.float64(row) + wp.float64(0.5)) * step
    cx = x
    cy = y
    if views[b, 5] > wp.float64(0.0):
        cx = views[b, 3]
        cy = views[b, 4]
    n = int(0)
    while n < limits[b] and x * x + y * y < wp.float64(256.0):
        t = x * x - y * y + cx
        y = wp.float64(2.0) * x * y + cy
        x = t
        n += 1
    if n == limits[b]:
        for channel in range(3):
            pixels[b, row, column, channel] = wp.uint8(0)
    else:
        # a fraction of a step, so that colours have no bands
        count = float(n) + 1.0 - wp.log2(0.5 * float(wp.log2(x * x + y * y)))
        pixels[b, row, column, 0] = colour(count, 3.0)
        pixels[b, row, column, 1] = colour(count, 3.6)
        pixels[b, row, column, 2] = colour(count, 4.2)


@wp.kernel
def attract(
    bodies: wp.array3d(dtype=wp.float32),
    times: wp.array(dtype=wp.float32),
    moved: wp.array3d(dtype=wp.float32),
):
    """Move a body, whose row is its position and its velocity, by the pull of all others."""
    b, i = wp.tid()
    at = wp.vec3(bodies[b, i, 0], bodies[b, i, 1], bodies[b, i, 2])
    velocity = wp.vec3(bodies[b, i, 3], bodies[b, i, 4], bodies[b, i, 5])
    pull = wp.vec3(0.0, 0.0, 0.0)
    n = bodies.shape[1]
    for j in range(n):
        to = wp.vec3(bodies[b, j, 0], bodies[b, j, 1], bodies[b, j, 2]) - at
        square = wp.dot(to, to) + 0.01
        pull += to / (square * wp.sqrt(square))
    velocity += pull * (times[b] / float(n))
    at += velocity * times[b]
    for axis in range(3):
        moved[b, i, axis] = at[axis]
        moved[b, i, axis + 3] = velocity[axis]


@wp.func
def light(picture: wp.array4d(dtype=wp.uint8), b: int, row: int, column: int):
    r = wp.clamp(row, 0, picture.shape[1] - 1)
    c = wp.clamp(column, 0, picture.shape[2] - 1)
    return (
        0.299 * float(picture[b, r, c, 0])
        + 0.587 * float(picture[b, r, c, 1])
        + 0.114 * float(picture[b, r, c, 2])
    )


@wp.kernel
def outline(picture: wp.array4d(dtype=wp.uint8), edges: wp.array3d(dtype=wp.uint8)):
    """Write how steep the light is at a pixel (Sobel's filter), dark on white."""
    b, row, column = wp.tid()
    across = float(0.0)
    down = float(0.0)
    for k in range(-1, 2):
        weight = 2.0 - wp.abs(float(k))
        across += weight * (
            light(picture, b, row + k, column + 1) - light(picture, b, row + k, column - 1)
        )
        down += weight * (
            light(picture, b, row + 1, column + k) - light(picture, b, row - 1, column + k)
        )
    steep = wp.sqrt(across * across + down * down)
    edges[b, row, column] = wp.uint8(255.0 - wp.min(steep, 255.0))


def launch(kernel: Any, shape: Sequence[int], inputs: Sequence[Tensor], output: Tensor) -> Tensor:
    """Run a kernel for each index of a shape where its output is; return the output.

    On CUDA it is queued in the current stream of PyTorch.
    """
    stream = wp.stream_from_torch(torch.cuda.current_stream()) if output.is_cuda else None
    wp.launch(
        kernel,
        dim=tuple(shape),
        inputs=[wp.from_torch(each.contiguous()) for each in inputs],
        outputs=[wp.from_torch(output)],
        device=wp.device_from_torch(output.device),
        stream=stream,
    )
    return output


if not webtorch.is_check():
    # compiled once and kept in ~/.cache; the first request does not wait for it
    wp.load_module(device="cpu")
    if wp.is_cuda_available():
        wp.load_module(device="cuda")
