"""What the fields of a site hold: tables of fixed size, which are found by hashes."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]

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
_FORGIVEN = 2.0  # values that say nothing of what a field holds
_SIGNS = "'\"<>();%\\/.$={[|&#*-,@!:?"
_KINDS = ("a-z", "A-Z", "0-9", "blank", "non-ASCII", "control", *_SIGNS)
# kinds of characters that attacks need more often than others
_RISKY = [_KINDS.index(kind) for kind in ("control", *"'\"<>();%\\.$={[|&!")]


_MIX = np.int64(-7046029254386353131)
_STEPS = np.arange(PROBES)
_HALF = np.float32(0.5)
_BITS = 1 << np.arange(ALPHABET)
_RISKY_BITS = np.where(np.isin(np.arange(ALPHABET), _RISKY), _BITS, 0)
_POWERS = 1 << np.arange(_LENGTHS - 1)
_LEVELS = np.arange(_LOGITS - 1, dtype=np.float32) + np.float32(_LOWEST)
# for each bin the bins from it on
_LENGTH_TAILS = np.triu(np.ones((_LENGTHS, _LENGTHS), np.float32))
_LOGIT_TAILS = np.triu(np.ones((_LOGITS, _LOGITS), np.float32))


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

    count: Floats
    share: Floats
    risk: Floats
    length: Floats


class Table(nn.Module):
    """Slots of keys; 0 is none. A slot is claimed, and is another key's if that is rare.

    Arrays of NumPy share memory with its tensor: for the few values of a request an operation on
    them takes a fraction of the time.

    Args:
        size: Number of slots, a power of two.

    Raises:
        ValueError: The size is not a power of two.

    """

    keys: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < PROBES or size & (size - 1):
            raise ValueError(f"the size of a table is a power of two, and at least {PROBES}")
        self.register_buffer("keys", torch.zeros(size, dtype=torch.int64))

    def find(self, keys: Integers) -> tuple[Integers, Booleans]:
        """Return the slots of keys, int64 `[n]`, and True for those that are there."""
        places = self._places(keys)
        hits: Booleans = self.keys.numpy()[places] == keys[:, None]
        slots = places[np.arange(len(keys)), hits.argmax(1)]
        return slots, hits.any(1) & (keys != 0)

    def claim(self, keys: Integers, counts: Tensor) -> tuple[Integers, Integers, Tensor, Tensor]:
        """Find slots of keys, and claim some for those that have none.

        Args:
            keys: Keys, int64 `[n]`.
            counts: How often the key of each slot was seen, float32 `[size]`.

        Returns:
            The slots of the keys, -1: there is none; those that were claimed; those of these that
            were another key's; and those to be counted down, int64. Slots that were free have no
            counts, and another worker may have claimed them for the same key and count already.

        """
        own = self.keys.numpy()
        claimed, replaced, crowded = [], np.zeros(0, np.int64), np.zeros(0, np.int64)
        missing = np.unique(keys[~self.find(keys)[1] & (keys != 0)])
        for probe in range(PROBES):
            places = self._places(missing)[:, probe]
            free = own[places] == 0
            own[places[free]] = missing[free]
            won = own[places] == missing
            claimed.append(places[won])
            missing = missing[~won]
        if len(missing):
            places = self._places(missing)
            found = counts.numpy()[places]
            least = found.argmin(1)
            each = np.arange(len(missing))
            rare = found[each, least] <= _RARE
            others = np.where(found > _RARE, found, np.inf)
            crowded = np.unique(places[each, others.argmin(1)][np.isfinite(others.min(1))])
            places = places[each, least]
            own[places[rare]] = missing[rare]
            replaced = np.unique(places[rare])
            claimed.append(replaced)
        slots, known = self.find(keys)
        new = np.unique(np.concatenate(claimed))
        found = np.where(known, slots, -1)
        return found, new, torch.from_numpy(replaced), torch.from_numpy(crowded)

    def _places(self, keys: Integers) -> Integers:
        """Return where keys may be, int64 `[n, PROBES]`."""
        first = (keys * _MIX) >> 20
        places: Integers = (first[:, None] + _STEPS) & (len(self.keys) - 1)
        return places


class Seen(nn.Module):
    """Counts what fields hold, each at its address and at all addresses together.

    Args:
        size: Fields that are kept, a power of two.

    """

    counts: Tensor
    names: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table = Table(size)
        self.register_buffer("counts", torch.zeros(size, _COLUMNS))
        self.register_buffer("names", torch.zeros(size, _NAME, dtype=torch.uint8))

    def compare(
        self, traits: Integers, logits: Floats, addresses: Integers
    ) -> tuple[Compared, Compared, Floats]:
        """Compare values with those of their fields before, at their addresses and at all.

        Args:
            traits: Those of windows, int64 `[windows, 4]`.
            logits: Those of windows, float32 `[windows]`.
            addresses: Keys of the addresses of windows, int64 `[windows]`.

        Returns:
            Both, and the number of requests of each address, float32 `[windows]`.

        """
        n = len(traits)
        slots, found = self.table.find(np.concatenate([_keys(traits), addresses]))
        rows = self.counts.numpy()[slots] * found[:, None]
        visits, rows = rows[2 * n :, 0], rows[: 2 * n].reshape(2, n, _COLUMNS)
        count = rows[..., 0]
        more = count + 1
        odd = np.log((rows[..., 1:_LENGTH] + _HALF) / more[..., None])
        risk = -(odd * ((traits[:, 3:4] & _RISKY_BITS) != 0)).sum(2)
        length = (rows[..., _LENGTH:_LOGIT] * _LENGTH_TAILS[_length(traits)]).sum(2)
        level = (rows[..., _LOGIT:] * _LOGIT_TAILS[level_of(logits)]).sum(2)
        level = np.where(level > _FORGIVEN, level - (_FORGIVEN - _HALF), np.float32(0))
        each = (count, level / more, risk, -np.log((length + _HALF) / more))
        own, site = ([part[which] for part in each] for which in (0, 1))
        return Compared(*own), Compared(*site), visits

    def add(self, traits: Integers, logits: Floats, owners: Integers) -> Integers:
        """Count values; return the slots of fields that are new.

        Windows of a field that follow each other are a value, with the greatest of their logits.

        Args:
            traits: Those of windows, int64 `[windows, 4]`.
            logits: Those of windows, float32 `[windows]`.
            owners: The request of each window, int64 `[windows]`.

        """
        differ = (traits[1:, 0] != traits[:-1, 0]) | (owners[1:] != owners[:-1])
        first = np.flatnonzero(np.concatenate([[True], differ]))
        logits, traits = np.maximum.reduceat(logits, first), traits[first]
        slots, new, replaced, crowded = self.table.claim(_keys(traits), self.counts[:, 0])
        # what is not seen any more loses a value whenever another field has no slot
        counts = self.counts[crowded]
        self.counts[crowded] = counts - counts / counts[:, :1].clamp(min=1)
        self.counts[replaced] = 0
        self.names[replaced] = 0
        rows = np.zeros((len(traits), _COLUMNS), np.float32)
        rows[:, 0] = 1
        rows[:, 1:_LENGTH] = (traits[:, 3:4] & _BITS) != 0
        each = np.arange(len(traits))
        rows[each, _LENGTH + _length(traits)] = 1
        rows[each, _LOGIT + level_of(logits)] = 1
        kept = slots >= 0
        touched = torch.from_numpy(slots[kept])
        self.counts.index_add_(0, touched, torch.from_numpy(np.tile(rows, (2, 1))[kept]))
        touched = torch.unique(touched)
        self.counts[touched[self.counts[touched, 0] > _FULL]] *= 0.5
        return new

    def name(
        self, new: Integers, traits: Integers, index: Integers, owners: Integers, names: Tensor
    ) -> None:
        """Keep names of fields that are new, of some of them in a batch.

        Args:
            new: Their slots.
            traits: Those of windows, int64 `[windows, 4]`.
            index: The number of each window in its request, int64 `[windows]`.
            owners: The request of each window, int64 `[windows]`.
            names: The feature `names`, uint8 `[batch, k]`.

        """
        if not len(new):
            return
        slots, found = self.table.find(_keys(traits))
        of_new = found & np.isin(slots, new)
        for place in np.flatnonzero(of_new)[: 2 * _NAMED].tolist():
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
        rows = zip(self.counts[slots].tolist(), self.names[slots].tolist(), strict=True)
        return [_describe(*each) for each in rows]

    def clear(self) -> None:
        """Forget all fields."""
        self.table.keys.zero_()
        self.counts.zero_()
        self.names.zero_()


def _describe(row: list[float], text: list[int]) -> dict[str, object]:
    """Return what a field holds, by its counts and its name."""
    name = bytes(text).rstrip(b"\0").decode("utf-8", "replace")
    address, _, name = name.partition(" ")
    kinds = [*zip(_KINDS, row[1:_LENGTH], strict=True)]
    lengths = [bits for bits, n in enumerate(row[_LENGTH:_LOGIT]) if n > 0]
    above, level = 0.0, _LOGITS
    while level and above <= row[0] / 20:
        level -= 1
        above += row[_LOGIT + level]
    logit = _LOWEST + (level if above > row[0] / 20 else -1)
    return {
        "address": address,
        "field": name or "request",
        "values": int(row[0]),
        "length": (1 << lengths[-1]) - 1 if lengths else 0,
        "characters": [kind for kind, n in kinds if n > 0],
        "type": _type({kind for kind, n in kinds if n > row[0] / 10}),
        "score": 1 / (1 + math.exp(-logit)),
    }


def _keys(traits: Integers) -> Integers:
    """Return keys of fields at their addresses, then those at all addresses, int64 `[2n]`."""
    return np.concatenate([traits[:, 0], -traits[:, 1]])


def _length(traits: Integers) -> Integers:
    """Return the bin of the length: the number of its bits."""
    found: Integers = _POWERS.searchsorted(traits[:, 2], "right")
    return found


def level_of(logits: Floats) -> Integers:
    """Return the bin of a logit."""
    found: Integers = _LEVELS.searchsorted(logits)
    return found


def _name(names: bytes, window: int) -> tuple[bytes, bytes]:
    """Return the address of a request, and the name of the field that a window is of."""
    address, *fields = names.split(b"\0")
    found = b""
    if names[-1:] != b"\0" and fields:
        # the names are cut: how many windows the last one has is not known
        *fields, _ = fields
        last = fields[-1].partition(b" ")[0] if fields else b""
        if not last.isdigit() or window > int(last):
            return address, b""
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
