"""The tensors of a model as two vectors: numbers that are averaged, and integers that are added."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

PIECE = 1 << 16
"""Elements that are worked on at a time: those of several tensors stay in a processor's cache."""

_SIGNED = {
    torch.bool: torch.int8,
    torch.uint16: torch.int16,
    torch.uint32: torch.int32,
    torch.uint64: torch.int64,
}

Tensors = Mapping[str, Tensor]


def floating(tensors: Tensors) -> list[str]:
    """Return the names of those that are averaged."""
    return [key for key, tensor in tensors.items() if tensor.is_floating_point()]


def integer(tensors: Tensors) -> list[str]:
    """Return the names of those that are added."""
    return [key for key, tensor in tensors.items() if not tensor.is_floating_point()]


def count(tensors: Tensors, keys: Iterable[str]) -> int:
    """Return the number of elements."""
    return sum(tensors[key].numel() for key in keys)


def pieces(*all_tensors: Tensors, keys: Iterable[str]) -> Iterator[tuple[int, list[Tensor]]]:
    """Return parts of tensors of the same names, each with its place in the vector."""
    place = 0
    for key in keys:
        flat = [tensors[key].view(-1) for tensors in all_tensors]
        for begin in range(0, flat[0].numel(), PIECE):
            parts = [each[begin : begin + PIECE] for each in flat]
            yield place, parts
            place += parts[0].numel()


def is_finite(tensors: Tensors) -> bool:
    """Return whether all elements are finite as float32, in which they are averaged."""
    return all(
        not _has_infinite(part.float()) for _, (part,) in pieces(tensors, keys=floating(tensors))
    )


def is_sound(tensors: Tensors, before: Tensors) -> bool:
    """Return whether all elements are finite but those that were not before, either."""
    for _, (part, old) in pieces(tensors, before, keys=floating(tensors)):
        if _has_infinite(part):
            lost = old.double().isfinite() & ~part.double().isfinite()
            if bool(lost.any()):
                return False
    return True


def _has_infinite(part: Tensor) -> bool:
    """Return quickly whether an element is not finite."""
    if not part.numel():
        return False
    # both are NaN if an element is
    least, most = torch.aminmax(part if part.itemsize >= 4 else part.float())
    return not bool(least.isfinite() & most.isfinite())


def difference(tensors: Tensors, base: Tensors) -> Tensor:
    """Return `tensors - base` of those that are averaged, float32 `[floats]`."""
    keys = floating(tensors)
    result = torch.empty(count(tensors, keys), dtype=torch.float32)
    for place, (part, other) in pieces(tensors, base, keys=keys):
        into = result[place : place + part.numel()]
        if part.dtype is torch.float32:
            torch.sub(part, other, out=into)
        else:
            into.copy_(part.double() - other.double())
        if _has_infinite(into):
            into.copy_(_careful_difference(part, other))
    return result


def add(tensors: Tensors, change: Tensor) -> None:
    """Add a vector, float32 `[floats]`."""
    for place, (part,) in pieces(tensors, keys=floating(tensors)):
        each = change[place : place + part.numel()]
        if _has_infinite(part):
            # a difference to what is not finite is the whole value
            old = part.double()
            part.copy_(torch.where(old.isfinite() | (each == 0), old, 0) + each)
        elif part.dtype is torch.float32:
            part.add_(each)
        else:
            part.copy_(part.double() + each.double())


def subtract(into: Tensors, tensors: Tensors, base: Tensors) -> None:
    """Write `tensors - base` into tensors of the same dtypes; of booleans -1, 0 or 1 as int8.

    What is not finite and stays as it is, a mask for example, has the difference 0; one that
    becomes finite has its value as the difference.
    """
    for _, (part, one, other) in pieces(into, tensors, base, keys=tensors):
        if part.dtype in (torch.float32, torch.float64):
            torch.sub(one, other, out=part)
        elif part.is_floating_point():
            part.copy_(one.float() - other.float())
        else:
            torch.sub(signed(one), signed(other), out=signed(part))
        if part.is_floating_point() and _has_infinite(part):
            part.copy_(_careful_difference(one, other))


