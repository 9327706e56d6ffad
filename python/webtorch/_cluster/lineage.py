"""Anchors: which contributions the weights after a round contain, and which anchor follows another.

A contribution of a host has a number, and an anchor has the last number of each host that it
contains. So of two anchors it is known whether one contains all that the other does, even if
neither was made from the other: no step is counted twice, and none is lost when one is taken for
the other. If neither contains the other, their lineages have parted and become one by a mean.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webtorch._cluster.interfaces import ClusterError

MAX_ANCESTORS = 64
"""Ancestors that an anchor names: enough for 2**17 rounds."""

_SPACING = 4
"""Ancestors of each age that is named, from each power of 2 rounds to the next one."""

MAX_SHARES = 128
"""Hosts that an anchor names, those of restarted hosts among them."""

MAX_STEPS = 2**63


@dataclass(frozen=True)
class Share:
    """What an anchor contains of a host."""

    number: int
    """Number of its last contribution, from 1."""
    steps: int
    """Steps of all its contributions."""
    at: int
    """Number of the anchor that first contained the last one."""


@dataclass(frozen=True)
class Ancestor:
    """An anchor that another one was made from."""

    number: int
    key: str
    steps: int


@dataclass(frozen=True)
class Anchor:
    """The weights after a round, without the weights: the same at all hosts that have it."""

    epoch: int
    """It grows when weights are put into place that were not trained from those before."""
    number: int
    """Number of rounds that led to it."""
    digest: str
    """SHA-256 of its tensors."""
    start: int
    """Steps that it contains beside those of `shares`."""
    shares: Mapping[str, Share]
    """What it contains of each host, by the host's id and the number of its memory."""
    ancestors: tuple[Ancestor, ...] = ()
    """Some of those that it was made from, the youngest first; fewer of those long ago."""
    origin: str = ""
    """Where the weights of its epoch were put into place; empty: they were not."""

    @property
    def steps(self) -> int:
        """All steps that it contains."""
        return self.start + sum(share.steps for share in self.shares.values())

    @property
    def key(self) -> str:
        """Identifies it: its weights and what they contain."""
        shares = {host: share.number for host, share in self.shares.items()}
        found = [self.epoch, self.origin, self.digest, self.start, shares]
        text = json.dumps(found, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def of(self) -> tuple[int, str]:
        """Identifies its epoch: two hosts may begin one at a time, of which one gives way."""
        return self.epoch, self.origin

    def number_of(self, host: str) -> int:
        """Return the number of a host's last contribution; 0: it contains none of that host."""
        share = self.shares.get(host)
        return share.number if share else 0

    def contains(self, other: "Anchor") -> bool:
        """Return whether no step is lost if it takes the place of another one.

        Those of an earlier epoch are to be lost.
        """
        if self.of != other.of:
            return self.of > other.of
        missing = [
            share.at for host, share in other.shares.items() if self.number_of(host) < share.number
        ]
        return not missing or max(missing) <= self.parted(other)

    def parted(self, other: "Anchor") -> int:
        """Return the number of the last known anchor that led to both, or is one; -1: none.

        Both contain what was in that one, although they may not name all of its shares any more.
        """
        own = {each.key for each in self._lineage()}
        return max((each.number for each in other._lineage() if each.key in own), default=-1)

    def _lineage(self) -> tuple[Ancestor, ...]:
        return (Ancestor(self.number, self.key, self.steps), *self.ancestors)

    def follow(
        self,
        digest: str,
        contributed: Mapping[str, tuple[int, int]],
        members: Iterable[str] = (),
    ) -> "Anchor":
        """Return the anchor after a round.

        Args:
            digest: That of its tensors.
            contributed: The number of each host's contribution, and its steps.
            members: Hosts whose shares it must name, as they may contribute again.

        """
        number = self.number + 1
        shares = dict(self.shares)
        for host, (last, steps) in contributed.items():
            before = shares.get(host)
            shares[host] = Share(last, steps + (before.steps if before else 0), number)
        kept, dropped = _limited(shares, frozenset(members))
        start = self.start + dropped
        return Anchor(
            self.epoch, number, digest, start, kept, _ancestors([self], number), self.origin
        )

    def restart(self, digest: str, steps: int, epoch: int, origin: str) -> "Anchor":
        """Return one of a later epoch, for other weights that have had so many steps."""
        made = sum(share.steps for share in self.shares.values())
        return dataclasses.replace(
            self,
            epoch=epoch,
            number=self.number + 1,
            digest=digest,
            start=steps - made,
            origin=origin,
            ancestors=_ancestors([self], self.number + 1),
        )

    def write(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return {
            "epoch": self.epoch,
            "origin": self.origin,
            "number": self.number,
            "digest": self.digest,
            "start": self.start,
            "shares": {
                host: [share.number, share.steps, share.at] for host, share in self.shares.items()
            },
            "ancestors": [[each.number, each.key, each.steps] for each in self.ancestors],
        }

    @classmethod
    def read(cls, found: Any) -> "Anchor":
        """Read what `write` has returned.

        Raises:
            ClusterError: It is not that.

        """
        try:
            shares = {
                _text(host): Share(*map(_number, share)) for host, share in found["shares"].items()
            }
            ancestors = tuple(
                Ancestor(_number(number), _text(key), _number(steps))
                for number, key, steps in found["ancestors"]
            )
            if len(shares) > MAX_SHARES or len(ancestors) > MAX_ANCESTORS:
                raise ValueError("too long")
            return cls(
                _number(found["epoch"]),
                _number(found["number"]),
                _text(found["digest"]),
                _number(found["start"]),
                shares,
                ancestors,
                _text(found["origin"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ClusterError(f"an anchor is malformed: {error!r}") from error


def first(digest: str, steps: int) -> Anchor:
    """Return the anchor of a host that has made no round: its weights as they are."""
    return Anchor(0, 0, digest, steps, {})


@dataclass(frozen=True)
class Standing:
    """The anchors that a host has."""

    anchor: Anchor
    prepared: Anchor | None
    """What the last round would have led to, had all hosts said that they have it."""


@dataclass(frozen=True)
class Merge:
    """How lineages that have parted become one."""

    ranks: tuple[int, ...]
    """A host for each of the anchors; all hosts take that of the first one before."""
    weights: tuple[float, ...]
    """Steps of each anchor since they parted, at least 1."""
    anchors: tuple[Anchor, ...]

    def anchor(self, digest: str) -> Anchor:
        """Return what they become."""
        shares: dict[str, Share] = {}
        number = max(anchor.number for anchor in self.anchors) + 1
        for anchor in self.anchors:
            for host, share in anchor.shares.items():
                if host not in shares or share.number > shares[host].number:
                    shares[host] = dataclasses.replace(share, at=number)
        kept, dropped = _limited(shares, frozenset())
        start = max(_starts(self.anchors)) + dropped
        epoch, origin = self.anchors[0].of
        ancestors = _ancestors(self.anchors, number)
        return Anchor(epoch, number, digest, start, kept, ancestors, origin)


@dataclass(frozen=True)
class Plan:
    """What hosts with different anchors do, so that all have the same one."""

    adopted: str
    """Key of a prepared anchor that those that have it commit; empty: none. Others are dropped."""
    top: Anchor
    """The anchor that all hosts take."""
    sources: Mapping[int, int]
    """The rank of a host that has it, by the rank of each that has not."""
    merge: Merge | None
    """Lineages that become one afterwards; None: there is one."""
    differs: bool
    """Whether two anchors contain the same and have other weights, which must not be."""


def resolve(standings: Mapping[int, Standing]) -> Plan:
    """Decide what hosts do whose anchors differ; all of them decide the same.

    A prepared anchor may have been committed by a host that is not here, and only if all hosts
    that contributed to it have prepared it. So it is adopted unless a host here has something that
    it does not contain.

    Args:
        standings: That of each host by its rank; those of other models are left out.

    """
    committed = {rank: standing.anchor for rank, standing in standings.items()}
    adopted = _adopted(standings, [*committed.values()])
    holders: dict[str, list[int]] = {}
    anchors: dict[str, Anchor] = {}
    for rank, standing in sorted(standings.items()):
        anchor = standing.anchor
        if adopted and standing.prepared and standing.prepared.key == adopted.key:
            anchor = adopted
        holders.setdefault(anchor.key, []).append(rank)
        anchors.setdefault(anchor.key, anchor)

    # the lowest rank is first among those that are equal in all else
    order = sorted(anchors.values(), key=lambda each: (-each.steps, holders[each.key][0]))
    tops: list[Anchor] = []
    differs = False
    for anchor in order:
        if any(other.contains(anchor) and not anchor.contains(other) for other in order):
            continue
        equal = next((top for top in tops if top.contains(anchor)), None)
        if equal:
            differs = differs or bool(anchor.shares)
        else:
            tops.append(anchor)

    tops.sort(key=lambda top: holders[top.key][0])
    top = tops[0]
    having = holders[top.key]
    behind = sorted(rank for rank in standings if rank not in having)
    sources = {rank: having[index % len(having)] for index, rank in enumerate(behind)}
    merge = None
    if len(tops) > 1:
        ranks = tuple(holders[each.key][0] for each in tops)
        merge = Merge(ranks, _since_parted(tops), tuple(tops))
    return Plan(adopted.key if adopted else "", top, sources, merge, differs)


def _adopted(standings: Mapping[int, Standing], committed: Sequence[Anchor]) -> Anchor | None:
    prepared = {
        standing.prepared.key: standing.prepared
        for standing in standings.values()
        if standing.prepared
    }
    for anchor in sorted(prepared.values(), key=lambda each: (-each.number, each.key)):
        if all(anchor.contains(other) for other in committed):
            return anchor
    return None


def _since_parted(anchors: Sequence[Anchor]) -> tuple[float, ...]:
    """Return the steps of each anchor that not all of them contain."""
    starts = _starts(anchors)
    steps = [
        {host: share.steps for host, share in anchor.shares.items()} | _unnamed(anchor, anchors)
        for anchor in anchors
    ]
    hosts = {host for each in steps for host in each}
    common = sum(min(each.get(host, 0) for each in steps) for host in hosts) + min(starts)
    return tuple(
        float(max(1, start + sum(each.values()) - common))
        for start, each in zip(starts, steps, strict=True)
    )


def _starts(anchors: Sequence[Anchor]) -> list[int]:
    """Return the starts of anchors without the steps of shares that one names and another not."""
    least = min(anchor.start for anchor in anchors)
    return [
        max(least, anchor.start - sum(_unnamed(anchor, anchors).values()))
        if _unnamed(anchor, anchors)
        else anchor.start
        for anchor in anchors
    ]


def _unnamed(anchor: Anchor, others: Sequence[Anchor]) -> dict[str, int]:
    """Return the steps of shares that an anchor contains without naming them.

    If nothing is known that led to both, for example as one of them began with a checkpoint, the
    start of an anchor is taken for steps of the other one.
    """
    found: dict[str, int] = {}
    left = anchor.start - min(other.start for other in others)
    for other in others:
        parted = anchor.parted(other)
        for host, share in sorted(other.shares.items()):
            if host in anchor.shares or host in found:
                continue
            if parted < 0:
                found[host] = min(share.steps, left)
                left -= found[host]
            elif share.at <= parted:
                found[host] = share.steps
    return {host: steps for host, steps in found.items() if steps}


def id_of(memory: str) -> str:
    """Return the id of a host from the name of one of its memories."""
    return memory.rpartition("/")[0]


def _limited(shares: Mapping[str, Share], members: frozenset[str]) -> tuple[dict[str, Share], int]:
    """Drop shares if there are too many; return the others, and the steps of those.

    Memories of hosts that have a younger one go first, then those that contributed longest ago.
    """
    if len(shares) <= MAX_SHARES:
        return dict(shares), 0
    youngest: dict[str, int] = {}
    for host, share in shares.items():
        id = id_of(host)
        youngest[id] = max(share.at, youngest.get(id, 0))

    def rank(item: tuple[str, Share]) -> tuple[bool, bool, int, str]:
        host, share = item
        is_old = share.at < youngest[id_of(host)]
        return (host not in members, is_old, -share.at, host)

    order = sorted(shares.items(), key=rank)
    return dict(order[:MAX_SHARES]), sum(share.steps for _, share in order[MAX_SHARES:])


def _ancestors(anchors: Iterable[Anchor], number: int) -> tuple[Ancestor, ...]:
    """Return ancestors of an anchor of a number that is made from others."""
    found = {each.key: each for anchor in anchors for each in anchor._lineage()}
    kept = [
        each
        for each in found.values()
        # the same numbers in all lineages, so that those that have parted name some in common
        if each.number % (1 << max(0, ((number - each.number) // _SPACING).bit_length() - 1)) == 0
    ]
    order = sorted(kept, key=lambda each: (-each.number, each.key))
    return tuple(order[:MAX_ANCESTORS])


def _number(value: Any) -> int:
    if type(value) is not int or not -MAX_STEPS < value < MAX_STEPS:
        raise ValueError(f"{value!r} is not a number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 128:
        raise ValueError(f"{value!r} is not a text of at most 128 characters")
    return value
