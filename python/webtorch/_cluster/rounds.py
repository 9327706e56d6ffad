"""A round: what the hosts of a group have learned since the last one is brought together.

Each host contributes the difference of a snapshot of its weights to the anchor, which is the same
at all hosts. The next anchor is prepared, all hosts say that they have it, and then each commits
it. A host for which a round ended in an error keeps its contribution until an anchor shows whether
it was counted.
"""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from webtorch._cluster import flat, rollout
from webtorch._cluster.digests import digest
from webtorch._cluster.epochs import Epochs, publish, standing_of
from webtorch._cluster.guests import Contribution, Guests, combined
from webtorch._cluster.interfaces import ClusterError, Group, GroupError, Settings
from webtorch._cluster.lineage import Anchor, Merge, Plan, id_of, resolve
from webtorch._cluster.state_transfer import Move, move
from webtorch._cluster.store import SNAPSHOT, Applying, Pending, Reference, State, Store
from webtorch._cluster.teams import (
    Status,
    Team,
    as_object,
    first_difference,
    gather,
    has_prepared,
    most_common,
    parse_object,
    youngest_order,
)

log = logging.getLogger("webtorch")

MAX_LAYOUT = 1 << 18
"""Bytes of a layout that is sent to others, so that the first difference is named."""


@dataclass
class Round:
    """What happened in a round."""

    steps: int = 0
    """Steps of all hosts that it counted."""
    models: int = 0
    """Models that have a new anchor."""
    settled: bool = True
    """Whether all hosts had the same anchors: else the next round is due at once."""
    mismatches: int = 0
    """Anchors that should have been the same, and were not."""
    lost: int = 0
    """Steps of this host that are not contributed, as their weights are not finite or replaced."""


@dataclass(frozen=True)
class _Prepared:
    """What becomes true with a prepared anchor."""

    key: str
    rest: Tensor | None
    """What rounding has left of this host's contribution."""
    text: str
    """A line of the log; empty: none."""