def _careful_difference(one: Tensor, other: Tensor) -> Tensor:
    one, other = one.double(), other.double()
    base = torch.where(other.isfinite(), other, 0)
    return torch.where(_is_same(one, other), 0, one - base)


def _is_same(one: Tensor, other: Tensor) -> Tensor:
    return (one == other) | (one.isnan() & other.isnan())


def vector(change: Tensors) -> Tensor:
    """Return what `subtract` has written of those that are averaged, float32 `[floats]`."""
    return _joined(change, floating(change), torch.float32)


def integer_vector(change: Tensors) -> Tensor:
    """Return what `subtract` has written of those that are added, int64 `[integers]`."""
    return _joined(change, integer(change), torch.int64)


def _joined(tensors: Tensors, keys: list[str], dtype: torch.dtype) -> Tensor:
    result = torch.empty(count(tensors, keys), dtype=dtype)
    for place, (part,) in pieces(tensors, keys=keys):
        result[place : place + part.numel()].copy_(signed(part))
    return result


def integer_difference(tensors: Tensors, base: Tensors) -> Tensor:
    """Return `tensors - base` of those that are added, int64 `[integers]`."""
    keys = integer(tensors)
    result = torch.empty(count(tensors, keys), dtype=torch.int64)
    for place, (part, other) in pieces(tensors, base, keys=keys):
        torch.sub(_wide(part), _wide(other), out=result[place : place + part.numel()])
    return result


def add_integers(tensors: Tensors, change: Tensor) -> None:
    """Add a vector, int64 `[integers]`; of booleans, one that is above 0 is true."""
    for place, (part,) in pieces(tensors, keys=integer(tensors)):
        result = _wide(part) + change[place : place + part.numel()]
        if part.dtype is torch.bool:
            part.copy_(result > 0)
        else:
            signed(part).copy_(result)


def follow(weights: Tensor, anchor: Tensor, before: Tensor, change: Tensor | None = None) -> None:
    """Let weights follow an anchor, in place; all are of one dtype and shape.

    Integers wrap around. A boolean is that of the anchor, unless it was changed meanwhile.

    Args:
        weights: They were `before + change` and what was trained meanwhile.
        anchor: What they become, but for what was trained meanwhile.
        before: The anchor before.
        change: What `subtract` has written, which the anchor contains; None: it contains none.

    """
    if weights.dtype is torch.bool:
        known = before if change is None else signed(before) + signed(change) > 0
        weights.copy_(torch.where(weights == known, anchor, weights))
        return
    sources = [weights, anchor, before, *([] if change is None else [change])]
    if weights.dtype in (torch.float16, torch.bfloat16) or weights.itemsize == 1:
        sources = [_wide_enough(each) for each in sources]
    now, after, known, *changes = (signed(each) for each in sources)
    for each in changes:
        known = known + each
    # sums are rounded: what was not trained is the anchor, bit for bit
    result = torch.where(now == known, after, now + (after - known))
    if weights.is_floating_point() and _has_infinite(result):
        result = _follow_carefully(now, after, signed(before), changes)
    signed(weights).copy_(result)


def _follow_carefully(
    now: Tensor, after: Tensor, known: Tensor, changes: Iterable[Tensor]
) -> Tensor:
    known = known.to(now.dtype)
    for each in changes:
        # as in `subtract`
        known = torch.where(known.isfinite() | (each == 0), known, 0) + each
    result = now + (after - known)
    result = torch.where(result.isfinite(), result, now)
    return torch.where(_is_same(now, known), after, result)


def signed(tensor: Tensor) -> Tensor:
    """Return integers as those of a dtype that has arithmetic, of the same bits."""
    dtype = _SIGNED.get(tensor.dtype)
    return tensor.view(dtype) if dtype else tensor


def _wide_enough(tensor: Tensor) -> Tensor:
    """Return elements of a dtype without arithmetic as those of another one."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _wide(tensor: Tensor) -> Tensor:
    return signed(tensor).long()
