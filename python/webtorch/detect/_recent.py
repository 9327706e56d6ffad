"""The last requests, to be found again by their numbers."""

import re

import torch
from torch import Tensor, nn

from webtorch.detect._payloads import Payloads

_ID = re.compile(r"[0-9a-fA-F]{32}")


class Recent(nn.Module):
    """Keeps the payloads of the last requests, so that an operator can label one by its id.

    Give it to `webtorch.Model`, so that all workers keep them together in the zone. Each takes
    7 KB. What a request's id falls on is overwritten, so about half of the last `size` are there.
    Payloads have hashes, but what is in them may be guessed; checkpoints have them, too.

    Args:
        size: how many.
        tokens: of each.

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
            id: uint8 of shape `[batch, 16]`, the feature `id`.
            payloads: of the same requests.

        """
        slots = self._slots(id)
        self.tokens[slots] = payloads.tokens
        self.segments[slots] = payloads.segments.to(torch.uint8)
        self.names[slots] = payloads.parameters
        self.ids[slots] = id

    def find(self, ids: list[str]) -> tuple[Payloads, Tensor]:
        """Return the payloads of those that are still known, and which they are.

        Args:
            ids: values of nginx's `$request_id`, 32 hexadecimal digits.

        Returns:
            The payloads, and bool of shape `[len(ids)]`, true where an id is known.

        Raises:
            ValueError: if one is no `$request_id`.

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
        """Return where requests belong, int64 of shape `[batch]`; ids are random."""
        digits = ids[:, :4].long()
        number = digits[:, 0] << 24 | digits[:, 1] << 16 | digits[:, 2] << 8 | digits[:, 3]
        return number % self.ids.shape[0]
