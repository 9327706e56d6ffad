"""This host in its cluster: who takes part, rounds with them, failures and what the log says."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from webtorch._cluster.coordinator import Coordinator
from webtorch._cluster.group import connect
from webtorch._cluster.guests import Guests
from webtorch._cluster.interfaces import (
    ClusterError,
    Group,
    GroupError,
    OutsiderError,
    Settings,
    TakenIdError,
    UnreachableError,
    View,
)
from webtorch._cluster.membership import Lighthouse
from webtorch._cluster.probes import Probes
from webtorch._cluster.reception import Reception
from webtorch._cluster.rounds import Round, Rounds
from webtorch._cluster.seal import Ring
from webtorch._cluster.single_host import Alone
from webtorch._cluster.speeds import (
    CONNECT,
    SlowLinksError,
    Speeds,
    limit,
    size_of_round,
    without_slow,
)
from webtorch._cluster.teams import CutOffError, DisagreementError, agreed, connected, rules_of
from webtorch._core.process import began, instance
from webtorch._worker.cluster.guest import Guest, Pinned, note_joined
from webtorch._worker.cluster.metrics import Metrics
from webtorch._zone.rounds_store import RoundsStore

log = logging.getLogger("webtorch")

RETRY = 0.05
"""Seconds from a round that ended in an error to the next one."""

PAUSE = 10
"""Timeouts for which a host that disturbs others does not ask who takes part."""

MAX_PAUSE = 3600.0
"""Seconds of such a pause, at most: it doubles if errors of a host go on."""

OWN_ERRORS = 3
"""Errors of this host alone, one after the other, after which it makes a pause."""

FAILING_INTERVALS = 10
"""Intervals, and a timeout, in which all rounds have failed when the log says so."""

MAX_RETRY = 5.0
"""Seconds from a round to the next one, at most, if many have ended in an error."""


class Host:
    """This host, as the elected worker has it take part.

    Args:
        settings: Those of the cluster.
        metrics: What operators see.
        is_last: Whether all workers of this host exit.
        is_late: Returns whether a turn of a guest is not to be waited for.

    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        is_last: bool = False,
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._ring = Ring(settings.name, settings.secrets)
        self._coordinator = Coordinator(settings)
        self._coordinator.start()
        self._membership = Lighthouse(settings, self._ring, instance, began)
        self._probes = Probes(settings)
        self._speeds = Speeds(settings, self._ring)
        self._guest = Guest(settings, self._ring, metrics, is_last, is_late)
        guests = Guests()
        self._reception = Reception(settings, self._ring, guests)
        self._group: Group | None = None
        self._stores: Mapping[str, RoundsStore] = {}
        self._rounds = Rounds(settings, lambda: self._stores, guests)
        self._size = 0
        self._began = time.monotonic()
        self._ids: tuple[str, ...] | None = None
        self._problem: str | None = None
        self._addresses: Sequence[str] = ()
        self._refused: dict[str, float] = {}
        self._doubts = 0
        self._failure = ""
        self._failures = 0
        self._failing_since: float | None = None
        self._is_warned = False
        self._own_errors = 0
        self._quiet_until = 0.0

    def work(self, pinned: Pinned) -> float:
        """Ask who takes part, and do a round with them; return the seconds to the next one."""
        self._log_problem()
        if self._settings.guest != "always":
            self._reception.start(pinned)
        self._guest.resume(pinned)
        if self._guest.is_there:
            return self._guest.work(pinned)
        if time.monotonic() < self._quiet_until:
            self._metrics.count_alone()
            with pinned() as stores:
                self._metrics.show_hosts([self._settings.id], {}, stores)
            return self._settings.interval
        try:
            about = {
                "rules": rules_of(self._settings),
                "group": self._group.key if self._group else "",
                "unreachable": self._probes.unreachable,
                "slow": self._speeds.slow(self._size),
                "guest": self._settings.guest,
            }
            self._membership.beat(about)
            found = self._membership.members()
            self._probes.keep(found.ids)
            found = connected(agreed(found, self._settings.id), self._settings.id)
            view, slow = without_slow(found, self._settings.id)
            self._speeds.drop(slow)
        except SlowLinksError as error:
            self._close_group()
            # others do not wait for it from now on
            self._renew_membership()
            self._speeds.forget()
            self._reception.admit(())
            self._guest.begin(found.members, str(error))
            return 0.0
        except (
            UnreachableError,
            TakenIdError,
            OutsiderError,
            DisagreementError,
            CutOffError,
        ) as error:
            with pinned() as stores:
                self._stores = stores
                self._go_on_alone(error)
            return self._settings.interval
        self._note(view, slow)
        # not while it waits for others: weights that are replaced would stay in the zone
        with pinned() as stores:
            self._stores = stores
            try:
                return self._work(view, stores)
            except Exception:
                self._close_group()
                self._note_own_error(view)
                raise

    def _work(self, view: View, stores: Mapping[str, RoundsStore]) -> float:
        started = time.monotonic()
        before: Mapping[str, float] = {}
        try:
            self._size = size_of_round(stores, self._settings.compress)
            group = self._group_of(view)
            before = dict(group.waits)
            if self._waits_for_others(view, stores):
                return self._settings.interval
            sent, received = group.sent, group.received
            done = self._run(view, group)
        except GroupError as error:
            self._close_group()
            self._probes.begin(view.members)
            self._measure(view, time.monotonic() - started)
            self._log_failure(error)
            self._metrics.count_failure()
            self._failures += 1
            self._warn_of_failures(error)
            return float(min(RETRY * 2 ** min(self._failures, 20), MAX_RETRY))
        finally:
            after = self._group.waits if self._group else {}
            waits = {host: seconds - before.get(host, 0.0) for host, seconds in after.items()}
            guests = frozenset(self._reception.guests()) - {*view.ids}
            self._metrics.show_hosts(view.ids, waits, stores, guests)
        if done.settled:
            note_joined(stores)
        self._reception.admit(view.members)
        seconds = time.monotonic() - started
        if seconds > limit(self._settings):
            self._measure(view)
        elif done.models:
            self._speeds.forget_if_here(view.ids)
        self._metrics.count_bytes(group.sent - sent, group.received - received)
        self._failures = self._own_errors = 0
        self._forget_failures()
        self._metrics.count_round(done, seconds)
        return self._settings.interval if done.settled else 0.0

    def _run(self, view: View, group: Group) -> Round:
        """Do a round; end it if a host could be slow to most others."""
        if len(view.members) < 3:
            return self._rounds.run(group)
        group.patience = self._speeds.patience(self._size)
        with self._speeds.beside(view.members):
            return self._rounds.run(group)

    def _measure(self, view: View, lasted: float = 0.0) -> None:
        """Measure the links, if a host could be slow to most others; a round would disturb it.

        Others come out of a round that has failed up to a timeout later than this host, and wait
        for it for two. One that is cut off is noticed after a timeout: before that, all answer
        that live, also those with slow links.
        """
        timeout = self._settings.timeout
        if len(view.members) > 2:
            connect = CONNECT if lasted >= timeout else timeout / 2
            self._speeds.measure(view.members, 0.75 * timeout, connect)

    @property
    def is_cut_off(self) -> bool:
        """Whether the membership service, or the members, were not there when asked last."""
        if self._guest.is_there:
            return self._guest.is_failing
        return self._ids == ()

    @property
    def is_failing(self) -> bool:
        """Whether this host is alone by an error, or its last round ended in one."""
        return self.is_cut_off or self._failures > 0

    @property
    def address(self) -> str:
        """Its address, which others connect to."""
        return self._settings.address

    def wait_for_others(self, seconds: float) -> None:
        """Let members do a round if this host is a guest: it does not wait for theirs."""
        if self._guest.is_there:
            time.sleep(min(seconds, 1.0))

    def leave(self) -> None:
        """Let the others not wait for this host."""
        self._guest.close()
        self._reception.close()
        self._close_group()
        self._membership.leave()
        self._membership.close()
        # it may wait for the timeout of a probe
        self._probes.close()
        self._coordinator.stop()

    def _group_of(self, view: View) -> Group:
        """Return the group of a view: the one that there is, or a new one."""
        if self._group is not None and not self._group.fits(view):
            self._close_group()
        if self._group is None:
            if view.ids == (self._settings.id,):
                self._group = Alone(self._settings.id, view.generation)
            else:
                self._group = connect(self._settings, view, self._ring)
        return self._group

    def _close_group(self) -> None:
        if self._group is not None:
            self._group.close()
            self._group = None

    def _waits_for_others(self, view: View, stores: Mapping[str, RoundsStore]) -> bool:
        """Return whether it is too early for anchors of a host that has none of others.

        When all hosts start at a time, those with the most steps are to be the first anchor.
        """
        return (
            len(view.members) == 1
            and all(store.state.fresh for store in stores.values())
            and time.monotonic() - self._began < self._settings.timeout
        )

    def _log_problem(self) -> None:
        """Log why the membership service does not run here, and whether others may run it, too."""
        service = self._coordinator
        problem = None
        if service.is_wanted and not service.is_running:
            problem = service.problem
            if problem and problem != self._problem:
                log.error(
                    'cluster "%s": the membership service does not start at this host: %s',
                    self._settings.name,
                    problem,
                )
        self._problem = problem
        addresses = service.addresses
        families = [":" in each for each in addresses]
        if len(families) > len(set(families)) and addresses != self._addresses:
            log.warning(
                'cluster "%s": the coordinator "%s" has the addresses %s: each of these hosts runs '
                "a membership service, and the lowest that answers is used",
                self._settings.name,
                self._settings.coordinator[0],
                ", ".join(addresses),
            )
            self._addresses = addresses

    def _note_own_error(self, view: View) -> None:
        """Note that this host could not do its part: after some times others do rounds without."""
        self._own_errors += 1
        if self._own_errors < OWN_ERRORS or len(view.ids) == 1:
            return
        doublings = min(self._own_errors - OWN_ERRORS, 20)
        seconds = min(PAUSE * self._settings.timeout * 2.0**doublings, MAX_PAUSE)
        self._pause(seconds)
        log.error(
            'cluster "%s": this host continues alone for %.0f s, as it has failed in %d rounds',
            self._settings.name,
            seconds,
            self._own_errors,
        )
        self._show_alone()

    def _pause(self, seconds: float) -> None:
        """Let others not wait for this host."""
        self._renew_membership()
        self._quiet_until = time.monotonic() + seconds

    def _renew_membership(self) -> None:
        self._membership.close()
        self._membership = Lighthouse(self._settings, self._ring, instance, began)

    def _warn_of_failures(self, error: GroupError) -> None:
        """Log once that rounds have failed for long, for example by an error of another host."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        seconds = now - self._failing_since
        least = FAILING_INTERVALS * self._settings.interval + self._settings.timeout
        if seconds > least and not self._is_warned:
            self._is_warned = True
            log.warning(
                'cluster "%s": all rounds have failed for %.0f s, the last one as %s',
                self._settings.name,
                seconds,
                error,
            )

    def _forget_failures(self) -> None:
        """Note that rounds do not fail, or are not done."""
        self._failing_since = None
        self._is_warned = False

    def _log_failure(self, error: GroupError) -> None:
        """Log why a round has failed: once if it would fail again, for example by settings."""
        is_lasting = isinstance(error, OutsiderError) or isinstance(error.__cause__, ClusterError)
        text = str(error)
        if is_lasting and text != self._failure:
            self._failure = text
            log.error('cluster "%s": rounds fail: %s', self._settings.name, text)
        else:
            log.info('cluster "%s": a round has failed: %s', self._settings.name, text)

    def _go_on_alone(self, error: ClusterError) -> None:
        self._close_group()
        self._reception.admit(())
        self._rounds.note_members([self._settings.id], 0)
        self._metrics.count_alone()
        self._forget_failures()
        if isinstance(error, TakenIdError):
            self._doubts += 1
            if self._doubts == 1:
                # perhaps it was this host before a restart, which has asked only once
                return
            # others would wait for this host in each round
            self._pause(PAUSE * self._settings.timeout)
        if self._ids != ():
            log.error('cluster "%s": this host continues alone: %s', self._settings.name, error)
        self._show_alone()

    def _show_alone(self) -> None:
        self._ids = ()
        self._metrics.show_members(1, 0)
        self._metrics.show_hosts([self._settings.id], {}, self._stores)

    def _note(self, view: View, slow: Collection[str]) -> None:
        """Log which hosts have come and gone, and those that are refused."""
        name = self._settings.name
        own = {self._settings.id}
        self._doubts = 0
        before, now = {*(self._ids or ())} | own, {*view.ids}
        if not self._ids:
            log.warning('cluster "%s" has the hosts %s', name, ", ".join(view.ids))
        else:
            for host in sorted(now - before):
                log.warning('cluster "%s": host "%s" has come', name, host)
            for host in sorted(before - now):
                why = "is a guest now, as its links are slow" if host in slow else "has gone"
                log.warning('cluster "%s": host "%s" %s', name, host, why)
        for host, reason in view.rejected.items():
            if host not in self._refused:
                log.error('cluster "%s": host "%s" is refused: %s', name, host, reason)
            self._refused[host] = time.monotonic()
        forgotten = time.monotonic() - 2 * PAUSE * self._settings.timeout
        # one whose id is taken comes again after each pause
        self._refused = {h: last for h, last in self._refused.items() if last > forgotten}
        self._ids = view.ids
        self._metrics.show_members(len(view.ids), view.generation)
