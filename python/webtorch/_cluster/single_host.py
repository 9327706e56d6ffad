"""The group of a host that is the only one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from webtorch._cluster.interfaces import View


@dataclass
class Alone:
    """A group of one host; see `webtorch._cluster.interfaces.Group`."""

    id: str
    generation: int = 0
    rank: int = 0
    sent: int = 0
    received: int = 0
    key: str = ""
    patience: float = math.inf
    waits: Mapping[str, float] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of the host."""
        return (self.id,)

    def fits(self, view: View) -> bool:
        """Return whether the host is still the only one."""
        return view.ids == self.ids

    def exchange(self, message: bytes) -> list[bytes]:
        """Return the message."""
        return [message]

    def mean(
        self,
        difference: Tensor,
        weight: float,
        weights: Sequence[float],
        rest: Tensor | None,
        is_exact: bool = False,
    ) -> Tensor:
        """Return the difference."""
        return difference.clone() if weight else torch.zeros_like(difference)

    def total(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values.clone()

    def send_state(self, to: int, data: Tensor) -> None:
        """Do nothing: there is no other host."""

    def receive_state(self, source: int, into: Tensor) -> None:
        """Do nothing: there is no other host."""

    def close(self) -> None:
        """Do nothing."""
