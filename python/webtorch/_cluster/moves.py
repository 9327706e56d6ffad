"""Large states on their way from some hosts of a group to others, while the rest waits."""

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from webtorch._cluster.interfaces import ClusterError, Group

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


def move(group: Group, moves: Sequence[Move], timeout: float) -> None:
    """Move states; all hosts of the group call this with the same moves in the same order.

    After each piece all hosts exchange how long it took them, so that those without a part in it
    know that it goes on. The next pieces are larger if that was far from the timeout.

    Raises:
        GroupError: It ended before it was complete.
        ClusterError: A message is malformed.

    """
    piece, done = PIECE, 0
    while True:
        started = time.monotonic()
        is_whole = True
        for each in moves:
            if each.memory is None:
                continue
            part = each.memory[done : done + piece]
            if not part.numel():
                continue
            if group.rank == each.source:
                group.send_state(each.to, part)
            else:
                group.receive_state(each.source, part)
            is_whole = is_whole and done + piece >= each.memory.numel()
        answers = group.exchange(_PROGRESS.pack(is_whole, time.monotonic() - started))
        try:
            found = [_PROGRESS.unpack(answer) for answer in answers]
        except struct.error as error:
            raise ClusterError(f"a message is malformed: {error}") from error
        if all(each[0] for each in found):
            return
        done += piece
        longest = max(each[1] for each in found)
        if longest < timeout / 16:
            piece = min(2 * piece, MAX_PIECE)
        elif longest > timeout / 4:
            piece = max(piece // 2, PIECE // 16)
