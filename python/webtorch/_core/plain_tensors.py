"""Plain tensors, whose elements C reads: in the memory of the process, one after the other.

The address of another one is that of other numbers, or of none: those of a tensor with the negative
bit have the other sign in memory, and `torch.masked.MaskedTensor` has no memory of its own.
"""

import torch
from torch import Tensor

_STRIDED = torch.strided

# of classes that compute with tensors within themselves it is another one
_NO_DISPATCH = Tensor.__torch_dispatch__


def is_plain(tensor: Tensor) -> bool:
    """Return whether the elements are in memory as they are, in the order of the axes."""
    return tensor.is_cpu and is_dense(tensor) and tensor.is_contiguous()


def is_dense(tensor: Tensor) -> bool:
    """Return whether the elements are in the memory of a device as they are, in any order."""
    return (
        tensor.layout is _STRIDED
        and not tensor.is_neg()
        and (type(tensor) is Tensor or type(tensor).__torch_dispatch__ is _NO_DISPATCH)
    )


def dense(tensor: Tensor) -> Tensor:
    """Return a tensor whose elements are in the memory of a device.

    Raises:
        TypeError: It is of a class that computes with other tensors.

    """
    if type(tensor).__torch_dispatch__ is not _NO_DISPATCH:
        raise TypeError(
            f"a {type(tensor).__name__} has no elements of its own: use a torch.Tensor instead"
        )
    if tensor.layout is not _STRIDED:
        tensor = tensor.to_dense()
    return tensor.resolve_neg()


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor as C reads it.

    Raises:
        TypeError: It is of a class that computes with other tensors.

    """
    return dense(tensor).detach().cpu().contiguous()
