"""The payloads of the last requests, found by their ids."""

import re

import torch
from torch import Tensor, nn

from webtorch.detect._payloads import Payloads

_ID = re.compile(r"[0-9a-fA-F]{32}")


class Recent(nn.Module):
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

    ids: Tensor
    tokens: Tensor
    segments: Tensor
    names: Tensor

    def __init__(self, size: int = 4096, tokens: int = 256) -> None:
        super().__init__()
        self.register_buffer("ids", torch.zeros(size, 16, dtype=torch.uint8))
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
        if not all(_ID.fullmatch(each) for each in ids):
            raise ValueError("an id has 32 hexadecimal digits, as $request_id has")
        wanted = torch.tensor([list(bytes.fromhex(each)) for each in ids], dtype=torch.uint8)
        wanted = wanted.view(-1, 16)
        slots = self._slots(wanted)
        known = (self.ids[slots] == wanted).all(1) & (wanted != 0).any(1)  # no id is 0
        slots = slots[known]
        segments = self.segments[slots].long()
        return Payloads(self.tokens[slots], segments, self.names[slots]), known

    def _slots(self, ids: Tensor) -> Tensor:
        """Return the slots of requests, int64 `[batch]`; ids are random."""
        digits = ids[:, :4].long()
        number = digits[:, 0] << 24 | digits[:, 1] << 16 | digits[:, 2] << 8 | digits[:, 3]
        return number % self.ids.shape[0]
