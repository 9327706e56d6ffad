"""The weighted mean of vectors of all hosts, with the same bits at each of them.

Each vector is divided into pieces, and each piece into one part for each host. A host sends its
values of each part to the host that sums that part up, and this one sends the mean of its part to
all. Many pieces are on their way at a time.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from webtorch._cluster import formats
from webtorch._cluster.formats import Piece
from webtorch._cluster.interfaces import Compression
from webtorch._cluster.links import Links, Receipt, seal, tag_of, unseal
from webtorch._cluster.seal import OVERHEAD
from webtorch._cluster.speeds import RATIO

_WINDOW = 16
"""Pieces that are on their way at a time: what a link of 1 Gbit/s and 20 ms holds, and more."""

_HELD = 2 * (_WINDOW + 2)
"""Messages to each host that it may not have yet, one difference and one mean for each piece.

A host sends its mean of a piece when it has gathered all means of the piece half a window and one
before. So with its mean of a piece that was issued a window ago, it has what was sent to it until
a window and one piece ago."""


class Mean:
    """One computation of a mean.

    Args:
        links: Connections to all hosts.
        compress: The format on the wire.
        difference: float32 `[n]` of this host.
        shares: The weight of each host, their sum is 1.
        rest: float32 `[n]` that rounding has left; None if it is not wanted. It becomes what is
            left then, when the mean is complete. In the parts that this host sums up it is what
            rounding the mean left, else what rounding the difference left.
        number: Returns numbers of messages that were not used, the same at all hosts.
        patience: Seconds for which a host is waited for that is slower than others.

    """

    def __init__(
        self,
        links: Links,
        compress: Compression,
        difference: Tensor,
        shares: Sequence[float],
        rest: Tensor | None,
        number: Callable[[], int],
        patience: float = math.inf,
    ) -> None:
        self._links = links
        self._compress: Compression = compress
        self._difference = difference.contiguous()
        self._shares = shares
        self._rest = rest
        # parts of others stay as they are if this host contributes nothing
        kept = torch.empty_like if shares[links.rank] else torch.clone
        self._left = None if rest is None else kept(rest)
        self._result = torch.empty_like(self._difference)
        self._number = number
        self._pieces: list[Piece] = list(formats.pieces(len(difference), len(shares)))
        self._issued: dict[int, _Issued] = {}
        self._patience = patience
        self.waits = {links.ids[rank]: 0.0 for rank in links.others}
        self._mean_waits = dict(self.waits)

    def run(self) -> Tensor:
        """Return the mean, when all hosts have called this."""
        links = self._links
        for index in range(len(self._pieces) + _WINDOW):
            if index < len(self._pieces):
                self._issue(index)
            if index - _WINDOW // 2 in self._issued:
                self._sum_up(index - _WINDOW // 2)
            if index - _WINDOW in self._issued:
                self._gather(index - _WINDOW)
            # what is left is freed by the next message of `exchange`
            links.flush(_HELD * len(links.others))
        if self._rest is not None and self._left is not None:
            self._rest.copy_(self._left)
        return self._result

    def _issue(self, index: int) -> None:
        """Expect all messages about a piece, and send the values of this host."""
        links, piece = self._links, self._pieces[index]
        issued = self._issued[index] = _Issued(self._number(), self._number())
        size = self._size(piece, links.rank)
        for rank in links.others:
            if size and self._shares[rank]:
                issued.parts[rank] = links.receive(rank, size, tag_of(issued.difference))
        for rank in links.others:
            if piece.size(rank):
                size = self._size(piece, rank)
                issued.means[rank] = links.receive(rank, size, tag_of(issued.mean))
        if self._shares[links.rank]:
            for rank in links.others:
                if piece.size(rank):
                    self._send_part(piece, rank, issued.difference)

    def _send_part(self, piece: Piece, rank: int, number: int) -> None:
        place = piece.part(rank)
        values = self._difference[place]
        if self._rest is not None and self._left is not None:
            values = torch.add(values, self._rest[place], out=self._left[place])
        data = formats.encode(values, self._compress)
        # sealed first: without rounding the data is the values' memory
        self._links.send(rank, seal(self._links.to[rank], data, number), tag_of(number))
        if self._left is not None:
            values -= formats.decode(data, len(values), self._compress)

    def _sum_up(self, index: int) -> None:
        """Send the mean of the own part to all."""
        links, piece, issued = self._links, self._pieces[index], self._issued[index]
        size = piece.size(links.rank)
        if not size:
            return
        place = piece.part(links.rank)
        mean = self._result[place]
        torch.mul(self._difference[place], self._shares[links.rank], out=mean)
        for rank, data in self._receive(issued.parts, self.waits):
            part = unseal(links.by[rank], data, issued.difference, links.ids[rank])
            values = formats.decode(part, size, self._compress)
            mean.add_(values, alpha=self._shares[rank])
        if self._rest is not None:
            mean += self._rest[place]
        data = formats.encode(mean, self._compress)
        sealed = seal(links.to_all, data, issued.mean)
        for rank in links.others:
            links.send(rank, sealed, tag_of(issued.mean))
        # this host takes what the others get
        rounded = formats.decode(data, size, self._compress)
        if self._left is not None:
            torch.sub(mean, rounded, out=self._left[place])
        mean.copy_(rounded)

    def _gather(self, index: int) -> None:
        """Receive the means of the other parts."""
        links, piece, issued = self._links, self._pieces[index], self._issued.pop(index)
        for rank, data in self._receive(issued.means, self._mean_waits):
            part = unseal(links.all_by[rank], data, issued.mean, links.ids[rank])
            values = formats.decode(part, piece.size(rank), self._compress)
            self._result[piece.part(rank)] = values

    def _receive(
        self, receipts: Mapping[int, Receipt], waits: dict[str, float]
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the messages of other hosts, in the order of `Links.others`.

        If one is slower than all before it, the round ends, and links are measured. So that is
        found by the host for which the slow one is the last; the first may be as slow as all are.
        """
        longest = math.inf
        for rank, receipt in receipts.items():
            host = self._links.ids[rank]
            most = max(self._patience, RATIO * longest)
            started = time.monotonic()
            data = receipt.wait(most - waits[host])
            waits[host] += time.monotonic() - started
            longest = waits[host] if math.isinf(longest) else max(longest, waits[host])
            yield rank, data

    def _size(self, piece: Piece, rank: int) -> int:
        count = piece.size(rank)
        return formats.size(count, self._compress) + OVERHEAD if count else 0


class _Issued:
    """A piece on its way.

    Attributes:
        difference: The number of messages with values of a host.
        mean: That of messages with the mean of a part.
        parts: Values of the own part, by the rank of the host that sends them.
        means: Means of the other parts.

    """

    def __init__(self, difference: int, mean: int) -> None:
        self.difference = difference
        self.mean = mean
        self.parts: dict[int, Receipt] = {}
        self.means: dict[int, Receipt] = {}
