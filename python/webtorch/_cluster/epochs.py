"""Epochs of a model: other weights begin one, which hosts take in turn or at once.

While two of them live, the hosts of each do rounds of their own.
"""

import dataclasses
import logging
from typing import Any

from webtorch._cluster.digests import digest
from webtorch._cluster.interfaces import Group, Settings
from webtorch._cluster.lineage import Anchor, Standing, id_of
from webtorch._cluster.rollout import Decision, Holding, Rollout, begin, decide, merge, order, read
from webtorch._cluster.rollout_judge import Watch
from webtorch._cluster.store import State, Store
from webtorch._cluster.teams import Status, Team

log = logging.getLogger("webtorch")


class Epochs:
    """The epochs of a host's models. One thread uses it.

    Args:
        settings: Those of the cluster.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._watches: dict[str, Watch] = {}

    def host(self, state: State) -> str:
        """Return what anchors name this host by."""
        return f"{self._settings.id}/{state.memory}"

    def look(self, name: str, store: Store, is_replaced: bool) -> str:
        """Follow an order, and return the verdict on the epoch that this host has.

        Args:
            name: Name of the model.
            store: Its memory.
            is_replaced: Whether other weights were put into place, whose epoch begins soon.

        """
        state = store.state
        rollout = order(state.rollout, store.take_order(), self._settings.id)
        trial, verdict = state.trial, ""
        if not is_replaced:
            watch = self._watches.setdefault(name, Watch())
            trial, verdict = watch.look(state.anchor.of, rollout, trial, store.figures())
        self._note(name, store, dataclasses.replace(state, rollout=rollout, trial=trial))
        return verdict

    def divide(self, group: Group, team: Team) -> list[Team]:
        """Return the hosts of a model by their epochs, after those have taken one whose turn it is.

        Raises:
            ClusterError: A message is malformed.

        """
        record = merge(read(each.rollout) for _, each in sorted(team.statuses.items()))
        if record is None:
            return [team]
        holdings = {rank: _holding(each) for rank, each in team.statuses.items()}
        decision = decide(record, holdings)
        if team.store:
            state = dataclasses.replace(team.store.state, rollout=decision.rollout)
            self._note(team.name, team.store, state)
            self._log_own(team, group.rank, decision)
        if len(decision.new) in (0, len(team.statuses)):
            return [dataclasses.replace(team, back=decision.back)]
        new = {rank: each for rank, each in team.statuses.items() if rank in decision.new}
        old = {rank: each for rank, each in team.statuses.items() if rank not in decision.new}
        return [
            dataclasses.replace(
                team,
                statuses=statuses,
                store=team.store if group.rank in statuses else None,
                back=decision.back & statuses.keys(),
            )
            for statuses in (new, old)
        ]

    def _log_own(self, team: Team, rank: int, decision: Decision) -> None:
        """Log that this host takes other weights."""
        status, record = team.statuses[rank], decision.rollout
        if rank in decision.back:
            log.warning(
                'model "%s": this host gives up the weights of "%s", and takes those of others',
                team.name,
                _origin(status.origin),
            )
        elif record and rank in decision.new and (status.epoch, status.origin) < record.of:
            log.warning(
                'model "%s": this host takes the weights of "%s"',
                team.name,
                _origin(record.origin),
            )

    def restart(self, name: str, store: Store) -> None:
        """Begin an epoch with weights that were put into place."""
        state = store.state
        # the other region may have an anchor that was prepared, which is of the epoch before
        store.write(dataclasses.replace(state, prepared=None, pending=None))
        slot = 1 - state.slot
        replaced, made = store.replaced(), store.take_weights(slot)
        momentum = store.momentum(slot)
        if momentum is not None:
            momentum.zero_()
        # later than all that others may have
        epoch = 1 + max(state.anchor.epoch, state.rollout.epoch if state.rollout else 0)
        origin = f"{self.host(state)}/{replaced}"
        steps = made + store.others_made()
        anchor = state.anchor.restart(digest(store, slot), steps, epoch, origin)
        size = max(1, len(state.members))
        rollout = begin(state.rollout, anchor.of, self._settings.rolling, size)
        state = dataclasses.replace(
            store.state, anchor=anchor, slot=slot, mark=made, replaced=replaced, fresh=False
        )
        if rollout is None or rollout.of != anchor.of:
            log.warning('model "%s" has other weights, which all hosts of the cluster take', name)
        self._note(name, store, dataclasses.replace(state, rollout=rollout, trial=None))
        publish(store)

    def _note(self, name: str, store: Store, state: State) -> None:
        """Write a state; log what is new of its rollout."""
        before = store.state
        if state == before:
            return
        store.write(state)
        if state.rollout is not None:
            _log_change(name, before.rollout, state.rollout)


def publish(store: Store) -> None:
    """Show the steps of other hosts, unless the weights have been replaced since the anchor."""
    if store.replaced() == store.state.replaced:
        store.publish()


def standing_of(anchor: Any, prepared: Any, is_given_up: bool) -> Standing:
    """Return the anchors that a host has, as it has said; all others come before one given up.

    Raises:
        ClusterError: They are malformed.

    """
    found = Anchor.read(anchor)
    if is_given_up:
        return Standing(dataclasses.replace(found, epoch=-1), None)
    return Standing(found, None if prepared is None else Anchor.read(prepared))


def _holding(status: Status) -> Holding:
    is_new = bool(status.fresh and not status.joined)
    return Holding(id_of(status.host), (status.epoch, status.origin), is_new, status.verdict)


def _origin(text: str) -> str:
    """Return the id of the host where weights were put into place."""
    return text.partition("/")[0]


def _log_change(name: str, before: Rollout | None, now: Rollout) -> None:
    if before and (before.of, before.stage) == (now.of, now.stage):
        return
    origin = _origin(now.origin)
    if now.stage == "stopped":
        log.error(
            'model "%s": the rollout of the weights of "%s" has stopped, as they are worse at '
            'host "%s": %s',
            name,
            origin,
            now.host,
            now.reason,
        )
        return
    text = {
        "going": f"come to {now.hosts} host{'s' * (now.hosts > 1)} at a time",
        "done": f"are those of all hosts{': ' * bool(now.reason)}{now.reason}",
        "promoted": f'are taken by all hosts, as ordered at host "{now.host}"',
        "withdrawn": f'are given up, by an order or for other weights at host "{now.host}"',
    }[now.stage]
    log.warning('model "%s": the weights of "%s" %s', name, origin, text)
