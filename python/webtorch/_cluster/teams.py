"""What hosts say of their models when a round begins, and which of them have the same model."""

import dataclasses
import json
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from webtorch._cluster.guests import Offers, chosen
from webtorch._cluster.interfaces import ClusterError, Group, Settings, View
from webtorch._cluster.store import Store

PIECE = 60 << 10
"""Bytes of a message in one exchange."""


PROTOCOL = 5
"""Version of what hosts exchange; it changes with the messages of rounds."""


class DisagreementError(ClusterError):
    """This host has other rules than most."""


class CutOffError(ClusterError):
    """Other hosts cannot reach this one, although it sees the coordinator."""


@dataclass(frozen=True)
class Status:
    """What a host says of a model when a round begins."""

    layout: str
    floats: int
    integers: int
    host: str
    anchor: str
    prepared: str
    number: int
    steps: int
    optimizer: str
    fresh: int
    """1 if the host has not been in a round since it has this memory."""
    joined: int
    """1 if it has been in a round with the same anchors at all hosts."""
    frozen: int
    """1 if the model is frozen."""
    orders: int
    """How often that has changed."""
    told: str
    """Identifies the layouts that the host has compared with its own."""
    epoch: int
    """That of the anchor."""
    origin: str
    """Where the weights of the epoch were put into place."""
    rollout: str
    """What is rolled out, as the host knows it; see `webtorch._cluster.rollout`."""
    verdict: str
    """What it says of the epoch that it has, if that is rolled out."""
    guests: dict[str, list[int]]
    """What it has of guests, see `Offers`."""
    replaced: int
    """1 if other weights were put into place there, which all hosts take next."""

    @classmethod
    def read(cls, found: Any) -> "Status":
        """Read one from a message.

        Raises:
            ClusterError: It is malformed.

        """
        try:
            types = {
                each.name: typing.get_origin(each.type) or each.type
                for each in dataclasses.fields(cls)
            }
            values = {key: found[key] for key in types}
        except (TypeError, KeyError) as error:
            raise ClusterError(f"a status is malformed: {error!r}") from error
        for key, value in values.items():
            if type(value) is not types[key] or (types[key] is int and value < 0):
                raise ClusterError(f'"{key}" of a status is malformed')
        return cls(**values)


@dataclass(frozen=True)
class Team:
    """The hosts of a group that have the same model."""

    name: str
    statuses: Mapping[int, Status]
    """By the ranks of the hosts."""
    store: Store | None
    """None if this host is not one of them."""
    size: int
    """Hosts of the group."""
    back: frozenset[int] = frozenset()
    """Ranks of those whose anchor is given up for any other."""

    @property
    def first(self) -> Status:
        """The status of the lowest rank: the layout is that of all."""
        return self.statuses[min(self.statuses)]

    def is_settled(self) -> bool:
        """Return whether all have the same anchor, and none has prepared another one."""
        keys = {status.anchor for status in self.statuses.values()}
        return len(keys) == 1 and not any(each.prepared for each in self.statuses.values())

    def is_replaced(self) -> bool:
        """Return whether all take other weights next, so that nothing is contributed to these."""
        return any(status.replaced for status in self.statuses.values())

    def guests(self) -> dict[int, Offers]:
        """Return what each host adds to its own contribution, by the ranks of the hosts."""
        offers = {rank: status.guests for rank, status in self.statuses.items()}
        return chosen(offers, [status.host for status in self.statuses.values()])


def rules_of(settings: Settings) -> str:
    """Return what all hosts of a round must have in common."""
    return f"compress={settings.compress} {rules_of_guests(settings)}"


def rules_of_guests(settings: Settings) -> str:
    """Return what guests must have in common with members."""
    outer = settings.outer
    name = outer.name if outer.name == "average" else f"{outer.name}:{outer.lr},{outer.momentum}"
    return f"outer={name} protocol={PROTOCOL}"


