"""What clients of a site do: a sample of calm times, the present, and clients that are known."""

import math
import secrets

import torch
from torch import Tensor

_BITS = 14
SLOTS = 1 << _BITS
_MIX = -7046029254386353131  # 2^64 divided by the golden ratio, as a signed number
_FASTER = torch.tensor([1.3, 2.0])  # of the highest rates, fast and slow, that a client had
_MORE = torch.tensor([0.5, 0.25])  # and requests per second more
_CHANGE = 0.4  # of a share
_FADE = 1 - 1 / 256  # of the highest rates, at each request
_AGAIN = 600.0  # seconds after which the slot of a client may be another's


class Slots:
    """Slots of keys. With a salt, or clients could compute which keys share a slot."""

    def __init__(self) -> None:
        self._salt = secrets.randbits(62)

    def of(self, keys: Tensor) -> Tensor:
        """Return a slot for each key."""
        # the shift of a signed number keeps its sign
        return ((keys ^ self._salt) * _MIX >> 64 - _BITS) & (SLOTS - 1)


class People:
    """A random sample of the rows of calm times; a new row replaces a random one, or none.

    Args:
        columns: Columns of a row.
        size: Number of rows that are kept.
        memory: Number of new rows after which a row is replaced with probability 1 - 1/e.
        per_client: Most rows of a client in a period.
        period: Seconds.
        generator: Random numbers.

    """

    def __init__(
        self,
        columns: int,
        size: int,
        memory: int,
        per_client: int,
        period: float,
        generator: torch.Generator,
    ) -> None:
        self._rows = torch.zeros(size, columns)
        self._at = torch.zeros(size, dtype=torch.float64)
        self._used = 0
        self._seen = 0
        self._memory = memory
        self._per_client = per_client
        self._period = period
        self._slots = Slots()
        self._counts = torch.zeros(SLOTS, dtype=torch.int64)
        self._counted_until = -math.inf
        self._generator = generator

    @property
    def rows(self) -> Tensor:
        """The rows added so far, at most `size`."""
        return self._rows[: self._used]

    def before(self, at: float, least: int, most: int) -> Tensor:
        """Return rows that were added until then, and the earliest ones if these are few."""
        earliest = self._at[: self._used].argsort()
        count = int((self._at[: self._used] <= at).sum())
        chosen = earliest[: max(count, least)]
        if len(chosen) > most:
            chosen = chosen[torch.randperm(len(chosen), generator=self._generator)[:most]]
        return self._rows[chosen]

    def add(self, rows: Tensor, key: Tensor | None, now: float) -> None:
        """Add rows, at most `per_client` of a client in a period."""
        if key is not None:
            rows = rows[self._count(key, now) <= self._per_client]
        size = self._rows.shape[0]
        fill = min(size - self._used, rows.shape[0])
        self._rows[self._used : self._used + fill] = rows[:fill]
        self._at[self._used : self._used + fill] = now
        self._used += fill
        self._seen = min(self._seen + rows.shape[0], self._memory)
        rows = rows[fill:]
        if rows.shape[0]:
            kept = torch.rand(rows.shape[0], generator=self._generator) < size / self._seen
            rows = rows[kept]
            places = torch.randint(size, (rows.shape[0],), generator=self._generator)
            self._rows[places] = rows
            self._at[places] = now

    def _count(self, key: Tensor, now: float) -> Tensor:
        """Return the number of each row among those of its client in this period."""
        if now >= self._counted_until:
            self._counts.zero_()
            self._counted_until = now + self._period
        slots = self._slots.of(key.flatten())
        order = slots.argsort(stable=True)
        ordered = slots[order]
        number = torch.empty_like(slots)
        number[order] = torch.arange(len(slots)) - torch.searchsorted(ordered, ordered)
        number += 1 + self._counts[slots]
        self._counts.index_add_(0, slots, torch.ones_like(slots))
        return number


class Present:
    """The last rows of a surge.

    Args:
        columns: Columns of a row.
        size: Number of rows that are kept.

    """

    def __init__(self, columns: int, size: int) -> None:
        self._rows = torch.zeros(size, columns)
        self._used = 0
        self._at = 0

    @property
    def rows(self) -> Tensor:
        """The rows added so far, at most `size`."""
        return self._rows[: self._used]

    def clear(self) -> None:
        """Remove all rows."""
        self._used = self._at = 0

    def add(self, rows: Tensor) -> None:
        """Add rows, which replace the oldest ones."""
        size = self._rows.shape[0]
        rows = rows[-size:]
        self._rows[(torch.arange(rows.shape[0]) + self._at) % size] = rows
        self._at = (self._at + rows.shape[0]) % size
        self._used = min(size, self._used + rows.shape[0])


class Known:
    """What each client did in calm times.

    A client is steady if it was there before a surge, and does now what it did then: its rates are
    common or not much above its own highest ones, and its shares are about what they were at last.

    Args:
        shares: Number of shares.

    """

    def __init__(self, shares: int) -> None:
        self._slots = Slots(), Slots()
        self._keys = torch.zeros(SLOTS, dtype=torch.int64)
        self._first = torch.full((SLOTS,), math.inf, dtype=torch.float64)
        self._last = torch.full((SLOTS,), -math.inf, dtype=torch.float64)
        self._rates = torch.zeros(SLOTS, 2)
        self._shares = torch.zeros(SLOTS, shares)

    def learn(self, key: Tensor, rates: Tensor, shares: Tensor, now: float) -> None:
        """Learn from rows of calm times; rates are per second, fast and slow."""
        keys = key.flatten()
        slots, mine = self._find(keys)
        for each in (each.of(keys) for each in self._slots):
            free = ~mine & (self._last[each] < now - _AGAIN)
            self._take(each[free], keys[free], now)
            # of keys that want the same slot one has it
            slots = torch.where(free, each, slots)
            mine = self._keys[slots] == keys
        slots, rates = slots[mine], rates[mine]
        self._last[slots] = now
        count = torch.zeros(SLOTS).index_add_(0, slots, torch.ones(len(slots)))[slots]
        self._rates[slots] *= (_FADE**count).unsqueeze(1)
        self._rates.scatter_reduce_(0, slots.unsqueeze(1).expand(-1, 2), rates, "amax")
        self._shares[slots] = shares[mine]

    def steady(
        self, key: Tensor, rates: Tensor, shares: Tensor, onset: float, common: Tensor
    ) -> Tensor:
        """Return which rows are of clients that were there before, and do what they did.

        Args:
            key: The feature `key`.
            rates: Requests per second, fast and slow, float32 `[batch, 2]`.
            shares: float32 `[batch, shares]`.
            onset: When they must have been there.
            common: Rates that any client may have, float32 `[2]`.

        """
        slots, known = self._find(key.flatten())
        known &= self._first[slots] <= onset
        most = torch.maximum(_FASTER * self._rates[slots] + _MORE, common)
        as_often = (rates <= most).all(1)
        as_before = ((shares - self._shares[slots]).abs() <= _CHANGE).all(1)
        return known & as_often & as_before

    def _find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return a slot of each key, and whether it has it. A key has two that it may have."""
        first, second = (each.of(keys) for each in self._slots)
        slots = torch.where(self._keys[second] == keys, second, first)
        return slots, self._keys[slots] == keys

    def _take(self, slots: Tensor, keys: Tensor, now: float) -> None:
        self._keys[slots] = keys
        self._first[slots] = self._last[slots] = now
        self._rates[slots] = 0