class Rounds:
    """The rounds of a host. One thread uses it.

    Args:
        settings: Those of the cluster.
        stores: Returns the models' stores by the names of the models.
        guests: What guests contribute; None: there are none.

    """

    def __init__(
        self,
        settings: Settings,
        stores: Callable[[], Mapping[str, Store]],
        guests: Guests | None = None,
    ) -> None:
        self._settings = settings
        self._guests = guests or Guests()
        self._offers: dict[str, dict[str, Contribution]] = {}
        self._stores = stores
        self._told: dict[str, str] = {}
        self._prepared: dict[str, _Prepared] = {}
        self._infinite: set[str] = set()
        self._epochs = Epochs(settings)

    def resume(self) -> None:
        """Complete what a process that was killed has begun."""
        for store in self._stores().values():
            self._finish(store, Round())
            note_orders(store)
            publish(store)

    def note_members(self, ids: Sequence[str], generation: int) -> None:
        """Let models show which hosts take part."""
        for store in self._stores().values():
            state = store.state
            if (state.members, state.generation) != (tuple(ids), generation):
                store.write(dataclasses.replace(state, members=tuple(ids), generation=generation))

    def run(self, group: Group) -> Round:
        """Do a round of all models; all hosts of the group do it at a time.

        Raises:
            GroupError: It ended before it was complete; the group is closed.

        """
        try:
            return self._run(group)
        except GroupError:
            group.close()
            raise
        except ClusterError as error:
            group.close()
            raise GroupError(str(error)) from error
        except BaseException:
            # others must not wait for this host
            group.close()
            raise

    def _run(self, group: Group) -> Round:
        done = Round()
        self.note_members(group.ids, group.generation)
        stores = dict(self._stores())
        own = {name: self._begin(name, store, done) for name, store in stores.items()}
        teams = self._meet(group, stores, own)
        for team in teams:
            if team.store:
                _follow_orders(team.name, team.store, youngest_order(team.statuses.values()))
        teams = [part for team in teams for part in self._epochs.divide(group, team)]
        unsettled = [team for team in teams if not team.is_settled()]
        prepared: dict[str, Anchor] = {}
        if unsettled:
            done.settled = False
            self._settle(group, unsettled, prepared, done)
        for team in teams:
            if team.is_replaced():
                # they are taken in the next round
                done.settled = False
            elif team not in unsettled:
                anchor = self._contribute(group, team, done)
                if anchor:
                    prepared[team.name] = anchor
        if any(has_prepared(team) for team in teams):
            self._commit_all(group, teams, prepared, done)
        for team in teams:
            # from what all others have: the next epoch is then the next one for all of them
            if team.store and team.store.replaced() != team.store.state.replaced:
                self._epochs.restart(team.name, team.store)
                done.settled = False
        return done

    # --- the beginning ---

    def _begin(self, name: str, store: Store, done: Round) -> Status:
        """Take a snapshot if steps were made, and return what others are to know."""
        self._finish(store, done)
        note_orders(store)
        is_replaced = store.replaced() != store.state.replaced
        verdict = self._epochs.look(name, store, is_replaced)
        state = store.state
        if state.pending is None and store.made() > state.mark and not is_replaced:
            made = store.take_snapshot()
            if flat.is_finite(store.tensors(SNAPSHOT)):
                self._infinite.discard(name)
                number = state.number + 1
                state = dataclasses.replace(state, number=number, pending=Pending(number, made))
                store.write(state)
            else:
                self._drop(name, store, done, "weights that are not finite")
                state = store.state
        tensors = store.tensors(state.slot)
        pending = state.pending
        layout = hashlib.sha256(store.layout).hexdigest()
        offers = self._offers[name] = self._guests.offer(name, state.anchor, layout)
        return Status(
            layout=layout,
            floats=flat.count(tensors, flat.floating(tensors)),
            integers=flat.count(tensors, flat.integer(tensors)),
            host=self._host(state),
            anchor=state.anchor.key,
            prepared=state.prepared.key if state.prepared else "",
            number=pending.number if pending else 0,
            steps=pending.made - state.mark if pending else 0,
            optimizer=store.optimizer_key,
            fresh=int(state.fresh),
            joined=int(state.joined),
            frozen=int(state.frozen),
            orders=state.orders,
            told=self._told.get(name, ""),
            epoch=state.anchor.epoch,
            origin=state.anchor.origin,
            rollout=rollout.write(state.rollout),
            verdict=verdict,
            guests={host: [each.number, each.steps] for host, each in offers.items()},
            replaced=int(is_replaced and self._settings.rolling is None),
        )

    def _host(self, state: State) -> str:
        return self._epochs.host(state)

    def _drop(self, name: str, store: Store, done: Round, problem: str) -> None:
        """Take the anchor's weights instead of those of this host."""
        state = dataclasses.replace(store.state, prepared=None, pending=None)
        lost = self._follow(store, state, "none", state.mark, done)
        # its moments would make the next weights so
        store.repair_optimizer()
        level = logging.INFO if name in self._infinite else logging.ERROR
        self._infinite.add(name)
        log.log(
            level,
            'model "%s" has %s: it takes those of the last round, and %d steps are lost',
            name,
            problem,
            lost,
        )

    def _meet(
        self, group: Group, stores: Mapping[str, Store], own: Mapping[str, Status]
    ) -> list[Team]:
        """Exchange what hosts have, and return those that have the same, model by model."""
        outer = self._settings.outer
        rules = [self._settings.compress, outer.name, outer.lr, outer.momentum]
        models = {name: dataclasses.asdict(status) for name, status in own.items()}
        answers = [
            parse_object(answer)
            for answer in gather(group, json.dumps({"rules": rules, "models": models}).encode())
        ]
        for host, answer in zip(group.ids, answers, strict=True):
            if answer.get("rules") != rules:
                raise ClusterError(
                    f'host "{host}" has other settings of "compress" and "outer": '
                    f"{answer.get('rules')} instead of {rules}"
                )
        found = [as_object(answer.get("models")) for answer in answers]
        teams = []
        for name in sorted({name for each in found for name in each}):
            statuses = {
                rank: Status.read(each[name]) for rank, each in enumerate(found) if name in each
            }
            layouts = {status.layout for status in statuses.values()}
            if len(layouts) > 1:
                self._compare(group, name, stores.get(name), statuses)
            chosen = most_common(statuses)
            team = {rank: each for rank, each in statuses.items() if each.layout == chosen}
            store = stores.get(name) if group.rank in team else None
            teams.append(Team(name, team, store, len(answers)))
        return teams

    def _compare(
        self, group: Group, name: str, store: Store | None, statuses: Mapping[int, Status]
    ) -> None:
        """Name the first difference of the layouts in the logs of those that have the model."""
        layouts = sorted({status.layout for status in statuses.values()})
        known = hashlib.sha256("".join(layouts).encode()).hexdigest()
        if all(status.told == known for status in statuses.values()):
            return
        layout = store.layout if store and len(store.layout) <= MAX_LAYOUT else b""
        answers = gather(group, layout)
        if store is None:
            return
        self._told[name] = known
        own = statuses[group.rank].layout
        for rank, status in sorted(statuses.items()):
            if status.layout != own:
                log.error(
                    'model "%s" has another layout at host "%s", and is trained apart: %s',
                    name,
                    group.ids[rank],
                    first_difference(layout, answers[rank]),
                )

    # --- different anchors ---

    def _settle(
        self,
        group: Group,
        teams: Sequence[Team],
        prepared: dict[str, Anchor],
        done: Round,
    ) -> None:
        """Let all hosts have the same anchors."""
        message = {}
        for team in teams:
            if team.store:
                state = team.store.state
                message[team.name] = [
                    state.anchor.write(),
                    state.prepared.write() if state.prepared else None,
                ]
        answers = [parse_object(each) for each in gather(group, json.dumps(message).encode())]
        for team in teams:
            standings = {}
            for rank in team.statuses:
                anchor, other = _pair(answers[rank].get(team.name))
                standings[rank] = standing_of(anchor, other, is_given_up=rank in team.back)
            plan = resolve(standings)
            if plan.top.epoch < 0:
                raise ClusterError(f'no host has an anchor of "{team.name}" that is not given up')
            done.mismatches += plan.differs
            store = team.store
            # no host here knows whether it was committed: all must have it before any host commits
            is_open = plan.top.key == plan.adopted and not any(
                standing.anchor.key == plan.adopted for standing in standings.values()
            )
            if store:
                self._decide(team.name, store, plan.adopted, is_open, done)
            if plan.sources:
                self._transfer(group, team, plan, is_open)
            if plan.merge:
                merged = self._merge(group, team, plan.merge)
                if store:
                    prepared[team.name] = merged
            elif is_open:
                if store:
                    prepared[team.name] = plan.top
                if store and group.rank in plan.sources:
                    store.write(dataclasses.replace(store.state, prepared=plan.top))
            elif store and group.rank in plan.sources:
                self._commit(team.name, store, plan.top, done)
                done.models += 1

    def _decide(self, name: str, store: Store, adopted: str, is_open: bool, done: Round) -> None:
        """Commit a prepared anchor, keep it until all hosts have it, or forget it."""
        prepared = store.state.prepared
        if prepared and prepared.key == adopted:
            if not is_open:
                self._commit(name, store, prepared, done)
        elif prepared:
            store.write(dataclasses.replace(store.state, prepared=None))

    def _transfer(self, group: Group, team: Team, plan: Plan, is_open: bool) -> None:
        """Bring an anchor to the regions where hosts prepare others, and optimizers to new hosts.

        It comes from such a region if it is open whether it was committed.

        Raises:
            ClusterError: It is not the one that was announced.

        """
        store = team.store
        moves = []
        optimizer: Tensor | None = None
        for rank, source in sorted(plan.sources.items()):
            is_here = group.rank in (rank, source)
            memory = None
            if store and is_here:
                is_committed = group.rank == source and not is_open
                slot = store.state.slot if is_committed else 1 - store.state.slot
                memory = store.contents(slot)
            moves.append(Move(rank, source, memory, is_kept=True))
            if _takes_optimizer(team, rank, source, plan.top):
                memory = None
                if store and is_here:
                    if optimizer is None and group.rank == source:
                        # training changes it meanwhile
                        optimizer = store.copy_optimizer_state()
                    elif optimizer is None:
                        optimizer = torch.empty_like(store.optimizer_state())
                    memory = optimizer
                moves.append(Move(rank, source, memory))
        move(group, moves, self._settings.timeout)
        if store is None or group.rank not in plan.sources:
            return
        if digest(store, 1 - store.state.slot) != plan.top.digest:
            raise ClusterError(f'the state of "{team.name}" is not the one that was announced')
        if optimizer is not None:
            store.take_optimizer_state(optimizer)

    def _merge(self, group: Group, team: Team, merge: Merge) -> Anchor:
        """Prepare the mean of anchors whose lineages have parted.

        The first of them is in the region of prepared anchors of all hosts but those that have it.
        """
        store = team.store
        first = team.first
        own = torch.zeros(first.floats)
        integers = torch.zeros(first.integers, dtype=torch.int64)
        weights = [0.0] * team.size
        for rank, weight in zip(merge.ranks, merge.weights, strict=True):
            weights[rank] = weight
        if store:
            slot = 1 - store.state.slot
            if store.state.anchor.key == merge.anchors[0].key:
                store.contents(slot).copy_(store.contents(store.state.slot))
            if group.rank in merge.ranks:
                anchor, base = store.tensors(store.state.slot), store.tensors(slot)
                own = flat.difference(anchor, base)
                share = weights[group.rank] / sum(weights)
                integers = (flat.integer_difference(anchor, base).double() * share).round().long()
        mean = group.mean(own, weights[group.rank], weights, None, is_exact=True)
        if first.integers:
            integers = group.total(integers)
        if not store:
            return merge.anchors[0]
        into = store.tensors(slot)
        flat.add(into, mean)
        flat.add_integers(into, integers)
        merged = merge.anchor(digest(store, slot))
        store.write(dataclasses.replace(store.state, prepared=merged))
        steps = " and ".join(f"{weight:.0f}" for weight in merge.weights)
        self._prepared[team.name] = _Prepared(
            merged.key,
            None,
            f"two lineages of hosts have become one, with {steps} steps since they parted",
        )
        return merged

    # --- the round itself ---

    def _contribute(self, group: Group, team: Team, done: Round) -> Anchor | None:
        """Prepare the next anchor; None if there is none, or not for this host."""
        guests = team.guests()
        weights = [0.0] * team.size
        for rank, status in team.statuses.items():
            given = [status.steps, *(steps for _, steps in guests[rank].values())]
            weights[rank] = sum(map(self._weight, given))
        if not any(weights):
            return None
        store = team.store
        first = team.first
        own = store if store and store.state.pending else None
        others = [self._offers[team.name][host] for host in guests.get(group.rank, ()) if store]
        change = flat.vector(own.tensors(SNAPSHOT)) if own else torch.zeros(first.floats)
        change = combined(change, weights[group.rank], others, self._weight)
        rest = store.rest if store else None
        kept = None if rest is None else rest.clone()
        mean = group.mean(change, weights[group.rank], weights, kept)
        totals = None
        if first.integers:
            values = torch.zeros(first.integers, dtype=torch.int64)
            if own:
                values = flat.integer_vector(own.tensors(SNAPSHOT))
            for each in others:
                values += each.integers
            totals = group.total(values)
        if store is None:
            return None

        slot = 1 - store.state.slot
        store.contents(slot).copy_(store.contents(store.state.slot))
        flat.add(store.tensors(slot), self._advance(mean, weights, store.momentum(slot)))
        if totals is not None:
            flat.add_integers(store.tensors(slot), totals)
        if not flat.is_sound(store.tensors(slot), store.tensors(store.state.slot)):
            # all hosts have the same bits: none has this anchor
            if own:
                self._drop(team.name, store, done, "a mean with others that is not finite")
            self._guests.refuse(team.name, others)
            return None
        contributed = {
            status.host: (status.number, status.steps)
            for status in team.statuses.values()
            if status.steps
        }
        members = [status.host for status in team.statuses.values()]
        for offers in guests.values():
            contributed |= {host: (number, steps) for host, (number, steps) in offers.items()}
            members += offers
        anchor = store.state.anchor.follow(digest(store, slot), contributed, members)
        store.write(dataclasses.replace(store.state, prepared=anchor))
        self._prepared[team.name] = _Prepared(anchor.key, kept, "")
        return anchor

    def _weight(self, steps: int) -> float:
        """Return the weight of a contribution."""
        return float(steps)

    def _advance(self, mean: Tensor, weights: Sequence[float], momentum: Tensor | None) -> Tensor:
        """Return the change of the anchor; update the momentum."""
        outer = self._settings.outer
        if momentum is None:
            return mean
        momentum.mul_(outer.momentum).add_(mean)
        # add_(alpha=) rounds once on processors with FMA and twice on others: hosts would differ
        return mean.add_(momentum * outer.momentum).mul_(outer.lr)

    def _commit_all(
        self, group: Group, teams: Sequence[Team], prepared: Mapping[str, Anchor], done: Round
    ) -> None:
        """Commit what was prepared, as soon as all hosts have said that they have the same."""
        keys = {
            name: anchor.key
            for name, anchor in prepared.items()
            if any(team.name == name and team.store for team in teams)
        }
        answers = [parse_object(each) for each in gather(group, json.dumps(keys).encode())]
        for team in teams:
            anchor = prepared.get(team.name)
            if anchor is None or team.store is None:
                continue
            expected = {rank: answers[rank].get(team.name) for rank in team.statuses}
            chosen = expected[min(expected)]
            done.mismatches += any(key != chosen for key in expected.values())
            if chosen != anchor.key:
                # this host takes the other one, which counts the same, in the next round
                team.store.write(dataclasses.replace(team.store.state, prepared=None))
                done.settled = False
                continue
            done.models += 1
            self._commit(team.name, team.store, anchor, done)

    def _commit(self, name: str, store: Store, anchor: Anchor, done: Round) -> None:
        """Take the anchor in the region of prepared ones; the weights follow it."""
        state = store.state
        pending = state.pending
        is_other = anchor.of != state.anchor.of
        # a host that joins has learned for the anchor that it takes, whatever its epoch is
        is_replacing = is_other and not (state.fresh and not state.anchor.epoch)
        if not is_other:
            done.steps += max(0, anchor.steps - state.anchor.steps)
        number = anchor.number_of(self._host(state))
        is_counted = pending is not None and number >= pending.number
        reference: Reference = "anchor"
        if is_replacing:
            reference = "none"
        elif is_counted:
            reference = "snapshot"
        made = pending.made if pending and is_counted else state.mark
        changed = dataclasses.replace(
            state,
            anchor=anchor,
            slot=1 - state.slot,
            pending=None if is_counted or reference == "none" else pending,
            prepared=None,
            fresh=False,
            time=time.time(),
        )
        lost = self._follow(store, changed, reference, made, done)
        prepared = self._prepared.pop(name, None)
        if prepared and prepared.key == anchor.key:
            # it is known only now that others have it, too
            if prepared.rest is not None and store.rest is not None:
                store.rest.copy_(prepared.rest)
            if prepared.text:
                log.warning('model "%s": %s', name, prepared.text)
        if is_replacing and anchor.of < state.anchor.of:
            # what was learned with weights that were given up
            store.repair_optimizer()
        elif is_replacing and anchor.epoch == state.anchor.epoch:
            log.warning(
                'model "%s": weights that were put into place here give way to those of "%s"',
                name,
                anchor.origin,
            )
        if lost:
            log.warning(
                'model "%s": %d steps are dropped: other weights were put into place',
                store.name,
                lost,
            )

    def _follow(
        self, store: Store, state: State, reference: Reference, made: int, done: Round
    ) -> int:
        """Let the weights follow the anchor of a state; return the steps that are lost."""
        number = state.changes + 1
        store.write(
            dataclasses.replace(
                state,
                changes=number,
                applying=Applying(reference, made, number),
            )
        )
        return self._finish(store, done)

    def _finish(self, store: Store, done: Round) -> int:
        """Complete what `_follow` has begun, perhaps in another process."""
        state = store.state
        applying = state.applying
        if applying is None:
            return 0
        made = store.apply()
        mark = made if applying.reference == "none" else applying.made
        lost = made - state.mark if applying.reference == "none" else 0
        store.write(dataclasses.replace(state, applying=None, mark=mark))
        publish(store)
        done.lost += lost
        return lost