def agreed(view: View, own: str) -> View:
    """Return a view of those hosts that have the rules of most, of two those of the lowest id.

    All hosts of a view come to the same answer; others are rejected.

    Raises:
        DisagreementError: This host has other rules.

    """
    holders: dict[str, list[str]] = {}
    for member in view.members:
        holders.setdefault(str(member.about.get("rules")), []).append(member.id)
    if len(holders) < 2:
        return view
    rules = min(holders, key=lambda each: (-len(holders[each]), holders[each][0]))
    others = {host: each for each in holders for host in holders[each] if each != rules}
    if own in others:
        raise DisagreementError(
            f"it has {others[own]}, and host {holders[rules][0]} has {rules}, as most hosts do"
        )
    return dataclasses.replace(
        view,
        members=tuple(member for member in view.members if member.id not in others),
        rejected={**view.rejected, **{host: f"it has {each}" for host, each in others.items()}},
    )


def connected(view: View, own: str) -> View:
    """Return a view of those hosts that can all reach each other, as far as they have said so.

    Of two between which there is a cut, the one is left out that has more of them, else the one of
    the higher id. All hosts of a view come to the same answer; others are rejected.

    Raises:
        CutOffError: This host is left out.

    """
    cuts: dict[str, set[str]] = {id: set() for id in view.ids}
    for member in view.members:
        told = member.about.get("unreachable")
        for other in told if isinstance(told, list) else ():
            if isinstance(other, str) and other in cuts and other != member.id:
                cuts[member.id].add(other)
                cuts[other].add(member.id)
    rejected = {}
    while any(cuts.values()):
        host = max(cuts, key=lambda id: (len(cuts[id]), id))
        others = cuts.pop(host)
        rejected[host] = f"there is no connection between it and {', '.join(sorted(others))}"
        for other in others:
            cuts[other].discard(host)
    if not rejected:
        return view
    if own in rejected:
        raise CutOffError(rejected[own].replace("between it and", "to"))
    return dataclasses.replace(
        view,
        members=tuple(member for member in view.members if member.id in cuts),
        rejected={**view.rejected, **rejected},
    )


def gather(group: Group, message: bytes) -> list[bytes]:
    """Exchange messages of any length; all hosts do as many exchanges as the longest one needs."""
    found = [b""] * len(group.ids)
    place = 0
    while True:
        part = message[place : place + PIECE]
        place += PIECE
        pieces = group.exchange((b"+" if place < len(message) else b".") + part)
        found = [before + piece[1:] for before, piece in zip(found, pieces, strict=True)]
        if not any(piece.startswith(b"+") for piece in pieces):
            return found


def most_common(statuses: Mapping[int, Status]) -> str:
    """Return the layout that most hosts have, of two the one of the lowest rank."""
    ranks: dict[str, list[int]] = {}
    for rank, status in sorted(statuses.items()):
        ranks.setdefault(status.layout, []).append(rank)
    return max(ranks, key=lambda layout: (len(ranks[layout]), -ranks[layout][0]))


def first_difference(own: bytes, other: bytes) -> str:
    """Describe the first tensor in which two layouts differ."""
    try:
        layouts = [parse_object(each) for each in (own, other)]
    except ClusterError:
        return "it is too long to be compared"
    for key in sorted({*layouts[0], *layouts[1]}):
        texts = [
            f"{layout[key]['dtype']} {list(layout[key]['shape'])}"
            if isinstance(layout.get(key), dict) and "dtype" in layout[key]
            else "missing"
            for layout in layouts
        ]
        if texts[0] != texts[1]:
            return f'"{key}" is {texts[1]} there, {texts[0]} here'
    return "the order of its tensors differs"


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse an object of JSON; that of an empty message is empty."""
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise ClusterError(f"a message is malformed: {error}") from error
    return as_object(found)


def as_object(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ClusterError("a message is not an object")
    return found


def youngest_order(statuses: Iterable[Status]) -> Status:
    """Return the status of a host that knows the last order to freeze or unfreeze the model.

    What a host says that has just started is of the orders of another time.
    """
    return max(statuses, key=lambda each: (each.orders, not each.fresh, each.frozen))


def has_prepared(team: Team) -> bool:
    """Return whether its hosts may have prepared an anchor: all hosts know it from statuses."""
    has_steps = any(each.steps or each.guests for each in team.statuses.values())
    return not team.is_settled() or has_steps
