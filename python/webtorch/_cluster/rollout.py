"""How weights that were put into place at a host come to the others, some hosts at a time.

They are an epoch of their own. A record of its rollout is in what hosts say of a model when a round
begins, and each keeps the latest that it has heard of: so any host may crash, and no clock of one
is compared with that of another. All hosts of a round decide the same from what all have said.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from webtorch._cluster.interfaces import ClusterError, Rolling

GOOD = "good"
"""What a host says of an epoch that is not worse than the one before, in its trial."""

MAX_VOID = 16
"""Epochs that were rolled back, which a record names."""

MAX_REASON = 512

Epoch = tuple[int, str]
"""Its number, and where its weights were put into place."""

Stage = Literal["going", "done", "stopped", "promoted", "withdrawn"]
"""`withdrawn`: it was rolled back, or other weights have taken its place."""

Order = Literal["", "promote", "rollback"]
"""What an operator orders."""

# of two hosts that know of as many changes, the one with the later of these is followed
_STAGES: tuple[Stage, ...] = get_args(Stage)

_OPEN = ("going", "stopped")


@dataclass(frozen=True)
class Rollout:
    """A rollout, as far as hosts know of it."""

    epoch: int
    origin: str
    """With `epoch`, the epoch that is rolled out."""
    hosts: int
    """How many take it at a time."""
    pause: float
    """Seconds for which a host has had it before the next ones take it."""
    size: int = 1
    """Hosts of the largest group that has known of it."""
    stage: Stage = "going"
    host: str = ""
    """The host that has changed it last."""
    reason: str = ""
    """Why it has stopped: `errors:` or `loss:`, and figures."""
    changes: int = 0
    """How often the stage has changed."""
    void: tuple[Epoch, ...] = ()
    """Epochs that hosts give up for any other, the lowest first."""

    @property
    def of(self) -> Epoch:
        """The epoch that is rolled out."""
        return self.epoch, self.origin

    @property
    def is_open(self) -> bool:
        """Whether there are hosts that are not to have it yet, and it was not given up."""
        return self.stage in _OPEN

    def change(self, stage: Stage, host: str = "", reason: str = "") -> "Rollout":
        """Return it in another stage."""
        return dataclasses.replace(
            self,
            stage=stage,
            host=host,
            reason=reason[:MAX_REASON],
            changes=self.changes + 1,
            void=_united(self.void, (self.of,)) if stage == "withdrawn" else self.void,
        )

    def write(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return {**dataclasses.asdict(self), "void": [list(each) for each in self.void]}

    @classmethod
    def read(cls, found: Any) -> "Rollout":
        """Read what `write` has returned.

        Raises:
            ClusterError: It is not that.

        """
        try:
            values = {each.name: found[each.name] for each in dataclasses.fields(cls)}
            values["void"] = tuple((number, origin) for number, origin in found["void"])
            rollout = cls(**values)
            is_sound = (
                all(_is_epoch(each) for each in (rollout.of, *rollout.void))
                and all(
                    type(each) is int and each >= 0
                    for each in (rollout.hosts, rollout.size, rollout.changes)
                )
                and rollout.hosts > 0
                and isinstance(rollout.pause, float)
                and rollout.stage in _STAGES
                and all(
                    isinstance(each, str) and len(each) <= MAX_REASON
                    for each in (rollout.host, rollout.reason)
                )
                and len(rollout.void) <= MAX_VOID
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ClusterError(f"a rollout is malformed: {error!r}") from error
        if not is_sound:
            raise ClusterError("a rollout is malformed")
        return rollout


def write(rollout: Rollout | None) -> str:
    """Return a record as a text; that of none is empty."""
    return json.dumps(rollout.write()) if rollout else ""


def read(text: str) -> Rollout | None:
    """Read what `write` has returned.

    Raises:
        ClusterError: It is not that.

    """
    if not text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClusterError(f"a rollout is malformed: {error}") from error
    return Rollout.read(found)


def begin(before: Rollout | None, of: Epoch, rolling: Rolling | None, size: int) -> Rollout | None:
    """Return the record when weights were put into place at this host.

    Args:
        before: What it knew.
        of: Their epoch.
        rolling: What the settings of this host say; None: all take them at once.
        size: Hosts that take part.

    """
    if before and before.is_open:
        before = before.change("withdrawn", of[1].partition("/")[0])
    if rolling is None:
        return before
    void = before.void if before else ()
    return Rollout(*of, rolling.hosts, rolling.pause, size, void=void)


def order(rollout: Rollout | None, ordered: Order, host: str) -> Rollout | None:
    """Return a record as an operator has ordered at a host."""
    if rollout is None or not rollout.is_open or not ordered:
        return rollout
    stage: Stage = "promoted" if ordered == "promote" else "withdrawn"
    return rollout.change(stage, host)


def merge(records: Iterable[Rollout | None]) -> Rollout | None:
    """Return what hosts with these records know together."""
    merged: Rollout | None = None
    for record in records:
        if merged is None or record is None:
            merged = merged or record
            continue
        older, newer = sorted((merged, record), key=_age)
        void = _united(older.void, newer.void)
        if older.of != newer.of and older.is_open:
            void = _united(void, (older.of,))
        size = max(older.size, newer.size) if older.of == newer.of else newer.size
        merged = dataclasses.replace(newer, void=void, size=size)
        if merged.stage != "withdrawn":
            # an order to give it up that has been overtaken
            merged = _without_own(merged)
    return merged


@dataclass(frozen=True)
class Holding:
    """What a host has and says of it."""

    host: str
    of: Epoch
    is_new: bool
    """Whether it has just started, and has no weights of the cluster yet."""
    verdict: str
    """Of the epoch that it has: `GOOD`, why it is worse, or empty as long as neither is known."""


@dataclass(frozen=True)
class Decision:
    """What the hosts of a round do; ranks of others form a team without these."""

    rollout: Rollout | None
    new: frozenset[int] = frozenset()
    """Those that have the epoch, or take it now; with none or all there is one team."""
    back: frozenset[int] = frozenset()
    """Those of the others whose epoch is given up: they take another host's."""


