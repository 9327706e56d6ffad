"""The features of the last requests, found by their ids."""

import re

import torch
from torch import Tensor, nn

from webtorch.detect._payloads import Payloads

_ID = re.compile(r"[0-9a-fA-F]{32}")


class _Slots(nn.Module):
    """Keeps the ids of requests, each in the slot that it selects; a newer one replaces it."""

    ids: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("ids", torch.zeros(size, 16, dtype=torch.uint8))

    def _slots(self, ids: Tensor) -> Tensor:
        """Return the slots of requests, int64 `[batch]`; ids are random."""
        digits = ids[:, :4].long()
        number = digits[:, 0] << 24 | digits[:, 1] << 16 | digits[:, 2] << 8 | digits[:, 3]
        return number % self.ids.shape[0]

    def knows(self, ids: list[str]) -> list[bool]:
        """Return whether requests are there.

        Args:
            ids: Values of nginx's `$request_id`, 32 hexadecimal digits.

        Raises:
            ValueError: An id does not have 32 hexadecimal digits.

        """
        known: list[bool] = self._find(ids)[1].tolist()
        return known

    def _find(self, ids: list[str]) -> tuple[Tensor, Tensor]:
        """Return the slots of the requests that are there, and True for these."""
        if not all(_ID.fullmatch(each) for each in ids):
            raise ValueError("an id has 32 hexadecimal digits, as $request_id has")
        wanted = torch.tensor([list(bytes.fromhex(each)) for each in ids], dtype=torch.uint8)
        wanted = wanted.view(-1, 16)
        slots = self._slots(wanted)
        known = (self.ids[slots] == wanted).all(1) & (wanted != 0).any(1)  # no id is 0
        return slots[known], known


class Recent(_Slots):
    """Keeps the payloads of the last requests, so that an operator can label a request by its id.

        recent = webtorch.Model("recent", Recent())
        recent.module.add(id, payloads)
        payloads, known = recent.module.find(["9f86d081884c7d659a2feaa0c55ad015"])

    In a `webtorch.Model` all workers keep them together in the zone. Each request takes 7 KB. The
    id of a request selects its slot, and a newer request in the slot replaces it: about half of the
    last `size` requests are found. Payloads are hashes, but their contents may be guessed, and
    checkpoints have them, too.

    Args:
        size: Number of slots; by default 4096.
        tokens: Tokens of a request, as the feature has them; by default 256.

    """

    tokens: Tensor
    segments: Tensor
    names: Tensor

    def __init__(self, size: int = 4096, tokens: int = 256) -> None:
        super().__init__(size)
        self.register_buffer("tokens", torch.zeros(size, 5, tokens, dtype=torch.int32))
        self.register_buffer("segments", torch.zeros(size, tokens, dtype=torch.uint8))
        self.register_buffer("names", torch.zeros(size, 3, 64, dtype=torch.int32))

    @torch.no_grad()
    def add(self, id: Tensor, payloads: Payloads) -> None:
        """Keep requests.

        Args:
            id: The feature `id`, uint8 `[batch, 16]`.
            payloads: Payloads of the same requests.

        """
        slots = self._slots(id)
        self.tokens[slots] = payloads.tokens
        self.segments[slots] = payloads.segments.to(torch.uint8)
        self.names[slots] = payloads.parameters
        self.ids[slots] = id

    def find(self, ids: list[str]) -> tuple[Payloads, Tensor]:
        """Find requests by their ids.

        Args:
            ids: Values of nginx's `$request_id`, 32 hexadecimal digits.

        Returns:
            The payloads of the requests that are found, and bool `[len(ids)]`, True for these.

        Raises:
            ValueError: An id does not have 32 hexadecimal digits.

        """
        slots, known = self._find(ids)
        segments = self.segments[slots].long()
        return Payloads(self.tokens[slots], segments, self.names[slots]), known


