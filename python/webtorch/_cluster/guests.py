"""What guests contribute to rounds: a member adds it to its own contribution.

It has the guest's own number, so it counts once, however often the guest sends it and to however
many members: an anchor names the last number of the guest as it does that of each member.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from webtorch._cluster import formats
from webtorch._cluster.interfaces import ClusterError
from webtorch._cluster.lineage import Anchor

MAX_GUESTS = 16
"""Guests of a member, for each of which it keeps a byte for each number of a model."""

Offers = Mapping[str, list[int]]
"""By the guest's memory: the number of its contribution, and its steps."""


@dataclass(frozen=True)
class Contribution:
    """What a guest has sent."""

    host: str
    """Its id, and the number of its memory."""
    number: int
    steps: int
    of: tuple[int, str]
    """`Anchor.of` that it was trained from."""
    layout: str
    """The digest of the model's layout."""
    change: Tensor
    """The difference as `int8`."""
    floats: int
    integers: Tensor
    """int64 `[integers]`."""

    def values(self) -> Tensor:
        """Return the difference, float32 `[floats]`."""
        return formats.decode(self.change, self.floats, "int8")


class Guests:
    """The contributions that a member keeps until they are counted. Used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, dict[str, Contribution]] = {}
        self._refused: dict[tuple[str, str], int] = {}

    def hold(self, model: str, contribution: Contribution) -> bool:
        """Keep a contribution for the next round; return whether there is room for it."""
        with self._lock:
            held = self._held.setdefault(model, {})
            if contribution.host not in held and len(held) >= MAX_GUESTS:
                return False
            held[contribution.host] = contribution
            return True

    def offer(self, model: str, anchor: Anchor, layout: str) -> dict[str, Contribution]:
        """Return those that an anchor does not contain, by the guests' memories; drop others.

        Those of another layout are of the code before: they do not fit the model any more.
        """
        with self._lock:
            held = {
                host: each
                for host, each in self._held.get(model, {}).items()
                if (each.of, each.layout) == (anchor.of, layout)
                and each.number > anchor.number_of(host)
            }
            self._held[model] = held
            return dict(held)

    def refuse(self, model: str, contributions: Iterable[Contribution]) -> None:
        """Drop contributions with which no anchor can be made; their guests drop them, too."""
        with self._lock:
            for each in contributions:
                self._held.get(model, {}).pop(each.host, None)
                self._refused[model, each.host] = each.number
            while len(self._refused) > MAX_GUESTS:
                del self._refused[next(iter(self._refused))]

    def refused(self, model: str, host: str) -> int:
        """Return the number of the last contribution of a guest that was refused; 0: none."""
        with self._lock:
            return self._refused.get((model, host), 0)


def chosen(offers: Mapping[int, Offers], members: Iterable[str]) -> dict[int, Offers]:
    """Return what each member adds: of each guest one contribution, all hosts the same.

    Two members have one if the guest has sent it again, as it got no answer. A guest that is a
    member again contributes itself.

    Args:
        offers: What each host has of guests, by its rank.
        members: The memories of the members.

    Raises:
        ClusterError: They are malformed.

    """
    best: dict[str, tuple[int, int, list[int]]] = {}
    own = frozenset(members)
    for rank, held in offers.items():
        if len(held) > MAX_GUESTS:
            raise ClusterError("a host has too many guests")
        for host, offer in held.items():
            if not (
                isinstance(offer, list)
                and len(offer) == 2
                and all(type(each) is int and each > 0 for each in offer)
            ):
                raise ClusterError("the contributions of guests are malformed")
            if host not in own:
                best[host] = min(best.get(host, (0, 0, [])), (-offer[0], rank, offer))
    found: dict[int, dict[str, list[int]]] = {rank: {} for rank in offers}
    for host, (_, rank, offer) in sorted(best.items()):
        found[rank][host] = offer
    return dict(found)


def combined(
    change: Tensor, weight: float, others: Iterable[Contribution], weigh: Callable[[int], float]
) -> Tensor:
    """Return the weighted mean of a member's difference and those of its guests.

    Args:
        change: float32 `[floats]` of the member, which is changed.
        weight: The weight of all together.
        others: Those of guests.
        weigh: Returns the weight of so many steps.

    """
    given = [(each, weigh(each.steps)) for each in others]
    if not given or weight <= 0:
        return change
    change *= (weight - sum(share for _, share in given)) / weight
    for each, share in given:
        change.add_(each.values(), alpha=share / weight)
    return change
