"""A kernel in Triton that nginx serves: each row is scaled by the root of its mean square.

On CUDA one launch scales all rows of a batch. On the CPU, where Triton has no compiler, PyTorch's
own operator does; with TRITON_INTERPRET=1 the kernel itself runs there, for tests.
"""

import os

import torch
from jaxtyping import Float32
from torch import Tensor, nn

import webtorch

try:
    import triton
    import triton.language as tl
except ImportError:
    # PyTorch for CUDA brings it, PyTorch for the CPU does not
    triton = None

WIDTH = 1024
EPSILON = 1e-6

norm = webtorch.Model("norm", nn.RMSNorm(WIDTH, eps=EPSILON), device="auto")

if triton:

    @triton.jit
    def scale_row(x, weight, y, epsilon: tl.constexpr, width: tl.constexpr):
        """Scale a row; a program has one row."""
        columns = tl.arange(0, width)
        at = tl.program_id(0) * width + columns
        row = tl.load(x + at)
        mean = tl.sum(row * row, axis=0) / width
        tl.store(y + at, row * tl.rsqrt(mean + epsilon) * tl.load(weight + columns))


def has_kernel(x: Tensor) -> bool:
    """Return whether Triton can run where a tensor is."""
    return bool(triton) and (x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1")


@webtorch.infer(device="auto")
def normalise(x: Float32[Tensor, "batch 1024"]) -> Float32[Tensor, "batch 1024"]:
    """Scale rows, as `torch.nn.RMSNorm` does."""
    if not has_kernel(x):
        return norm(x)
    y = torch.empty_like(x)
    scale_row[(len(x),)](x, norm.module.weight, y, EPSILON, WIDTH)
    return y
