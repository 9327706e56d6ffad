"""Exchanges of hosts: small messages, means of differences, sums, states."""

import math
import struct
from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from webtorch._cluster.interfaces import Compression, GroupError, Settings, View
from webtorch._cluster.links import EMPTY, STATE_TAG, Links, Receipt, seal, tag_of, unseal
from webtorch._cluster.means import Mean
from webtorch._cluster.seal import OVERHEAD, Ring

MAX_MESSAGE = 64 << 10
"""Bytes of a message of `exchange`."""

_LENGTH = 4
_SUM_PART = 32 << 10
_STATE_PIECE = 256 << 10
_STATE_WINDOW = 8


def connect(settings: Settings, view: View, ring: Ring) -> "GlooGroup":
    """Return a group of all members of a view, when all of them have called this.

    Raises:
        GroupError: They have not within the timeout.
        OutsiderError: One of them has none of this host's secrets.

    """
    return GlooGroup(Links(settings, view, ring), settings, view)


class GlooGroup:
    """A `Group` over gloo, which carries sealed bytes and computes nothing.

    Args:
        links: Its connections.
        settings: The cluster's.
        view: What it was made from.

    """

    def __init__(self, links: Links, settings: Settings, view: View) -> None:
        self._links = links
        self._compress = settings.compress
        self._view = view
        self._messages = 0
        self._others = 0
        # messages of states that were sent to each host, and received from it
        self._states = [[0, 0] for _ in view.members]
        self._waits: dict[str, float] = {}
        self.patience = math.inf
        self._expected: dict[int, Receipt] = {}
        self._expect_messages()

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the members, sorted."""
        return self._links.ids

    @property
    def rank(self) -> int:
        """The place of this host in `ids`."""
        return self._links.rank

    @property
    def generation(self) -> int:
        """The generation of the view that it was made from."""
        return self._view.generation

    @property
    def key(self) -> str:
        """The digest of that view."""
        return self._view.digest

    @property
    def sent(self) -> int:
        """Bytes that were sent since it was made."""
        return self._links.sent

    @property
    def received(self) -> int:
        """Bytes that were received since it was made."""
        return self._links.received

    @property
    def waits(self) -> Mapping[str, float]:
        """Seconds since it was made that `mean` waited for the differences of each other member."""
        return self._waits

    def fits(self, view: View) -> bool:
        """Return whether all members of a view have this group."""
        return view.ids == self.ids and all(
            member.about.get("group") == self.key for member in view.members
        )

    def exchange(self, message: bytes) -> list[bytes]:
        """Send a message to all, and return everyone's; see `Group`.

        Raises:
            ValueError: It is too long.

        """
        if len(message) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(message)} bytes, at most {MAX_MESSAGE} are sent")
        links = self._links
        number = 2 * self._messages
        # counted before it is used: a nonce must not seal another message after an error
        self._messages += 1
        length = torch.frombuffer(bytearray(struct.pack("<I", len(message))), dtype=torch.uint8)
        text = (
            torch.frombuffer(bytearray(message), dtype=torch.uint8)
            if message
            else torch.empty(0, dtype=torch.uint8)
        )
        sealed = torch.cat([length, seal(links.to_all, text, number)])
        for rank in links.others:
            links.send(rank, sealed, tag_of(number), is_marked=False)
        messages = {links.rank: message}
        for rank, receipt in self._expected.items():
            data = receipt.wait()
            size = int.from_bytes(data[:_LENGTH].numpy().tobytes(), "little")
            if size > MAX_MESSAGE:
                raise GroupError("a message is too long", self.ids[rank])
            end = _LENGTH + size + OVERHEAD
            links.received += end - len(data)
            text = unseal(links.all_by[rank], data[_LENGTH:end], number, self.ids[rank])
            messages[rank] = text.numpy().tobytes()
        # each host has sent its message when it had all that was sent to it before
        links.flush()
        self._expect_messages()
        return [messages[rank] for rank in range(len(self.ids))]

    def mean(
        self,
        difference: Tensor,
        weight: float,
        weights: Sequence[float],
        rest: Tensor | None,
        is_exact: bool = False,
    ) -> Tensor:
        """Return the weighted mean of all hosts' differences; see `Group`.

        Each part is summed up by one host and comes from it to all, itself included, as the same
        bytes: so all have the same bits, whatever their processors are.
        """
        if len(weights) != len(self.ids) or weights[self.rank] != weight:
            raise ValueError("the weights are not those of the group")
        total = float(sum(weights))
        if total <= 0:
            return torch.zeros_like(difference)
        shares = [each / total for each in weights]
        compress: Compression = "none" if is_exact else self._compress
        mean = Mean(self._links, compress, difference, shares, rest, self._next, self.patience)
        result = mean.run()
        for host, seconds in mean.waits.items():
            self._waits[host] = self._waits.get(host, 0.0) + seconds
        return result

    def total(self, values: Tensor) -> Tensor:
        """Return the sums of int64 `[n]` over all hosts; see `Group`."""
        sums = values.clone()
        links = self._links
        for start in range(0, len(values), _SUM_PART):
            place = slice(start, start + _SUM_PART)
            part = values[place].contiguous().view(torch.uint8)
            number = self._next()
            tag = tag_of(number)
            receipts = {r: links.receive(r, len(part) + OVERHEAD, tag) for r in links.others}
            sealed = seal(links.to_all, part, number)
            for rank in links.others:
                links.send(rank, sealed, tag)
            for rank, receipt in receipts.items():
                data = unseal(links.all_by[rank], receipt.wait(), number, self.ids[rank])
                sums[place] += data.view(torch.int64)
            # who has sent this part has the one before
            links.flush(len(links.others))
        return sums

    def send_state(self, to: int, data: Tensor) -> None:
        """Send uint8 `[n]` to one host; see `Group`."""
        links = self._links
        answers: deque[Receipt] = deque()
        for part in (_length(len(data)), *_cut(data)):
            number = self._states[to][0]
            self._states[to][0] += 1
            answers.append(links.receive(to, 0, _answer_tag(number), is_marked=False))
            links.send(to, seal(links.state_to[to], part, number), _state_tag(number))
            if len(answers) > _STATE_WINDOW:
                answers.popleft().wait()
                links.flush(len(answers))
        for answer in answers:
            answer.wait()
        links.flush()

    def receive_state(self, source: int, into: Tensor) -> None:
        """Receive uint8 `[n]` from one host; see `Group`.

        Raises:
            GroupError: The other host has sent another length, or see `Group`.

        """
        length = torch.empty(8, dtype=torch.uint8)
        self._receive_states(source, [length])
        if not torch.equal(length, _length(len(into))):
            raise GroupError("a state has another length", self.ids[source])
        self._receive_states(source, _cut(into))

    def close(self) -> None:
        """Close its connections; see `Group`."""
        self._links.close()
        self._expected = {}

    def _receive_states(self, source: int, parts: Sequence[Tensor]) -> None:
        links = self._links
        numbers = [self._states[source][1] + index for index in range(len(parts))]
        self._states[source][1] += len(parts)
        receipts: list[Receipt] = []
        for index, number in enumerate(numbers):
            for part in parts[len(receipts) : index + _STATE_WINDOW]:
                tag = _state_tag(numbers[len(receipts)])
                receipts.append(links.receive(source, len(part) + OVERHEAD, tag))
            sealed = receipts[index].wait()
            # nothing else comes from here while a state is sent, by which its parts could be freed
            links.send(source, EMPTY, _answer_tag(number), is_marked=False)
            parts[index].copy_(unseal(links.state_by[source], sealed, number, self.ids[source]))

    def _expect_messages(self) -> None:
        """Let others send their next message at once; else gloo asks first whether it may."""
        links = self._links
        size = _LENGTH + MAX_MESSAGE + OVERHEAD
        tag = tag_of(2 * self._messages)
        self._expected = {
            # one message after the other: a mark of each would make rounds longer
            rank: links.receive(rank, size, tag, is_marked=False)
            for rank in links.others
        }

    def _next(self) -> int:
        """Return an odd number of a message; those of `exchange` are even."""
        self._others += 1
        return 2 * self._others - 1


def _state_tag(number: int) -> int:
    return STATE_TAG + tag_of(2 * number)


def _answer_tag(number: int) -> int:
    """Return the tag of an empty message that says that a part of a state is there."""
    return STATE_TAG + tag_of(2 * number + 1)


def _cut(data: Tensor) -> list[Tensor]:
    return [data[start : start + _STATE_PIECE] for start in range(0, len(data), _STATE_PIECE)]


def _length(size: int) -> Tensor:
    return torch.frombuffer(bytearray(struct.pack("<Q", size)), dtype=torch.uint8)
