"""A guard that learns a site: its fields, and how its own normal requests score."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from webtorch._features.field_nets import FieldNet, FieldTables
from webtorch.detect._fields import FieldClassifier
from webtorch.detect._recent import RecentFields, RecentWindows
from webtorch.detect._seen import Booleans, Floats, Integers, Seen, Table, level_of

SURE = 2.25
"""Logits above this are attacks for the shipped guard: they do not move a threshold."""

LEAST = -0.25
"""Thresholds are not below this logit."""

RARE = 3
"""A field is known from as many values on."""

NORMAL, ATTACK = -1, 1

_KNOWN = 5.0  # what a value like those before loses
_SHARE, _SITE_SHARE = 0.074, 0.135  # of the values of a field, that score as high
_RISK, _SITE_RISK, _MOST_RISK = 0.6, 0.3, 8.0
_LENGTH, _MOST_LENGTH = 0.3, 5.0
_NEW, _USUAL = 1.0, 10  # a new field at an address with as many requests
_MARK = 30.0
_FAR = -9.0  # a window of less stays below all thresholds
_AGE = 1.0  # seconds that thresholds are kept
_FULL = 100_000.0  # requests of a location, after which they count half
_BINS, _WIDTH, _LOW = 128, 0.125, -8.0  # of scores
_LOCATIONS, _MARKS = 256, 4096
_NOTABLE = -4.0  # windows of less are not remembered when an operator marks a request
_ID, _EXAMPLE = 16, 48


class SiteGuard(nn.Module):
    """Scores requests by all of their fields, and by what these hold on a site.

        guard = webtorch.Model("guard", SiteGuard(FieldClassifier.pretrained()))
        score, window, kind = guard(numbers, windows, traits, location, target)
        guard.module.learn(numbers, windows, traits, location, names)
        guard.module.keep(recent.module, id, numbers, windows, traits)
        guard.module.mark(recent.module, ids, attack=False)

    It learns from requests, most of which are normal, for example while `webtorch_access` has
    `dry_run`. For each field of each address it counts kinds of characters, lengths and logits of
    the classifier. A value like those before weighs less, one with new punctuation or length more.

    For a location with `target=` it chooses the threshold: the logit that this share of the
    location's requests reached, each of which was scored before it was learned. With `n` requests
    the share is at least `1 / n`: until there are as many, the threshold is higher by the logarithm
    of what is missing. Requests of which the classifier is sure are counted and do not move it.

    Tables are of fixed size. New fields replace those that were seen once or twice. In a
    `webtorch.Model` all workers share them without a lock: counts that two workers write at once
    may be lost, which changes no score by more than a request less would.

    Args:
        classifier: What scores the windows of fields.
        size: Fields that are kept, a power of two; by default 8192.

    Raises:
        ValueError: The size is not a power of two.

    """

    examples: Tensor
    scores: Tensor
    verdicts: Tensor
    marked: Tensor
    holders: Tensor
    levels: Tensor

    def __init__(self, classifier: FieldClassifier, size: int = 8192) -> None:
        super().__init__()
        self.classifier = classifier
        self._since, self._has_marks = 0.0, False
        self._allowed: tuple[Integers, Integers] = (np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._thresholds: dict[tuple[int, float], float] = {}
        self.fields = Seen(size)
        self.locations = Table(_LOCATIONS)
        # how many requests, then of each logit
        self.register_buffer("scores", torch.zeros(_LOCATIONS, 1 + _BINS))
        self.register_buffer("examples", torch.zeros(_LOCATIONS, _EXAMPLE, dtype=torch.uint8))
        self.marks = Table(_MARKS)
        self.register_buffer("verdicts", torch.zeros(_MARKS, dtype=torch.int8))
        self.register_buffer("marked", torch.zeros(_MARKS, _ID, dtype=torch.uint8))
        # the field at its address that may hold what scores as high, and how high that is
        self.register_buffer("holders", torch.zeros(_MARKS, dtype=torch.int64))
        self.register_buffer("levels", torch.zeros(_MARKS))

    @torch.no_grad()
    def forward(
        self, numbers: Tensor, windows: Tensor, traits: Tensor, location: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, and where and what the attack would be; they have no gradient.

        Args:
            numbers: The feature `numbers`, int32 `[batch, n]`.
            windows: The feature `windows`, int64 `[batch, n]`.
            traits: The feature `traits`, int32 `[batch, 4, n]`.
            location: The feature `location`, int64 `[batch, 1]`.
            target: The feature `target`, float32 `[batch, 1]`; 0: no threshold is chosen.

        Returns:
            The score, float32 `[batch, 1]`: 0.5 is the threshold, that of the location if it has a
            target; the worst window, int64 `[batch, 1]`; and the kind as `FieldClassifier` has it.

        """
        read = _Windows(self.classifier, numbers, windows, traits)
        logits = self._adjust(read)
        worst = read.worst(logits)
        kinds = read.kinds[torch.from_numpy(worst)].argmax(1)
        thresholds = self._recent_thresholds(location[:, 0].cpu(), target[:, 0].cpu())
        scores = torch.from_numpy(read.sums(logits) - thresholds).sigmoid()
        window = torch.from_numpy(read.index[worst])
        device = numbers.device
        kind = self.classifier.names.to(device)[kinds]
        return scores.unsqueeze(1).to(device), window.unsqueeze(1).to(device), kind

    def net(self) -> FieldNet:
        """Return what C evaluates itself, for `@webtorch.infer(native=...)`."""
        tables = FieldTables(
            fields=self.fields.table.keys,
            counts=self.fields.counts,
            locations=self.locations.keys,
            scores=self.scores,
            marks=self.marks.keys,
            verdicts=self.verdicts,
            holders=self.holders,
            levels=self.levels,
        )
        return replace(self.classifier.net(), tables=tables)

    def thresholds(self, location: Tensor, target: Tensor) -> Tensor:
        """Return the logits at which requests of locations are denied.

        Args:
            location: The feature `location`, int64 `[n]`.
            target: Shares of the normal requests, float32 `[n]`; 0: the classifier's own threshold.

        Returns:
            Logits, float32 `[n]`.

        """
        slots, known = self.locations.find(location.numpy())
        scores = self.scores[torch.from_numpy(slots)] * torch.from_numpy(known).unsqueeze(1)
        rank = target * (scores[:, 0] + 1)
        above = scores[:, 1:].flip(1).cumsum(1)
        # the greatest logit that as many requests have reached; the upper end of its bin
        steps = (above < rank.clamp(min=1).unsqueeze(1)).sum(1)
        found = _LOW + _WIDTH * (_BINS - steps) - rank.clamp(1e-9, 1).log()
        found = torch.where(scores[:, 0] > 0, found, torch.full_like(found, SURE))
        return torch.where(target > 0, found.clamp(LEAST, SURE), torch.zeros_like(found))

    @torch.no_grad()
    def learn(
        self,
        numbers: Tensor,
        windows: Tensor,
        traits: Tensor,
        location: Tensor,
        names: Tensor | None = None,
    ) -> None:
        """Learn requests of the site, most of which are normal; none of them: nothing.

        Args:
            numbers: The feature `numbers`, int32 `[batch, n]`.
            windows: The feature `windows`, int64 `[batch, n]`.
            traits: The feature `traits`, int32 `[batch, 4, n]`.
            location: The feature `location`, int64 `[batch, 1]`.
            names: The feature `names`, uint8 `[batch, k]`, for `describe`; None: there are none.

        """
        if len(numbers):
            read = _Windows(self.classifier, numbers, windows, traits)
            self._learn(read, location, names)

    @torch.no_grad()
    def learn_scored(
        self,
        logits: Tensor,
        prints: Tensor,
        traits: Tensor,
        location: Tensor,
        names: Tensor | None = None,
    ) -> None:
        """Learn requests as `learn` does, by the logits that C has computed.

        Args:
            logits: The feature `logits`, float32 `[batch, n]`.
            prints: The feature `prints`, int64 `[batch, n]`.
            traits: The feature `traits`, int32 `[batch, 4, n]`.
            location: The feature `location`, int64 `[batch, 1]`.
            names: The feature `names`, uint8 `[batch, k]`, for `describe`; None: there are none.

        """
        if len(logits):
            self._learn(_Scored(logits, prints, traits), location, names)

    @torch.no_grad()
    def keep(
        self, recent: RecentFields, id: Tensor, numbers: Tensor, windows: Tensor, traits: Tensor
    ) -> None:
        """Keep requests for `mark`; of a long one the worst windows that fit, and its address.

        Args:
            recent: Where they are kept.
            id: The feature `id`, uint8 `[batch, 16]`.
            numbers: The feature `numbers`, int32 `[batch, n]`.
            windows: The feature `windows`, int64 `[batch, n]`.
            traits: The feature `traits`, int32 `[batch, 4, n]`.

        """
        long = recent.too_long(numbers, windows)
        recent.add(id[~long], *(each[~long] for each in (numbers, windows, traits)))
        if long.any():
            rows = (each[long] for each in (numbers, windows, traits))
            read = _Windows(self.classifier, *rows)
            logits = np.maximum(read.logits, self._adjust(read))
            recent.add(id[long], *read.shortened(logits, *recent.room))

    def keep_scored(
        self, recent: RecentWindows, id: Tensor, logits: Tensor, prints: Tensor, traits: Tensor
    ) -> None:
        """Keep requests for `mark` as `keep` does, by the logits that C has computed.

        Args:
            recent: Where they are kept.
            id: The feature `id`, uint8 `[batch, 16]`.
            logits: The feature `logits`, float32 `[batch, n]`.
            prints: The feature `prints`, int64 `[batch, n]`.
            traits: The feature `traits`, int32 `[batch, 4, n]`.

        """
        ranks = logits
        if logits.shape[1] > recent.room:
            read = _Scored(logits, prints, traits)
            ranks = logits.clone()
            ranks[ranks > -torch.inf] = torch.from_numpy(
                np.maximum(read.logits, self._adjust(read))
            )
        recent.add(id, logits, prints, traits, ranks)

    def mark(
        self, recent: RecentFields | RecentWindows, ids: list[str], attack: bool
    ) -> list[bool]:
        """Note that requests were attacks or normal, for good.

        What is alike but for numbers and identifiers has the same verdict from now on. A field of a
        normal request may hold what scores as high. A later mark of a request replaces the former.

        Args:
            recent: Where the requests are found.
            ids: Values of nginx's `$request_id`, 32 hexadecimal digits.
            attack: Whether they were attacks.

        Returns:
            Whether each of them was found, and there was room for it.

        Raises:
            ValueError: An id does not have 32 hexadecimal digits.

        """
        if isinstance(recent, RecentWindows):
            *rows, kept, known = recent.find(ids)
            read: Callable[..., _Rows] = _Scored
        else:
            *rows, kept, known = recent.find_traits(ids)
            read = partial(_Windows, self.classifier)
        if known.any():
            with torch.no_grad():
                fits = self._mark(read(*rows), kept, attack)
            self._since = 0.0
            known[known.clone()] = torch.from_numpy(fits)
        marked: list[bool] = known.tolist()
        return marked

    def learned(self) -> int:
        """Return how many requests were learned."""
        return int(self.scores[:, 0].sum())

    def describe(self, most: int = 100) -> dict[str, object]:
        """Return what was learned, as JSON can have it.

        Args:
            most: Fields that are returned at most, those that were seen most; by default 100.

        Returns:
            `requests`: how many were learned; `locations`: an example of an address, requests, and
            thresholds for targets, as scores without a target; `fields`: address, name, values,
            their length, characters and type, and the score that most stay below; `marks`: ids of
            requests and verdicts.

        """
        slots = (self.locations.keys != 0).nonzero().squeeze(1)
        locations = []
        for slot in slots.tolist():
            key = self.locations.keys[slot].expand(3)
            targets = torch.tensor([0.01, 0.001, 0.0005])
            found = self.thresholds(key, targets).sigmoid().tolist()
            locations.append(
                {
                    "example": text_of(self.examples[slot]),
                    "requests": int(self.scores[slot, 0]),
                    "thresholds": dict(zip(("0.01", "0.001", "0.0005"), found, strict=True)),
                }
            )
        marks = [
            {
                "id": bytes(self.marked[slot].tolist()).hex(),
                "verdict": "attack" if self.verdicts[slot] == ATTACK else "normal",
            }
            for slot in (self.marks.keys != 0).nonzero().squeeze(1).tolist()
        ]
        return {
            "requests": self.learned(),
            "locations": locations,
            "fields": self.fields.describe(most),
            "marks": marks,
        }

    @torch.no_grad()
    def reset(self, *, learned: bool = True, marks: bool = True) -> None:
        """Forget what was learned of the site, and what operators have marked.

        Args:
            learned: Whether fields and scores are forgotten; by default they are.
            marks: Whether marks are forgotten; by default they are.

        """
        self._since = 0.0
        if learned:
            self.fields.clear()
            self.locations.keys.zero_()
            self.scores.zero_()
            self.examples.zero_()
        if marks:
            self._unmark(self.marks.keys != 0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SiteGuard":
        """Move the classifier to a device: tables stay in memory that arrays of NumPy share."""
        self.classifier._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _refresh(self) -> None:
        """Forget what is kept for a second: thresholds, which change little; if marks exist."""
        now = time.monotonic()
        if now - self._since > _AGE or len(self._thresholds) > _LOCATIONS:
            self._has_marks = bool(self.marks.keys.any())
            self._allowed = self._allowances()
            self._thresholds = {}
            self._since = now

    def _allowances(self) -> tuple[Integers, Integers]:
        """Return fields that operators let hold more, sorted, and the levels of their logits."""
        normal = ((self.verdicts == NORMAL) & (self.holders != 0)).numpy()
        keys, which = np.unique(self.holders.numpy()[normal], return_inverse=True)
        levels = np.zeros(len(keys), np.int64)
        np.maximum.at(levels, which, level_of(self.levels.numpy()[normal]))
        return keys, levels

    def _is_allowed(self, fields: Integers, logits: Floats) -> Booleans:
        """Return whether operators let fields hold what has such logits, bool `[n]`."""
        keys, levels = self._allowed
        if not len(keys):
            return np.zeros(len(fields), np.bool_)
        at = keys.searchsorted(fields).clip(max=len(keys) - 1)
        found: Booleans = (keys[at] == fields) & (level_of(logits) <= levels[at])
        return found

    def _recent_thresholds(self, location: Tensor, target: Tensor) -> Floats:
        known = self._thresholds
        pairs = [*zip(location.tolist(), target.tolist(), strict=True)]
        if missing := [*{*pairs} - known.keys()]:
            each = torch.tensor([a for a, _ in missing]), torch.tensor([b for _, b in missing])
            known.update(zip(missing, self.thresholds(*each).tolist(), strict=True))
        return np.array([known[each] for each in pairs], np.float32)

    def _learn(self, read: "_Rows", location: Tensor, names: Tensor | None) -> None:
        """Learn requests that have been read."""
        scores = read.sums(self._adjust(read))
        names = None if names is None else names.cpu()
        self._learn_scores(scores, location[:, 0].cpu().numpy(), names)
        found = read.traits(read.all())
        new = self.fields.add(found, read.logits, read.owners)
        if names is not None:
            self.fields.name(new, found, read.index, read.owners, names)

    def _adjust(self, read: "_Rows", *, marks: bool = True) -> Floats:
        """Return the logits of windows on this site, by what operators have marked or without."""
        self._refresh()
        logits = read.logits
        # most windows are far below all thresholds, whatever is added
        near = np.flatnonzero(logits > _FAR)
        if len(near):
            logits = logits.copy()
            logits[near] = self._adjust_near(read, near, marks)
        if self._has_marks and marks:
            slots, marked = self.marks.find(read.prints())
            verdict = self.verdicts.numpy()[slots] * marked
            logits = np.where(verdict == 0, logits, np.float32(_MARK) * verdict)
        return logits

    def _adjust_near(self, read: "_Rows", near: Integers, marks: bool) -> Floats:
        """Return the logits of some windows on this site."""
        logits, traits = read.logits[near], read.traits(near)
        own, site, visits = self.fields.compare(traits, logits, read.addresses(near))
        usual, common = own.count >= RARE, site.count >= RARE
        known = np.where(usual, own.share > _SHARE, common & (site.share > _SITE_SHARE))
        if marks:
            known = known | self._is_allowed(traits[:, 0], logits)
        own_risk = _RISK * np.minimum(own.risk, _MOST_RISK)
        own_risk += _LENGTH * np.minimum(own.length, _MOST_LENGTH)
        site_risk = common * (_SITE_RISK * np.minimum(site.risk, _MOST_RISK))
        risk = np.where(usual, own_risk, site_risk)
        new = ~usual & ~common & (visits >= _USUAL)
        found: Floats = logits + np.where(known, -_KNOWN, risk + _NEW * new).astype(np.float32)
        return found.clip(-_MARK, _MARK)

    def _learn_scores(self, scores: Floats, location: Integers, names: Tensor | None) -> None:
        slots, new, replaced, _ = self.locations.claim(location, self.scores[:, 0])
        self.scores[replaced] = 0
        if names is not None:
            for slot in new.tolist():
                row = names[int(np.flatnonzero(slots == slot)[0]), :_EXAMPLE]
                self.examples[slot] = 0
                self.examples[slot, : len(row)] = row * ((row == 0).cumsum(0) == 0)
        kept = slots >= 0
        slots, scores = slots[kept], scores[kept]
        low = scores < SURE
        bins = ((scores[low] - _LOW) / _WIDTH).astype(np.int64).clip(0, _BINS - 1)
        cells = np.concatenate([slots * (1 + _BINS), slots[low] * (1 + _BINS) + 1 + bins])
        self.scores.view(-1).index_add_(0, torch.from_numpy(cells), torch.ones(len(cells)))
        touched = torch.from_numpy(np.unique(slots))
        self.scores[touched[self.scores[touched, 0] > _FULL]] *= 0.5

    def _mark(self, read: "_Rows", ids: Tensor, attack: bool) -> Booleans:
        """Note verdicts; return for which requests there was room."""
        # not by marks: those of this request are what an operator corrects
        logits = self._adjust(read, marks=False)
        prints = read.prints()
        chosen = np.zeros(len(logits), np.bool_)
        chosen[read.worst(logits)] = True
        if not attack:
            places, known = self.marks.find(prints)
            chosen |= (read.logits > _NOTABLE) | known & (self.verdicts.numpy()[places] == ATTACK)
        which = np.flatnonzero(chosen)
        kept_keys = torch.from_numpy(np.isin(self.marks.keys.numpy(), prints[which]))
        for id in ids:
            self._unmark((self.marked == id).all(1) & ~kept_keys)
        # a mark is never replaced by that of something else
        taken = torch.full((_MARKS,), torch.inf)
        found, *_ = self.marks.claim(prints[which], taken)
        kept = found >= 0
        slots, which_kept = torch.from_numpy(found[kept]), which[kept]
        self.verdicts[slots] = ATTACK if attack else NORMAL
        self.marked[slots] = ids[torch.from_numpy(read.owners[which_kept])]
        self.holders[slots] = torch.from_numpy(read.traits(which_kept)[:, 0])
        self.levels[slots] = torch.from_numpy(read.logits[which_kept])
        fits = np.ones(len(ids), np.bool_)
        fits[read.owners[which][~kept]] = False
        return fits

    def _unmark(self, which: Tensor) -> None:
        """Forget marks, bool `[_MARKS]`."""
        for each in (self.marks.keys, self.verdicts, self.marked, self.holders, self.levels):
            each[which] = 0


class _Rows:
    """The windows of a batch of requests.

    Attributes:
        logits: Of the classifier, float32 `[windows]`; its threshold is 0.
        owners: The request of each window, int64 `[windows]`, increasing.
        index: The number of each window in its request, int64 `[windows]`.

    """

    logits: Floats
    owners: Integers
    index: Integers
    _first: Integers  # window of each request
    _last: Integers  # index of the last window of each request
    _traits: NDArray[np.int32]

    def all(self) -> Integers:
        """Return the places of all windows."""
        return np.arange(len(self.owners))

    def traits(self, which: Integers) -> Integers:
        """Return the traits of the fields of windows, int64 `[n, 4]`."""
        return self._at(self.owners[which], self.index[which])

    def addresses(self, which: Integers) -> Integers:
        """Return the keys of the addresses of windows, int64 `[n]`."""
        rows = self.owners[which]
        return self._at(rows, self._last[rows])[:, 0]

    def sums(self, logits: Floats) -> Floats:
        """Return the logits of requests, float32 `[batch]`, from those of their windows."""
        found: Floats = np.log(np.add.reduceat(np.exp(logits), self._first))
        return found

    def worst(self, logits: Floats) -> Integers:
        """Return the window of each request that has the greatest logit, int64 `[batch]`."""
        greatest = np.maximum.reduceat(logits, self._first)
        places = np.flatnonzero(logits == greatest[self.owners])
        found: Integers = places[np.diff(self.owners[places], prepend=-1) != 0]
        return found

    def prints(self) -> Integers:
        """Return a hash of the numbers of each window, int64 `[windows]`, none of which is 0."""
        raise NotImplementedError

    def _at(self, rows: Integers, index: Integers) -> Integers:
        """Return the traits of windows, int64 `[n, 4]`; those that were cut have none."""
        last = self._traits.shape[2]
        found = self._traits[rows, :, np.minimum(index, last - 1)].astype(np.int64)
        found[index >= last] = 0
        return found


class _Scored(_Rows):
    """Windows as C has scored them.

    Args:
        logits: The feature `logits`, float32 `[batch, n]`.
        prints: The feature `prints`, int64 `[batch, n]`.
        traits: The feature `traits`, int32 `[batch, 4, n]`.

    """

    def __init__(self, logits: Tensor, prints: Tensor, traits: Tensor) -> None:
        rows = logits.cpu().numpy()
        there = rows > -np.inf
        self.owners, self.index = np.nonzero(there)
        self.logits = rows[there]
        self._prints: Integers = prints.cpu().numpy()[there]
        self._traits = traits.cpu().numpy()
        self._first = np.flatnonzero(np.diff(self.owners, prepend=-1))
        self._last = there.sum(1) - 1

    def prints(self) -> Integers:
        """Return a hash of the numbers of each window, int64 `[windows]`, none of which is 0."""
        return self._prints


class _Windows(_Rows):
    """Windows that the classifier scores.

    Attributes:
        kinds: Logits of kinds, float32 `[windows, kinds]`.

    """

    def __init__(
        self, classifier: FieldClassifier, numbers: Tensor, windows: Tensor, traits: Tensor
    ) -> None:
        device = classifier.table.device
        found, owners, begins = classifier.windows(numbers.to(device), windows.to(device))
        self.kinds = found[:, 1:]
        self.logits = (found[:, 0] - classifier.shift).detach().cpu().numpy()
        self.owners = owners.cpu().numpy()
        self._begins: Integers = begins.cpu().numpy()
        self._windows: Integers = windows.cpu().numpy()
        self.index = self._windows.reshape(-1)[self._begins]
        self._numbers: NDArray[np.int32] = numbers.cpu().numpy()
        self._traits = traits.cpu().numpy()
        self._last = self._windows[:, -1]
        self._first = np.flatnonzero(np.diff(self.owners, prepend=-1))

    def prints(self) -> Integers:
        """Return a hash of the numbers of each window, int64 `[windows]`, none of which is 0."""
        flat = self._numbers.reshape(-1).astype(np.int64)
        hashed = flat * np.int64(-7046029254386353131)
        hashed = (hashed ^ (hashed >> 29)) * np.int64(-4658895280553007687)
        found: Integers = np.add.reduceat(hashed * (flat != 0), self._begins) | 1
        return found

    def shortened(self, logits: Floats, room: int, kept: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return numbers, windows and traits of the windows with the greatest logits that fit.

        Args:
            logits: Those of windows, float32 `[windows]`.
            room: Numbers of a request at most.
            kept: Windows of a request at most.

        """
        batch, n = self._numbers.shape
        flat = self._numbers.reshape(-1)
        sizes = np.add.reduceat((flat != 0).astype(np.int64), self._begins)
        # the last window of a request has its address, and is kept
        is_last = self.index == self._windows[self.owners, -1]
        order = np.lexsort((np.where(is_last, -np.inf, -logits), self.owners))
        used = sizes[order].cumsum()
        used -= (used - sizes[order])[self._first][self.owners]
        rank = np.arange(len(order)) - self._first[self.owners]
        chosen = np.zeros(len(order), np.bool_)
        chosen[order] = (used <= room) & (rank < kept)
        before = chosen.cumsum() - chosen
        index = before - before[self._first][self.owners]

        place = np.repeat(np.arange(len(order)), np.diff(self._begins, append=flat.size))
        which = np.flatnonzero(chosen[place] & (flat != 0))
        rows = which // n
        columns = np.arange(len(which)) - np.searchsorted(rows, np.arange(batch))[rows]
        numbers = np.zeros((batch, room), np.int32)
        numbers[rows, columns] = flat[which]
        windows = np.zeros((batch, room), np.int64)
        windows += np.add.reduceat(chosen.astype(np.int64), self._first)[:, None] - 1
        windows[rows, columns] = index[place[which]]
        traits = np.zeros((batch, 4, kept), np.int32)
        some = np.flatnonzero(chosen)
        traits[self.owners[some], :, index[some]] = self.traits(some)
        return torch.from_numpy(numbers), torch.from_numpy(windows), torch.from_numpy(traits)


def text_of(row: Tensor) -> str:
    """Return the text of a row of bytes that ends with zeros."""
    return bytes(row.tolist()).rstrip(b"\0").decode("utf-8", "replace")