def note_orders(store: Store) -> None:
    """Note that an operator of this host has frozen the model, or lets it be trained again."""
    state = store.state
    frozen = store.frozen
    if frozen != state.frozen or state.orders < 0:
        # what is found at a start was ordered before, and others may know better
        store.write(dataclasses.replace(state, frozen=frozen, orders=state.orders + 1))


def _follow_orders(name: str, store: Store, last: Status) -> None:
    """Freeze a model or not, as the last order at any host says."""
    follow_orders(name, store, last.frozen, last.orders, id_of(last.host))


def follow_orders(name: str, store: Store, last: int, orders: int, host: str) -> None:
    """Freeze a model or not, as an order says that a host has."""
    state = store.state
    frozen = bool(last)
    if (frozen, orders) == (state.frozen, state.orders):
        return
    if frozen != state.frozen:
        store.set_frozen(frozen)
        is_now = "is frozen" if frozen else "is trained again"
        log.warning('model "%s" %s, as ordered at host "%s"', name, is_now, host)
    store.write(dataclasses.replace(store.state, frozen=frozen, orders=orders))


def _takes_optimizer(team: Team, to: int, source: int, anchor: Anchor) -> bool:
    """Return whether a host joins that has the same kind of optimizer as others."""
    own, other = team.statuses[to], team.statuses[source]
    is_same = bool(own.optimizer) and own.optimizer == other.optimizer
    return is_same and own.fresh == 1 and anchor.number > 0


def _pair(found: Any) -> tuple[Any, Any]:
    if not isinstance(found, list) or len(found) != 2:
        raise ClusterError("the anchors of a host are malformed")
    return found[0], found[1]
