"""A guard that learns a site: its fields, and how its own normal requests score."""

import time

import torch
from torch import Tensor, nn

from webtorch.detect._fields import FieldClassifier
from webtorch.detect._recent import RecentFields
from webtorch.detect._seen import Seen, Table

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
_LOCATIONS, _MARKS = 256, 1024
_NOTABLE = -4.0  # windows of less are not remembered when an operator marks a request
_ID, _EXAMPLE = 16, 48


class SiteGuard(nn.Module):
    """Scores requests by all of their fields, and by what these hold on a site.

        guard = webtorch.Model("guard", SiteGuard(FieldClassifier.pretrained()))
        score, window, kind = guard(numbers, windows, traits, location, target)
        guard.module.learn(numbers, windows, traits, location, names)
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

    def __init__(self, classifier: FieldClassifier, size: int = 8192) -> None:
        super().__init__()
        self.classifier = classifier
        self._since, self._thresholds = 0.0, dict[tuple[int, float], float]()
        self.fields = Seen(size)
        self.locations = Table(_LOCATIONS)
        # how many requests, then of each logit
        self.register_buffer("scores", torch.zeros(_LOCATIONS, 1 + _BINS))
        self.register_buffer("examples", torch.zeros(_LOCATIONS, _EXAMPLE, dtype=torch.uint8))
        self.marks = Table(_MARKS)
        self.register_buffer("verdicts", torch.zeros(_MARKS, dtype=torch.int8))
        self.register_buffer("marked", torch.zeros(_MARKS, _ID, dtype=torch.uint8))

    def forward(
        self, numbers: Tensor, windows: Tensor, traits: Tensor, location: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, and where and what the attack would be.

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
        kind = self.classifier.names[read.kinds[worst].argmax(1)]
        threshold = self._recent_thresholds(location[:, 0], target[:, 0])
        scores = (read.sums(logits) - threshold).sigmoid()
        return scores.unsqueeze(1), read.index[worst].unsqueeze(1), kind

    def thresholds(self, location: Tensor, target: Tensor) -> Tensor:
        """Return the logits at which requests of locations are denied.

        Args:
            location: The feature `location`, int64 `[n]`.
            target: Shares of the normal requests, float32 `[n]`; 0: the classifier's own threshold.

        Returns:
            Logits, float32 `[n]`.

        """
        slots, known = self.locations.find(location)
        scores = self.scores[slots] * known.unsqueeze(1)
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
        if not len(numbers):
            return
        read = _Windows(self.classifier, numbers, windows, traits)
        self._learn_scores(read.sums(self._adjust(read)), location[:, 0], names)
        new = self.fields.add(read.traits, read.logits, read.owners)
        if names is not None:
            self.fields.name(new, read.traits, read.index, read.owners, names)

    def mark(self, recent: RecentFields, ids: list[str], attack: bool) -> list[bool]:
        """Note that requests were attacks or normal, for good.

        What is alike but for numbers and identifiers has the same verdict from now on. A field of a
        normal request may hold what scores as high.

        Args:
            recent: Where the requests are found.
            ids: Values of nginx's `$request_id`, 32 hexadecimal digits.
            attack: Whether they were attacks.

        Returns:
            Whether each of them was found.

        Raises:
            ValueError: An id does not have 32 hexadecimal digits.

        """
        numbers, windows, traits, kept, known = recent.find_traits(ids)
        if known.any():
            with torch.no_grad():
                self._mark(_Windows(self.classifier, numbers, windows, traits), kept, attack)
        found: list[bool] = known.tolist()
        return found

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
            "requests": int(self.scores[:, 0].sum()),
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
        if learned:
            self.fields.clear()
            self.locations.keys.zero_()
            self.scores.zero_()
            self.examples.zero_()
        if marks:
            self.marks.keys.zero_()
            self.verdicts.zero_()
            self.marked.zero_()

    def _recent_thresholds(self, location: Tensor, target: Tensor) -> Tensor:
        """Return thresholds that are at most a second old: they are few, and change little."""
        now = time.monotonic()
        if now - self._since > _AGE or len(self._thresholds) > _LOCATIONS:
            self._since, self._thresholds = now, {}
        known = self._thresholds
        pairs = [*zip(location.tolist(), target.tolist(), strict=True)]
        if missing := [*{*pairs} - known.keys()]:
            each = torch.tensor([a for a, _ in missing]), torch.tensor([b for _, b in missing])
            known.update(zip(missing, self.thresholds(*each).tolist(), strict=True))
        return torch.tensor([known[each] for each in pairs])

    def _adjust(self, read: "_Windows") -> Tensor:
        """Return the logits of windows on this site."""
        # most windows are far below all thresholds, whatever is added
        near = (read.logits > _FAR).nonzero().squeeze(1)
        logits = read.logits.index_copy(0, near, self._adjust_near(read, near))
        if bool(self.marks.keys.any()):
            slots, marked = self.marks.find(read.prints())
            verdict = self.verdicts[slots] * marked
            logits = torch.where(verdict == 0, logits, _MARK * verdict)
        return logits

    def _adjust_near(self, read: "_Windows", near: Tensor) -> Tensor:
        """Return the logits of some windows on this site."""
        logits = read.logits[near]
        addresses = read.addresses[read.owners[near]]
        own, site, visits = self.fields.compare(read.traits[near], logits, addresses)
        usual, common = own.count >= RARE, site.count >= RARE
        known = torch.where(usual, own.share > _SHARE, common & (site.share > _SITE_SHARE))
        risk = torch.where(
            usual,
            _RISK * own.risk.clamp(max=_MOST_RISK) + _LENGTH * own.length.clamp(max=_MOST_LENGTH),
            torch.where(common, _SITE_RISK * site.risk.clamp(max=_MOST_RISK), 0.0),
        )
        new = ~usual & ~common & (visits >= _USUAL)
        return (logits + torch.where(known, -_KNOWN, risk + _NEW * new)).clamp(-_MARK, _MARK)

    def _learn_scores(self, scores: Tensor, location: Tensor, names: Tensor | None) -> None:
        slots, new = self.locations.claim(location, self.scores[:, 0])
        self.scores[new] = 0
        if names is not None:
            for slot in new.tolist():
                row = names[(slots == slot).nonzero()[0, 0], :_EXAMPLE]
                end = (row == 0).cumsum(0) == 0
                self.examples[slot, : len(row)] = row * end
        kept = slots >= 0
        slots, scores = slots[kept], scores[kept]
        sure = scores >= SURE
        bins = ((scores - _LOW) / _WIDTH).long().clamp(0, _BINS - 1)
        self.scores.view(-1).index_add_(
            0, slots * (1 + _BINS) + 1 + bins, (~sure).to(self.scores.dtype)
        )
        self.scores[:, 0].index_add_(0, slots, torch.ones(len(slots)))
        touched = torch.unique(slots)
        self.scores[touched[self.scores[touched, 0] > _FULL]] *= 0.5

    def _mark(self, read: "_Windows", ids: Tensor, attack: bool) -> None:
        logits = self._adjust(read)
        worst = torch.zeros(len(logits), dtype=torch.bool)
        worst[read.worst(logits)] = True
        chosen = worst if attack else worst | (read.logits > _NOTABLE)
        prints = read.prints()[chosen]
        slots, _ = self.marks.claim(prints, self.verdicts.float().abs())
        kept = slots >= 0
        slots = slots[kept]
        self.verdicts[slots] = ATTACK if attack else NORMAL
        self.marked[slots] = ids[read.owners[chosen]][kept]
        if not attack:
            self.fields.allow(read.traits[chosen], read.logits[chosen])


class _Windows:
    """The windows of a batch of requests.

    Attributes:
        logits: Of the classifier, float32 `[windows]`; its threshold is 0.
        kinds: Logits of kinds, float32 `[windows, kinds]`.
        owners: The request of each window, int64 `[windows]`.
        index: The number of each window in its request, int64 `[windows]`.
        traits: Those of the field of each window, int32 `[windows, 4]`.
        addresses: The key of the address of each request, int32 `[batch]`.

    """

    def __init__(
        self, classifier: FieldClassifier, numbers: Tensor, windows: Tensor, traits: Tensor
    ) -> None:
        found, self.owners, self.begins = classifier.windows(numbers, windows)
        self.logits, self.kinds = found[:, 0] - classifier.shift, found[:, 1:]
        self.index = windows.reshape(-1)[self.begins]
        self.traits = _at(traits, self.owners, self.index)
        rows = torch.arange(len(numbers), device=numbers.device)
        self.addresses = _at(traits, rows, windows[:, -1])[:, 0]
        self._numbers = numbers

    def sums(self, logits: Tensor) -> Tensor:
        """Return the logits of requests, float32 `[batch]`, from those of their windows."""
        zeros = torch.zeros(len(self._numbers), device=logits.device)
        return zeros.scatter_add(0, self.owners, logits.exp()).log()

    def worst(self, logits: Tensor) -> Tensor:
        """Return the window of each request that has the greatest logit, int64 `[batch]`."""
        order = logits.argsort(stable=True)
        worst = torch.zeros(len(self._numbers), dtype=torch.int64, device=logits.device)
        # of several the last one counts: on the CPU they are written in order
        worst[self.owners[order]] = order
        return worst

    def prints(self) -> Tensor:
        """Return a hash of the numbers of each window, int64 `[windows]`, none of which is 0."""
        flat = self._numbers.reshape(-1).long()
        hashed = flat * -7046029254386353131
        hashed = (hashed ^ (hashed >> 29)) * -4658895280553007687
        which = torch.zeros(len(flat), dtype=torch.int64, device=flat.device)
        which[self.begins] = 1
        zeros = torch.zeros(len(self.begins), dtype=torch.int64, device=flat.device)
        return zeros.index_add(0, which.cumsum(0) - 1, hashed * (flat != 0)) | 1


def _at(traits: Tensor, owners: Tensor, index: Tensor) -> Tensor:
    """Return the traits of windows, int32 `[windows, 4]`; those that were cut have none."""
    last = traits.shape[2]
    return traits[owners, :, index.clamp(max=last - 1)] * (index < last).unsqueeze(1)


def text_of(row: Tensor) -> str:
    """Return the text of a row of bytes that ends with zeros."""
    return bytes(row.tolist()).rstrip(b"\0").decode("utf-8", "replace")
