"""What is learned of a site's clients in calm times."""

import math

import torch
from torch import Tensor

from webtorch.detect._flood_clients import Known, People
from webtorch.detect._flood_rows import (
    COLUMNS,
    RATES,
    SHARES,
    describe,
    is_counted,
    requests_of,
)

_ROWS = 1024  # that are learned together, at most
_SECONDS = 0.5  # until they are learned
_ACQUAINTED = 3  # requests of a client that is known


class Calm:
    """A sample of people, and the clients that are known.

    Requests are gathered for half a second: in calm times they come one by one, and learning from
    each by itself would cost more than all the rest.

    Args:
        size: Rows of the sample.
        memory: Rows over which the sample is replaced.
        per_client: Most rows of a client in a period.
        period: Seconds.
        generator: Random numbers.

    """

    def __init__(
        self, size: int, memory: int, per_client: int, period: float, generator: torch.Generator
    ) -> None:
        self.people = People(COLUMNS, size, memory, per_client, period, generator)
        self._known = Known(SHARES.stop - SHARES.start)
        self._gathered: list[tuple[Tensor, Tensor | None]] = []
        self._rows = 0
        self._until = math.inf

    def add(self, client: Tensor, key: Tensor | None, now: float) -> None:
        """Add requests: the features `client` and `key`."""
        if not self._rows:
            self._until = now + _SECONDS
        # a handler's inputs are gone after it has returned
        self._gathered.append((client.clone(), None if key is None else key.clone()))
        self._rows += client.shape[0]
        if self._rows >= _ROWS or now >= self._until:
            self._learn(now)

    def drop(self) -> None:
        """Drop what is gathered: a surge begins, and it may be of it."""
        self._gathered.clear()
        self._rows = 0

    def steady(self, described: Tensor, key: Tensor, onset: float, common: Tensor) -> Tensor:
        """Return which rows are of clients that were there before, and do what they did."""
        rates = described[:, RATES].expm1()
        return self._known.steady(key, rates, described[:, SHARES], onset, common)

    def _learn(self, now: float) -> None:
        clients, keys = zip(*self._gathered, strict=True)
        self.drop()
        client = torch.cat(clients)
        # what has no key is no client
        counted = is_counted(client)
        described = describe(client[counted])
        if any(key is None for key in keys):
            self.people.add(described, None, now)
            return
        key = torch.cat(keys)[counted]
        self.people.add(described, key, now)
        acquainted = requests_of(described) >= _ACQUAINTED
        described, key = described[acquainted], key[acquainted]
        self._known.learn(key, described[:, RATES].expm1(), described[:, SHARES], now)