def decide(record: Rollout | None, holdings: Mapping[int, Holding]) -> Decision:
    """Decide which hosts take an epoch that is rolled out.

    Args:
        record: What all of them know together.
        holdings: Those of all hosts that have the model, by rank.

    """
    if record is None:
        return Decision(None)
    record = dataclasses.replace(record, size=max(record.size, len(holdings)))
    holders = {rank: each for rank, each in sorted(holdings.items()) if each.of == record.of}
    is_withdrawn = record.stage == "withdrawn"
    rest = [rank for rank in sorted(holdings) if is_withdrawn or rank not in holders]
    # a host that has just started has nothing that another one could go back to
    givers = [
        rank for rank in rest if not holdings[rank].is_new and holdings[rank].of not in record.void
    ]
    back = frozenset(rank for rank in rest if givers and holdings[rank].of in record.void)
    if is_withdrawn and 1 < len(holders) >= record.size:
        # no host has others that they could go back to, unless this one has always been alone
        kept = record.change("done", reason="no host has others")
        return Decision(_without_own(kept), frozenset(holdings))
    if is_withdrawn or not holders:
        return Decision(record, back=back)
    record = _judge(record, holders, is_whole=not rest)
    if record.stage in ("done", "promoted"):
        return Decision(record, frozenset(holdings))
    taking: set[int] = set()
    if record.stage == "going" and all(each.verdict == GOOD for each in holders.values()):
        taking.update(rest[: record.hosts])
    if not givers:
        # else it would begin with what its code has made
        taking.update(rank for rank in rest if holdings[rank].is_new)
    new = frozenset(holders) | taking
    # else these would have no host in their own team to take weights from: they take the new ones
    has_giver = any(rank not in new for rank in givers)
    return Decision(record, new, back - new if has_giver else frozenset())


def _judge(record: Rollout, holders: Mapping[int, Holding], is_whole: bool) -> Rollout:
    """Stop a rollout that is worse at a host, or end it when most hosts have it.

    A host that is cut off may be alone with an epoch, which proves nothing.
    """
    if record.stage != "going":
        return record
    for each in holders.values():
        if each.verdict not in ("", GOOD):
            return record.change("stopped", each.host, each.verdict)
    is_proven = is_whole and 1 < len(holders) > record.size // 2
    if is_proven and all(each.verdict == GOOD for each in holders.values()):
        return record.change("done")
    return record


def _age(record: Rollout) -> tuple[Any, ...]:
    return (*record.of, record.changes, _STAGES.index(record.stage), record.host, record.reason)


def _without_own(record: Rollout) -> Rollout:
    """Return a record whose own epoch is not one that hosts give up."""
    return dataclasses.replace(record, void=tuple(e for e in record.void if e != record.of))


def _united(one: Iterable[Epoch], two: Iterable[Epoch]) -> tuple[Epoch, ...]:
    return tuple(sorted({*one, *two})[-MAX_VOID:])


def _is_epoch(found: Any) -> bool:
    number, origin = found
    return type(number) is int and number >= 0 and isinstance(origin, str) and len(origin) <= 128