class RecentFields(_Slots):
    """Keeps the fields of the last requests, as numbers, so that an operator can label them.

        recent = webtorch.Model("recent", RecentFields())
        recent.module.add(id, numbers, windows)
        numbers, windows, known = recent.module.find(["9f86d081884c7d659a2feaa0c55ad015"])

    It is to `FieldClassifier` what `Recent` is to `PayloadClassifier`. Each request takes 6 KB.
    Of a longer one the first windows are kept, as many as fit. With traits it is not kept, because
    `SiteGuard.mark` needs the worst windows: `SiteGuard.keep` shortens it to these.

    Args:
        size: Number of slots; by default 4096.
        numbers: Numbers of a request, as the feature has them; by default 1024.
        traits: Windows of a request whose traits are kept, for `SiteGuard`; by default none.

    """

    numbers: Tensor
    windows: Tensor
    traits: Tensor

    def __init__(self, size: int = 4096, numbers: int = 1024, traits: int = 0) -> None:
        super().__init__(size)
        if traits:
            self.register_buffer("traits", torch.zeros(size, 4, traits, dtype=torch.int32))
        self.register_buffer("numbers", torch.zeros(size, numbers, dtype=torch.int32))
        self.register_buffer("windows", torch.zeros(size, numbers, dtype=torch.int16))

    @property
    def keeps_traits(self) -> bool:
        """Whether traits are kept."""
        return "traits" in self._buffers

    @property
    def room(self) -> tuple[int, int]:
        """Numbers of a request, and windows whose traits are kept."""
        return self.numbers.shape[1], self.traits.shape[2] if self.keeps_traits else 0

    @torch.no_grad()
    def add(
        self, id: Tensor, numbers: Tensor, windows: Tensor, traits: Tensor | None = None
    ) -> None:
        """Keep requests.

        Args:
            id: The feature `id`, uint8 `[batch, 16]`.
            numbers: The feature `numbers` of the same requests, int32 `[batch, n]`.
            windows: The feature `windows`, int64 `[batch, n]`.
            traits: The feature `traits`, int32 `[batch, 4, n]`, if traits are kept.

        """
        id, numbers, windows = (each.to(self.ids.device) for each in (id, numbers, windows))
        slots = self._slots(id)
        room = self.numbers.shape[1]
        long = self.too_long(numbers, windows)
        if numbers.shape[1] > room:
            # a window is cut if its numbers go on
            whole = (numbers[:, room] == 0).unsqueeze(1) | (windows < windows[:, room : room + 1])
            numbers = numbers * whole
            last = windows.masked_fill(~whole, 0).amax(1, keepdim=True)
            windows = torch.where(whole, windows, last)
        last = windows[:, min(room, windows.shape[1]) - 1 :][:, :1]
        self.ids[slots] = 0
        self.numbers[slots] = _cut(numbers, room, torch.zeros_like(numbers[:, :1]))
        self.windows[slots] = _cut(windows, room, last).short()
        if traits is not None:
            kept = self.traits.shape[2]
            traits = traits.to(self.ids.device)
            self.traits[slots] = _cut(traits, kept, torch.zeros_like(traits[..., :1]))
            id = id * ~long.unsqueeze(1)
        self.ids[slots] = id

    def too_long(self, numbers: Tensor, windows: Tensor) -> Tensor:
        """Return True for requests of which not all windows fit, bool `[batch]`."""
        long = (numbers[:, self.numbers.shape[1] :] != 0).any(1)
        return long | (windows[:, -1] >= self.traits.shape[2]) if self.keeps_traits else long

    def find(self, ids: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Find requests by their ids.

        Args:
            ids: Values of nginx's `$request_id`, 32 hexadecimal digits.

        Returns:
            The numbers and windows of the requests that are found, int32 and int64
            `[found, numbers]`, and bool `[len(ids)]`, True for these.

        Raises:
            ValueError: An id does not have 32 hexadecimal digits.

        """
        slots, known = self._find(ids)
        return self.numbers[slots], self.windows[slots].long(), known

    def find_traits(self, ids: list[str]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Find requests with their traits.

        Args:
            ids: Values of nginx's `$request_id`, 32 hexadecimal digits.

        Returns:
            Numbers, windows and traits of the requests that are found, int32 and int64
            `[found, numbers]` and int32 `[found, 4, traits]`, their ids, uint8 `[found, 16]`, and
            bool `[len(ids)]`, True for these.

        Raises:
            ValueError: An id does not have 32 hexadecimal digits.

        """
        slots, known = self._find(ids)
        windows = self.windows[slots].long()
        return self.numbers[slots], windows, self.traits[slots], self.ids[slots], known

    def others(self, numbers: Tensor, count: int = 64) -> tuple[Tensor, Tensor]:
        """Return some requests that are unlike the given ones.

        Args:
            numbers: Numbers of requests, int32 `[batch, numbers]`.
            count: How many are returned at most.

        Returns:
            Numbers and windows, int32 and int64 `[others, numbers]`. Of each, more than a tenth of
            the numbers is in none of the given ones.

        """
        kept = self.ids.any(1).nonzero().squeeze(1)
        slots = kept[torch.randperm(len(kept))[:count]]
        some = self.numbers[slots]
        strange = ((some != 0) & ~torch.isin(some, numbers)).sum(1)
        slots = slots[strange > (some != 0).sum(1) / 10]
        return self.numbers[slots], self.windows[slots].long()


class RecentWindows(_Slots):
    """Keeps the windows of the last requests, as a net has scored them, for `SiteGuard.mark`.

        recent = webtorch.Model("recent", RecentWindows())
        guard.module.keep_scored(recent.module, id, logits, prints, traits)

    Each request takes 1.8 KB. Of one with more windows the worst ones are kept.

    Args:
        size: Number of slots; by default 4096.
        windows: Windows of a request that are kept, at least 2; by default 64.

    """

    logits: Tensor
    prints: Tensor
    traits: Tensor

    def __init__(self, size: int = 4096, windows: int = 64) -> None:
        super().__init__(size)
        self.register_buffer("logits", torch.zeros(size, windows))
        self.register_buffer("prints", torch.zeros(size, windows, dtype=torch.int64))
        self.register_buffer("traits", torch.zeros(size, 4, windows, dtype=torch.int32))

    @property
    def room(self) -> int:
        """Windows of a request that are kept."""
        return self.logits.shape[1]

    @torch.no_grad()
    def add(
        self,
        id: Tensor,
        logits: Tensor,
        prints: Tensor,
        traits: Tensor,
        ranks: Tensor | None = None,
    ) -> None:
        """Keep requests.

        Args:
            id: The feature `id`, uint8 `[batch, 16]`.
            logits: The feature `logits` of the same requests, float32 `[batch, n]`.
            prints: The feature `prints`, int64 `[batch, n]`.
            traits: The feature `traits`, int32 `[batch, 4, n]`.
            ranks: How bad windows are, float32 `[batch, n]`, minus infinity where there is none;
                by default `logits`.

        """
        slots = self._slots(id)
        if logits.shape[1] > self.room:
            chosen = _worst(logits if ranks is None else ranks, self.room)
            logits, prints = logits.gather(1, chosen), prints.gather(1, chosen)
            traits = traits.gather(2, chosen.unsqueeze(1).expand(-1, 4, -1))
        n = logits.shape[1]
        self.ids[slots] = 0
        self.logits[slots, :n], self.logits[slots, n:] = logits, -torch.inf
        self.prints[slots, :n], self.prints[slots, n:] = prints, 0
        self.traits[slots, :, :n] = traits
        self.ids[slots] = id

    def find(self, ids: list[str]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Find requests by their ids.

        Args:
            ids: Values of nginx's `$request_id`, 32 hexadecimal digits.

        Returns:
            Logits, prints and traits of the requests that are found, float32 and int64
            `[found, windows]` and int32 `[found, 4, windows]`, their ids, uint8 `[found, 16]`, and
            bool `[len(ids)]`, True for these.

        Raises:
            ValueError: An id does not have 32 hexadecimal digits.

        """
        slots, known = self._find(ids)
        found = self.logits[slots], self.prints[slots], self.traits[slots]
        return *found, self.ids[slots], known


def _worst(logits: Tensor, room: int) -> Tensor:
    """Return as many windows with the greatest logits, in their order; the last one is kept."""
    there = (logits > -torch.inf).sum(1)
    kept = logits.scatter(1, (there - 1).clamp(min=0).unsqueeze(1), torch.inf)
    chosen = kept.topk(room, 1).indices
    # those that are not there come last
    absent = chosen >= there.unsqueeze(1)
    return chosen.masked_fill(absent, logits.shape[1] - 1).sort(1).values


def _cut(rows: Tensor, room: int, rest: Tensor) -> Tensor:
    """Return rows as long as the room is; what follows shorter ones is the rest."""
    missing = max(0, room - rows.shape[-1])
    return torch.cat([rows[..., :room], rest.expand(*rows.shape[:-1], missing)], -1)
