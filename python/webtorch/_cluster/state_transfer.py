"""Large states on their way from some hosts of a group to others, while the rest waits."""

import hashlib
import json
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from webtorch._cluster.digests import view_of
from webtorch._cluster.interfaces import ClusterError, Group
from webtorch._cluster.teams import gather, parse_object

PIECE = 1 << 20
"""Bytes of each state that are moved at first, before all hosts hear that it goes on."""

MAX_PIECE = 64 << 20

_PROGRESS = struct.Struct("<Bd")


@dataclass(frozen=True)
class Move:
    """A state that is brought from one host to another."""

    to: int
    """The ranks of the hosts."""
    source: int
    memory: Tensor | None
    """Its bytes, uint8 `[bytes]`, which the host at the end receives; None at other hosts."""
    is_kept: bool = False
    """Whether the memory at the end may have pieces of it, of a move that was cut."""


def move(group: Group, moves: Sequence[Move], timeout: float) -> None:
    """Move states; all hosts of the group call this with the same moves in the same order.

    After each piece all hosts exchange how long it took them, so that those without a part in it
    know that it goes on. The next pieces are larger if that was far from the timeout.

    Raises:
        GroupError: It ended before it was complete.
        ClusterError: A message is malformed.

    """
    left = _missing(group, moves)
    piece = PIECE
    while True:
        started = time.monotonic()
        is_whole = True
        for each, ranges in zip(moves, left, strict=True):
            if each.memory is None:
                continue
            for part in _take(each.memory, ranges, piece):
                if group.rank == each.source:
                    group.send_state(each.to, part)
                else:
                    group.receive_state(each.source, part)
            is_whole = is_whole and not ranges
        answers = group.exchange(_PROGRESS.pack(is_whole, time.monotonic() - started))
        try:
            found = [_PROGRESS.unpack(answer) for answer in answers]
        except struct.error as error:
            raise ClusterError(f"a message is malformed: {error}") from error
        if all(each[0] for each in found):
            return
        longest = max(each[1] for each in found)
        if longest < timeout / 16:
            piece = min(2 * piece, MAX_PIECE)
        elif longest > timeout / 4:
            piece = max(piece // 2, PIECE // 16)


def _missing(group: Group, moves: Sequence[Move]) -> list[list[range]]:
    """Return which bytes of the moves that this host has a part in are still to be moved.

    Both ends compare digests of pieces, so that a move that was cut goes on where it was, whoever
    the source is now. What arrives as a whole is compared with the anchor's digest in any case.
    """
    own: dict[str, list[str]] = {}
    known: dict[int, list[str]] = {}
    for index, each in enumerate(moves):
        if each.is_kept and each.memory is not None:
            place = each.memory.data_ptr()
            # a host may send it to several others
            if place not in known:
                known[place] = _digests(each.memory)
            own[str(index)] = known[place]
    found: list[dict[str, Any]] = []
    if any(each.is_kept for each in moves):
        found = [parse_object(each) for each in gather(group, json.dumps(own).encode())]
    missing = []
    for index, each in enumerate(moves):
        size = 0 if each.memory is None else each.memory.numel()
        is_there: Sequence[bool] = ()
        if size and each.is_kept:
            ends: list[Any] = [found[rank].get(str(index)) for rank in (each.source, each.to)]
            if not all(isinstance(end, list) for end in ends) or len(ends[0]) != len(ends[1]):
                raise ClusterError("the digests of a state are malformed")
            is_there = [one == other for one, other in zip(*ends, strict=True)]
        missing.append(_ranges(size, is_there))
    return missing


def _digests(memory: Tensor) -> list[str]:
    """Return digests of pieces, by which two hosts find those that they both have."""
    parts = [memory[begin : begin + PIECE] for begin in range(0, memory.numel(), PIECE)]
    return [hashlib.sha256(view_of(part)).hexdigest()[:16] for part in parts]


def _ranges(size: int, is_there: Sequence[bool]) -> list[range]:
    """Return the bytes of pieces that are not there, as few ranges."""
    if not is_there:
        return [range(size)] if size else []
    ranges: list[range] = []
    for number, there in enumerate(is_there):
        if there:
            continue
        begin, end = PIECE * number, min(PIECE * (number + 1), size)
        if ranges and ranges[-1].stop == begin:
            ranges[-1] = range(ranges[-1].start, end)
        else:
            ranges.append(range(begin, end))
    return ranges


def _take(memory: Tensor, ranges: list[range], size: int) -> list[Tensor]:
    """Return the next parts of memory, of so many bytes together, and remove their ranges."""
    parts = []
    while ranges and size > 0:
        first = ranges.pop(0)
        part, rest = first[:size], first[size:]
        parts.append(memory[part.start : part.stop])
        size -= len(part)
        if rest:
            ranges.insert(0, rest)
    return parts
