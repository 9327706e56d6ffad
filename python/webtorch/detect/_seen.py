"""What the fields of a site hold: tables of fixed size, which are found by hashes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

PROBES = 8
"""Slots that a key may be in."""

ALPHABET = 31
"""Kinds of characters, as the feature `traits` has them."""

_LENGTHS = 16  # powers of two
_LOGITS = 18  # bins of a logit each, from -8
_LOWEST = -8.0
_LENGTH, _LOGIT = 1 + ALPHABET, 1 + ALPHABET + _LENGTHS  # columns
_COLUMNS = _LOGIT + _LOGITS
_FULL = 4096.0  # values of a field, after which they count half
_RARE = 2.0  # a field with as many values or less may be replaced
_NAME, _NAMED = 96, 64  # bytes of a name, and names that a batch adds at most
_MARKED = 6.0  # values that an operator's mark counts as, at least
_FORGIVEN = 2.0  # values that say nothing of what a field holds
_SIGNS = "'\"<>();%\\/.$={[|&#*-,@!:?"
_KINDS = ("a-z", "A-Z", "0-9", "blank", "non-ASCII", "control", *_SIGNS)
# characters that attacks need: controls, and punctuation but ")", "%", ".", "=", "#" and the like
_RISKY = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 28)


@dataclass
class Compared:
    """How values compare with those that a field had before.

    Attributes:
        count: Values of the field, float32 `[n]`.
        share: The part of them whose logit was as high, float32 `[n]`.
        risk: How unusual their punctuation is, float32 `[n]`: minus the logarithm of the share that
            had it, summed up.
        length: How unusual their length is, float32 `[n]`.

    """

    count: Tensor
    share: Tensor
    risk: Tensor
    length: Tensor


class Table(nn.Module):
    """Slots of keys; 0 is none. A slot is claimed, and is another key's if that is rare.

    Args:
        size: Number of slots, a power of two.

    Raises:
        ValueError: The size is not a power of two.

    """

    keys: Tensor
    steps: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < PROBES or size & (size - 1):
            raise ValueError(f"the size of a table is a power of two, and at least {PROBES}")
        self.register_buffer("keys", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("steps", torch.arange(PROBES), persistent=False)

    def find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slots of keys, int64 `[n]`, and True for those that are there."""
        places = self._places(keys)
        hits = self.keys[places] == keys.unsqueeze(1)
        hit = hits.to(torch.int8).argmax(1, keepdim=True)
        return places.gather(1, hit).squeeze(1), hits.any(1) & (keys != 0)

    def claim(self, keys: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slots of keys, -1: there is none, and the slots that were claimed for them.

        Args:
            keys: Keys, `[n]`.
            counts: How often the key of each slot was seen, float32 `[size]`.

        """
        claimed = []
        missing = torch.unique(keys[~self.find(keys)[1] & (keys != 0)])
        for probe in range(PROBES):
            places = self._places(missing)[:, probe]
            free = self.keys[places] == 0
            self.keys[places[free]] = missing[free]
            won = self.keys[places] == missing
            claimed.append(places[won])
            missing = missing[~won]
        if len(missing):
            places = self._places(missing)
            least = counts[places].min(1)
            places = places.gather(1, least.indices.unsqueeze(1)).squeeze(1)
            rare = least.values <= _RARE
            self.keys[places[rare]] = missing[rare]
            claimed.append(places[self.keys[places] == missing])
        slots, found = self.find(keys)
        return torch.where(found, slots, -1), torch.unique(torch.cat(claimed))

    def _places(self, keys: Tensor) -> Tensor:
        """Return where keys may be, int64 `[n, PROBES]`."""
        first = (keys * -7046029254386353131) >> 20
        return (first.unsqueeze(1) + self.steps) & (len(self.keys) - 1)


class Seen(nn.Module):
    """Counts what fields hold, each at its address and at all addresses together.

    Args:
        size: Fields that are kept, a power of two.

    """

    counts: Tensor
    names: Tensor
    of_logits: Tensor
    of_lengths: Tensor
    of_levels: Tensor
    of_powers: Tensor
    of_bits: Tensor
    of_risky: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table = Table(size)
        self.register_buffer("counts", torch.zeros(size, _COLUMNS))
        self.register_buffer("names", torch.zeros(size, _NAME, dtype=torch.uint8))
        # for each bin the bins from it on
        self._constant("logits", torch.ones(_LOGITS, _LOGITS).triu())
        self._constant("lengths", torch.ones(_LENGTHS, _LENGTHS).triu())
        self._constant("levels", torch.arange(_LOGITS - 1) + _LOWEST)
        self._constant("powers", (1 << torch.arange(_LENGTHS - 1)).int())
        self._constant("bits", (1 << torch.arange(ALPHABET)).int())
        risky = torch.zeros(ALPHABET, dtype=torch.int32)
        risky[list(_RISKY)] = 1
        self._constant("risky", risky << torch.arange(ALPHABET, dtype=torch.int32))

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(f"of_{name}", value, persistent=False)

    def compare(
        self, traits: Tensor, logits: Tensor, addresses: Tensor
    ) -> tuple[Compared, Compared, Tensor]:
        """Compare values with those of their fields before, at their addresses and at all.

        Args:
            traits: Those of windows, int32 `[windows, 4]`.
            logits: Those of windows, float32 `[windows]`.
            addresses: Keys of the addresses of windows, int32 `[windows]`.

        Returns:
            Both, and the number of requests of each address, float32 `[windows]`.

        """
        n = len(traits)
        slots, found = self.table.find(torch.cat([_keys(traits), addresses.long()]))
        rows = self.counts[slots] * found.unsqueeze(1)
        visits, rows = rows[2 * n :, 0], rows[: 2 * n].view(2, n, _COLUMNS)
        count = rows[..., 0]
        more = count + 1
        risky = (traits[:, 3:4] & self.of_risky) != 0
        odd = ((rows[..., 1:_LENGTH] + 0.5) / more.unsqueeze(2)).log()
        tails = self.of_lengths[
            torch.bucketize(traits[:, 2].contiguous(), self.of_powers, right=True)
        ]
        length = (rows[..., _LENGTH:_LOGIT] * tails).sum(2)
        tails = self.of_logits[torch.bucketize(logits, self.of_levels)]
        level = (rows[..., _LOGIT:] * tails).sum(2)
        level = torch.where(level > _FORGIVEN, level - (_FORGIVEN - 0.5), 0.0)
        each = (
            count,
            level / more,
            -(odd * risky).sum(2),
            -((length + 0.5) / more).log(),
        )
        own, site = ([part[which] for part in each] for which in (0, 1))
        return Compared(*own), Compared(*site), visits

    def add(self, traits: Tensor, logits: Tensor, owners: Tensor) -> Tensor:
        """Count values; return the slots of fields that are new.

        Windows of a field that follow each other are a value, with the greatest of their logits.

        Args:
            traits: Those of windows, int32 `[windows, 4]`.
            logits: Those of windows, float32 `[windows]`.
            owners: The request of each window, int64 `[windows]`.

        """
        first = torch.ones(len(traits), dtype=torch.bool)
        first[1:] = (traits[1:, 0] != traits[:-1, 0]) | (owners[1:] != owners[:-1])
        greatest = torch.full((int(first.sum()),), -torch.inf)
        logits = greatest.scatter_reduce(0, first.cumsum(0) - 1, logits, "amax")
        traits = traits[first]
        slots, new = self.table.claim(_keys(traits), self.counts[:, 0])
        self.counts[new] = 0
        self.names[new] = 0
        rows = torch.zeros(len(traits), _COLUMNS)
        rows[:, 0] = 1
        rows[:, 1:_LENGTH] = (traits[:, 3:4] & self.of_bits) != 0
        each = torch.arange(len(traits))
        length = torch.bucketize(traits[:, 2].contiguous(), self.of_powers, right=True)
        rows[each, _LENGTH + length] = 1
        rows[each, _LOGIT + torch.bucketize(logits, self.of_levels)] = 1
        kept = slots >= 0
        self.counts.index_add_(0, slots[kept], rows.repeat(2, 1)[kept])
        touched = torch.unique(slots[kept])
        full = touched[self.counts[touched, 0] > _FULL]
        self.counts[full] *= 0.5
        return new

    def allow(self, traits: Tensor, logits: Tensor) -> None:
        """Let fields hold what scores as these values do.

        Args:
            traits: Those of windows, int32 `[windows, 4]`.
            logits: Those of windows, float32 `[windows]`.

        """
        self.add(traits, logits, torch.arange(len(traits)))
        slots, found = self.table.find(traits[:, 0].long())
        slots, level = slots[found], torch.bucketize(logits[found], self.of_levels)
        more = (0.15 * self.counts[slots, 0]).clamp(min=_MARKED)
        alphabet = ((traits[found, 3:4] & self.of_bits) != 0) * more.unsqueeze(1)
        self.counts.view(-1).index_add_(0, slots * _COLUMNS + _LOGIT + level, more)
        self.counts[:, 1:_LENGTH].index_add_(0, slots, alphabet)
        self.counts[:, 0].index_add_(0, slots, more)

    def name(
        self, new: Tensor, traits: Tensor, index: Tensor, owners: Tensor, names: Tensor
    ) -> None:
        """Keep names of fields that are new, of some of them in a batch.

        Args:
            new: Their slots.
            traits: Those of windows, int32 `[windows, 4]`.
            index: The number of each window in its request, int64 `[windows]`.
            owners: The request of each window, int64 `[windows]`.
            names: The feature `names`, uint8 `[batch, k]`.

        """
        if not len(new):
            return
        slots, found = self.table.find(_keys(traits))
        of_new = found & torch.isin(slots, new)
        for place in of_new.nonzero().squeeze(1)[: 2 * _NAMED].tolist():
            window = place % len(traits)
            slot = int(slots[place])
            if bool(self.names[slot, 0]):
                continue
            address, name = _name(bytes(names[owners[window]].tolist()), int(index[window]))
            text = b"* " + name if place >= len(traits) else (address + b" " + name).strip()
            row = torch.tensor(list(text[:_NAME]), dtype=torch.uint8)
            self.names[slot, : len(row)] = row

    def describe(self, most: int) -> list[dict[str, object]]:
        """Return what the fields hold that were seen most."""
        slots = (self.table.keys > 0).nonzero().squeeze(1)
        slots = slots[self.counts[slots, 0].argsort(descending=True)[:most]]
        return [self._describe(slot) for slot in slots.tolist()]

    def _describe(self, slot: int) -> dict[str, object]:
        row = self.counts[slot]
        text = bytes(self.names[slot].tolist()).rstrip(b"\0").decode("utf-8", "replace")
        address, _, name = text.partition(" ")
        used = [kind for kind, n in zip(_KINDS, row[1:_LENGTH].tolist(), strict=True) if n > 0]
        often = {kind for kind, n in zip(_KINDS, row[1:_LENGTH], strict=True) if n > row[0] / 10}
        longest = (row[_LENGTH:_LOGIT] > 0).nonzero()
        high = (row[_LOGIT:].flip(0).cumsum(0) > row[0] / 20).nonzero()
        logit = _LOWEST + _LOGITS - 1 - float(high[0, 0] if len(high) else _LOGITS)
        return {
            "address": address,
            "field": name or "request",
            "values": int(row[0]),
            "length": (1 << int(longest[-1, 0])) - 1 if len(longest) else 0,
            "characters": used,
            "type": _type(often),
            "score": float(torch.tensor(logit).sigmoid()),
        }

    def clear(self) -> None:
        """Forget all fields."""
        self.table.keys.zero_()
        self.counts.zero_()
        self.names.zero_()


def _keys(traits: Tensor) -> Tensor:
    """Return keys of fields at their addresses, then those at all addresses, int64 `[2n]`."""
    both = traits[:, :2].long()
    return torch.cat([both[:, 0], -both[:, 1]])


def _name(names: bytes, window: int) -> tuple[bytes, bytes]:
    """Return the address of a request, and the name of the field that a window is of."""
    address, *fields = names.split(b"\0")
    found = b""
    for field in fields:
        first, _, name = field.partition(b" ")
        if not first.isdigit() or int(first) > window:
            break
        found = name
    return address, found


def _type(often: set[str]) -> str:
    if "<" in often:
        return "markup"
    if often & {"{", "(", ";", "$"}:
        return "code"
    if "blank" in often:
        return "text"
    if often <= {"0-9", "-", ".", ":"}:
        return "number"
    if often <= {"a-z", "A-Z", "-", "."}:
        return "word"
    return "identifier"
